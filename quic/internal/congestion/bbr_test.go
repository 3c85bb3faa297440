// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"cmp"
	"testing"
	"time"
)

// bbrPath is a path of constant rate and delay without a queue limit, one packet at
// a time, for the test cases of draft-ietf-ccwg-bbr, appendix A.
type bbrPath struct {
	b    *BBR
	now  time.Duration
	rtt  time.Duration
	min  time.Duration // what the transport has seen; 0: rtt
	rate float64       // bytes/s
	busy time.Duration
	next time.Duration // pacing
	lose func(i int) bool

	delivered, lost uint64
	deliveredTime   time.Duration
	firstSent       time.Duration
	limited         bool // the application sends little: limitedRate
	limitedRate     float64
	slow            float64 // what the machine sends at most in bytes/s, if it is above 0
	inFlight        int
	sent            int
	queue           []bbrPacket // in the order of acknowledgment
	states          map[bbrState]int
	maxRTT          time.Duration
}

type bbrPacket struct {
	sent, acked              time.Duration
	delivered, lost          uint64
	deliveredTime, firstSent time.Duration
	inFlight                 int
	isLost, limited          bool
}

func newBBRPath(rate float64, rtt time.Duration) *bbrPath {
	return &bbrPath{
		b: NewBBR(mss), now: time.Second, next: time.Second, rtt: rtt, rate: rate,
		lose: func(int) bool { return false }, states: map[bbrState]int{},
	}
}

// step sends a packet or takes an acknowledgment, whatever is first.
func (p *bbrPath) step() {
	canSend := p.inFlight+mss <= p.b.Window()
	if canSend && (len(p.queue) == 0 || max(p.next, p.now) <= p.queue[0].acked) {
		p.send()
		return
	}
	if len(p.queue) > 0 {
		p.ack()
	}
}

func (p *bbrPath) send() {
	p.now = max(p.now, p.next)
	if p.inFlight == 0 {
		p.firstSent, p.deliveredTime = p.now, p.now
	}
	p.busy = max(p.busy, p.now) + time.Duration(mss/p.rate*1e9)
	p.inFlight += mss
	p.queue = append(p.queue, bbrPacket{
		sent: p.now, acked: p.busy + p.rtt, delivered: p.delivered, lost: p.lost, inFlight: p.inFlight,
		deliveredTime: p.deliveredTime, firstSent: p.firstSent, isLost: p.lose(p.sent), limited: p.limited,
	})
	p.sent++
	p.b.PacketSent(p.now, mss, p.inFlight, p.limited)
	rate := p.b.PacingRate(p.rtt)
	if p.limited {
		rate = min(rate, p.limitedRate)
	}
	if p.slow > 0 {
		rate = min(rate, p.slow)
	}
	if rate > 0 {
		p.next = p.now + time.Duration(mss/rate*1e9)
	}
}

func (p *bbrPath) ack() {
	k := p.queue[0]
	p.queue = p.queue[1:]
	p.now = max(p.now, k.acked)
	p.inFlight -= mss
	if k.isLost {
		p.lost += mss
		p.b.Lost(Loss{Now: p.now, Bytes: mss, SentTime: k.sent, NewRun: true, Delivered: p.delivered,
			RateLimited: k.limited, TxInFlight: k.inFlight, LostSince: int(p.lost - k.lost)})
		return
	}
	p.delivered += mss
	interval := max(k.sent-k.firstSent, p.now-k.deliveredTime)
	p.deliveredTime, p.firstSent = p.now, k.sent
	rate := 0.0
	if interval >= p.rtt {
		rate = float64(p.delivered-k.delivered) / interval.Seconds()
	}
	p.maxRTT = max(p.maxRTT, p.now-k.sent)
	p.b.Acked(Ack{Now: p.now, Bytes: mss, SentTime: k.sent, InFlight: p.inFlight,
		SRTT: p.rtt, LatestRTT: p.now - k.sent, MinRTT: cmp.Or(p.min, p.rtt), Delivered: p.delivered, PriorDelivered: k.delivered,
		DeliveryRate: rate, RateLimited: k.limited, TxInFlight: k.inFlight, LostSince: int(p.lost - k.lost)})
	p.states[p.b.state]++
}

