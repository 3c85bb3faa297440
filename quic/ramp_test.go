// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// TestFlowsBeginWithPath: bulk flows that begin on a path that has carried little yet wait
// for its slow start, and lose nothing until it knows its rate, however long its round trip.
func TestFlowsBeginWithPath(t *testing.T) {
	link := quictest.LinkConfig{Rate: 50e6, Delay: 100 * ms, QueueBytes: 312_500}
	for _, flows := range []int{1, 4, 16} {
		simulate(t, []quictest.LinkConfig{link}, nil, func(n *testNet) {
			client, server := n.connect(t)
			time.Sleep(time.Second)
			it := startInnerTCP(server, client, flows)
			defer it.close()
			var began time.Duration
			for learning, dropped := true, uint64(0); learning && dropped == 0; began += 10 * ms {
				time.Sleep(10 * ms)
				server.do(func(instant) {
					learning = server.paths[0].loss.cc.InSlowStart()
					dropped = server.dgrams.delayed
				})
				if learning && dropped > 0 {
					t.Errorf("%d flows: %d packets dropped after %v", flows, dropped, began)
				}
			}
			if began < 5*link.Delay || began > 30*link.Delay {
				t.Errorf("%d flows: slow start ended after %v", flows, began)
			}
		})
	}
}
