// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func TestSpuriousLoss(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 4)
	lt.ack(100*ms, r(4, 4))
	if lt.lost[1] != 1 || lt.inFlight != 2*testMTU {
		t.Fatalf("lost %v, in flight %d", lt.lost, lt.inFlight)
	}
	lt.ack(110*ms, r(1, 4))
	lt.ack(110*ms, r(0, 4)) // again: changes nothing
	if lt.acked[1] != 1 || lt.spuriousLosses != 1 || lt.packetsLost != 1 {
		t.Errorf("late packet acknowledged %d times, %d spurious losses of %d", lt.acked[1], lt.spuriousLosses, lt.packetsLost)
	}
	if lt.inFlight != 0 || lt.space[appSpace].outstanding != 0 {
		t.Errorf("in flight %d, outstanding %d", lt.inFlight, lt.space[appSpace].outstanding)
	}
	if n := lt.space[appSpace].sent.len(); n != 0 {
		t.Errorf("%d packets are still remembered", n)
	}
}

func TestLossesAreForgotten(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 4)
	lt.ack(100*ms, r(2, 4))
	s := &lt.space[appSpace]
	if s.sent.len() != 4 {
		t.Errorf("%d packets remembered, want 4 while the lost one may arrive", s.sent.len())
	}
	lt.send(time.Second)
	if s.sent.len() != 1 {
		t.Errorf("%d packets remembered after a second, want 1", s.sent.len())
	}
}

func TestMTUProbeLossIsNoSignal(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendAs(0, appSpace, inFlightPacket|sentMTUProbe)
	lt.sendN(0, 3)
	lt.ack(100*ms, r(2, 4))
	if lt.lost[1] != 1 || lt.inFlight != 0 {
		t.Errorf("lost %v, in flight %d", lt.lost, lt.inFlight)
	}
	if len(lt.cc.losses) != 0 || lt.lossFraction != 0 || lt.packetsLost != 0 {
		t.Errorf("controller heard %v, loss %v, %d packets lost", lt.cc.losses, lt.lossFraction, lt.packetsLost)
	}
}

func TestPersistentCongestion(t *testing.T) {
	const (
		el  = inFlightPacket
		pad = packetInFlight // not ack-eliciting
	)
	// RTT 100 ms without variation, granularity 1 ms, max_ack_delay 20 ms. R9002-7.6.1-1
	duration := 3 * (100*ms + ms + 20*ms)
	type packet struct {
		at    time.Duration
		flags sentFlags
	}
	tests := []struct {
		name    string
		packets []packet // from number 1 on
		acks    []wire.Range
		want    int
	}{
		// R9002-7.6.2-1 R9002-7.6.2-3
		{"long enough", []packet{{1, el}, {50 * ms, el}, {2 + duration, el}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(6, 6)}, 1},
		{"not longer", []packet{{1, el}, {50 * ms, el}, {1 + duration, el}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(6, 6)}, 0},
		{"one acknowledged between", []packet{{1, el}, {50 * ms, el}, {2 + duration, el}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(2, 2), r(6, 6)}, 0},
		{"one acknowledged between, before", []packet{{1, el}, {50 * ms, el}, {2 + duration, el}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(2, 2)}, 0},
		{"first one not ack-eliciting", []packet{{1, pad}, {50 * ms, el}, {2 + duration, el}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(6, 6)}, 0},
		{"last one not ack-eliciting", []packet{{1, el}, {50 * ms, el}, {2 + duration, pad}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(6, 6)}, 0},
		{"an MTU probe at the end", []packet{{1, el}, {50 * ms, el}, {2 + duration, el | sentMTUProbe}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(6, 6)}, 0},
		// R9002-7.6.2-2: sent before the first sample, at 0.
		{"begins before the first sample", []packet{{0, el}, {50 * ms, el}, {2 + duration, el}, {400 * ms, el}, {400 * ms, el}, {400 * ms, el}},
			[]wire.Range{r(6, 6)}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lt := newLossTest(t)
			lt.setMaxAckDelay(20 * ms)
			lt.warm(100 * ms)
			for _, p := range tt.packets {
				lt.sendAs(p.at, appSpace, p.flags)
			}
			for _, a := range tt.acks {
				// All in one frame would do; one by one shows that the run is kept.
				lt.rtt.smoothed, lt.rtt.variation, lt.rtt.latest = 100*ms, 0, 100*ms
				if _, err := lt.handleAck(at(420*ms), appSpace, ackFrame(t, a), 0, false, lt.out); err != nil {
					t.Fatal(err)
				}
			}
			if lt.cc.persistent != tt.want {
				t.Errorf("persistent congestion %d times, want %d; lost %v", lt.cc.persistent, tt.want, lt.lost)
			}
		})
	}
}