func (p *bbrPath) until(t *testing.T, what string, atMost time.Duration, done func() bool) {
	t.Helper()
	for end := p.now + atMost; !done(); p.step() {
		if p.now > end {
			t.Fatalf("%s: not within %v; state %d, bandwidth %.0f, window %d", what, atMost, p.b.state, p.b.bw, p.b.Window())
		}
	}
}

func (p *bbrPath) run(d time.Duration) {
	for end := p.now + d; p.now < end; {
		p.step()
	}
}

func (p *bbrPath) in(s bbrState) func() bool { return func() bool { return p.b.state == s } }

const bbrRate = 5e6 // bytes/s

// TestBBRStart: the first acknowledgment raises the initial window, paced over a third of a
// round trip, but not if something was lost.
func TestBBRStart(t *testing.T) {
	for _, lost := range []bool{false, true} {
		b := NewBBR(mss)
		if got := b.Window(); got != initialWindow(mss) { // R9002-7.2-1
			t.Fatalf("window %d before the first acknowledgment", got)
		}
		b.PacketSent(time.Second, mss, 2*mss, false)
		if lost {
			b.Lost(Loss{Now: time.Second + 40*ms, Bytes: mss, SentTime: time.Second, NewRun: true, TxInFlight: 2 * mss, LostSince: mss})
		}
		b.Acked(Ack{Now: time.Second + 40*ms, Bytes: mss, SentTime: time.Second, InFlight: mss, SRTT: 40 * ms, LatestRTT: 40 * ms,
			MinRTT: 40 * ms, Delivered: mss, TxInFlight: 2 * mss})
		if got := b.Window() >= bbrStartPackets*mss; got == lost {
			t.Errorf("lost %v: window %d", lost, b.Window())
		}
		if got, most := b.PacingRate(40*ms)*0.04, 2.8*bbrStartPackets*mss; !lost && (got < 0.95*most || got > most) {
			t.Errorf("%.0f bytes are paced over a round trip", got)
		}
	}
}

// TestBBRStartup: Startup ends on a plateau of the bandwidth, Drain when the queue
// is gone, and then DOWN, CRUISE, REFILL and UP follow each other.
func TestBBRStartup(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "Drain", time.Second, p.in(bbrDrain))
	if b := p.b; b.fullBWCount == 0 || !b.fullBWReached || b.maxBW < 0.98*bbrRate || b.maxBW > 1.02*bbrRate {
		t.Errorf("Drain after %d rounds with bandwidth %.0f", b.fullBWCount, b.maxBW)
	}
	if p.b.pacingGain != bbrDrainPacingGain {
		t.Errorf("pacing gain %v in Drain", p.b.pacingGain)
	}
	p.until(t, "the end of Drain", 200*ms, func() bool { return p.b.state != bbrDrain })
	if p.inFlight > p.b.bdpInflight(p.b.bw)+mss {
		t.Errorf("%d bytes in flight after Drain, want at most %d", p.inFlight, p.b.bdpInflight(p.b.bw))
	}
	p.until(t, "CRUISE", 500*ms, p.in(bbrCruise))
	p.until(t, "REFILL", 4*time.Second, p.in(bbrRefill))
	p.until(t, "UP", 100*ms, p.in(bbrUp))
	if got := p.b.PacingRate(0); got < 1.2*bbrRate || got > 1.26*bbrRate {
		t.Errorf("pacing at %.0f in UP", got)
	}
	p.until(t, "DOWN", time.Second, p.in(bbrDown))
	p.maxRTT = 0
	p.until(t, "CRUISE", time.Second, p.in(bbrCruise))
}

