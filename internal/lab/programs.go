// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// Programs are the paths of the two programs.
type Programs struct {
	Server, Client string
}

// module is where go build finds the programs from anywhere in the source tree.
const module = "github.com/mqvpn/mqvpn"

// BuildPrograms builds both programs from source into a directory.
func BuildPrograms(ctx context.Context, dir string) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Programs{}, err
	}
	// The version is of no interest here, and finding it out fails in a tree that
	// belongs to another user.
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", dir+"/",
		module+"/cmd/mqvpn-server", module+"/cmd/mqvpn-client")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return ProgramsIn(dir)
}

// ProgramsIn returns the programs that are in a directory.
func ProgramsIn(dir string) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	p := Programs{Server: filepath.Join(dir, "mqvpn-server"), Client: filepath.Join(dir, "mqvpn-client")}
	for _, path := range []string{p.Server, p.Client} {
		if _, err := os.Stat(path); err != nil {
			return Programs{}, err
		}
	}
	return p, nil
}

// ServerConfig is where InitServer writes the configuration, in the host's own
// /run.
const ServerConfig = "/run/lab/server.conf"

// InitServer runs mqvpn-server init on a host. It returns the arguments of the
// command line that init prints for the client, without the --path.
func (p Programs) InitServer(ctx context.Context, h *Host, address netip.AddrPort, user string) (clientArgs []string, err error) {
	out, code, err := h.Run(ctx, Command{Path: p.Server, Args: []string{
		"init", "--dir", filepath.Dir(ServerConfig), "--address", address.String(), "--name", user}})
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("mqvpn-server init: exit code %d: %s", code, out)
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "mqvpn-client" {
			continue
		}
		for i := 1; i < len(words); i++ {
			if words[i] == "--path" {
				i++
				continue
			}
			clientArgs = append(clientArgs, words[i])
		}
		return clientArgs, nil
	}
	return nil, fmt.Errorf("mqvpn-server init printed no line for the client:\n%s", out)
}

// StartServer runs mqvpn-server on a host and waits until it listens at a UDP port.
func (p Programs) StartServer(ctx context.Context, h *Host, port uint16, args ...string) (*Process, error) {
	server, err := h.Start(Command{Path: p.Server, Args: args})
	if err != nil {
		return nil, err
	}
	err = h.await(ctx, server, fmt.Sprintf("UDP port %d is taken", port), func() bool { return h.hasUDPPort(port) })
	if err != nil {
		server.Kill()
		return nil, err
	}
	return server, nil
}

// StartClient runs mqvpn-client on a host and waits until packets for dst go into
// the interface iface.
func (p Programs) StartClient(ctx context.Context, h *Host, dst netip.Addr, iface string, args ...string) (*Process, error) {
	client, err := h.Start(Command{Path: p.Client, Args: args})
	if err != nil {
		return nil, err
	}
	err = h.await(ctx, client, fmt.Sprintf("%s is routed into %s", dst, iface), func() bool {
		now, err := h.RouteTo(dst)
		return err == nil && now == iface
	})
	if err != nil {
		client.Kill()
		return nil, err
	}
	return client, nil
}

// await waits until a condition holds that p is to bring about, and fails when p
// ends before.
func (h *Host) await(ctx context.Context, p *Process, what string, condition func() bool) error {
	for !condition() {
		select {
		case <-p.Done():
			return fmt.Errorf("%s on %s ended (%v) before %s; its output:\n%s",
				filepath.Base(p.cmd.Path), h.name, p.cmd.ProcessState, what, p.Output())
		default:
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("waiting on %s until %s: %w; output of %s:\n%s",
				h.name, what, err, filepath.Base(p.cmd.Path), p.Output())
		}
	}
	return nil
}

// hasUDPPort reports whether any socket of the host is bound to the port.
func (h *Host) hasUDPPort(port uint16) bool {
	found := false
	h.Do(func() error {
		for _, table := range []string{"udp", "udp6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + table)
			if err != nil {
				return err
			}
			// The second field of each line is the local address, as ADDRESS:PORT in
			// hexadecimal digits.
			for line := range strings.Lines(string(b)) {
				fields := strings.Fields(line)
				found = found || len(fields) > 1 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port))
			}
		}
		return nil
	})
	return found
}

// errNoRoute is returned by RouteTo.
var errNoRoute = errors.New("no route")

// RouteTo returns the name of the interface that the host uses for dst.
func (h *Host) RouteTo(dst netip.Addr) (iface string, err error) {
	err = h.Do(func() error {
		routes, err := netlink.RouteGet(dst.AsSlice())
		if err != nil {
			return err
		}
		if len(routes) == 0 {
			return errNoRoute
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return err
		}
		iface = link.Attrs().Name
		return nil
	})
	return iface, err
}
