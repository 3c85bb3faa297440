// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// TestClientsShareEqually: clients whose downloads share a link get the same, however many
// flows each has: what is queued for a client is in its own connection, and the connections
// share the link as two flows would. Who loads the link with one flow gets its part beside
// sixteen of another client, and a ping of its own waits for no queue but that of the link.
func TestClientsShareEqually(t *testing.T) {
	longSimulation(t)
	links := []quictest.LinkConfig{queued(50, 20*ms), lan}
	change := func(client, server *Config) { client.CongestionControl, server.CongestionControl = BBR, BBR }
	simulate(t, links, change, func(n *testNet) {
		var load [2]*innerTCP
		for i, flows := range []int{16, 1} {
			client, server := n.connect(t)
			if err := server.WaitMTU(context.Background()); err != nil {
				t.Fatal(err)
			}
			load[i] = startInnerTCP(server, client, flows)
			defer load[i].close()
		}
		time.Sleep(5 * time.Second)
		start, before := time.Now(), [2]int{load[0].delivered(), load[1].delivered()}
		pings, sent := load[1].measurePings(10*ms, 8*time.Second)
		var mbps [2]float64
		for i := range mbps {
			mbps[i] = float64(load[i].delivered()-before[i]) * 8 / 1e6 / time.Since(start).Seconds()
		}
		t.Logf("16 flows %.1f, one flow %.1f Mbit/s; %d of %d pings, up to %v", mbps[0], mbps[1], len(pings), sent, pings[len(pings)-1])
		// Among equal flows the one would get 0.06.
		if total := mbps[0] + mbps[1]; total < 0.9*0.95*50 || mbps[1] < 0.3*total || mbps[1] > 0.7*total {
			t.Errorf("16 flows %.1f, one flow %.1f Mbit/s", mbps[0], mbps[1])
		}
		if most := pings[len(pings)-1]; len(pings) < sent || most > 20*ms+50*ms+10*ms { // the link and its queue
			t.Errorf("%d of %d pings, up to %v", len(pings), sent, most)
		}
	})
}
