// SPDX-License-Identifier: Apache-2.0

package congestion

import "time"

const (
	// burstPackets may leave at once: the initial window, RFC 9002 section 7.7.
	burstPackets = 10

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

// pacingRate is gain·window/srtt in bytes/s, or 0 before the first RTT sample. A
// window that is a guess is spread over the whole round trip.
func pacingRate(window int, slowStart, guess bool, srtt time.Duration) float64 {
	if srtt <= 0 {
		return 0
	}
	gain := pacingGain
	switch {
	case guess:
		gain = 1
	case slowStart:
		gain = pacingGainSlowStart
	}
	return gain * float64(window) / srtt.Seconds()
}

// windowState is the State of a controller without others. A recovery period is not told
// apart from what follows it: nothing else changes at its end.
func windowState(slowStart bool) string {
	if slowStart {
		return "slow_start"
	}
	return "congestion_avoidance"
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

// resumption is what follows an interruption of the path. Its window, half of the
// one before, is a guess until all of its packets have been judged, that is until
// one is acknowledged that was sent after the first acknowledgment. Then slow start
// goes on to the window before. A loss in the guess leads to a retreat: the minimum
// window, and slow start as far as the packets of the guess have shown room.
type resumption struct {
	phase       resumePhase
	known       int           // the window before
	heard       bool          // something was acknowledged
	firstAck    time.Duration // when, if heard
	acked, lost int           // bytes of the guess
}

type resumePhase uint8

const (
	notResumed resumePhase = iota
	guessing
	retreating // waits for the end of the recovery period
)

// resumeLossShare is the share of the packets of a guess, as a divisor, beyond which
// losses mean that it was too large and not only unlucky.
const resumeLossShare = 8

func (r *resumption) start(known int) { *r = resumption{phase: guessing, known: known} }

// ack takes an acknowledgment; covered says that it is of packets sent before the
// resumption, or before the losses in it. It reports whether a retreat ends with it.
func (r *resumption) ack(a Ack, covered bool) (over bool) {
	switch {
	case r.phase == retreating && !covered:
		return r.end()
	case r.phase == retreating:
		r.acked += a.Bytes
	case r.phase == guessing && !covered:
		r.acked += a.Bytes
		if !r.heard {
			r.heard, r.firstAck = true, a.Now
		} else if a.SentTime >= r.firstAck {
			r.phase = notResumed
		}
	}
	return false
}

// lose takes a loss, covered as for ack, and reports whether it disproves the guess.
func (r *resumption) lose(l Loss, covered bool) bool {
	wrong := r.phase == guessing && !covered
	if wrong {
		r.phase = retreating
	}
	if r.phase == retreating {
		r.lost += l.Bytes
	}
	return wrong
}

// end ends a retreat, if there is one.
func (r *resumption) end() bool {
	if r.phase != retreating {
		return false
	}
	r.phase = notResumed
	return true
}

// ssthresh is where slow start after the retreat ends.
func (r *resumption) ssthresh(beta float64, maxDatagram int) int {
	if r.lost*resumeLossShare > r.acked+r.lost {
		return max(int(beta*float64(r.acked)), minWindow(maxDatagram))
	}
	return r.known
}

// resumedWindow is half of the window before an interruption, but not less than a
// new path may have.
func resumedWindow(known, maxDatagram int) int {
	return max(known/2, min(known, initialWindow(maxDatagram)), minWindow(maxDatagram))
}
