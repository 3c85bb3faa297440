// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// binVariable names a directory with the programs to be tested.
const binVariable = "MQVPN_BIN"

const (
	serverPort      = 443
	peerPort        = 7000
	tunnelInterface = "mqvpn0"
	// patience is how long a test waits for what must come but has no deadline of
	// its own.
	patience = 30 * time.Second
)

var programs lab.Programs

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	// Built before lab.RunTests, which may leave this process without a network.
	if os.Getenv(binVariable) == "" {
		dir, err := os.MkdirTemp("", "mqvpn-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := lab.Build(context.Background(), dir, "mqvpn-server", "mqvpn-client", "mqvpn-lab"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv(binVariable, dir)
	}
	var err error
	if programs, err = lab.ProgramsIn(os.Getenv(binVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return lab.RunTests(m)
}

// world is an internet with a VPN server that has a certificate and a user.
type world struct {
	*lab.Internet
	t       *testing.T
	address netip.AddrPort // of the VPN server
	login   []string       // client's arguments, as mqvpn-server init prints them
	server  *lab.Process
}

// fast is a link that does not limit what a test does.
var fast = lab.Symmetric("fast", 0, time.Millisecond, 0)

// newWorld makes an internet in which each of the clients has the given links, and
// a configuration for the server. The server is not started.
func newWorld(t *testing.T, outside netip.Addr, clients ...[]lab.LinkConfig) *world {
	t.Helper()
	lab.Require(t)
	n, err := lab.NewInternet(lab.InternetConfig{Clients: clients})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Internet: n, t: t, address: netip.AddrPortFrom(outside, serverPort)}
	if w.login, err = programs.InitServer(t.Context(), n.Server, w.address, "alice"); err != nil {
		t.Fatal(err)
	}
	return w
}

// context is for one step of a test.
func (w *world) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.t.Context(), patience)
}

// startServer starts the server, with the configuration of init unless arguments
// are given.
func (w *world) startServer(args ...string) {
	w.t.Helper()
	if len(args) == 0 {
		args = []string{"--config", lab.ServerConfig}
	}
	ctx, cancel := w.context()
	defer cancel()
	var err error
	if w.server, err = programs.StartServer(ctx, w.Server, args...); err != nil {
		w.t.Fatal(err)
	}
	w.printOnFailure("mqvpn-server", w.server)
}

// startClient starts client i over all its links.
func (w *world) startClient(i int, args ...string) *lab.Process {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	p, err := programs.StartClient(ctx, w.Clients[i], w.clientArgs(i, args...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.printOnFailure("mqvpn-client on "+w.Clients[i].Name(), p)
	return p
}

// clientArgs are the arguments for client i over all its links. Without args it
// logs in as init says.
func (w *world) clientArgs(i int, args ...string) []string {
	if len(args) == 0 {
		args = w.login
	}
	args = slices.Clone(args)
	for j := range w.Links[i] {
		args = append(args, "--path", fmt.Sprintf("eth%d", j))
	}
	return args
}

// printOnFailure adds what a program has printed to the output of a failed test.
func (w *world) printOnFailure(name string, p *lab.Process) {
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("output of %s:\n%s", name, p.Output())
		}
	})
}

// peer makes the far end of traffic on a host.
func (w *world) peer(h *lab.Host, addr netip.Addr) *lab.Peer {
	w.t.Helper()
	p, err := lab.NewPeer(h, netip.AddrPortFrom(addr, peerPort))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return p
}

// finish waits for the end of a transfer and fails the test when something of it
// is missing.
func (w *world) finish(ctx context.Context, b *lab.Bulk, what string) {
	w.t.Helper()
	defer b.Close()
	select {
	case <-b.Done():
	case <-ctx.Done():
		w.t.Fatalf("%s: %d of %d bytes have arrived", what, b.Received(), b.Size())
	}
	if err := b.Err(); err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

// ping fails the test when dst does not answer all of a few echo requests.
func (w *world) ping(from *lab.Host, dst netip.Addr) {
	w.t.Helper()
	const count = 3
	ctx, cancel := w.context()
	defer cancel()
	// What a path needs to become usable may take a moment.
	r, err := from.Ping(ctx, dst, count, 84, 100*time.Millisecond)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Received() != count {
		w.t.Errorf("%s: %d of %d pings to %s were answered", from.Name(), r.Received(), count, dst)
	}
}

// clientStatus asks client i.
func (w *world) clientStatus(i int) lab.ClientStatus {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	s, err := programs.ClientStatus(ctx, w.Clients[i])
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// innerAddr is the address of client i inside the tunnel.
func (w *world) innerAddr(i int, ipv6 bool) netip.Addr {
	w.t.Helper()
	s := w.clientStatus(i)
	for _, p := range s.Addresses {
		if p.Addr().Is6() == ipv6 {
			return p.Addr()
		}
	}
	w.t.Fatalf("%s has no such address: %v", w.Clients[i].Name(), s.Addresses)
	return netip.Addr{}
}

// until waits for a condition and returns how long that took.
func (w *world) until(what string, condition func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for !condition() {
		if time.Since(began) > patience {
			w.t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// value returns what follows a flag in a list of arguments.
func value(args []string, flag string) string {
	return args[slices.Index(args, flag)+1]
}

// without returns args less a flag and its value.
func without(args []string, flag string) []string {
	i := slices.Index(args, flag)
	return slices.Delete(slices.Clone(args), i, i+2)
}