func TestPersistentCongestionRestartsMinRTT(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(20 * ms)
	lt.send(1)
	lt.send(500 * ms)
	lt.sendN(600*ms, 3)
	lt.ack(700*ms, r(5, 5))
	// R9002-5.2-2
	if lt.cc.persistent != 1 || lt.rtt.min != 100*ms {
		t.Errorf("persistent congestion %d times, minimum RTT %v, want 100ms", lt.cc.persistent, lt.rtt.min)
	}
	// The same losses do not count twice.
	lt.sendN(710*ms, 4)
	lt.ack(810*ms, r(9, 9))
	if lt.cc.persistent != 1 {
		t.Error("persistent congestion was established twice")
	}
}

func TestAppLimited(t *testing.T) {
	lt := newLossTest(t)
	lt.cc.window = 4 * testMTU
	limited := func(d time.Duration, first, last uint64) bool {
		lt.cc.acks = nil
		lt.ack(d, r(first, last))
		return lt.cc.acks[0].AppLimited
	}
	// R9002-7.8-1
	lt.sendN(0, 2)
	lt.sendingEnded(outOfWork)
	if !limited(100*ms, 0, 1) {
		t.Error("half a window in flight was not application limited")
	}
	lt.sendN(200*ms, 4)
	lt.sendingEnded(outOfWork)
	if limited(300*ms, 2, 3) {
		t.Error("a full window was application limited")
	}
	if limited(310*ms, 4, 5) {
		t.Error("the rest of a full window was application limited")
	}
	lt.sendN(400*ms, 2)
	lt.sendingEnded(windowFull) // pacing holds the rest back
	lt.sendN(410*ms, 1)
	lt.sendingEnded(outOfWork)
	if limited(500*ms, 6, 7) {
		t.Error("a paced burst was application limited")
	}
}

func TestDeliveryRate(t *testing.T) {
	lt := newLossTest(t)
	send := func(d time.Duration, n int, limited bool) {
		lt.sendN(d, n)
		if limited {
			lt.sendingEnded(outOfWork)
		} else {
			lt.sendingEnded(windowFull)
		}
	}
	send(0, 1, true)
	lt.ack(100*ms, r(0, 0))
	if got := lt.rate.rate(); got != 0 {
		t.Errorf("rate %v from a single packet", got)
	}
	// 10 packets each 10 ms, acknowledged at the same pace: 1.2 MB/s.
	pn, acked := 1, 1
	for i := range 50 {
		now := 200*ms + time.Duration(i)*10*ms
		if i >= 10 {
			lt.ack(now, r(uint64(acked), uint64(acked+9)))
			acked += 10
		}
		send(now, 10, false)
		pn += 10
	}
	full := lt.rate.rate()
	if full < 1.15e6 || full > 1.25e6 {
		t.Errorf("rate %v, want 1.2e6", full)
	}
	// Scarce work does not lower it, however long.
	for i := range 40 {
		now := time.Second + time.Duration(i)*200*ms
		lt.ack(now, r(uint64(acked), uint64(pn-1)))
		acked = pn
		send(now, 1, true)
		pn++
	}
	if got := lt.rate.rate(); got < full {
		t.Errorf("rate %v after scarce work, want %v", got, full)
	}
	// Half of it with enough work does, after ten round trips.
	for i := range 300 {
		now := 10*time.Second + time.Duration(i)*10*ms
		if i >= 10 {
			lt.ack(now, r(uint64(acked), uint64(acked+4)))
			acked += 5
		}
		send(now, 5, false)
		pn += 5
	}
	if got := lt.rate.rate(); got > 0.65e6 {
		t.Errorf("rate %v, want 0.6e6", got)
	}
}

