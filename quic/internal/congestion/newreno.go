// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

// NewReno is the controller of RFC 9002 section 7.
type NewReno struct {
	maxDatagram int
	window      int
	ssthresh    int
	credit      int // bytes acknowledged in congestion avoidance that have not yet grown the window
	touched     bool
	recovery    recovery
	guess       guess
}

var _ Controller = (*NewReno)(nil)

// NewNewReno returns a controller with the initial window for packets of at most
// maxDatagram bytes of UDP payload.
func NewNewReno(maxDatagram int) *NewReno {
	return &NewReno{maxDatagram: maxDatagram, window: initialWindow(maxDatagram), ssthresh: math.MaxInt}
}

func (c *NewReno) Window() int { return c.window }

func (c *NewReno) InSlowStart() bool { return c.window < c.ssthresh }

func (c *NewReno) PacingRate(srtt time.Duration) float64 {
	return pacingRate(c.window, c.InSlowStart(), srtt)
}

func (c *NewReno) PacketSent(now time.Duration, n, inFlight int) {}

func (c *NewReno) Acked(a Ack) {
	c.touched = true
	c.guess.ack(a)
	// R9002-7.8-1
	if a.AppLimited || c.recovery.covers(a.SentTime) {
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
	// R9002-7.3.2-2
	if c.recovery.covers(l.SentTime) {
		return
	}
	// R9002-7.3.1-1 R9002-7.3.2-1
	c.recovery.enter(l.Now)
	c.window = max(c.window/2, minWindow(c.maxDatagram))
	c.ssthresh = c.window
	c.credit = 0
	if c.guess.wrong() {
		c.window = minWindow(c.maxDatagram)
	}
}

func (c *NewReno) PersistentCongestion(now time.Duration) {
	// R9002-7.6.2-3
	c.window = minWindow(c.maxDatagram)
	c.credit = 0
	c.recovery.forget()
}

func (c *NewReno) Resume(window int) {
	c.touched = true
	c.window = max(window, minWindow(c.maxDatagram))
	c.ssthresh = c.window
	c.guess = guess{open: true}
}

func (c *NewReno) SetMaxDatagram(n int) {
	c.maxDatagram = n
	if !c.touched {
		c.window = initialWindow(n)
	}
	c.window = max(c.window, minWindow(n))
}
