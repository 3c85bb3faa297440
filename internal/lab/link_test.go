// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(RunTests(m)) }

// twoHosts joins two hosts by a link and puts a peer on the second.
func twoHosts(t *testing.T, cfg LinkConfig) (a *Host, link *Link, peer *Peer) {
	t.Helper()
	Require(t)
	a = newTestHost(t, "a")
	b := newTestHost(t, "b")
	link, err := NewLink(cfg,
		Port{a, "eth0", prefixes("10.1.0.2/24", "fd01::2/64")},
		Port{b, "eth0", prefixes("10.1.0.1/24", "fd01::1/64")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	peer, err = NewPeer(b, netip.MustParseAddrPort("10.1.0.1:7000"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.Close)
	return a, link, peer
}

func newTestHost(t *testing.T, name string) *Host {
	t.Helper()
	h, err := NewHost(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestLinkCarriesIPv4AndIPv6(t *testing.T) {
	a, link, _ := twoHosts(t, Symmetric("l", 50e6, 5*time.Millisecond, 50*time.Millisecond))
	for _, dst := range []string{"10.1.0.1", "fd01::1"} {
		r, err := a.Ping(t.Context(), netip.MustParseAddr(dst), 5, 1500, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if r.Received() != 5 || r.Min() < link.RTT() {
			t.Errorf("ping %s: %d of 5 answered, the fastest in %v on a link of %v", dst, r.Received(), r.Min(), link.RTT())
		}
	}
	for _, d := range []Direction{AtoB, BtoA} {
		if c := link.Counters(d); c.Packets < 10 || c.Bytes < 10*1500 {
			t.Errorf("direction %d after 10 pings of 1500 bytes: %+v", d, c)
		}
	}
	if link.TakeLate() <= 0 {
		t.Error("no lateness was recorded, which cannot be")
	}
}

// Nobody may get more out of a link than its rate, however busy the machine is.
func TestLinkIsNotFasterThanItsRate(t *testing.T) {
	const rate = 20e6
	a, link, peer := twoHosts(t, Symmetric("l", rate, time.Millisecond, 20*time.Millisecond))
	for _, way := range []Way{Down, Up} {
		time.Sleep(100 * time.Millisecond) // nothing of the other direction is on its way
		start := time.Now()
		b, err := peer.Flood(t.Context(), a, way, 4)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Goodput(t.Context(), 0, time.Second); err != nil {
			t.Fatal(err)
		}
		bits, elapsed := float64(b.Received()*8), time.Since(start)
		b.Close()
		if bits == 0 || bits > rate*elapsed.Seconds() {
			t.Errorf("%v: %.1f Mbit in %v over a link of 20 Mbit/s", way, bits/1e6, elapsed)
		}
	}
	if c := link.Counters(AtoB); c.QueueFull == 0 {
		t.Errorf("four TCP flows never filled the queue: %+v", c)
	}
}

func TestTransferComparesContents(t *testing.T) {
	a, _, peer := twoHosts(t, Symmetric("l", 0, time.Millisecond, 0))
	for _, way := range []Way{Down, Up} {
		b, err := peer.Transfer(t.Context(), a, way, 3, 6<<20)
		if err != nil {
			t.Fatal(err)
		}
		<-b.Done()
		if err := b.Err(); err != nil || b.Received() != b.Size() || b.Size() != 6<<20 {
			t.Errorf("%v: received %d of %d: %v", way, b.Received(), b.Size(), err)
		}
		b.Close()
	}
}

func TestSilentLink(t *testing.T) {
	a, link, peer := twoHosts(t, Symmetric("l", 50e6, time.Millisecond, 50*time.Millisecond))
	probe, err := peer.StartProbe(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	seen := link.CountMarker(probe.Marker())
	link.SetSilent(true)
	const silence = 300 * time.Millisecond
	time.Sleep(silence)
	for _, way := range []Way{Down, Up} {
		// What was on its way when the silence began takes a millisecond.
		if s := probe.Take(way); s.Gap < silence-50*time.Millisecond {
			t.Errorf("%v: longest gap %v in a silence of %v", way, s.Gap, silence)
		}
	}
	link.SetSilent(false)
	for probe.Take(Down).Received == 0 || probe.Take(Up).Received == 0 {
		time.Sleep(50 * time.Millisecond)
	}
	if seen() == 0 {
		t.Error("the probe's marker was not seen on the link that carries it in clear")
	}
	if c := link.Counters(AtoB); c.Silent == 0 || c.Dropped < c.Silent {
		t.Errorf("counters after a silence: %+v", c)
	}
}

func TestLinkSilentOneWay(t *testing.T) {
	a, link, peer := twoHosts(t, Symmetric("l", 50e6, time.Millisecond, 50*time.Millisecond))
	probe, err := peer.StartProbe(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	link.SetSilentOneWay(AtoB, true)
	const silence = 300 * time.Millisecond
	time.Sleep(silence)
	if s := probe.Take(Up); s.Gap < silence-50*time.Millisecond {
		t.Errorf("up: longest gap %v in a silence of %v", s.Gap, silence)
	}
	for probe.Take(Down).Received == 0 { // for ever, if down is silent too
		time.Sleep(10 * time.Millisecond)
	}
}

// TestStall: a flow knows for how long nothing arrived, and that it sent again.
func TestStall(t *testing.T) {
	a, link, peer := twoHosts(t, Symmetric("l", 50e6, time.Millisecond, 50*time.Millisecond))
	b, err := peer.FloodUsing(t.Context(), a, Up, 2, "reno")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	time.Sleep(100 * time.Millisecond)
	b.TakeStall()
	link.SetSilent(true)
	const silence = 300 * time.Millisecond
	time.Sleep(silence)
	if stall := b.TakeStall(); stall < silence-100*time.Millisecond { // the queue empties first
		t.Errorf("longest stall %v in a silence of %v", stall, silence)
	}
	link.SetSilent(false)
	for {
		c, err := b.Congestion()
		if err != nil {
			t.Fatal(err)
		}
		if c.Retransmitted > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := peer.FloodUsing(t.Context(), a, Up, 1, "none-such"); err == nil {
		t.Error("an unknown congestion control was accepted")
	}
}

func TestLinkDownIsTold(t *testing.T) {
	a, link, _ := twoHosts(t, Symmetric("l", 50e6, time.Millisecond, 50*time.Millisecond))
	ping := func() int {
		r, err := a.Ping(t.Context(), netip.MustParseAddr("10.1.0.1"), 1, 84, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return r.Received()
	}
	if ping() != 1 {
		t.Fatal("the link does not work")
	}
	if err := link.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	if ping() != 0 {
		t.Error("ping passes an unplugged cable")
	}
	if err := link.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	for attempts := 10; ping() != 1; attempts-- { // the kernel notices after up to a second
		if attempts == 0 {
			t.Fatal("the cable is plugged in again, but the link does not work")
		}
	}
}

func TestCableCarriesTCP(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	if err := NewCable(Port{a, "eth0", prefixes("10.1.0.2/24")}, Port{b, "eth0", prefixes("10.1.0.1/24")}, 1500); err != nil {
		t.Fatal(err)
	}
	peer, err := NewPeer(b, netip.MustParseAddrPort("10.1.0.1:7000"))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	bulk, err := peer.Transfer(t.Context(), a, Down, 1, 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	<-bulk.Done()
	if err := bulk.Err(); err != nil {
		t.Error(err)
	}
}

func TestBulkReportsAConnectionThatCannotBe(t *testing.T) {
	a, _, peer := twoHosts(t, Symmetric("l", 50e6, time.Millisecond, 50*time.Millisecond))
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := errors.New("gave up")
	cancel(gaveUp)
	if _, err := peer.Flood(ctx, a, Down, 1); err == nil {
		t.Error("a flood started although its context had ended")
	}
	if _, err := peer.StartProbe(ctx, a); err == nil {
		t.Error("a probe started although its context had ended")
	}
}
