// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

// pacerQuantum covers the lateness of a timer (about 1.1 ms measured): with less
// depth a path that sleeps between bursts could not reach its rate.
const pacerQuantum = 2 * time.Millisecond

// pacerCatchUp is the longest time that a sender makes up for that came late although it had
// something to send. Meanwhile the link has drained, unless its queue was longer; on a busy
// machine timers are late by several milliseconds, and without this the rate falls below that
// of the link.
const pacerCatchUp = 8 * time.Millisecond

// pacerPause is how much time's worth of bytes a sender that had to wait sends at least, if the
// link is not slower than a packet in that time. A wake-up for each packet costs both ends
// several times what the packet does, and the receivers inside of the tunnel acknowledge each
// little burst by itself; a millisecond is also what BBR allows to be sent at once, and what
// Go's timers resolve.
const pacerPause = time.Millisecond

// Pacer is a token bucket in bytes. It starts full and unpaced. R9002-7.7-1
type Pacer struct {
	rate    float64 // bytes/s; 0: unpaced
	quantum float64 // bytes that may leave at once at any rate
	tokens  float64 // may be negative after a probe that did not wait
	updated time.Duration

	due   time.Duration // when a sender that waits may go on; 0: none waits
	extra float64       // tokens beyond the depth, for one that came late
}

// NewPacer returns a pacer whose first burst is quantum bytes.
func NewPacer(quantum int) Pacer {
	return Pacer{quantum: float64(quantum), tokens: float64(quantum)}
}

// SetRate sets the rate in bytes/s, 0 meaning unpaced, and the burst in bytes that
// is allowed at low rates.
func (p *Pacer) SetRate(now time.Duration, rate float64, quantum int) {
	p.refill(now)
	p.rate, p.quantum = rate, float64(quantum)
}

// depth is the largest burst in bytes.
func (p *Pacer) depth() float64 { return max(p.quantum, p.rate*pacerQuantum.Seconds()) }

func (p *Pacer) refill(now time.Duration) {
	if now > p.updated {
		if p.rate > 0 {
			p.tokens += p.rate * (now - p.updated).Seconds()
		}
		p.updated = now
	}
	if p.due != 0 && now >= p.due {
		p.extra = p.rate * min(now-p.due, pacerCatchUp).Seconds()
		p.due = 0
	}
	p.tokens = min(p.tokens, p.depth()+p.extra)
}

// burst is what a sender that waits for n bytes waits for.
func (p *Pacer) burst(n float64) float64 {
	return min(max(n, p.rate*pacerPause.Seconds()), p.depth())
}

// Budget is how many bytes may be sent now; not negative. It is 0 while a sender waits, until
// the time that NextTime tells.
func (p *Pacer) Budget(now time.Duration) int {
	if p.rate <= 0 {
		return math.MaxInt
	}
	p.refill(now)
	if p.due != 0 && p.tokens < p.burst(0) {
		return 0
	}
	return max(int(p.tokens), 0)
}

// Spend takes n sent bytes from the bucket.
func (p *Pacer) Spend(now time.Duration, n int) {
	p.refill(now)
	p.tokens -= float64(n)
	p.extra = max(0, p.extra-float64(n))
	if p.rate <= 0 {
		p.tokens = max(p.tokens, 0)
	}
}

// NextTime is the earliest time at which a sender that waits for n bytes may go on: when there
// are as many, or the whole depth if that is less, and what a burst is to have.
func (p *Pacer) NextTime(now time.Duration, n int) time.Duration {
	if p.rate <= 0 {
		return now
	}
	p.refill(now)
	missing := p.burst(float64(n)) - p.tokens
	if missing <= 0 {
		return now
	}
	return now + time.Duration(math.Ceil(missing/p.rate*1e9))
}

// Wait says that the sender waits until a time with something to send.
func (p *Pacer) Wait(until time.Duration) { p.due = until }
