// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// PathStatus is what `status --json` says of a path, as far as tests look at it.
// Bytes are those of IP packets on the link.
type PathStatus struct {
	Name    string `json:"name"` // of the client's interface; empty at the server
	State   string `json:"state_label"`
	Used    bool   `json:"used"`
	Reason  string `json:"reason"` // why it is not used
	SRTT    int64  `json:"srtt_us"`
	BytesTx uint64 `json:"bytes_tx"`
	BytesRx uint64 `json:"bytes_rx"`
}

// RTT is the smoothed round-trip time.
func (p PathStatus) RTT() time.Duration { return time.Duration(p.SRTT) * time.Microsecond }

// ClientStatus is the answer of a client.
type ClientStatus struct {
	State     string            `json:"state"`
	Addresses []netip.Prefix    `json:"addresses"`
	Dropped   map[string]uint64 `json:"dropped"`
	Paths     []PathStatus      `json:"paths"`
}

// Path returns the path over an interface; ok is false when there is none.
func (s *ClientStatus) Path(iface string) (p PathStatus, ok bool) {
	for _, p := range s.Paths {
		if p.Name == iface {
			return p, true
		}
	}
	return p, false
}

// ServerStatus is the answer of a server.
type ServerStatus struct {
	Clients []struct {
		User      string            `json:"user"`
		Addresses []netip.Addr      `json:"addresses"`
		Dropped   map[string]uint64 `json:"dropped"`
		Paths     []PathStatus      `json:"paths"`
	} `json:"clients"`
}

// ClientStatus runs mqvpn-client status --json on a host.
func (p Programs) ClientStatus(ctx context.Context, h *Host) (s ClientStatus, err error) {
	err = h.status(ctx, p.Client, &s)
	return s, err
}

// ServerStatus runs mqvpn-server status --json on a host.
func (p Programs) ServerStatus(ctx context.Context, h *Host) (s ServerStatus, err error) {
	err = h.status(ctx, p.Server, &s)
	return s, err
}

func (h *Host) status(ctx context.Context, program string, into any) error {
	out, code, err := h.Run(ctx, Command{Path: program, Args: []string{"status", "--json"}})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s status: exit code %d: %s", program, code, out)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%s status: %w in %s", program, err, out)
	}
	return nil
}
