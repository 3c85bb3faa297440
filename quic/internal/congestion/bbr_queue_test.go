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
	p.until(t, "less than the bandwidth", 250*ms, func() bool { return p.b.pacingGain < 1 })
	p.rtt = 40 * ms
	p.until(t, "the bandwidth again", 150*ms, func() bool { return p.b.pacingGain == 1 })
	if p.b.state != bbrCruise {
		t.Errorf("state %d", p.b.state)
	}
}

// TestBBRProbeEndsWithQueue: a probe does not go on for as long as the window of a path that
// acknowledges in bunches would let it.
func TestBBRProbeEndsWithQueue(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
	p.limited, p.limitedRate = true, 1.1*bbrRate
	p.until(t, "UP", 5*time.Second, p.in(bbrUp))
	bunch := int(bbrRate * 0.04)
	p.b.extraAckedFilter = [2]int{bunch, bunch}
	p.until(t, "DOWN", 400*ms, p.in(bbrDown))
}

// TestBBRCorrectsBandwidth: samples that were too high are forgotten when a queue stands although
// less is sent, and nobody else is suspected.
func TestBBRCorrectsBandwidth(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
	p.run(100 * ms)
	const tooHigh = 1.25 * bbrRate
	p.b.maxBW, p.b.maxBWFilter = tooHigh, [2]float64{tooHigh, tooHigh}
	p.until(t, "the true bandwidth", time.Second, func() bool { return p.b.maxBW < 1.02*bbrRate })
	p.until(t, "no queue", 500*ms, func() bool { return !p.b.standing })
	if p.b.foreign || p.b.maxBW < 0.95*bbrRate {
		t.Errorf("foreign %v, bandwidth %.2f of the link's", p.b.foreign, p.b.maxBW/bbrRate)
	}
}

// TestBBRSlowSender: where a busy machine sends less than it may, and round trips are long for the
// same reason, what was delivered says nothing about the path.
func TestBBRSlowSender(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
	p.run(100 * ms)
	before := p.b.maxBW
	p.rtt, p.min = 46*ms, 40*ms
	p.slow = 0.75 * bbrRate
	p.run(500 * ms)
	if p.b.maxBW < before {
		t.Errorf("bandwidth %.2f of the link's", p.b.maxBW/bbrRate)
	}
}

// TestBBRDrainsInAnyCase: a bandwidth that is taken for too large again, while the queue stands,
// keeps it from being drained for a while, but is not taken for the queue of others.
func TestBBRDrainsInAnyCase(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 2*time.Second, p.in(bbrCruise))
	p.run(100 * ms)
	tooHigh := func(bw float64) { p.b.maxBW, p.b.maxBWFilter = bw, [2]float64{bw, bw} }
	tooHigh(1.25 * bbrRate)
	p.until(t, "a correction", time.Second, func() bool { return p.b.corrected })
	tooHigh(1.1 * bbrRate)
	p.until(t, "no queue", 1500*ms, func() bool {
		if p.b.foreign {
			t.Fatal("the queue is taken for that of others")
		}
		return !p.b.standing
	})
}

// TestBBRStartupOfLimitedSender: a sender that has a bit more than the link carries, but never
// enough to fill the window, leaves Startup before it has made a long queue; one that sends
// little does not take others' queue for its own.
func TestBBRStartupOfLimitedSender(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.limited, p.limitedRate = true, 1.3*bbrRate
	p.until(t, "end of Startup", 2*time.Second, func() bool { return p.b.state != bbrStartup })
	if p.maxRTT > 110*ms {
		t.Errorf("a round trip of %v", p.maxRTT)
	}
	p = newBBRPath(bbrRate, 40*ms)
	p.limited, p.limitedRate = true, 0.05*bbrRate
	p.run(200 * ms)
	p.rtt, p.min = 60*ms, 40*ms
	p.run(2 * time.Second)
	if !p.b.standing || p.b.state != bbrStartup {
		t.Errorf("a queue: %v, state %d of one that sends little", p.b.standing, p.b.state)
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
	p.until(t, "alone again", 500*ms, func() bool { return !p.b.foreign })
}
