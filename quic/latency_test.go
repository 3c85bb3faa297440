// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

var (
	printLatency = flag.String("latency", "", "print the lines of TestLatencyTable that match")
	latencyWarm  = flag.Duration("latency-warm", 8*time.Second, "how long the flows of TestLatencyTable have run before")
)

// latencyResult is what bulk flows get, and a ping beside them.
type latencyResult struct {
	rate           float64 // Mbit/s
	mean, worst    time.Duration
	sent, answered int
}

func (r latencyResult) String() string {
	return fmt.Sprintf("%.1f Mbit/s, ping %.1f ms, %.1f at most, %d of %d", r.rate,
		r.mean.Seconds()*1e3, r.worst.Seconds()*1e3, r.answered, r.sent)
}

// underLoad measures for d, from the time on when the flows have run for warm.
func underLoad(t *testing.T, cc CongestionControl, links []quictest.LinkConfig, up bool, flows int, call uint64, warm, d time.Duration) (r latencyResult) {
	simulate(t, links, func(client, server *Config) {
		client.CongestionControl, server.CongestionControl = cc, cc
	}, func(n *testNet) {
		_, _, it := n.startFlows(t, flows, up)
		defer it.close()
		it.mu.Lock()
		it.call = call
		it.mu.Unlock()
		time.Sleep(warm)
		before, start := it.delivered(), time.Now()
		rtts, sent := it.measurePings(5*time.Millisecond, d)
		r.rate = float64(it.delivered()-before) * 8 / 1e6 / time.Since(start).Seconds()
		r.sent, r.answered = sent, len(rtts)
		var sum time.Duration
		for _, d := range rtts {
			sum += d
		}
		r.mean = sum / time.Duration(max(len(rtts), 1))
		if len(rtts) > 0 {
			r.worst = rtts[len(rtts)-1]
		}
	})
	return r
}

// TestLatencyUnderLoad: bulk flows fill both links, and a ping beside them hardly waits,
// since what queues is in the tunnel, where flows that send little go first. The round trip
// of the near link is 20 ms. The flows are to get 310 Mbit/s of 300 and 80 if they are 4, and
// 325 if they are 16.
func TestLatencyUnderLoad(t *testing.T) {
	longSimulation(t)
	for _, tt := range []struct {
		near, far float64 // Mbit/s
		flows     int
		up        bool
		least     float64 // of what both links carry
		stall     time.Duration
		call      uint64
	}{
		{75, 20, 4, false, 0.9, 0, 0},
		{75, 20, 4, true, 0.9, 10 * ms, 0},
		{50, 50, 8, false, 0.9, 0, 0},
		{50, 50, 8, false, 0.9, 0, 77},
		{300, 80, 4, true, 310 / 361.0, 0, 0},
		{300, 80, 4, false, 310 / 361.0, 0, 0},
		{300, 80, 16, true, 0.94, 0, 0},
		{300, 80, 16, false, 0.94, 0, 0},
	} {
		links := []quictest.LinkConfig{queued(tt.near, 20*ms), queued(tt.far, 60*ms)}
		for i := range links {
			links[i].Stall, links[i].StallEvery = tt.stall, 2*tt.stall
		}
		r := underLoad(t, BBR, links, tt.up, tt.flows, tt.call, 3*time.Second, 2*time.Second)
		t.Logf("%d flows, up %v, call %v: %v", tt.flows, tt.up, tt.call > 0, r)
		if r.answered < r.sent || r.mean > 26*ms || r.worst > 40*ms+2*tt.stall || r.rate < tt.least*0.95*(tt.near+tt.far) {
			t.Errorf("%d flows, up %v: %v", tt.flows, tt.up, r)
		}
	}
}

