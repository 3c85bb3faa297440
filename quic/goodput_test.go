// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

var printGoodput = flag.Bool("goodput", false, "print the table of TestGoodputTable")

// goodputStreams are enough to fill the link in spite of the bound on what one of
// them buffers.
const goodputStreams = 8

// goodput is what the application receives between two times after the start, as a
// fraction of the link.
func goodput(t *testing.T, cc CongestionControl, link quictest.LinkConfig, from, to time.Duration) (share float64) {
	const window = 32 << 20
	back := link
	back.Loss = 0
	simulate(t, []quictest.LinkConfig{link, {}}, func(client, server *Config) {
		for _, c := range []*Config{client, server} {
			c.CongestionControl, c.StreamReceiveWindow, c.ConnReceiveWindow = cc, window, window
		}
	}, func(n *testNet) {
		n.down[0].SetConfig(back)
		client, server := n.connect(t)
		start := time.Now()
		var received atomic.Int64
		var wg sync.WaitGroup
		for range goodputStreams {
			wg.Go(func() {
				out, err := client.OpenUniStream(context.Background())
				for b := make([]byte, 1<<16); err == nil; {
					_, err = out.Write(b)
				}
			})
			wg.Go(func() {
				in, err := server.AcceptStream(context.Background())
				for b := make([]byte, 1<<16); err == nil; {
					var k int
					k, err = in.Read(b)
					if d := time.Since(start); d >= from && d < to {
						received.Add(int64(k))
					}
				}
			})
		}
		time.Sleep(to)
		share = float64(received.Load()) * 8 / (to - from).Seconds() / float64(link.Rate)
		client.CloseWithError(0, "")
		wg.Wait()
	})
	return share
}

// TestGoodput: streams use what the controllers let them, with and without loss.
func TestGoodput(t *testing.T) {
	longSimulation(t)
	for _, tt := range []struct {
		loss  float64
		least [numCongestionControls]float64
	}{
		{0, [...]float64{CUBIC: 0.94, NewReno: 0.94, BBR: 0.9}},
		{0.01, [...]float64{CUBIC: 0.2, NewReno: 0.2, BBR: 0.6}},
	} {
		for cc, least := range tt.least {
			got := goodput(t, CongestionControl(cc), ccLink(20e6, 20*ms, 1, tt.loss), 2*time.Second, 12*time.Second)
			t.Logf("%v, %v %% lost: %.3f of the link", CongestionControl(cc), 100*tt.loss, got)
			if got < least {
				t.Errorf("%v, %v %% lost: %.3f of the link, want %.2f", CongestionControl(cc), 100*tt.loss, got, least)
			}
		}
	}
}

// TestGoodputTable prints the goodput of each controller at 100 Mbit/s by RTT and loss.
// TestGoodput and those of cc_curves_test.go hold them to bounds.
func TestGoodputTable(t *testing.T) {
	if !*printGoodput {
		t.Skip("prints a table; -goodput asks for it")
	}
	row := "| RTT | loss |"
	for cc := range numCongestionControls {
		row += " " + cc.String() + " |"
	}
	t.Log(row)
	for _, rtt := range []time.Duration{20 * ms, 200 * ms} {
		for _, loss := range []float64{0, 0.001, 0.01, 0.05} {
			row = fmt.Sprintf("| %v | %v %% |", rtt, 100*loss)
			for cc := range numCongestionControls {
				row += fmt.Sprintf(" %.3f |", goodput(t, cc, ccLink(100e6, rtt, 1, loss), 5*time.Second, 25*time.Second))
			}
			t.Log(row)
		}
	}
}
