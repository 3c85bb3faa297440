// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

// renoBeta is kLossReductionFactor: RFC 9002 section 7.3.2.
const renoBeta = 0.5

// NewReno is the controller of RFC 9002 section 7.
type NewReno struct {
	maxDatagram int
	window      int
	ssthresh    int
	credit      int // bytes acknowledged in congestion avoidance that have not yet grown the window
	touched     bool
	recovery    recovery
	resumption  resumption
}

var _ Controller = (*NewReno)(nil)

// NewNewReno returns a controller with the initial window for packets of at most
// maxDatagram bytes of UDP payload.
func NewNewReno(maxDatagram int) *NewReno {
	return &NewReno{maxDatagram: maxDatagram, window: initialWindow(maxDatagram), ssthresh: math.MaxInt}
}

func (c *NewReno) Window() int { return c.window }

func (c *NewReno) InSlowStart() bool { return c.window < c.ssthresh }

func (c *NewReno) State() string { return windowState(c.InSlowStart()) }

func (c *NewReno) PacingRate(srtt time.Duration) float64 {
	return pacingRate(c.window, c.InSlowStart(), c.resumption.phase == guessing, srtt)
}

func (c *NewReno) SendQuantum() int { return burstPackets * c.maxDatagram }

func (c *NewReno) PacketSent(now time.Duration, n, inFlight int, limited bool) {}

func (c *NewReno) Acked(a Ack) {
	c.touched = true
	covered := c.recovery.covers(a.SentTime)
	if c.resumption.ack(a, covered) {
		c.endRetreat()
	}
	// R9002-7.8-1
	if a.AppLimited || covered || c.resumption.phase == guessing {
		return
	}
	if c.InSlowStart() {
		c.window += a.Bytes
		return
	}
	// R9002-7.3.3-1
	c.credit += a.Bytes
	for c.credit >= c.window {
		c.credit -= c.window
		c.window += c.maxDatagram
	}
}

func (c *NewReno) Lost(l Loss) {
	c.touched = true
	covered := c.recovery.covers(l.SentTime)
	if !covered && c.resumption.end() {
		c.endRetreat()
	}
	wrong := c.resumption.lose(l, covered)
	// R9002-7.3.2-2
	if covered {
		return
	}
	// R9002-7.3.1-1 R9002-7.3.2-1
	c.recovery.enter(l.Now)
	c.window = max(c.window/2, minWindow(c.maxDatagram))
	c.ssthresh = c.window
	c.credit = 0
	if wrong {
		c.window = minWindow(c.maxDatagram)
	}
}

// SpuriousLoss changes nothing: RFC 9002 knows no undo.
func (c *NewReno) SpuriousLoss(now time.Duration) {}

func (c *NewReno) PersistentCongestion(now time.Duration) {
	// R9002-7.6.2-3
	c.window = minWindow(c.maxDatagram)
	c.credit = 0
	c.recovery.forget()
}

func (c *NewReno) Resume(now time.Duration) {
	known := c.window
	if c.InSlowStart() && c.ssthresh != math.MaxInt {
		known = c.ssthresh
	}
	c.touched = true
	c.recovery.enter(now) // what was sent before says nothing about the path now
	c.resumption.start(known)
	c.window = resumedWindow(known, c.maxDatagram)
	if c.ssthresh != math.MaxInt {
		c.ssthresh = known
	}
	c.credit = 0
}

// endRetreat begins slow start after the losses of a resumed window.
func (c *NewReno) endRetreat() { c.ssthresh = c.resumption.ssthresh(renoBeta, c.maxDatagram) }

func (c *NewReno) SetMaxDatagram(n int) {
	c.maxDatagram = n
	if !c.touched {
		c.window = initialWindow(n)
	}
	c.window = max(c.window, minWindow(n))
}
