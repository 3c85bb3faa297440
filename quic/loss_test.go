// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

const (
	ms        = time.Millisecond
	testMTU   = 1200
	testStart = instant(time.Second)
)

// ccRecorder is a controller with a fixed window that notes what it is told.
type ccRecorder struct {
	window     int
	acks       []congestion.Ack
	losses     []congestion.Loss
	persistent int
	spurious   int
}

func (c *ccRecorder) Window() int                      { return c.window }
func (c *ccRecorder) PacingRate(time.Duration) float64 { return 0 }
func (c *ccRecorder) SendQuantum() int                 { return 10 * testMTU }
func (c *ccRecorder) SpuriousLoss(time.Duration)       { c.spurious++ }

func (c *ccRecorder) PacketSent(time.Duration, int, int, bool) {}
func (c *ccRecorder) Acked(a congestion.Ack)                   { c.acks = append(c.acks, a) }
func (c *ccRecorder) Lost(l congestion.Loss)                   { c.losses = append(c.losses, l) }
func (c *ccRecorder) PersistentCongestion(now time.Duration)   { c.persistent++ }
func (c *ccRecorder) Resume(time.Duration)                     { c.window /= 2 }
func (c *ccRecorder) SetMaxDatagram(n int)                     {}
func (c *ccRecorder) State() string                            { return "" }
func (c *ccRecorder) InSlowStart() bool                        { return true }

// lossTest drives a lossState with explicit times, as offsets from testStart.
type lossTest struct {
	t testing.TB
	lossState
	cc *ccRecorder

	space [numSpaces]space
	acked map[uint64]int // fates by record id
	lost  map[uint64]int
	nop   bool // collect no fates
}

type lossTestOption func(*lossConfig)

// withHandshake gives the path all three spaces, at a client or a server.
func withHandshake(isClient bool) lossTestOption {
	return func(c *lossConfig) { c.isClient = isClient }
}

func newLossTest(t testing.TB, opts ...lossTestOption) *lossTest {
	lt := &lossTest{t: t, acked: map[uint64]int{}, lost: map[uint64]int{}}
	cfg := lossConfig{
		maxDatagram: testMTU,
		newController: func(int) congestion.Controller {
			lt.cc = &ccRecorder{window: 1 << 30}
			return lt.cc
		},
	}
	cfg.spaces[appSpace] = &lt.space[appSpace]
	for _, o := range opts {
		o(&cfg)
		cfg.spaces[initialSpace], cfg.spaces[handshakeSpace] = &lt.space[initialSpace], &lt.space[handshakeSpace]
	}
	lt.init(cfg)
	return lt
}

func (lt *lossTest) out(_ spaceID, r frameRecord, f fate) {
	if lt.nop {
		return
	}
	if f == fateAcked {
		lt.acked[r.id]++
	} else {
		lt.lost[r.id]++
	}
}

func at(d time.Duration) instant { return testStart.add(d) }

// sendAs sends a packet of testMTU bytes in sp, with one record whose id is its number.
func (lt *lossTest) sendAs(d time.Duration, sp spaceID, flags sentFlags) packetNumber {
	pn := lt.spaces[sp].next
	lt.packetSent(at(d), sp, sentPacket{size: testMTU, flags: flags},
		[]frameRecord{{kind: recordStream, id: uint64(pn)}})
	return pn
}

func (lt *lossTest) send(d time.Duration) packetNumber {
	return lt.sendAs(d, appSpace, sentAckEliciting|packetInFlight)
}

func (lt *lossTest) sendN(d time.Duration, n int) {
	for range n {
		lt.send(d)
	}
}

// ackFrame returns the ACK frame with these ranges, in ascending order.
func ackFrame(t testing.TB, ranges ...wire.Range) *wire.Frame {
	var f wire.Frame
	if _, err := f.Parse(wire.AppendAck(nil, 0, ranges, nil), nil); err != wire.ParseOK {
		t.Fatalf("parse of our own ACK: %v", err)
	}
	return &f
}

func r(lo, hi uint64) wire.Range { return wire.Range{Lo: lo, Hi: hi} }

func (lt *lossTest) ackIn(d time.Duration, sp spaceID, delay time.Duration, ranges ...wire.Range) bool {
	lt.t.Helper()
	eliciting, err := lt.handleAck(at(d), sp, ackFrame(lt.t, ranges...), delay, true, lt.out)
	if err != nil {
		lt.t.Fatal(err)
	}
	return eliciting
}

