// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// How soon the paths carry something again when several have failed.

// TestBreaksThatOverlap: both links break for the same time, one later than the other.
// Datagrams are missing while neither works, and little longer.
func TestBreaksThatOverlap(t *testing.T) {
	longSimulation(t)
	for _, broken := range []time.Duration{500 * ms, 1500 * ms} {
		for later := time.Duration(0); later <= broken+100*ms; later += broken / 10 {
			for first := range 2 {
				for _, up := range []bool{true, false} {
					gap := gapOfBreaks(t, broken, later, first, up)
					neither := max(broken-later, 0)
					if gap > neither+300*ms { // a probe every 200 ms, and what suspicion takes
						t.Errorf("link %d broken for %v, the other one %v later, up %v: gap of %v, while neither works %v", first, broken, later, up, gap, neither)
					}
				}
			}
		}
	}
}

// gapOfBreaks is the longest gap between datagrams when link first is broken, and the
// other one later.
func gapOfBreaks(t *testing.T, broken, later time.Duration, first int, up bool) (gap time.Duration) {
	t.Helper()
	simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		n.troubles.Go(func() {
			time.Sleep(time.Second)
			n.troubles.Go(func() { n.blackhole(first, broken) })
			time.Sleep(later)
			n.blackhole(1-first, broken)
		})
		from, to := client, server
		if !up {
			from, to = server, client
		}
		gap = probe(from, to, time.Second+2*broken+2*time.Second)
		n.troubles.Wait()
		wantPaths(t, 2, client, server)
	})
	return gap
}

// narrow links cost a simulation of minutes little.
var narrow = []quictest.LinkConfig{queued(4, 20*ms), queued(4, 50*ms)}

// TestAllLinksGone: all links of a connection are gone for a minute. A path is used again as
// soon as its PTO allows, and TCP inside goes on.
func TestAllLinksGone(t *testing.T) {
	longSimulation(t)
	const outage = time.Minute
	keep := func(client, server *Config) { client.KeepAlive, server.KeepAlive = 5*time.Second, 15*time.Second } // as the tunnel does
	for second, within := range []time.Duration{maxPTO + 100*ms, deadProbeMax + 200*ms} {
		for _, up := range []bool{true, false} {
			begin := func(t *testing.T, n *testNet) (from, to *Conn) {
				from, to = n.connect(t)
				if second == 1 {
					n.addPaths(t, from, to)
				}
				if !up {
					from, to = to, from
				}
				return from, to
			}
			fail := func(n *testNet, d time.Duration) {
				n.troubles.Go(func() { n.blackhole(0, d) })
				n.troubles.Go(func() { n.blackhole(1, d) })
			}
			for later := time.Duration(0); later < maxPTO; later += maxPTO / 4 { // the PTO has any phase
				simulate(t, narrow, keep, func(n *testNet) {
					from, to := begin(t, n)
					n.troubles.Go(func() {
						time.Sleep(time.Second)
						fail(n, outage+later)
					})
					gap := probe(from, to, outage+maxPTO+5*time.Second)
					n.troubles.Wait()
					t.Logf("%d paths, up %v: gap of %v, the outage was one of %v", second+1, up, gap, outage+later)
					if gap < outage || gap > outage+later+within {
						t.Errorf("%d paths, up %v: gap of %v, the outage was one of %v", second+1, up, gap, outage+later)
					}
				})
			}
			simulate(t, narrow, keep, func(n *testNet) {
				from, to := begin(t, n)
				it := startInnerTCP(from, to, 1)
				defer it.close()
				time.Sleep(3 * time.Second)
				fail(n, outage)
				n.troubles.Wait()
				before := it.delivered()
				time.Sleep(innerMinRTO<<6 + 3*time.Second) // until TCP tries again
				if again := it.delivered() - before; again < 500e3 {
					t.Errorf("%d paths, up %v: TCP has carried %d bytes after the repair", second+1, up, again)
				}
			})
		}
	}
}

// TestFlappingLink: one of two links comes and goes every 2 s for a minute. Datagrams are
// hardly missed, and TCP goes on.
func TestFlappingLink(t *testing.T) {
	longSimulation(t)
	for i := range 2 {
		for _, up := range []bool{true, false} {
			begin := func(t *testing.T, n *testNet) (from, to *Conn) {
				from, to = n.connect(t)
				n.addPaths(t, from, to)
				n.troubles.Go(func() {
					for range 15 {
						time.Sleep(2 * time.Second)
						n.blackhole(i, 2*time.Second)
					}
				})
				if !up {
					from, to = to, from
				}
				return from, to
			}
			simulate(t, narrow, nil, func(n *testNet) {
				from, to := begin(t, n)
				gap := probe(from, to, time.Minute)
				n.troubles.Wait()
				t.Logf("link %d, up %v: gap of %v", i, up, gap)
				if gap > 250*ms {
					t.Errorf("link %d, up %v: gap of %v", i, up, gap)
				}
			})
			if up != (i == 0) {
				continue // enough for TCP
			}
			simulate(t, narrow, nil, func(n *testNet) {
				from, to := begin(t, n)
				it := startInnerTCP(from, to, 1)
				defer it.close()
				least := math.MaxInt
				for range 60 {
					before := it.delivered()
					time.Sleep(time.Second)
					least = min(least, it.delivered()-before)
				}
				n.troubles.Wait()
				t.Logf("link %d, up %v: TCP carried %d bytes in its worst second", i, up, least)
				if least < 100e3 { // a fifth of one link
					t.Errorf("link %d, up %v: TCP carried %d bytes in its worst second", i, up, least)
				}
			})
		}
	}
}

// TestRebindingWhileReceiving: a client that only receives, without keep-alive, sends
// something all the same on a path that is silent. So the server knows its new address there
// before it needs that path.
func TestRebindingWhileReceiving(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		client.SetPathBackup(1, true)
		server.SetPathBackup(1, true)
		time.Sleep(200 * ms)
		n.troubles.Go(func() {
			time.Sleep(100 * ms)
			a := n.sockets[1].LocalAddr()
			n.Rebind(a, netip.AddrPortFrom(a.Addr(), 60000))
			time.Sleep(idleProbe + 4*60*ms) // a PING, and validation of the address
			n.blackhole(0, 10*time.Second)
		})
		if d := transfer(t, server, client, 2e6); d > 1500*ms { // 0.8 s on either link alone
			t.Errorf("2 MB took %v", d)
		}
		n.troubles.Wait()
	})
}
