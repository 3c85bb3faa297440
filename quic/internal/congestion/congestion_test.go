// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"testing"
	"time"
)

const (
	ms  = time.Millisecond
	mss = 1200
)

// controllers are tested alike where RFC 9002 leaves no choice.
var controllers = map[string]struct {
	new  func(maxDatagram int) Controller
	beta float64
}{
	"newreno": {func(n int) Controller { return NewNewReno(n) }, 0.5},
	"cubic":   {func(n int) Controller { return NewCubic(n) }, cubicBeta},
}

func forEach(t *testing.T, f func(t *testing.T, c Controller, beta float64)) {
	for name, c := range controllers {
		t.Run(name, func(t *testing.T) { f(t, c.new(mss), c.beta) })
	}
}

// ack acknowledges n bytes that were sent one RTT of 50 ms before now.
func ack(c Controller, now time.Duration, n int) {
	c.Acked(Ack{Now: now, Bytes: n, SentTime: now - 50*ms, SRTT: 50 * ms, MinRTT: 50 * ms, LatestRTT: 50 * ms})
}

func lose(c Controller, now time.Duration) {
	c.Lost(Loss{Now: now, Bytes: mss, SentTime: now - 50*ms})
}

func TestInitialAndMinimumWindow(t *testing.T) {
	for _, c := range controllers {
		for _, tt := range []struct{ maxDatagram, initial, minimum int }{
			// R9002-7.2-1 R9002-7.2-2
			{1200, 12000, 2400},
			{1472, 14720, 2944},
			{1500, 14720, 3000},
			{9000, 18000, 18000},
		} {
			cc := c.new(tt.maxDatagram)
			if got := cc.Window(); got != tt.initial {
				t.Errorf("initial window %d with datagrams of %d, want %d", got, tt.maxDatagram, tt.initial)
			}
			for i := range 30 {
				lose(cc, time.Duration(i+1)*time.Second)
			}
			if got := cc.Window(); got != tt.minimum {
				t.Errorf("minimum window %d with datagrams of %d, want %d", got, tt.maxDatagram, tt.minimum)
			}
			if again := c.new(1200); true {
				again.SetMaxDatagram(tt.maxDatagram)
				if got := again.Window(); got != tt.initial {
					t.Errorf("window %d after datagrams grew to %d before any use, want %d", got, tt.maxDatagram, tt.initial)
				}
			}
		}
	}
}

func inSlowStart(c Controller) bool { return c.State() == "slow_start" }

func TestSlowStartAndRecovery(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		ack(c, time.Second, 3*mss)
		if got := c.Window(); got != 13*mss || !inSlowStart(c) {
			t.Fatalf("window %d after 3 packets in slow start, want 13 packets", got)
		}
		lose(c, 2*time.Second)
		// R9002-7.3.1-1 R9002-7.3.2-1
		want := int(13 * mss * beta)
		if got := c.Window(); got != want || inSlowStart(c) {
			t.Fatalf("window %d after a loss, want %d", got, want)
		}
		// R9002-7.3.2-2
		c.Lost(Loss{Now: 2*time.Second + 40*ms, Bytes: mss, SentTime: 2 * time.Second})
		ack(c, 2*time.Second+40*ms, mss)
		if got := c.Window(); got != want {
			t.Errorf("window %d in the recovery period, want %d", got, want)
		}
		// The period ends with a packet sent in it.
		c.Lost(Loss{Now: 2*time.Second + 60*ms, Bytes: mss, SentTime: 2*time.Second + 1})
		if got := c.Window(); got != int(float64(13*mss)*beta*beta) {
			t.Errorf("window %d after a loss in the next round trip", got)
		}
		// R9002-7.6.2-3
		c.PersistentCongestion(3 * time.Second)
		if got := c.Window(); got != 2*mss || !inSlowStart(c) {
			t.Errorf("window %d after persistent congestion, want 2 packets, in slow start", got)
		}
		// No recovery period hinders slow start then.
		ack(c, 2*time.Second+55*ms, mss)
		if got := c.Window(); got != 3*mss {
			t.Errorf("window %d after the next acknowledgment, want 3 packets", got)
		}
	})
}