func TestWindowedMax(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var m windowedMax
	const window = 100 * ms
	type sample struct {
		at instant
		v  float64
	}
	var all []sample
	for i := range 2000 {
		now := at(time.Duration(i) * ms)
		v := rng.Float64() * 100
		all = append(all, sample{now, v})
		m.update(now, v, window)
		// It need not be exact, but never above the maximum of the window, nor
		// below that of its newest quarter.
		var most, recent float64
		for _, s := range all {
			if now.sub(s.at) <= window {
				most = max(most, s.v)
			}
			if now.sub(s.at) <= window/4 {
				recent = max(recent, s.v)
			}
		}
		if got := m.values[0].v; got > most || got < recent {
			t.Fatalf("sample %d: maximum %v, want between %v and %v", i, got, recent, most)
		}
	}
}

func TestLossFraction(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(10 * ms)
	for i := range 400 {
		now := time.Duration(i+1) * 20 * ms
		first := uint64(lt.space[appSpace].next)
		lt.sendN(now, 10)
		lt.ack(now+10*ms, r(first+1, first+9)) // one of ten is lost
	}
	if lt.lossFraction < 0.08 || lt.lossFraction > 0.12 {
		t.Errorf("loss fraction %v, want 0.1", lt.lossFraction)
	}
}

// TestSilentPeerIsBounded sends packets that need no acknowledgment behind one
// that never gets its.
func TestSilentPeerIsBounded(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(10 * ms)
	lt.send(0)
	for i := range maxSentPackets + 1000 {
		now := time.Duration(i) * time.Microsecond
		lt.packetSent(at(now), appSpace, sentPacket{size: 50}, nil)
		if tm := lt.timer(); tm <= at(now) {
			lt.expired(at(now), lt.out)
		}
	}
	if n := lt.space[appSpace].sent.len(); n > maxSentPackets {
		t.Errorf("%d packets are remembered", n)
	}
	if lt.lost[1] != 1 {
		t.Error("the oldest packet was not given up")
	}
}

// TestLossRandom sends, loses, reorders and duplicates at random, and checks the
// books after each step.
func TestLossRandom(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		lt := newLossTest(t)
		s := &lt.space[appSpace]
		var sent []sentFlags
		received := newAckState(false)
		var arriving []packetNumber
		now := time.Duration(0)
		check := func(step int) {
			t.Helper()
			bytes, outstanding := 0, 0
			for pn := s.sent.first; pn < s.sent.end; pn++ {
				if p := s.sent.at(pn); !p.resolved() {
					if p.flags&packetInFlight != 0 {
						bytes += int(p.size)
					}
					if p.flags&sentAckEliciting != 0 {
						outstanding++
					}
				}
			}
			if bytes != lt.inFlight || outstanding != s.outstanding {
				t.Fatalf("seed %d step %d: in flight %d, sum %d; outstanding %d, sum %d",
					seed, step, lt.inFlight, bytes, s.outstanding, outstanding)
			}
			if outstanding > 0 && lt.timer().isZero() {
				t.Fatalf("seed %d step %d: no timer with %d packets outstanding", seed, step, outstanding)
			}
			at, n, ok := lt.oldestUnackedAckEliciting()
			if ok != (outstanding > 0) || n != outstanding || ok && at.isZero() {
				t.Fatalf("seed %d step %d: oldest %v, %d, %v; outstanding %d", seed, step, at, n, ok, outstanding)
			}
		}
		for step := range 600 {
			now += time.Duration(rng.IntN(3000)) * time.Microsecond
			switch rng.IntN(6) {
			case 0, 1, 2:
				flags := [...]sentFlags{inFlightPacket, inFlightPacket, inFlightPacket, 0, inFlightPacket | sentMTUProbe, packetInFlight}[rng.IntN(6)]
				pn := lt.sendAs(now, appSpace, flags)
				sent = append(sent, flags)
				if rng.IntN(8) == 0 {
					lt.leaveOut(at(now))
					sent = append(sent, leftOut)
				}
				if rng.IntN(10) > 0 {
					// The packet overtakes up to five others.
					i := max(0, len(arriving)-rng.IntN(5))
					arriving = append(arriving[:i], append([]packetNumber{pn}, arriving[i:]...)...)
				}
			case 3:
				for n := rng.IntN(4); n > 0 && len(arriving) > 0; n-- {
					received.received(at(now), arriving[0], true, 0)
					arriving = arriving[1:]
				}
			case 4:
				if len(received.ranges) > 0 && rng.IntN(4) > 0 { // else the ACK is lost
					ranges := received.frameRanges()
					lt.ack(now, ranges...)
				}
			case 5:
				if tm := lt.timer(); !tm.isZero() && tm < at(now+time.Second) {
					now = max(now, tm.sub(testStart))
					lt.expired(at(now), lt.out)
				}
				if rng.IntN(40) == 0 {
					lt.discardAllInFlight(lt.out)
				}
			}
			check(step)
		}
		// The end: the newest packet is acknowledged, the rest is acknowledged or lost.
		now += time.Second
		last := lt.send(now)
		received.received(at(now), last, true, 0)
		lt.ack(now+10*ms, received.frameRanges()...)
		now += time.Minute
		lt.expired(at(now), lt.out)
		last = lt.send(now)
		lt.ack(now+10*ms, r(uint64(last), uint64(last)))
		check(-1)
		if lt.inFlight != 0 || s.sent.len() != 0 {
			t.Fatalf("seed %d: in flight %d, %d packets remembered at the end", seed, lt.inFlight, s.sent.len())
		}
		for pn, flags := range sent {
			id := uint64(pn)
			if lt.acked[id] > 1 || lt.lost[id] > 1 {
				t.Fatalf("seed %d: packet %d acknowledged %d times, lost %d times", seed, pn, lt.acked[id], lt.lost[id])
			}
			if flags&sentAckEliciting != 0 && lt.acked[id]+lt.lost[id] == 0 {
				t.Fatalf("seed %d: packet %d has no fate", seed, pn)
			}
		}
	}
}