// TestBBRHighLoss: losses end Startup, even without a plateau.
func TestBBRHighLoss(t *testing.T) {
	p := newBBRPath(100*bbrRate, 40*ms)
	p.limited, p.limitedRate = true, bbrRate // far below the link
	p.run(2 * time.Second)
	if p.b.state != bbrStartup {
		t.Fatalf("state %d with an application that sends little, want Startup", p.b.state)
	}
	p.lose = func(i int) bool { return i%20 == 0 }
	p.until(t, "end of Startup", time.Second, func() bool { return p.b.state != bbrStartup })
	if !p.b.fullBWReached || p.b.inflightLongterm == unbounded {
		t.Error("no bound after the losses in Startup")
	}
}

// TestBBRLossWhileProbing: too many losses in UP bound what is in flight, and the
// next probe is careful.
func TestBBRLossWhileProbing(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "UP", 5*time.Second, p.in(bbrUp))
	p.lose = func(i int) bool { return i%10 == 0 }
	b := p.b
	p.until(t, "DOWN", time.Second, func() bool { return b.state == bbrDown && b.prevProbeTooHigh })
	p.lose = func(int) bool { return false }
	if !b.prevProbeTooHigh || b.inflightLongterm == unbounded || float64(b.inflightLongterm) < bbrBeta*bbrRate*0.04*0.9 {
		t.Errorf("too high %v, bound %d", b.prevProbeTooHigh, b.inflightLongterm)
	}
	p.until(t, "CRUISE", time.Second, p.in(bbrCruise))
	if most := b.inflightWithHeadroom(); b.Window() > most || most >= b.inflightLongterm {
		t.Errorf("window %d, with headroom %d", b.Window(), most)
	}
	p.until(t, "UP", 5*time.Second, p.in(bbrUp))
	p.until(t, "the end of a precautionary probe", 200*ms, func() bool { return b.state == bbrDown && b.prevProbePrecautionary })
	p.until(t, "the next probe at once", 200*ms, p.in(bbrRefill))
}

// TestBBRLossWhileCruising: losses below the threshold of a probe lower the short
// term bounds, which the next REFILL forgets.
func TestBBRLossWhileCruising(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 5*time.Second, p.in(bbrCruise))
	p.lose = func(i int) bool { return i%10 == 0 }
	p.run(200 * ms)
	b := p.b
	if b.bwShortterm >= b.maxBW || b.inflightShortterm == unbounded || b.bw != b.bwShortterm {
		t.Errorf("bandwidth %.0f of %.0f, bound %d", b.bwShortterm, b.maxBW, b.inflightShortterm)
	}
	if b.bwShortterm < 0.5*bbrRate {
		t.Errorf("bandwidth %.0f after 0.2 s with 10 %% loss", b.bwShortterm)
	}
	p.lose = func(int) bool { return false }
	p.until(t, "REFILL", 4*time.Second, p.in(bbrRefill))
	p.run(ms)
	if b.bw != b.maxBW || b.inflightShortterm != unbounded {
		t.Error("short-term bounds outlast the cycle")
	}
}

func TestBBRProbeRTT(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.run(20 * time.Second)
	if p.states[bbrProbeRTT] != 0 {
		t.Fatal("ProbeRTT although there was no queue now and then")
	}
	p.rtt, p.min = 60*ms, 40*ms // only ProbeRTT can tell it from a queue
	p.until(t, "ProbeRTT", 6*time.Second, p.in(bbrProbeRTT))
	start, bw := p.now, p.b.maxBW
	p.run(150 * ms)
	if p.b.state != bbrProbeRTT || p.inFlight > p.b.probeRTTCwnd()+mss {
		t.Errorf("state %d, %d bytes in flight, want at most %d", p.b.state, p.inFlight, p.b.probeRTTCwnd())
	}
	if !p.b.rs.RateLimited {
		t.Error("a sample of ProbeRTT counts as one of the path")
	}
	p.until(t, "CRUISE", time.Second, p.in(bbrCruise))
	if d := p.now - start; d < bbrProbeRTTDuration || d > 400*ms {
		t.Errorf("ProbeRTT took %v", d)
	}
	if p.b.maxBW < 0.98*bw {
		t.Errorf("bandwidth %.0f after ProbeRTT, %.0f before", p.b.maxBW, bw)
	}
	p.run(12 * time.Second)
	if got := p.b.minRTT; got < 60*ms || got > 65*ms {
		t.Errorf("minimal RTT %v", got)
	}
}

