// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flood

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/quic"
)

const (
	// variants is how many different datagrams a flood consists of, each with a source
	// address of its own.
	variants = 2048
	// initialSize is the size of a client's first datagram in bytes.
	initialSize = 1200
	// captureTime bounds the wait for a client's first datagram.
	captureTime = 5 * time.Second
)

// kind is a kind of datagrams that nobody asked for.
type kind struct {
	name, about string
	// change makes one of a client's first datagram, which begins with flags 1, version 4,
	// length of the Destination Connection ID 1, that id 8.
	change func(d []byte) []byte
}

// kinds are all of them.
var kinds = []kind{
	{"random", "random bytes", func(d []byte) []byte {
		rand.Read(d)
		return d
	}},
	{"forged", "Initial packets whose keys are wrong", func(d []byte) []byte {
		rand.Read(d[6:14])
		return d
	}},
	{"hello", "Initial packets with a ClientHello, correct keys, forged sources", func(d []byte) []byte { return d }},
	{"short", "short headers with unknown connection ids", func(d []byte) []byte {
		rand.Read(d)
		d[0] = d[0]&0x3f | 0x40
		return d
	}},
	{"version", "Initial packets of an unknown version", func(d []byte) []byte {
		binary.BigEndian.PutUint32(d[1:], 0xfaceb00c)
		return d
	}},
}

// Kinds lists the names of the kinds.
func Kinds() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// kindsNamed finds kinds by their names; all if there are none.
func kindsNamed(names []string) (found []kind, err error) {
	if len(names) == 0 {
		return kinds, nil
	}
	byName := make(map[string]kind)
	for _, k := range kinds {
		byName[k.name] = k
	}
	for _, n := range names {
		k, ok := byName[n]
		if !ok {
			return nil, fmt.Errorf("--kinds %q: there are: %v", n, Kinds())
		}
		found = append(found, k)
	}
	return found, nil
}

// maxRate is what is accepted as datagrams per second.
const maxRate = 10_000_000

// Check returns an error for a kind or rate that Run does not know.
func Check(kinds []string, rates []int) error {
	for _, rate := range rates {
		if rate < 1 || rate > maxRate {
			return fmt.Errorf("--rates %d: want 1 to %d", rate, maxRate)
		}
	}
	_, err := kindsNamed(kinds)
	return err
}

// payloads makes the datagrams of a kind from those of clients.
func (k kind) payloads(hellos [][]byte) (payloads [][]byte) {
	for _, h := range hellos {
		payloads = append(payloads, k.change(append([]byte(nil), h...)))
	}
	return payloads
}

// captureHellos has n clients on a host connect to nobody, and returns the first datagram
// of each: with a whole ClientHello, so that a server has as much to do as possible.
func captureHellos(ctx context.Context, h *lab.Host, n int) (hellos [][]byte, err error) {
	catcher, err := h.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer catcher.Close()
	ep := quic.NewEndpoint(nil)
	defer ep.Close()
	var socket quic.Socket
	err = h.Do(func() (err error) {
		socket, err = quic.ListenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), "")
		return err
	})
	if err != nil {
		return nil, err
	}
	ep.AddSocket(socket)
	cfg := &quic.Config{Datagrams: true, TLS: &tls.Config{
		ServerName: "mqvpn.invalid", InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{http3.NextProto},
		CurvePreferences: []tls.CurveID{tls.X25519}, // others do not fit a datagram
	}}
	b := make([]byte, 2048)
	seen := make(map[string]bool)
	for len(hellos) < n {
		dialing, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ep.Dial(dialing, socket, catcher.LocalAddr().(*net.UDPAddr).AddrPort(), cfg)
		}()
		catcher.SetReadDeadline(time.Now().Add(captureTime))
		size, _, err := catcher.ReadFrom(b)
		cancel()
		<-ended
		if err != nil {
			return nil, fmt.Errorf("a client's first datagram: %w", err)
		}
		// Not the CONNECTION_CLOSE of a client before.
		if id := string(b[6:14]); size == initialSize && !seen[id] {
			seen[id] = true
			hellos = append(hellos, append([]byte(nil), b[:size]...))
		}
	}
	return hellos, nil
}