func TestECNIsLikeLoss(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		c.Lost(Loss{Now: time.Second, SentTime: 950 * ms, ECN: true})
		// R9002-7.3.1-1
		if got := c.Window(); got != int(10*mss*beta) || inSlowStart(c) {
			t.Errorf("window %d after a mark", got)
		}
	})
}

func TestAppLimitedWindow(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		limited := func(now time.Duration) {
			c.Acked(Ack{Now: now, Bytes: mss, SentTime: now - 50*ms, SRTT: 50 * ms, LatestRTT: 50 * ms, AppLimited: true})
		}
		// R9002-7.8-1
		for i := range 100 {
			limited(time.Second + time.Duration(i)*ms)
		}
		if got := c.Window(); got != 10*mss {
			t.Errorf("window %d after application-limited slow start, want 10 packets", got)
		}
		lose(c, 2*time.Second)
		before := c.Window()
		for i := range 1000 {
			limited(3*time.Second + time.Duration(i)*10*ms)
		}
		if got := c.Window(); got != before {
			t.Errorf("window %d after application-limited avoidance, want %d", got, before)
		}
	})
}

func TestNewRenoAvoidance(t *testing.T) {
	c := NewNewReno(mss)
	lose(c, time.Second) // 5 packets
	now := 2 * time.Second
	for want := 6; want < 20; want++ {
		// R9002-7.3.3-1: one packet more for each window.
		for acked := 0; acked < (want-1)*mss; acked += mss {
			if got := c.Window(); got != (want-1)*mss {
				t.Fatalf("window %d before a window of %d packets was acknowledged", got, want-1)
			}
			now += ms
			ack(c, now, mss)
		}
		if got := c.Window(); got != want*mss {
			t.Fatalf("window %d, want %d packets", got, want)
		}
	}
}

// avoid acknowledges whole windows, one RTT of 50 ms each, until the given time.
func avoid(c *Cubic, now, until time.Duration) time.Duration {
	for now < until {
		window := c.Window()
		for acked := 0; acked < window; acked += mss {
			now += 50 * ms * mss / time.Duration(window)
			ack(c, now, mss)
		}
	}
	return now
}

// TestCubicCurve compares the growth with W(t) = C(t-K)³ + W_max: RFC 9438 section 4.2.
func TestCubicCurve(t *testing.T) {
	const wMax = 1000.0
	c := NewCubic(mss)
	c.window, c.ssthresh, c.hystart.done = wMax*mss, wMax*mss, true
	start := time.Second
	lose(c, start)
	if got := c.Window(); got != int(cubicBeta*wMax*mss) {
		t.Fatalf("window %d after the loss", got)
	}
	k := math.Cbrt(wMax * (1 - cubicBeta) / cubicC) // 9.09 s
	now := start + 51*ms
	epoch := now
	for _, at := range []float64{1, 3, 6, k, 12, 15} {
		now = avoid(c, now, epoch+time.Duration(at*float64(time.Second)))
		// One RTT ahead is aimed at, and reached one RTT later.
		d := (now - epoch).Seconds() - k
		want := cubicC*d*d*d + wMax
		if got := float64(c.Window()) / mss; math.Abs(got-want) > 0.015*want {
			t.Errorf("window of %.0f packets %.1f s after the loss, want %.0f", got, at, want)
		}
	}
	if inSlowStart(c) {
		t.Error("in slow start")
	}
}

func TestCubicIsRenoFriendly(t *testing.T) {
	c := NewCubic(mss)
	c.window, c.ssthresh, c.hystart.done = 20*mss, 20*mss, true
	lose(c, time.Second) // 14 packets; K = 2.5 s, so that Reno is faster
	avoid(c, 1051*ms, 1051*ms+20*50*ms)
	// RFC 9438 section 4.3: α = 0.53 packets per round trip up to the old window of
	// 20, then one.
	want := 20 + (20 - 6/cubicAlpha)
	if got := float64(c.Window()) / mss; math.Abs(got-want) > 1 {
		t.Errorf("window of %.1f packets after 20 round trips, want %.1f", got, want)
	}
}

