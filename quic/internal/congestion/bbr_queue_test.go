// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"testing"
	"time"
)

// TestBBRShortQueue: beyond Startup, no round trip takes much longer than the shortest one,
// and the link is full.
func TestBBRShortQueue(t *testing.T) {
	for _, limited := range []bool{false, true} {
		p := newBBRPath(bbrRate, 40*ms)
		p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
		// An application that sends as much as the link carries, so that the queue of a probe
		// shows no plateau.
		p.limited, p.limitedRate = limited, 1.001*bbrRate
		p.run(500 * ms)
		p.maxRTT = 0
		start, delivered := p.now, p.delivered
		p.run(20 * time.Second)
		if p.maxRTT > 55*ms {
			t.Errorf("limited %v: a round trip of %v", limited, p.maxRTT)
		}
		if p.states[bbrUp] == 0 {
			t.Errorf("limited %v: no probe for bandwidth", limited)
		}
		rate := float64(p.delivered-delivered) / (p.now - start).Seconds()
		if rate < 0.97*bbrRate {
			t.Errorf("limited %v: %.3f of the link", limited, rate/bbrRate)
		}
	}
}

// TestBBRDrainsInCruise: a queue that stands is drained at once, not by the next cycle.
func TestBBRDrainsInCruise(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
	p.run(100 * ms)
	p.rtt, p.min = 50*ms, 40*ms
	p.until(t, "less than the bandwidth", 150*ms, func() bool { return p.b.pacingGain < 1 })
	p.rtt = 40 * ms
	p.until(t, "the bandwidth again", 150*ms, func() bool { return p.b.pacingGain == 1 })
	if p.b.state != bbrCruise {
		t.Errorf("state %d", p.b.state)
	}
}

// TestBBRForeignQueue: what others queue is not waited for, and their queue does not end
// probes.
func TestBBRForeignQueue(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
	p.rtt, p.min = 60*ms, 40*ms // nothing drains that
	p.until(t, "others noticed", time.Second, func() bool { return p.b.foreign })
	p.until(t, "the bandwidth again", 100*ms, func() bool { return p.b.pacingGain >= 1 })
	p.until(t, "UP", 4*time.Second, p.in(bbrUp))
	most := 0
	p.until(t, "DOWN", time.Second, func() bool { most = max(most, p.inFlight); return p.b.state == bbrDown })
	if limit := int(1.5 * bbrRate * 0.04); most < limit {
		t.Errorf("%d bytes in flight in UP, want %d", most, limit)
	}
	p.rtt = 40 * ms
	p.until(t, "alone again", 200*ms, func() bool { return !p.b.foreign })
}
