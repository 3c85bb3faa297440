// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

const (
	cubicC    = 0.4 // packets/s³: RFC 9438 section 5
	cubicBeta = 0.7 // RFC 9438 section 4.6
	// cubicAlpha gives the Reno-friendly region the average window of Reno: RFC 9438 section 4.3.
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// Cubic is the controller of RFC 9438, with HyStart++ (RFC 9406) in the first
// slow start and with fast convergence. Windows are kept in bytes; fractions
// matter, since one acknowledgment may grow the window by less than a byte.
type Cubic struct {
	maxDatagram int
	window      float64
	ssthresh    float64
	touched     bool
	recovery    recovery
	resumption  resumption
	hystart     hystart

	cubicCurve
	// undo is what the last event of congestion changed, while it may be spurious.
	undo     cubicUndo
	undoable bool

	// The clock of the epoch stands still while the window is not the limit (RFC 9438 section 4.2).
	paused      bool
	pausedSince time.Duration
	lastAck     time.Duration
}

// cubicCurve is what the growth in congestion avoidance follows.
type cubicCurve struct {
	windowPrior float64 // window when ssthresh was set last
	windowMax   float64 // W_max; 0: the next epoch begins at its plateau

	// The epoch is the current congestion avoidance stage.
	inEpoch    bool
	epochStart time.Duration
	k          float64 // seconds from epochStart to windowMax
	windowEst  float64 // what Reno would have: W_est
}

type cubicUndo struct {
	window, ssthresh float64
	curve            cubicCurve
	hystart          hystart
	since            time.Duration
}

var _ Controller = (*Cubic)(nil)

// NewCubic returns a controller with the initial window for packets of at most
// maxDatagram bytes of UDP payload.
func NewCubic(maxDatagram int) *Cubic {
	return &Cubic{
		maxDatagram: maxDatagram,
		window:      float64(initialWindow(maxDatagram)),
		ssthresh:    math.Inf(1),
	}
}

func (c *Cubic) Window() int { return int(c.window) }

func (c *Cubic) InSlowStart() bool { return c.window < c.ssthresh }

func (c *Cubic) State() string { return windowState(c.InSlowStart()) }

func (c *Cubic) PacingRate(srtt time.Duration) float64 {
	return pacingRate(c.Window(), c.InSlowStart(), c.resumption.phase == guessing, srtt)
}

func (c *Cubic) SendQuantum() int { return burstPackets * c.maxDatagram }

func (c *Cubic) PacketSent(now time.Duration, n, inFlight int, limited bool) {
	// The window was not tested while nothing was in flight.
	if inFlight == n && c.inEpoch && !c.paused {
		c.epochStart += now - c.lastAck
	}
}

func (c *Cubic) Acked(a Ack) {
	c.touched = true
	c.lastAck = a.Now
	covered := c.recovery.covers(a.SentTime)
	if c.resumption.ack(a, covered) {
		c.endRetreat()
	}
	if c.resumption.phase == guessing {
		return // neither confirmed nor refuted
	}
	// R9002-7.8-1
	if a.AppLimited {
		if c.inEpoch && !c.paused {
			c.paused, c.pausedSince = true, a.Now
		}
		return
	}
	if covered {
		return
	}
	if c.InSlowStart() {
		c.window = min(c.window+c.hystart.grow(a), c.ssthresh)
		if c.hystart.done {
			// RFC 9438 section 4.10: no loss has told W_max yet.
			c.ssthresh, c.windowPrior, c.windowMax = c.window, c.window, 0
		}
		return
	}
	if c.paused {
		c.paused = false
		c.epochStart += a.Now - c.pausedSince
	}
	c.avoid(a)
}

// avoid grows the window in congestion avoidance: RFC 9438 sections 4.2 to 4.5.
func (c *Cubic) avoid(a Ack) {
	mss, acked := float64(c.maxDatagram), float64(a.Bytes)
	if !c.inEpoch {
		c.inEpoch, c.epochStart = true, a.Now
		c.windowEst = c.window
		if c.window < c.windowMax {
			c.k = math.Cbrt((c.windowMax - c.window) / mss / cubicC)
		} else {
			c.k, c.windowMax = 0, c.window
		}
	}
	alpha := cubicAlpha
	if c.windowEst >= c.windowPrior {
		alpha = 1
	}
	c.windowEst += alpha * mss * acked / c.window

	t := (a.Now - c.epochStart).Seconds()
	if c.cubic(t) < c.windowEst {
		c.window = max(c.window, c.windowEst)
		return
	}
	target := min(max(c.cubic(t+a.SRTT.Seconds()), c.window), 1.5*c.window)
	c.window += (target - c.window) * min(acked/c.window, 1)
}

// cubic is W_cubic(t) in bytes, t in seconds since the epoch began.
func (c *Cubic) cubic(t float64) float64 {
	d := t - c.k
	return cubicC*d*d*d*float64(c.maxDatagram) + c.windowMax
}

func (c *Cubic) Lost(l Loss) {
	c.touched = true
	covered := c.recovery.covers(l.SentTime)
	if !covered && c.resumption.end() {
		c.endRetreat()
	}
	wrong := c.resumption.lose(l, covered)
	c.undoable = c.undoable && !l.ECN
	// R9002-7.3.2-2
	if covered {
		return
	}
	// R9002-7.3.1-1 R9002-7.3.2-1: the factor is CUBIC's.
	c.recovery.enter(l.Now)
	c.undo, c.undoable = cubicUndo{c.window, c.ssthresh, c.cubicCurve, c.hystart, l.Now}, !l.ECN && !wrong
	c.hystart.done = true
	if c.window < c.windowMax {
		// Fast convergence: the share of this path shrinks, so stop below the old plateau.
		c.windowMax = c.window * (1 + cubicBeta) / 2
	} else {
		c.windowMax = c.window
	}
	c.windowPrior = c.window
	c.window = max(c.window*cubicBeta, float64(minWindow(c.maxDatagram)))
	c.ssthresh = c.window
	c.endEpoch()
	if wrong {
		c.window = float64(minWindow(c.maxDatagram))
	}
}

// SpuriousLoss takes back the last event of congestion: RFC 9438 section 4.9.
func (c *Cubic) SpuriousLoss(now time.Duration) {
	if !c.undoable {
		return
	}
	c.undoable = false
	c.recovery.forget()
	u := &c.undo
	c.window, c.ssthresh = max(c.window, u.window), max(c.ssthresh, u.ssthresh)
	c.cubicCurve, c.hystart = u.curve, u.hystart
	if c.inEpoch {
		c.epochStart += now - u.since // the clock stood still
	}
}

func (c *Cubic) PersistentCongestion(now time.Duration) {
	c.undoable = false
	// R9002-7.6.2-3. After a time-out the next epoch begins at its plateau (RFC 9438 section 4.8).
	c.window = float64(minWindow(c.maxDatagram))
	c.windowMax = 0
	c.endEpoch()
	c.recovery.forget()
}

func (c *Cubic) endEpoch() { c.inEpoch, c.paused = false, false }

func (c *Cubic) Resume(now time.Duration) {
	known := c.Window()
	if c.InSlowStart() && !math.IsInf(c.ssthresh, 1) {
		known = int(c.ssthresh)
	}
	c.touched, c.undoable = true, false
	c.recovery.enter(now) // what was sent before says nothing about the path now
	c.resumption.start(known)
	c.window = float64(resumedWindow(known, c.maxDatagram))
	if !math.IsInf(c.ssthresh, 1) {
		c.slowStartTo(float64(known))
	}
	c.endEpoch()
}

// endRetreat begins slow start after the losses of a resumed window.
func (c *Cubic) endRetreat() { c.slowStartTo(float64(c.resumption.ssthresh(cubicBeta, c.maxDatagram))) }

// slowStartTo makes slow start end at ssthresh, or before if the RTT says so.
func (c *Cubic) slowStartTo(ssthresh float64) {
	c.ssthresh, c.windowPrior, c.windowMax = ssthresh, ssthresh, 0
	c.hystart = hystart{}
}

func (c *Cubic) SetMaxDatagram(n int) {
	c.maxDatagram = n
	if !c.touched {
		c.window = float64(initialWindow(n))
	}
	c.window = max(c.window, float64(minWindow(n)))
}