func TestCubicFastConvergence(t *testing.T) {
	c := NewCubic(mss)
	c.window, c.ssthresh, c.hystart.done = 100*mss, 100*mss, true
	lose(c, time.Second)
	if c.windowMax != 100*mss {
		t.Errorf("W_max %.0f after the first loss, want 100 packets", c.windowMax/mss)
	}
	lose(c, 2*time.Second) // at 70 packets
	if want := 70 * mss * (1 + cubicBeta) / 2; math.Abs(c.windowMax-want) > 1 {
		t.Errorf("W_max %.1f after a loss below it, want %.1f", c.windowMax/mss, want/mss)
	}
}

// TestCubicClockStops checks that neither idle nor application-limited time makes
// the window jump: RFC 9438 section 4.2.
func TestCubicClockStops(t *testing.T) {
	grow := func(disturb func(c *Cubic, now time.Duration) time.Duration) int {
		c := NewCubic(mss)
		c.window, c.ssthresh, c.hystart.done = 1000*mss, 1000*mss, true
		lose(c, time.Second)
		now := avoid(c, 1051*ms, 2*time.Second)
		now = disturb(c, now)
		avoid(c, now, now+time.Second)
		return c.Window()
	}
	plain := grow(func(_ *Cubic, now time.Duration) time.Duration { return now })
	idle := grow(func(c *Cubic, now time.Duration) time.Duration {
		c.PacketSent(now+time.Minute, mss, mss, true)
		return now + time.Minute
	})
	limited := grow(func(c *Cubic, now time.Duration) time.Duration {
		for range 600 {
			c.Acked(Ack{Now: now, Bytes: mss, SentTime: now - 50*ms, SRTT: 50 * ms, AppLimited: true})
			now += 100 * ms
			c.PacketSent(now, mss, mss, true) // idle in between, too
		}
		return now
	})
	for name, got := range map[string]int{"idle": idle, "application-limited": limited} {
		if math.Abs(float64(got-plain)) > 0.02*float64(plain) {
			t.Errorf("window %d after an %s minute, %d without", got, name, plain)
		}
	}
}

// TestCubicSpuriousLoss: RFC 9438 section 4.9.
func TestCubicSpuriousLoss(t *testing.T) {
	c := NewCubic(mss)
	c.window, c.ssthresh, c.hystart.done = 1000*mss, 1000*mss, true
	lose(c, time.Second)
	now := avoid(c, 1051*ms, 4*time.Second)
	window, curve := c.Window(), c.cubicCurve
	lose(c, now)
	if c.Window() >= window {
		t.Fatal("no loss")
	}
	c.SpuriousLoss(now + 60*ms)
	if got := c.Window(); got != window || c.windowMax != curve.windowMax || c.k != curve.k || inSlowStart(c) {
		t.Errorf("window %d after a spurious loss, %d before; %+v, %+v", got, window, c.cubicCurve, curve)
	}
	avoid(c, now+60*ms, now+560*ms)
	if got := c.Window(); got < window || got > window*11/10 {
		t.Errorf("window %d half a second later", got)
	}
	// Once only, and nothing that a mark has told.
	lose(c, now+time.Second)
	c.SpuriousLoss(now + 1100*ms)
	window = c.Window()
	c.SpuriousLoss(now + 1200*ms)
	c.Lost(Loss{Now: now + 2*time.Second, SentTime: now + 1950*ms, ECN: true})
	c.SpuriousLoss(now + 2100*ms)
	if got := c.Window(); got != int(float64(window)*cubicBeta) {
		t.Errorf("window %d after a mark, want %d", got, int(float64(window)*cubicBeta))
	}
	lose(c, now+3*time.Second)
	window = c.Window()
	c.Lost(Loss{Now: now + 3*time.Second, SentTime: now + 2950*ms, ECN: true})
	c.SpuriousLoss(now + 3100*ms)
	if got := c.Window(); got != window {
		t.Errorf("window %d after a spurious loss beside a mark, want %d", got, window)
	}
}

