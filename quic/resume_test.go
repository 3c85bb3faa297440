// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// flood keeps datagrams waiting at from until stop is closed.
func flood(from *Conn, stop chan struct{}) {
	bufs := make([]*PacketBuf, 16)
	for {
		select {
		case <-stop:
			return
		default:
		}
		for i := range bufs {
			bufs[i] = datagram(uint64(i), 1300)
		}
		from.SendDatagrams(bufs)
		time.Sleep(time.Millisecond)
	}
}

// TestReturnOfSaturatedPath: a path that was dead carries 90 % of what the link
// carries one second after the link is back, when enough is waiting.
func TestReturnOfSaturatedPath(t *testing.T) {
	longSimulation(t)
	near := quictest.LinkConfig{Rate: 50e6, Delay: 10 * ms, QueueBytes: 312_500}
	far := near
	far.Delay = 30 * ms
	slow := far
	slow.Rate, slow.QueueBytes = near.Rate/8, near.QueueBytes/8
	for _, tt := range []struct {
		name   string
		cut    int
		dead   time.Duration
		after  quictest.LinkConfig // what the link is like when it returns
		within time.Duration
		up     bool
		cc     CongestionControl
		sched  func() sched.Scheduler
	}{
		{"near", 0, 3 * time.Second, near, time.Second, true, NewReno, sched.NewMinRTT},
		{"far", 1, 3 * time.Second, far, time.Second, true, CUBIC, sched.NewMinRTT},
		{"far", 1, 3 * time.Second, far, time.Second, false, CUBIC, sched.NewMinRTT},
		{"far", 1, 3 * time.Second, far, time.Second, true, BBR, sched.NewMinRTT},
		{"far", 1, 3 * time.Second, far, time.Second, true, BBR, sched.NewWLB},
		{"near", 0, 1500 * ms, near, time.Second, false, BBR, sched.NewWLB},
		{"far, dead for long", 1, 12 * time.Second, far, time.Second, true, CUBIC, sched.NewMinRTT},
		// Most of the first flight is lost.
		{"far, an eighth of the rate", 1, 3 * time.Second, slow, 1500 * ms, false, CUBIC, sched.NewMinRTT},
	} {
		change := func(cc, sc *Config) {
			cc.NewScheduler, sc.NewScheduler = tt.sched, tt.sched
			cc.CongestionControl, sc.CongestionControl = tt.cc, tt.cc
		}
		simulate(t, []quictest.LinkConfig{near, far}, change, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			from, to, links := client, server, n.up
			if !tt.up {
				from, to, links = server, client, n.down
			}
			to.SetDatagramHandler(&datagramSink{})
			stop := make(chan struct{})
			go flood(from, stop)
			time.Sleep(3 * time.Second)
			n.blackhole(tt.cut, tt.dead)
			link := links[tt.cut]
			link.SetConfig(tt.after)
			const window = 300 * ms
			time.Sleep(tt.within - window)
			before := link.Stats().Bytes
			time.Sleep(window)
			synctest.Wait()
			rate := float64(link.Stats().Bytes-before) * 8 / window.Seconds()
			t.Logf("%s, %v, up %v: %.1f Mbit/s, window %d", tt.name, tt.cc, tt.up, rate/1e6, from.Stats().Paths[tt.cut].Cwnd)
			if rate < 0.9*float64(tt.after.Rate) {
				t.Errorf("%s, %v, up %v: %.1f of %.1f Mbit/s", tt.name, tt.cc, tt.up, rate/1e6, float64(tt.after.Rate)/1e6)
			}
			close(stop)
			time.Sleep(10 * ms)
		})
	}
}
