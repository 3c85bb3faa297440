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

var printGoodput = flag.Bool("goodput", false, "print the table of TestGoodput")

// goodputStreams are enough to fill the link in spite of the bound on what one of
// them buffers.
const goodputStreams = 8

// goodput is what the application receives in the 20 s that follow the first 5 s, as
// a fraction of the link.
func goodput(t *testing.T, cc CongestionControl, link quictest.LinkConfig) (share float64) {
	const window = 32 << 20
	back := link
	back.Loss = 0
	simulate(t, [2]quictest.LinkConfig{link, {}}, func(client, server *Config) {
		for _, c := range []*Config{client, server} {
			c.CongestionControl, c.StreamReceiveWindow, c.ConnReceiveWindow = cc, window, window
		}
	}, func(n *testNet) {
		n.down[0].SetConfig(back)
		client, server := n.connect(t)
		const from, to = 5 * time.Second, 25 * time.Second
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

// TestGoodput prints the goodput of each controller at 100 Mbit/s by RTT and loss.
func TestGoodput(t *testing.T) {
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
				row += fmt.Sprintf(" %.3f |", goodput(t, cc, ccLink(100e6, rtt, 1, loss)))
			}
			t.Log(row)
		}
	}
}
