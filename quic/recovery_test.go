// SPDX-License-Identifier: Apache-2.0

package quic

import (
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
	simulate(t, [2]quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
		client, server := n.connect(t)
		n.addPath(t, client, server)
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