func TestHyStart(t *testing.T) {
	// Each round trip doubles the window; the RTT rises from round rise on.
	run := func(rise, fall int) (c *Cubic, rounds int) {
		c = NewCubic(mss)
		now, sent := time.Second, time.Second-50*ms // sent: the packets of this round
		for rounds = 0; rounds < 14 && inSlowStart(c); rounds++ {
			rtt := 50 * ms
			if rounds >= rise && rounds < fall {
				rtt += 10 * ms
			}
			first := now + rtt*mss/time.Duration(c.Window())
			for acked, window := 0, c.Window(); acked < window && inSlowStart(c); acked += mss {
				now += rtt * mss / time.Duration(window)
				c.Acked(Ack{Now: now, Bytes: mss, SentTime: sent, SRTT: rtt, MinRTT: 50 * ms, LatestRTT: rtt})
			}
			sent = first
		}
		return c, rounds
	}
	if c, rounds := run(100, 100); rounds != 14 || c.Window() != 10*mss<<14 {
		t.Errorf("slow start ended after %d rounds at %d packets with a constant RTT", rounds, c.Window()/mss)
	}
	// RFC 9406: five rounds of conservative slow start, then the end.
	c, rounds := run(4, 100)
	if rounds < 8 || rounds > 11 {
		t.Errorf("slow start ended after %d rounds, want about 5 after the RTT rose", rounds)
	}
	if got, most := c.Window(), 10*mss<<8; got > most {
		t.Errorf("window of %d packets at the end, want less than %d", got/mss, most/mss)
	}
	// A rise that was only jitter does not end it.
	if _, rounds := run(4, 5); rounds != 14 {
		t.Errorf("slow start ended after %d rounds because of a passing rise", rounds)
	}
}

func TestPacer(t *testing.T) {
	p := NewPacer(10 * mss)
	if p.Budget(0) < 1<<30 {
		t.Error("paced before there is a rate")
	}
	const rate = 1.2e6 // a packet each millisecond
	p.SetRate(time.Second, rate, 10*mss)
	now := time.Second
	// R9002-7.7-1: a burst of the initial window.
	n := 0
	for p.Budget(now) >= mss {
		p.Spend(now, mss)
		n++
	}
	if n != 10 {
		t.Errorf("burst of %d packets, want 10", n)
	}
	next := p.NextTime(now, mss)
	if next != now+ms {
		t.Errorf("next packet after %v, want 1ms", next-now)
	}
	if p.Budget(next-1000) >= mss || p.Budget(next) < mss {
		t.Error("NextTime is not the time at which the budget suffices")
	}
	// A probe does not wait, but is made up for.
	now = next
	p.Spend(now, 2*mss)
	if got := p.NextTime(now, mss); got != now+2*ms {
		t.Errorf("next packet after %v, want 2ms", got-now)
	}
	if p.Budget(now) != 0 {
		t.Errorf("budget %d while overdrawn", p.Budget(now))
	}
	// Rate: late timers lose nothing as long as they are less than the depth late.
	now += time.Second
	p.Budget(now)
	p.Spend(now, p.Budget(now))
	sent := 0
	for range 1000 {
		now += 1100 * time.Microsecond
		for p.Budget(now) >= mss {
			p.Spend(now, mss)
			sent++
		}
	}
	if sent < 1098 || sent > 1101 {
		t.Errorf("%d packets in 1.1 s, want 1100", sent)
	}
	// At high rates the depth is what 2 ms bring.
	p.SetRate(now, 1e9, 10*mss)
	now += time.Second
	if got := p.Budget(now); got != 2e6 {
		t.Errorf("budget %d at 1 GB/s, want 2 MB", got)
	}
	if got := p.NextTime(now, 1<<30); got != now {
		t.Errorf("more than the depth is waited for until %v", got-now)
	}
}