// TestBBRWayChanges: a minimum that began anew counts at once.
func TestBBRWayChanges(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.run(2 * time.Second)
	p.rtt = 60 * ms // also what the transport says is the minimum
	p.run(time.Second)
	if got := p.b.minRTT; got != 60*ms {
		t.Errorf("minimal RTT %v", got)
	}
}

// TestBBRIdleSkipsProbeRTT: idleness drains the queue as well.
func TestBBRIdleSkipsProbeRTT(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.run(3 * time.Second)
	for len(p.queue) > 0 {
		p.ack()
	}
	p.now += 6 * time.Second
	p.limited = true
	p.limitedRate = bbrRate
	p.send()
	if !p.b.idleRestart {
		t.Error("no restart from idle")
	}
	p.limited = false
	n := p.states[bbrProbeRTT]
	p.run(time.Second)
	if p.states[bbrProbeRTT] != n {
		t.Error("ProbeRTT right after an idle time")
	}
}

// TestBBRRateGrows: ten times the bandwidth.
func TestBBRRateGrows(t *testing.T) {
	p := newBBRPath(bbrRate/4, 40*ms)
	p.run(3 * time.Second)
	p.rate *= 10
	p.until(t, "ten times the bandwidth", 8*time.Second, func() bool { return p.b.maxBW > 0.95*p.rate })
}

func TestBBRSpuriousLoss(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.until(t, "CRUISE", 5*time.Second, p.in(bbrCruise))
	window := p.b.Window()
	first := p.sent
	p.lose = func(i int) bool { return i == first || i == first+1 }
	p.run(150 * ms)
	if p.b.inflightShortterm == unbounded || p.b.Window() >= window {
		t.Fatal("losses changed nothing")
	}
	p.b.SpuriousLoss(p.now)
	p.run(50 * ms)
	if p.b.bw != p.b.maxBW || p.b.Window() < window-2*mss {
		t.Errorf("bandwidth %.0f of %.0f, window %d of %d", p.b.bw, p.b.maxBW, p.b.Window(), window)
	}
	p = newBBRPath(bbrRate, 40*ms)
	p.run(time.Second)
	p.rtt, p.min = 60*ms, 40*ms
	p.until(t, "UP in the queue of others", 5*time.Second, func() bool { return p.b.state == bbrUp && p.b.foreign })
	p.lose = func(i int) bool { return i%10 == 0 }
	p.until(t, "DOWN", time.Second, p.in(bbrDown))
	p.b.SpuriousLoss(p.now)
	if p.b.state != bbrRefill {
		t.Errorf("state %d after losses in UP that were spurious, want REFILL", p.b.state)
	}
}

// TestBBRMarks: a CE mark is congestion.
func TestBBRMarks(t *testing.T) {
	mark := func(p *bbrPath) {
		p.b.Lost(Loss{Now: p.now, SentTime: p.now - 10*ms, ECN: true, Delivered: p.delivered, TxInFlight: p.inFlight})
	}
	p := newBBRPath(bbrRate, 40*ms)
	p.run(100 * ms)
	mark(p)
	if p.b.state != bbrDrain || p.b.inflightLongterm == unbounded {
		t.Errorf("state %d after a mark in Startup", p.b.state)
	}
	p.until(t, "UP", 5*time.Second, p.in(bbrUp))
	mark(p)
	if p.b.state != bbrDown || !p.b.prevProbeTooHigh {
		t.Errorf("state %d after a mark in UP", p.b.state)
	}
	p.until(t, "CRUISE", 5*time.Second, p.in(bbrCruise))
	mark(p)
	p.run(100 * ms)
	if p.b.inflightShortterm == unbounded {
		t.Error("a mark in CRUISE changed nothing")
	}
	window := p.b.Window()
	p.b.SpuriousLoss(p.now)
	if got := p.b.Window(); got != window || p.b.inflightShortterm == unbounded {
		t.Errorf("window %d after a spurious loss beside a mark, want %d", got, window)
	}
}

