// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func newAckState(immediate bool) *ackState {
	a := new(ackState)
	a.init(immediate)
	return a
}

func TestAckDue(t *testing.T) {
	type packet struct {
		pn        packetNumber
		eliciting bool
		ecn       udpio.ECN
	}
	el := func(pn packetNumber) packet { return packet{pn, true, udpio.NotECT} }
	only := func(pn packetNumber) packet { return packet{pn, false, udpio.NotECT} }
	tests := []struct {
		name      string
		immediate bool
		packets   []packet
		due       bool          // at once
		deadline  time.Duration // -1: never
	}{
		// R9000-13.2.1-1
		{"Initial, Handshake", true, []packet{el(0)}, true, 5 * ms},
		// R9000-13.2.1-2
		{"one", false, []packet{el(0)}, false, 5 * ms},
		// R9000-13.2.2-1
		{"two", false, []packet{el(0), el(1)}, true, 0},
		// R9000-13.2.1-4
		{"not ack-eliciting", false, []packet{only(0), only(1), only(5)}, false, -1},
		// R9000-13.2.1-5
		{"gap", false, []packet{only(0), el(2)}, true, 5 * ms},
		{"gap before a packet that elicits nothing", false, []packet{only(0), only(2), el(3)}, true, 5 * ms},
		{"gap that an ack-eliciting packet told already", false, []packet{el(0), el(2), {-1, false, 0}, el(3)}, false, 5 * ms},
		{"out of order", false, []packet{el(0), only(1), el(3), {-1, false, 0}, el(2)}, true, 5 * ms},
		{"late, but only after one that elicits nothing", false, []packet{el(0), only(2), {-1, false, 0}, el(1)}, false, 5 * ms},
		// R9000-13.2.1-6
		{"CE", false, []packet{{0, true, udpio.CE}}, true, 5 * ms},
		{"ECT", false, []packet{{0, true, udpio.ECT0}}, false, 5 * ms},
		// R9000-12.3-4
		{"duplicate", false, []packet{el(0), el(0)}, false, 5 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAckState(tt.immediate)
			for _, p := range tt.packets {
				if p.pn < 0 {
					a.sent()
					continue
				}
				a.received(at(0), p.pn, p.eliciting, p.ecn)
			}
			if got := a.due(at(0)); got != tt.due {
				t.Errorf("due at once: %v, want %v", got, tt.due)
			}
			want := instant(0)
			if tt.deadline >= 0 {
				want = at(tt.deadline)
				if !a.due(want) {
					t.Error("not due at the deadline")
				}
			}
			if got := a.deadline(); got != want {
				t.Errorf("deadline %v, want %v", got, want)
			}
			// R9000-13.2.1-3
			a.sent()
			if a.due(at(time.Second)) || a.pending() || a.deadline() != 0 {
				t.Error("another one is due after it was sent")
			}
		})
	}
}

// TestAcksAreCollected: once a path has begun, acknowledgments wait for a sixteenth of a round
// trip or 32 packets, but a packet that comes alone for no less than before.
func TestAcksAreCollected(t *testing.T) {
	const first = ackStart // number of the first packet that counts
	for _, tt := range []struct {
		name     string
		srtt     time.Duration
		packets  int
		deadline time.Duration
	}{
		{"one", 16 * ms, 1, 5 * ms},
		{"two", 16 * ms, 2, ms},
		{"31", 16 * ms, 31, ms},
		{"32", 16 * ms, 32, 0},
		{"a long round trip", 600 * ms, 3, 5 * ms},
		{"the round trip is not known", 0, 2, 0},
	} {
		a := newAckState(false)
		for pn := range packetNumber(first) {
			a.received(at(0), pn, true, udpio.NotECT)
			if a.unacked >= ackAfter {
				if !a.due(at(0)) {
					t.Fatalf("not due with packet %d", pn)
				}
				a.sent()
			}
		}
		a.srtt = tt.srtt
		for i := range packetNumber(tt.packets) {
			a.received(at(0), first+i, true, udpio.NotECT)
		}
		if got := a.deadline(); got != at(tt.deadline) || a.due(got-1) || !a.due(got) {
			t.Errorf("%s: due at %v, want %v", tt.name, got, at(tt.deadline))
		}
		a.received(at(0), first+100, true, udpio.NotECT)
		if !a.due(at(0)) { // R9000-13.2.1-5
			t.Errorf("%s: a gap is not told at once", tt.name)
		}
	}
}

