// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"
	"runtime/debug"
	"testing"
)

// raceDetector is set by race_test.go. With it sync.Pool drops buffers at random, to
// find races, so that allocations cannot be counted.
var raceDetector bool

// TestDatagramAllocs: nothing is allocated per packet between a PacketBuf and the
// sockets, and back to the DatagramHandler, while both ends send datagrams and
// acknowledge those of the other one. The ends are driven by hand, so that the count
// is exact: none at all in a thousand ticks.
func TestDatagramAllocs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool allocate")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	const ticks, packets = 1000, 40
	for _, paths := range []int{1, 2} {
		for _, size := range pumpSizes {
			t.Run(fmt.Sprintf("paths=%d/size=%d", paths, size), func(t *testing.T) {
				p := newPump(t, paths)
				p.client.load, p.server.load = newPumpLoad(packets, size), newPumpLoad(packets, size)
				run := func() {
					for range ticks {
						p.step()
					}
				}
				run() // rings, queues and windows grow
				client, server := p.client.sink, p.server.sink
				if n := testing.AllocsPerRun(1, run); n != 0 {
					t.Errorf("%v allocations for %d packets", n, 2*ticks*packets)
				}
				// The count means something only if the packets did flow, on all paths and
				// with acknowledgments.
				for _, end := range []struct {
					*pumpEnd
					received int
				}{{p.client, p.client.sink.count - client.count}, {p.server, p.server.sink.count - server.count}} {
					if end.received < 2*ticks*packets*99/100 {
						t.Errorf("received %d datagrams of %d", end.received, 2*ticks*packets)
					}
					for _, q := range end.c.paths {
						if q.stats.datagramsSent < ticks || q.space.largestAcked < q.space.next-10*packets {
							t.Errorf("path %d sent %d datagrams; packet %d of %d is acknowledged", q.id, q.stats.datagramsSent, q.space.largestAcked, q.space.next)
						}
					}
				}
			})
		}
	}
}
