// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nulltunnel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// endVariable makes the test binary an end of a tunnel: the server's or the client's.
const endVariable = "MQVPN_LAB_NULL_TUNNEL"

var (
	serverOuter = netip.MustParseAddrPort("192.0.2.1:5000")
	clientOuter = netip.MustParseAddrPort("192.0.2.2:5000")
	serverInner = netip.MustParsePrefix("10.9.0.1/24")
	clientInner = netip.MustParsePrefix("10.9.0.2/24")
)

func TestMain(m *testing.M) {
	local, remote, inside := serverOuter, clientOuter, serverInner
	switch os.Getenv(endVariable) {
	case "":
		os.Exit(lab.RunTests(m))
	case "client":
		local, remote, inside = clientOuter, serverOuter, clientInner
	}
	fmt.Println(Run(local, remote, inside, func() { fmt.Println("ready") }))
	os.Exit(1)
}

// TestCarries sends TCP, whose segments meet in runs, and echoes of all sizes, which
// do not, through a tunnel. The TCP flows' contents are compared.
func TestCarries(t *testing.T) {
	lab.Require(t)
	hosts := map[string]*lab.Host{}
	for _, name := range []string{"client", "server"} {
		h, err := lab.NewHost(name)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		hosts[name] = h
	}
	port := func(name string, a netip.Addr) lab.Port {
		return lab.Port{Host: hosts[name], Interface: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(a, 24)}}
	}
	if err := lab.NewCable(port("client", clientOuter.Addr()), port("server", serverOuter.Addr()), 1500); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, name := range []string{"server", "client"} {
		p, err := hosts[name].Start(lab.Command{Path: "/proc/self/exe", Env: []string{endVariable + "=" + name}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WaitOutput(ctx, "ready"); err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
	}
	peer, err := lab.NewPeer(hosts["server"], netip.AddrPortFrom(serverInner.Addr(), 7000))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	for _, way := range []lab.Way{lab.Up, lab.Down} {
		b, err := peer.Transfer(ctx, hosts["client"], way, 4, 20e6)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-b.Done():
		case <-ctx.Done():
		}
		if err := b.Err(); err != nil || b.Received() != b.Size() {
			t.Errorf("%s: received %d bytes of %d, %v", way, b.Received(), b.Size(), err)
		}
		b.Close()
	}
	for size := 28; size <= MTU; size += 97 {
		if r, err := hosts["client"].Ping(ctx, serverInner.Addr(), 2, size, time.Millisecond); err != nil || r.Received() != 2 {
			t.Errorf("echoes of %d bytes: %d of 2 answered, %v", size, r.Received(), err)
		}
	}
}