func TestAckRanges(t *testing.T) {
	a := newAckState(false)
	for _, pn := range []packetNumber{0, 1, 5, 3, 9, 8} {
		if a.received(at(0), pn, true, udpio.NotECT) {
			t.Errorf("packet %d is called a duplicate", pn)
		}
	}
	want := []wire.Range{{Lo: 0, Hi: 1}, {Lo: 3, Hi: 3}, {Lo: 5, Hi: 5}, {Lo: 8, Hi: 9}}
	if got := a.frameRanges(); !reflect.DeepEqual(got, want) {
		t.Errorf("ranges %v, want %v", got, want)
	}
	a.received(at(0), 4, true, udpio.NotECT)
	want = []wire.Range{{Lo: 0, Hi: 1}, {Lo: 3, Hi: 5}, {Lo: 8, Hi: 9}}
	if got := a.frameRanges(); !reflect.DeepEqual(got, want) {
		t.Errorf("ranges %v after the gap was filled, want %v", got, want)
	}

	// What the peer knows is not repeated, but the largest always is. R9000-13.2.3-1
	a.ackAcked(5)
	if got := a.frameRanges(); !reflect.DeepEqual(got, want[2:]) {
		t.Errorf("ranges %v after an acknowledged acknowledgment of 5, want %v", got, want[2:])
	}
	a.ackAcked(9)
	if got := a.frameRanges(); !reflect.DeepEqual(got, want[2:]) {
		t.Errorf("ranges %v when all is known, want %v", got, want[2:])
	}

	// A late packet is told again until an ACK frame that can contain it is acknowledged.
	a.received(at(0), 2, true, udpio.NotECT)
	want = []wire.Range{{Lo: 0, Hi: 5}, {Lo: 8, Hi: 9}}
	if got := a.frameRanges(); !reflect.DeepEqual(got, want) {
		t.Errorf("ranges %v after a late packet, want %v", got, want)
	}
	a.ackAcked(9)
	if got := a.frameRanges(); !reflect.DeepEqual(got, want) {
		t.Errorf("ranges %v after an older ACK frame was acknowledged, want %v", got, want)
	}
	a.received(at(0), 10, true, udpio.NotECT)
	a.ackAcked(10)
	if got := a.frameRanges(); len(got) != 1 || got[0].Hi != 10 {
		t.Errorf("ranges %v after a newer ACK frame was acknowledged", got)
	}
}

func TestAckRangesAreBounded(t *testing.T) {
	a := newAckState(false)
	for pn := packetNumber(0); pn < 1000; pn += 2 {
		a.received(at(0), pn, true, udpio.NotECT)
	}
	if n := len(a.ranges); n != maxAckRanges {
		t.Errorf("%d ranges are remembered, want %d", n, maxAckRanges)
	}
	got := a.frameRanges()
	if len(got) != maxFrameRanges || got[len(got)-1].Hi != 998 {
		t.Errorf("a frame has %d ranges up to %d", len(got), got[len(got)-1].Hi)
	}
	// Too old to tell: never processed twice. R9000-12.3-4
	for _, pn := range []packetNumber{0, 1, 500} {
		if !a.isDuplicate(pn) {
			t.Errorf("packet %d, whose range was dropped, is not called a duplicate", pn)
		}
	}
	if a.isDuplicate(997) {
		t.Error("a missing packet is called a duplicate")
	}
}

func TestAckECNAndDelay(t *testing.T) {
	a := newAckState(false)
	a.received(at(0), 0, true, udpio.NotECT)
	if a.ecnCounts() != nil {
		t.Error("counts without a marked packet")
	}
	for pn, e := range []udpio.ECN{udpio.ECT0, udpio.ECT0, udpio.ECT1, udpio.CE, udpio.CE, udpio.CE} {
		a.received(at(ms), packetNumber(pn+1), true, e)
		a.received(at(ms), packetNumber(pn+1), true, e) // a duplicate does not count
	}
	// R9000-13.4.1-1
	if got := a.ecnCounts(); *got != (wire.ECNCounts{ECT0: 2, ECT1: 1, CE: 3}) {
		t.Errorf("counts %+v", *got)
	}
	a.received(at(3*ms), 9, true, udpio.NotECT)
	a.received(at(4*ms), 8, true, udpio.NotECT)
	if got := a.delay(at(10 * ms)); got != 7*ms {
		t.Errorf("delay %v, want that of the largest packet, 7ms", got)
	}
}

// TestAckStateRandom compares with a set of packet numbers.
func TestAckStateRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		a, seen, top := newAckState(false), map[packetNumber]bool{}, packetNumber(-1)
		for range 300 {
			pn := max(0, top+packetNumber(rng.IntN(12)-8))
			known := pn < a.floor || seen[pn]
			if got := a.isDuplicate(pn); got != known {
				t.Fatalf("duplicate %v for %d, floor %d, seen %v", got, pn, a.floor, seen[pn])
			}
			if got := a.received(at(0), pn, rng.IntN(2) == 0, udpio.NotECT); got != known {
				t.Fatalf("received reports %v for %d", got, pn)
			}
			seen[pn] = true
			top = max(top, pn)
			if rng.IntN(20) == 0 {
				a.ackAcked(packetNumber(rng.IntN(int(top) + 1)))
			}
			prev := packetNumber(-2)
			for _, r := range a.ranges {
				if packetNumber(r.Lo) <= prev+1 || r.Hi < r.Lo {
					t.Fatalf("ranges %v", a.ranges)
				}
				for pn := r.Lo; pn <= r.Hi; pn++ {
					if !seen[packetNumber(pn)] {
						t.Fatalf("%d in %v was not received", pn, a.ranges)
					}
				}
				prev = packetNumber(r.Hi)
			}
			if a.largest() != top {
				t.Fatalf("largest %d, want %d", a.largest(), top)
			}
		}
	}
}