// BenchmarkSendAck is the work for each packet of a bulk transfer, one
// acknowledgment for 16 packets, with two old ranges repeated in each.
func BenchmarkSendAck(b *testing.B) {
	lt := newLossTest(b)
	lt.nop = true
	var s space
	lt.init(lossConfig{maxDatagram: testMTU, spaces: [numSpaces]*space{appSpace: &s},
		newController: func(n int) congestion.Controller { return congestion.NewCubic(n) }})
	p := sentPacket{size: testMTU, flags: inFlightPacket}
	now := time.Duration(0)
	for range 64 {
		lt.packetSent(at(now), appSpace, p, nil)
	}
	frame := make([]byte, 0, 64)
	var f wire.Frame
	out := lt.out
	b.ReportAllocs()
	for b.Loop() {
		now += time.Microsecond
		lt.packetSent(at(now), appSpace, p, nil)
		if s.next%16 == 0 {
			hi := uint64(s.next) - 32
			frame = wire.AppendAck(frame[:0], 0, []wire.Range{r(0, 3), r(5, 9), r(11, hi)}, nil)
			f.Parse(frame, nil)
			if _, err := lt.handleAck(at(now), appSpace, &f, 0, true, out); err != nil {
				b.Fatal(err)
			}
			lt.timer()
		}
	}
}

// TestSpuriousEpisode: the controller hears of losses that were none when the last
// one of the episode is acknowledged.
func TestSpuriousEpisode(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 6) // 1 to 6
	lt.ack(100*ms, r(0, 0), r(6, 6))
	if len(lt.cc.losses) != 3 || lt.cc.losses[0].LostSince != testMTU || lt.cc.losses[2].LostSince != 3*testMTU ||
		!lt.cc.losses[0].NewRun || lt.cc.losses[1].NewRun || lt.cc.losses[1].TxInFlight != 2*testMTU {
		t.Fatalf("controller heard %+v", lt.cc.losses)
	}
	lt.ack(101*ms, r(0, 2), r(4, 6))
	if lt.cc.spurious != 0 {
		t.Error("spurious with one packet lost")
	}
	lt.ack(102*ms, r(0, 6))
	if lt.cc.spurious != 1 {
		t.Errorf("spurious %d times with no packet lost", lt.cc.spurious)
	}
	// Another episode in which one is really lost.
	lt.sendN(200*ms, 6) // 7 to 12
	lt.ack(300*ms, r(0, 6), r(12, 12))
	lt.ack(301*ms, r(0, 7), r(9, 12))
	if lt.cc.spurious != 1 {
		t.Error("spurious with a packet lost")
	}
}
