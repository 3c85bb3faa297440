// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestSpoofer(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	to := netip.AddrPortFrom(cable(t, a, b), 7000)
	// Without a route back the receiver's kernel may drop what comes from nowhere.
	if err := b.AddRoute(Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"}); err != nil {
		t.Fatal(err)
	}
	c, err := b.ListenPacket("udp4", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	payloads := [][]byte{[]byte("one"), bytes.Repeat([]byte("two"), 400)}
	s, err := StartSpoofer(a, to, payloads, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	sources := map[netip.AddrPort]string{}
	buf := make([]byte, 2000)
	for range 100 {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		src := from.(*net.UDPAddr).AddrPort()
		if !netip.MustParsePrefix("100.64.0.0/10").Contains(src.Addr()) {
			t.Fatalf("datagram from %s", src)
		}
		if before, seen := sources[src]; seen && before != string(buf[:n]) {
			t.Fatalf("%s sends different datagrams", src)
		}
		sources[src] = string(buf[:n])
	}
	if len(sources) != 2 {
		t.Errorf("datagrams from %v", sources)
	}
	for _, p := range payloads {
		found := false
		for _, got := range sources {
			found = found || got == string(p)
		}
		if !found {
			t.Errorf("no datagram of %d bytes", len(p))
		}
	}
}