// TestInnerECN: flows that can be marked are, before anything of theirs is dropped.
func TestInnerECN(t *testing.T) {
	longSimulation(t)
	for _, up := range []bool{true, false} {
		simulate(t, []quictest.LinkConfig{queued(75, 20*ms), queued(20, 60*ms)}, nil, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			from, to := client, server
			if !up {
				from, to = server, client
			}
			if err := from.WaitMTU(context.Background()); err != nil {
				t.Fatal(err)
			}
			it := newInner(from, to, 4, sched.ClassTCP)
			it.ecn = true
			it.start()
			defer it.close()
			time.Sleep(2 * time.Second)
			before := it.delivered()
			rtts, sent := it.measurePings(5*ms, 2*time.Second)
			mbps := float64(it.delivered()-before) * 8 / 1e6 / 2.5
			st := from.Stats()
			it.mu.Lock()
			marked, again := 0, 0
			for _, f := range it.flows {
				marked += f.marked
				again += f.retransmitted
			}
			it.mu.Unlock()
			worst := rtts[len(rtts)-1]
			t.Logf("up %v: %d marked, %d segments came so, %d and %d dropped, %d sent again; %.1f Mbit/s, ping of %v at most, %d of %d",
				up, st.DatagramsMarked, marked, st.DatagramsDelayed, st.DatagramsDropped, again, mbps, worst, len(rtts), sent)
			if marked == 0 || st.DatagramsDelayed+st.DatagramsDropped > 0 {
				t.Errorf("up %v: %d segments marked, %d and %d dropped", up, marked, st.DatagramsDelayed, st.DatagramsDropped)
			}
			if mbps < 0.9*0.95*95 || len(rtts) < sent || worst > 40*ms {
				t.Errorf("up %v: %.1f Mbit/s, ping of %v at most, %d of %d", up, mbps, worst, len(rtts), sent)
			}
		})
	}
}

// TestLatencyTable prints what the congestion controllers make of typical links.
// TestLatencyUnderLoad, TestInnerTCPAggregates and TestClientsShareEqually hold such links
// to bounds.
func TestLatencyTable(t *testing.T) {
	if *printLatency == "" {
		t.Skip("prints a table; -latency asks for it")
	}
	ab := []quictest.LinkConfig{queued(300, 20*ms), queued(80, 60*ms)}
	equal := []quictest.LinkConfig{queued(50, 20*ms), queued(50, 50*ms)}
	one := []quictest.LinkConfig{queued(100, 20*ms)}
	lossy := []quictest.LinkConfig{queued(100, 20*ms)}
	lossy[0].Loss = 0.005
	jittery := []quictest.LinkConfig{queued(100, 20*ms)}
	jittery[0].Jitter = 5 * ms
	stalling := slices.Clone(ab)
	for i := range stalling {
		stalling[i].Stall, stalling[i].StallEvery = 10*ms, 20*ms
	}
	bothJitter := slices.Clone(equal)
	bothJitter[0].Jitter, bothJitter[1].Jitter = 5*ms, 5*ms
	for _, tt := range []struct {
		name  string
		links []quictest.LinkConfig
		up    bool
		flows []int
	}{
		{"300 at 20 ms + 80 at 60 ms, up", ab, true, []int{1, 4, 16}},
		{"300 at 20 ms + 80 at 60 ms, down", ab, false, []int{4, 16}},
		{"300 at 20 ms + 80 at 60 ms, 10 ms stalls, up", stalling, true, []int{1, 4, 16}},
		{"300 at 20 ms, 10 ms stalls, up", stalling[:1], true, []int{1, 4}},
		{"300 at 20 ms", ab[:1], true, []int{1}},
		{"50 at 20 ms + 50 at 50 ms", equal, true, []int{1, 4, 16}},
		{"100 at 20 ms", one, true, []int{1, 4}},
		{"100 at 20 ms, 0.5 % loss", lossy, true, []int{1, 4, 16}},
		{"100 at 20 ms, 5 ms jitter", jittery, true, []int{1, 4}},
		{"50 at 20 ms + 50 at 50 ms, 5 ms jitter", bothJitter, true, []int{4}},
		{"20 at 200 ms", []quictest.LinkConfig{queued(20, 200*ms)}, true, []int{4}},
		{"5 at 40 ms", []quictest.LinkConfig{queued(5, 40*ms)}, true, []int{4}},
	} {
		if ok, _ := regexp.MatchString(*printLatency, tt.name); !ok {
			continue
		}
		for _, flows := range tt.flows {
			t.Run("", func(t *testing.T) {
				row := fmt.Sprintf("| %s | %d |", tt.name, flows)
				for _, cc := range []CongestionControl{CUBIC, BBR} {
					r := underLoad(t, cc, tt.links, tt.up, flows, 0, *latencyWarm, 5*time.Second)
					row += fmt.Sprintf(" %.1f | %.1f, %.1f |", r.rate, r.mean.Seconds()*1e3, r.worst.Seconds()*1e3)
				}
				t.Log(row)
			})
		}
	}
}