func TestBBRPersistentCongestion(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.run(time.Second)
	window := p.b.Window()
	// R9002-7.6.2-3
	p.b.PersistentCongestion(p.now)
	if got := p.b.Window(); got != 2*mss {
		t.Errorf("window %d after persistent congestion", got)
	}
	p.run(time.Second)
	if got := p.b.Window(); got < window/2 {
		t.Errorf("window %d a second later, %d before", got, window)
	}
}

func TestBBRResume(t *testing.T) {
	dead := func() *bbrPath {
		p := newBBRPath(bbrRate, 40*ms)
		p.run(2 * time.Second)
		p.queue, p.inFlight = nil, 0
		p.now += 3 * time.Second
		p.b.Resume(p.now)
		return p
	}
	p := dead()
	if got := p.b.PacingRate(0); got < 0.45*bbrRate || got > 0.52*bbrRate {
		t.Errorf("pacing at %.0f after Resume, want half of %.0f", got, bbrRate)
	}
	p.until(t, "the old rate", 300*ms, func() bool { return p.b.PacingRate(0) >= 0.98*bbrRate })
	// In Startup, too, the guess is spread over a round trip.
	p = newBBRPath(bbrRate, 40*ms)
	p.run(130 * ms)
	p.queue, p.inFlight = nil, 0
	p.now += 3 * time.Second
	p.b.Resume(p.now)
	if got, want := p.b.PacingRate(0), float64(p.b.Window())/p.b.srtt.Seconds(); p.b.state != bbrStartup || got > want {
		t.Errorf("pacing at %.0f after Resume in state %d, want %.0f", got, p.b.state, want)
	}
	p.until(t, "the full pipe", time.Second, func() bool { return p.b.fullBWReached && p.b.bw >= 0.9*bbrRate })
	// Too much for the path as it is now: the model begins anew.
	p = dead()
	p.rate /= 20
	p.lose = func(i int) bool { return i%3 == 0 }
	p.until(t, "a loss", time.Second, p.in(bbrStartup))
	if got := p.b.Window(); got != 2*mss || p.b.maxBW != 0 {
		t.Errorf("window %d, bandwidth %.0f after a loss in the guess", got, p.b.maxBW)
	}
	p.lose = func(int) bool { return false }
	for len(p.queue) > 0 { // what is on its way
		p.ack()
	}
	p.run(3 * time.Second)
	if got := p.b.bw; got < 0.9*p.rate || got > 1.1*p.rate {
		t.Errorf("bandwidth %.0f three seconds later, want %.0f", got, p.rate)
	}
}

func TestBBRAllocs(t *testing.T) {
	p := newBBRPath(bbrRate, 40*ms)
	p.run(3 * time.Second)
	b := p.b
	a, l := b.rs, Loss{Bytes: mss, NewRun: true, TxInFlight: 200_000}
	n := testing.AllocsPerRun(2000, func() {
		a.Now += ms
		a.Delivered += mss
		a.PriorDelivered, a.SentTime = a.Delivered-100_000, a.Now-40*ms
		l.Now, l.SentTime, l.Delivered, l.LostSince = a.Now, a.SentTime, a.Delivered, l.LostSince%10_000+mss
		b.PacketSent(a.Now, mss, 200_000, false)
		b.Lost(l)
		b.Acked(a)
		b.SpuriousLoss(a.Now)
	})
	if n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
