// SPDX-License-Identifier: Apache-2.0

package congestion

import "time"

// Constants of HyStart++: RFC 9406 section 4.3.
const (
	hystartMinThresh = 4 * time.Millisecond
	hystartMaxThresh = 16 * time.Millisecond
	hystartDivisor   = 8
	hystartSamples   = 8
	hystartCSSGrowth = 4
	hystartCSSRounds = 5
)

// hystart finds the end of the first slow start by the rise of the RTT, before
// the queue of the bottleneck overflows: RFC 9406. A rise leads to conservative
// slow start (CSS), which returns to slow start when the RTT falls again, and
// else ends slow start after some rounds. The sender is paced, so L is infinite.
type hystart struct {
	done bool

	roundEnd   time.Duration // a packet sent at or after it ends the round
	started    bool
	minRTT     time.Duration // of this round, 0: none yet
	lastMinRTT time.Duration // of the round before
	samples    int

	inCSS     bool
	cssMinRTT time.Duration
	cssRounds int
}

// grow returns by how many bytes an acknowledgment grows the window.
func (h *hystart) grow(a Ack) float64 {
	growth := float64(a.Bytes)
	if h.done {
		// A later slow start, after persistent congestion, goes up to ssthresh.
		return growth
	}
	if !h.started || a.SentTime >= h.roundEnd {
		h.nextRound(a.Now)
	}
	if a.LatestRTT > 0 {
		if h.minRTT == 0 || a.LatestRTT < h.minRTT {
			h.minRTT = a.LatestRTT
		}
		h.samples++
		h.judge()
	}
	if h.inCSS {
		return growth / hystartCSSGrowth
	}
	return growth
}

// nextRound begins a round that ends with the first packet sent from now on.
func (h *hystart) nextRound(now time.Duration) {
	if h.inCSS {
		h.cssRounds++
		h.done = h.cssRounds >= hystartCSSRounds
	}
	h.started, h.roundEnd = true, now
	h.lastMinRTT, h.minRTT, h.samples = h.minRTT, 0, 0
}

func (h *hystart) judge() {
	if h.samples < hystartSamples {
		return
	}
	if h.inCSS {
		if h.minRTT < h.cssMinRTT {
			h.inCSS = false
		}
		return
	}
	if h.lastMinRTT == 0 {
		return
	}
	thresh := min(max(h.lastMinRTT/hystartDivisor, hystartMinThresh), hystartMaxThresh)
	if h.minRTT >= h.lastMinRTT+thresh {
		h.inCSS, h.cssMinRTT, h.cssRounds = true, h.minRTT, 0
	}
}