func (lt *lossTest) ack(d time.Duration, ranges ...wire.Range) bool {
	lt.t.Helper()
	return lt.ackIn(d, appSpace, 0, ranges...)
}

// warm makes rtt the smoothed RTT, with no variation, ending at time 0.
func (lt *lossTest) warm(rtt time.Duration) {
	pn := uint64(lt.send(-rtt))
	lt.ack(0, r(pn, pn))
	lt.rtt.variation = 0
	lt.cc.acks = nil
}

func (lt *lossTest) wantTimer(why string, d time.Duration) {
	lt.t.Helper()
	if got := lt.timer(); got != at(d) {
		lt.t.Errorf("%s: timer at %v, want %v", why, got.sub(testStart), d)
	}
}

func (lt *lossTest) wantNoTimer(why string) {
	lt.t.Helper()
	if got := lt.timer(); !got.isZero() {
		lt.t.Errorf("%s: timer at %v, want none", why, got.sub(testStart))
	}
}

func TestPacketThreshold(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 4) // 1 to 4
	lt.ack(50*ms, r(0, 0), r(3, 3))
	if len(lt.lost) != 0 {
		t.Errorf("lost %v when two later packets were acknowledged", lt.lost)
	}
	// R9002-6.1.1-1
	lt.ack(50*ms, r(0, 0), r(3, 4))
	if lt.lost[1] != 1 || len(lt.lost) != 1 {
		t.Errorf("lost %v when three later packets were acknowledged, want packet 1", lt.lost)
	}
	// R9002-7.4-1
	if len(lt.cc.losses) != 1 || lt.cc.losses[0].Bytes != testMTU {
		t.Errorf("controller heard of %+v", lt.cc.losses)
	}
}

func TestAckOfUnsentPacket(t *testing.T) {
	lt := newLossTest(t)
	lt.sendN(0, 2)
	_, err := lt.handleAck(at(ms), appSpace, ackFrame(t, r(0, 2)), 0, true, lt.out)
	// R9000-13.1-2
	if te := (*TransportError)(nil); !errors.As(err, &te) || te.Code != ProtocolViolation {
		t.Errorf("error %v, want PROTOCOL_VIOLATION", err)
	}
	if len(lt.acked) != 0 {
		t.Errorf("acknowledged %v", lt.acked)
	}
}

func TestSendLimit(t *testing.T) {
	lt := newLossTest(t)
	lt.cc.window = 2*testMTU + 100
	lt.sendN(0, 1)
	if why, _ := lt.sendLimit(at(0), testMTU); why != sched.NotBlocked {
		t.Errorf("blocked by %v below the window", why)
	}
	lt.sendN(0, 1)
	// R9002-7-1
	if why, _ := lt.sendLimit(at(0), testMTU); why != sched.BlockedCwnd {
		t.Errorf("reason %v with a full window", why)
	}
	if why, _ := lt.sendLimit(at(0), 100); why != sched.NotBlocked {
		t.Errorf("blocked by %v though a small packet fits", why)
	}
}

func TestSentRing(t *testing.T) {
	var r sentRing
	next, first := 0, 0
	rec := func(pn, i int) frameRecord { return frameRecord{kind: recordStream, id: uint64(pn), a: uint64(i)} }
	for step := range 2000 {
		// Grow to some size, shrink, grow further: the arenas wrap at each size.
		if grow := step%3 != 2 || step > 1800; grow {
			var recs []frameRecord
			for i := range next % 4 {
				recs = append(recs, rec(next, i))
			}
			r.push(sentPacket{size: uint16(next)}, recs)
			next++
		} else if r.len() > 0 {
			r.pop()
			first++
		}
		if r.first != packetNumber(first) || r.end != packetNumber(next) {
			t.Fatalf("step %d: holds %d to %d, want %d to %d", step, r.first, r.end, first, next)
		}
		for pn := first; pn < next; pn++ {
			p := r.at(packetNumber(pn))
			head, tail := r.recordsOf(p)
			if int(p.size) != pn || len(head)+len(tail) != pn%4 {
				t.Fatalf("step %d, packet %d: %+v with %d+%d records", step, pn, p, len(head), len(tail))
			}
			for i, got := range append(append([]frameRecord{}, head...), tail...) {
				if got != rec(pn, i) {
					t.Fatalf("step %d, packet %d: record %d is %+v", step, pn, i, got)
				}
			}
		}
	}
}

func TestSentPacketSize(t *testing.T) {
	if n := unsafe.Sizeof(sentPacket{}); n > 56 {
		t.Errorf("a sentPacket has %d bytes", n)
	}
}
