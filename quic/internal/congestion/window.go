// SPDX-License-Identifier: Apache-2.0

package congestion

import "time"

const (
	initialWindowPackets = 10
	initialWindowBytes   = 14720 // 10 packets of 1472 bytes: RFC 9002 section 7.2
	minWindowPackets     = 2

	// Pacing above cwnd/srtt keeps the window filled although the RTT varies
	// (RFC 9002 section 7.7 suggests 1.25). Slow start doubles the window in a
	// round, so anything below 2 would hold it back.
	pacingGain          = 1.25
	pacingGainSlowStart = 2.0
)

// R9002-7.2-1
func initialWindow(maxDatagram int) int {
	return min(initialWindowPackets*maxDatagram, max(initialWindowBytes, 2*maxDatagram))
}

// R9002-7.2-2
func minWindow(maxDatagram int) int { return minWindowPackets * maxDatagram }

// pacingRate is gain·window/srtt in bytes/s, or 0 before the first RTT sample.
func pacingRate(window int, slowStart bool, srtt time.Duration) float64 {
	if srtt <= 0 {
		return 0
	}
	gain := pacingGain
	if slowStart {
		gain = pacingGainSlowStart
	}
	return gain * float64(window) / srtt.Seconds()
}

// recovery is the recovery period of RFC 9002 section 7.3.2: it begins with the
// first signal of congestion, and signals about packets that were sent before its
// beginning belong to the same event.
type recovery struct {
	active bool // false before the first event and after persistent congestion
	start  time.Duration
}

// covers reports whether a packet sent at t was sent before the period began.
func (r *recovery) covers(t time.Duration) bool { return r.active && t <= r.start }

func (r *recovery) enter(now time.Duration) { r.active, r.start = true, now }

func (r *recovery) forget() { r.active = false }

// guess marks a window that was resumed and is not yet proven: its packets must
// all be judged first, that is until one is acknowledged that was sent after the
// first acknowledgment.
type guess struct {
	open     bool
	acked    bool
	firstAck time.Duration
}

func (g *guess) ack(a Ack) {
	switch {
	case !g.open:
	case !g.acked:
		g.acked, g.firstAck = true, a.Now
	case a.SentTime >= g.firstAck:
		*g = guess{}
	}
}

// wrong reports whether the guess was open, and closes it.
func (g *guess) wrong() bool {
	open := g.open
	*g = guess{}
	return open
}
