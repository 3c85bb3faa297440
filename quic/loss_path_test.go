// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
)

func TestOldestUnacked(t *testing.T) {
	lt := newLossTest(t)
	if _, _, ok := lt.oldestUnackedAckEliciting(); ok {
		t.Error("something is outstanding before anything was sent")
	}
	lt.sendAs(0, appSpace, 0)
	lt.send(10 * ms)
	lt.send(20 * ms)
	if sent, n, ok := lt.oldestUnackedAckEliciting(); !ok || sent != at(10*ms) || n != 2 {
		t.Errorf("oldest %v, %d, %v", sent.sub(testStart), n, ok)
	}
	lt.ack(30*ms, r(1, 1))
	if sent, n, _ := lt.oldestUnackedAckEliciting(); sent != at(20*ms) || n != 1 {
		t.Errorf("oldest %v, %d after an acknowledgment", sent.sub(testStart), n)
	}
	if lt.lastAcked != at(30*ms) || lt.lastAckedSent != at(10*ms) {
		t.Errorf("last acknowledged at %v, sent at %v", lt.lastAcked, lt.lastAckedSent)
	}
}

func TestDeadPath(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 3)
	lt.send(2 * time.Second)
	n := 0
	lt.forEachInFlight(func(recs []frameRecord) { n += len(recs) })
	if n != 4 || lt.inFlight != 4*testMTU {
		t.Errorf("%d records in flight, %d bytes", n, lt.inFlight)
	}
	lt.discardAllInFlight(lt.out)
	if len(lt.lost) != 4 || lt.inFlight != 0 || len(lt.cc.losses) != 0 {
		t.Errorf("lost %v, in flight %d, controller heard %v", lt.lost, lt.inFlight, lt.cc.losses)
	}
	lt.wantNoTimer("nothing in flight")
	// A late acknowledgment counts.
	lt.send(2100 * ms)
	lt.ack(2200*ms, r(4, 5))
	if lt.acked[4] != 1 {
		t.Error("the late acknowledgment of a discarded packet was ignored")
	}
	// The losses before do not add up to persistent congestion with one after.
	lt.sendN(2300*ms, 4)
	lt.ack(2400*ms, r(9, 9))
	if lt.lost[6] != 1 || lt.cc.persistent != 0 {
		t.Errorf("lost %v, persistent congestion %d times", lt.lost, lt.cc.persistent)
	}
}

func TestDiscardSent(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 5) // 1 to 5
	lt.discardSent(2, 3, lt.out)
	if len(lt.lost) != 2 || lt.lost[2] != 1 || lt.lost[3] != 1 || lt.inFlight != 3*testMTU {
		t.Errorf("lost %v, in flight %d", lt.lost, lt.inFlight)
	}
	lt.ack(100*ms, r(1, 1), r(4, 5))
	if len(lt.cc.losses) != 0 || lt.inFlight != 0 {
		t.Errorf("controller heard %v, in flight %d", lt.cc.losses, lt.inFlight)
	}
}

func TestResumeCarefully(t *testing.T) {
	for _, tt := range []struct {
		silence time.Duration
		window  int
	}{{3 * time.Second, 500_000}, {time.Minute, 7}} {
		lt := newLossTest(t)
		lt.newController = func(int) congestion.Controller {
			lt.cc = &ccRecorder{window: 7}
			return lt.cc
		}
		lt.warm(100 * ms)
		lt.lossState.cc.(*ccRecorder).window = 1_000_000
		lt.sendN(tt.silence-100*ms, 2) // 1 and 2
		lt.ack(tt.silence, r(2, 2))
		lt.resumeCarefully(at(tt.silence))
		if got := lt.lossState.cc.Window(); got != tt.window {
			t.Errorf("window %d after %v of silence, want %d", got, tt.silence, tt.window)
		}
		// A probe of before that was lost is no congestion signal.
		lt.sendN(tt.silence, 4) // 3 to 6
		lt.ack(tt.silence+100*ms, r(3, 6))
		if lt.lost[1] != 1 || len(lt.cc.losses) != 0 {
			t.Errorf("lost %v, controller heard %v", lt.lost, lt.cc.losses)
		}
		// One of now is.
		lt.sendN(tt.silence+200*ms, 5) // 7 to 11
		lt.ack(tt.silence+300*ms, r(8, 11))
		if lt.lost[7] != 1 || len(lt.cc.losses) != 1 {
			t.Errorf("lost %v, controller heard %v", lt.lost, lt.cc.losses)
		}
	}
}

// TestProbesAreNoRateSamples: what a dead path delivers is not what it can carry.
func TestProbesAreNoRateSamples(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	now := time.Duration(0)
	for pn := uint64(1); pn < 200; pn += 10 { // 120 kB/s
		lt.sendN(now, 10)
		now += 100 * ms
		lt.ack(now, r(pn, pn+9))
	}
	before := lt.rate.rate()
	lt.discardAllInFlight(lt.out)
	now += 3 * time.Second
	pn := uint64(lt.send(now))
	lt.ack(now+100*ms, r(pn, pn))
	lt.resumeCarefully(at(now + 100*ms))
	pn = uint64(lt.send(now + 100*ms)) // one packet, since there is no more
	lt.ack(now+200*ms, r(pn, pn))
	if got := lt.rate.rate(); before < 100_000 || got != before {
		t.Errorf("rate %.0f after probing, %.0f before", got, before)
	}
}

func TestNewAddress(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 4) // 1 to 4
	old := lt.cc
	lt.resetForNewAddress()
	// R9000-9.4-1 RMP21-5.1-1
	if lt.cc == old || lt.rtt.hasSample() || lt.rtt.smoothed != initialRTT || lt.rate.rate() != 0 || lt.inFlight != 0 {
		t.Errorf("not initial: RTT %v, rate %v, in flight %d", lt.rtt.smoothed, lt.rate.rate(), lt.inFlight)
	}
	lt.sendN(10*ms, 4) // 5 to 8
	// R9000-9.4-2: acknowledged and lost packets of the old address say nothing.
	lt.ack(20*ms, r(4, 4))
	if lt.acked[4] != 1 || lt.lost[1] != 1 {
		t.Errorf("acknowledged %v, lost %v", lt.acked, lt.lost)
	}
	if lt.rtt.hasSample() || len(lt.cc.acks) != 0 || len(lt.cc.losses) != 0 || lt.inFlight != 4*testMTU {
		t.Errorf("RTT %v, controller heard %v and %v, in flight %d", lt.rtt.latest, lt.cc.acks, lt.cc.losses, lt.inFlight)
	}
	lt.ack(60*ms, r(2, 8))
	if lt.rtt.latest != 50*ms || len(lt.cc.acks) != 1 || lt.cc.acks[0].Bytes != 4*testMTU {
		t.Errorf("RTT %v, controller heard %+v", lt.rtt.latest, lt.cc.acks)
	}
}