// TestPacerCatchUp: a sender that had something to send and came late makes up for that, once
// and up to 8 ms; one that had nothing to send does not.
func TestPacerCatchUp(t *testing.T) {
	const rate = 1.2e6 // a packet each millisecond
	for _, tt := range []struct {
		waits bool
		late  time.Duration
		want  int // packets
	}{
		{true, 5 * ms, 6},
		{true, 50 * ms, 2 + 8},
		{false, 50 * ms, 2},
	} {
		p := NewPacer(2 * mss)
		p.SetRate(time.Second, rate, 2*mss)
		now := time.Second
		p.Spend(now, p.Budget(now))
		due := p.NextTime(now, mss)
		if tt.waits {
			p.Wait(due)
		}
		now = due + tt.late
		if got := p.Budget(now) / mss; got != tt.want {
			t.Errorf("waits %v, %v late: %d packets, want %d", tt.waits, tt.late, got, tt.want)
		}
		p.Spend(now, p.Budget(now))
		if got := p.Budget(now+50*ms) / mss; got != 2 {
			t.Errorf("waits %v, %v late: %d packets later on, want 2", tt.waits, tt.late, got)
		}
	}
}

// TestPacerBursts: a sender that waits gets at least what a millisecond brings, at once, and
// nothing before; one that does not wait, or whose link is slower, is not held up.
func TestPacerBursts(t *testing.T) {
	const second = time.Second
	for _, tt := range []struct {
		rate  float64
		waits bool
		pause time.Duration // until it may go on
		early int           // bytes that it gets after half of that
	}{
		{12.5e6, true, ms, 0},
		{12.5e6, false, ms, 6250},
		{1.25e9, true, ms, 0},
		{0.12e6, true, 10 * ms, 0}, // a packet takes longer
	} {
		p := NewPacer(10 * mss)
		p.SetRate(second, tt.rate, 10*mss)
		p.Spend(second, p.Budget(second))
		due := p.NextTime(second, mss)
		if got := due - second; got != tt.pause {
			t.Errorf("rate %v: pause of %v, want %v", tt.rate, got, tt.pause)
		}
		if tt.waits {
			p.Wait(due)
		}
		if got := p.Budget(second + tt.pause/2); tt.pause == ms && got != tt.early {
			t.Errorf("rate %v, waits %v: budget %d within the pause, want %d", tt.rate, tt.waits, got, tt.early)
		}
		if got, want := p.Budget(due), int(tt.rate*tt.pause.Seconds()); got < want-1 {
			t.Errorf("rate %v: budget %d after the pause, want %d", tt.rate, got, want)
		}
	}
	// A rate that grows meanwhile ends the pause earlier, not later.
	p := NewPacer(10 * mss)
	p.SetRate(second, 0.12e6, 10*mss)
	p.Spend(second, p.Budget(second))
	p.Wait(p.NextTime(second, mss))
	p.SetRate(second, 12.5e6, 10*mss)
	if got := p.Budget(second + ms); got != 12500 {
		t.Errorf("budget %d a millisecond after the rate has grown, want 12500", got)
	}
}

func TestPacingRate(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		if got := c.PacingRate(0); got != 0 {
			t.Errorf("rate %v without RTT", got)
		}
		if got := c.PacingRate(100 * ms); got != 2*10*mss*10 {
			t.Errorf("rate %v in slow start, want twice the window per RTT", got)
		}
		lose(c, time.Second)
		if got, want := c.PacingRate(100*ms), 1.25*float64(c.Window())*10; math.Abs(got-want) > 1 {
			t.Errorf("rate %v, want %v", got, want)
		}
	})
}

// BenchmarkAcked is the cost of an acknowledgment of two packets.
func BenchmarkAcked(b *testing.B) {
	for name, c := range map[string]Controller{"cubic": NewCubic(mss), "newreno": NewNewReno(mss), "bbr": NewBBR(mss)} {
		b.Run(name, func(b *testing.B) {
			a := Ack{Now: time.Second, Bytes: 2 * mss, SRTT: 50 * ms, MinRTT: 50 * ms, LatestRTT: 50 * ms, InFlight: 100 * mss}
			for b.Loop() {
				a.Now += ms
				a.Delivered += 2 * mss
				a.SentTime, a.PriorDelivered = a.Now-50*ms, a.Delivered-min(a.Delivered, 100*mss)
				a.DeliveryRate = 2.4e6
				c.PacketSent(a.Now, mss, 100*mss, false)
				c.PacketSent(a.Now, mss, 100*mss, false)
				c.Acked(a)
			}
		})
	}
}
