// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

const (
	pacerPackets = 10 // the initial window: RFC 9002 section 7.7
	// pacerQuantum covers the lateness of a timer (about 1.1 ms measured): with
	// less depth a path that sleeps between bursts could not reach its rate.
	pacerQuantum = 2 * time.Millisecond
)

// Pacer is a token bucket in bytes. It starts full and unpaced. R9002-7.7-1
type Pacer struct {
	maxDatagram int
	rate        float64 // bytes/s; 0: unpaced
	tokens      float64 // may be negative after a probe that did not wait
	updated     time.Duration
}

// NewPacer returns a pacer for packets of at most maxDatagram bytes.
func NewPacer(maxDatagram int) Pacer {
	return Pacer{maxDatagram: maxDatagram, tokens: float64(pacerPackets * maxDatagram)}
}

// SetRate sets the rate in bytes/s; 0 means unpaced.
func (p *Pacer) SetRate(now time.Duration, rate float64) {
	p.refill(now)
	p.rate = rate
}

// SetMaxDatagram tells the new largest UDP payload in bytes.
func (p *Pacer) SetMaxDatagram(n int) { p.maxDatagram = n }

// depth is the largest burst in bytes.
func (p *Pacer) depth() float64 {
	return max(float64(pacerPackets*p.maxDatagram), p.rate*pacerQuantum.Seconds())
}

func (p *Pacer) refill(now time.Duration) {
	if now > p.updated {
		if p.rate > 0 {
			p.tokens += p.rate * (now - p.updated).Seconds()
		}
		p.updated = now
	}
	p.tokens = min(p.tokens, p.depth())
}

// Budget is how many bytes may be sent now; not negative.
func (p *Pacer) Budget(now time.Duration) int {
	if p.rate <= 0 {
		return math.MaxInt
	}
	p.refill(now)
	return max(int(p.tokens), 0)
}

// Spend takes n sent bytes from the bucket.
func (p *Pacer) Spend(now time.Duration, n int) {
	p.refill(now)
	p.tokens -= float64(n)
	if p.rate <= 0 {
		p.tokens = max(p.tokens, 0)
	}
}

// NextTime is the earliest time at which Budget is n, or the whole depth if n is more.
func (p *Pacer) NextTime(now time.Duration, n int) time.Duration {
	if p.rate <= 0 {
		return now
	}
	p.refill(now)
	missing := min(float64(n), p.depth()) - p.tokens
	if missing <= 0 {
		return now
	}
	return now + time.Duration(math.Ceil(missing/p.rate*1e9))
}
