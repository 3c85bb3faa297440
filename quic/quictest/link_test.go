// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

const (
	ms      = time.Millisecond
	dropped = time.Duration(-1)
)

// offer admits n packets of size bytes, the gap between them given, and returns the
// delivery times, dropped for a drop.
func offer(l *Link, start, gap time.Duration, n, size int) (at []time.Duration) {
	for i := range n {
		t, ok := l.Admit(start+time.Duration(i)*gap, size)
		if !ok {
			t = dropped
		}
		at = append(at, t)
	}
	return at
}

func TestLinkPerfect(t *testing.T) {
	l := NewLink(LinkConfig{})
	for _, now := range []time.Duration{0, 1, LinkTick - 1, LinkTick, time.Hour + 1} {
		if at, ok := l.Admit(now, 1500); !ok || at < now || at >= now+LinkTick {
			t.Errorf("Admit(%d) = %d, %v", now, at, ok)
		}
	}
}

func TestLinkRate(t *testing.T) {
	for _, rate := range []int64{1, 56e3, 10e6, 933e6, 10e9} {
		const delay, n, size = 30 * ms, 1000, 1500
		l := NewLink(LinkConfig{Rate: rate, Delay: delay, Seed: 7})
		for i, at := range offer(l, 0, 0, n, size) {
			exact := float64(i+1)*size*8/float64(rate)*1e9 + float64(delay)
			if d := float64(at) - exact; d < -1 || d > float64(LinkTick)+n {
				t.Fatalf("%d bit/s: packet %d is %v ns off", rate, i, d)
			}
		}
	}
}

// A link that is never offered more than its rate adds only delay and transmission.
func TestLinkUnderLoad(t *testing.T) {
	l := NewLink(LinkConfig{Rate: 12e6, Delay: 10 * ms, QueueBytes: 1500})
	for i, at := range offer(l, 0, ms, 100, 1500) { // 1500 bytes take 1 ms
		if d := at - time.Duration(i+11)*ms; d < 0 || d > LinkTick {
			t.Fatalf("packet %d is %v late", i, d)
		}
	}
}

func TestLinkQueue(t *testing.T) {
	l := NewLink(LinkConfig{Rate: 12e6, QueueBytes: 10_000})
	at := offer(l, 0, 0, 10, 1500)
	if i := slices.Index(at, dropped); i != 6 {
		t.Fatalf("first drop is packet %d, want 6: %v", i, at)
	}
	if b, n := l.Queued(0); b != 9000 || n != 6 {
		t.Errorf("queued %d bytes, %d packets; want 9000, 6", b, n)
	}
	if _, ok := l.Admit(0, 1000); !ok {
		t.Error("a packet that fits was dropped")
	}
	if b, n := l.Queued(2*ms - 1); b != 8500 || n != 6 {
		t.Errorf("after one packet: queued %d bytes, %d packets; want 8500, 6", b, n)
	}
	if b, n := l.Queued(time.Second); b != 0 || n != 0 {
		t.Errorf("at the end: queued %d bytes, %d packets", b, n)
	}
	if _, ok := l.Admit(time.Second, 20_000); !ok {
		t.Error("a large packet was dropped by an empty queue")
	}
	want := LinkStats{Packets: 8, Bytes: 30_000}
	want.Dropped[DropQueue] = 4
	if got := l.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestLinkNormalJitter(t *testing.T) {
	const n, delay, deviation = 100_000, 20 * ms, 5 * ms
	cfg := LinkConfig{Delay: delay, NormalJitter: deviation, Reorder: true, Seed: 5}
	var sum, squares, within float64
	for i, at := range offer(NewLink(cfg), 0, ms, n, 100) {
		d := float64(at - time.Duration(i)*ms - delay)
		sum, squares = sum+d, squares+d*d
		if math.Abs(d) <= float64(deviation) {
			within++
		}
	}
	mean, sd := sum/n, math.Sqrt(squares/n)
	if math.Abs(mean) > float64(deviation)/50 || math.Abs(sd/float64(deviation)-1) > 0.02 || math.Abs(within/n-0.683) > 0.01 {
		t.Errorf("mean %.0f ns, deviation %.0f ns, %.3f within one", mean, sd, within/n)
	}
	// In order, and never before it was sent, where the jitter is larger than the delay.
	cfg = LinkConfig{Delay: ms, NormalJitter: deviation, Seed: 5}
	last := time.Duration(0)
	for i, at := range offer(NewLink(cfg), 0, ms, 1000, 100) {
		if at < last || at < time.Duration(i)*ms {
			t.Fatalf("packet %d, sent at %v, arrives at %v, after %v", i, time.Duration(i)*ms, at, last)
		}
		last = at
	}
}

func TestLinkLoss(t *testing.T) {
	const n = 200_000
	for _, c := range []struct{ loss, burst float64 }{
		{0.001, 0}, {0.1, 0}, {0.5, 1}, {0.05, 5}, {0.2, 20}, {0.9, 3},
	} {
		l := NewLink(LinkConfig{Loss: c.loss, LossBurst: c.burst, Seed: 3})
		lost, bursts, last := 0, 0, false
		for _, at := range offer(l, 0, 0, n, 100) {
			if at == dropped {
				lost++
				if !last {
					bursts++
				}
			}
			last = at == dropped
		}
		mean := 1 / (1 - c.loss) // independent losses come in runs too
		if c.burst > 1 {
			mean = max(c.burst, c.loss/(1-c.loss)) // a packet passes between two bursts
		}
		// Runs of mean length b widen the deviation by about sqrt(2b).
		tolerance := 5 * math.Sqrt(c.loss*(1-c.loss)/n*2*mean)
		if got := float64(lost) / n; math.Abs(got-c.loss) > tolerance {
			t.Errorf("%+v: lost %v, tolerance %v", c, got, tolerance)
		}
		if got := float64(lost) / float64(bursts); math.Abs(got/mean-1) > 0.15 {
			t.Errorf("%+v: mean burst %v, want %v", c, got, mean)
		}
		if got := l.Stats().Dropped[DropLoss]; got != uint64(lost) {
			t.Errorf("%+v: counted %d, lost %d", c, got, lost)
		}
	}
}

func TestLinkLosesAll(t *testing.T) {
	for _, burst := range []float64{0, 4} {
		l := NewLink(LinkConfig{Loss: 1, LossBurst: burst})
		for i, at := range offer(l, 0, 0, 1000, 100) {
			if at != dropped {
				t.Fatalf("burst %v: packet %d passed", burst, i)
			}
		}
	}
}

func TestLinkLossMask(t *testing.T) {
	l := NewLink(LinkConfig{LossMask: 1<<63 | 0b101})
	for i, at := range offer(l, 0, 0, 200, 100) {
		want := i%64 == 0 || i%64 == 2 || i%64 == 63
		if got := at == dropped; got != want {
			t.Errorf("packet %d lost: %v, want %v", i, got, want)
		}
	}
}

// Losses happen behind the queue: they do not make room.
func TestLinkLossUsesCapacity(t *testing.T) {
	l := NewLink(LinkConfig{Rate: 12e6, LossMask: 0b01})
	if at := offer(l, 0, 0, 2, 1500); at[0] != dropped || at[1] < 2*ms {
		t.Errorf("delivered at %v", at)
	}
}

func TestLinkMTU(t *testing.T) {
	l := NewLink(LinkConfig{MTU: 1400})
	if _, ok := l.Admit(0, 1400); !ok {
		t.Error("1400 bytes were dropped")
	}
	if _, _, drop := l.AdmitECN(0, 1401, 0); drop != DropMTU {
		t.Errorf("1401 bytes: %v", drop)
	}
}

func TestLinkBlackhole(t *testing.T) {
	l := NewLink(LinkConfig{Delay: ms})
	l.Admit(0, 100)
	l.SetBlackhole(true)
	if _, _, drop := l.AdmitECN(0, 100, 0); drop != DropBlackhole {
		t.Errorf("in the black hole: %v", drop)
	}
	l.SetBlackhole(false)
	if _, ok := l.Admit(0, 100); !ok {
		t.Error("dropped after the black hole")
	}
	if s := l.Stats(); s.Packets != 2 || s.Dropped[DropBlackhole] != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestLinkECN(t *testing.T) {
	notECT, ect0, ect1, ce := uint8(udpio.NotECT), uint8(udpio.ECT0), uint8(udpio.ECT1), uint8(udpio.CE)
	l := NewLink(LinkConfig{Rate: 12e6, MarkBytes: 3000})
	for i, want := range []uint8{ect0, ect0, ect0, ce} {
		if _, got, _ := l.AdmitECN(0, 1500, ect0); got != want {
			t.Errorf("packet %d comes with %d, want %d", i, got, want)
		}
	}
	for in, want := range map[uint8]uint8{notECT: notECT, ect1: ce, ce: ce} {
		if _, got, _ := l.AdmitECN(0, 1500, in); got != want {
			t.Errorf("%d becomes %d, want %d", in, got, want)
		}
	}
	if got := l.Stats().Marked; got != 2 {
		t.Errorf("%d marked, want 2", got)
	}
	cfg := l.Config()
	cfg.ClearECN = true
	l.SetConfig(cfg)
	if _, got, _ := l.AdmitECN(0, 1500, ce); got != notECT {
		t.Errorf("cleared field is %d", got)
	}
	l = NewLink(LinkConfig{DropECN: true})
	for in, want := range map[uint8]DropReason{notECT: NotDropped, ect0: DropECN, ect1: DropECN, ce: DropECN} {
		if _, _, drop := l.AdmitECN(0, 1500, in); drop != want {
			t.Errorf("packet with %d: %v, want %v", in, drop, want)
		}
	}
	if s := l.Stats(); s.Packets != 1 || s.Dropped[DropECN] != 3 {
		t.Errorf("stats %+v", s)
	}
}

// A change applies to the packets to come and does not let them overtake.
func TestLinkSetConfig(t *testing.T) {
	l := NewLink(LinkConfig{Rate: 12e6, Delay: 20 * ms, Seed: 5})
	before := offer(l, 0, 0, 3, 1500)
	l.SetConfig(LinkConfig{Rate: 120e6, Seed: 6})
	if got := l.Config().Seed; got != 5 {
		t.Errorf("seed became %d", got)
	}
	after := offer(l, 0, 0, 1000, 1500)
	if after[0] != before[2] {
		t.Errorf("delivered at %v, want %v: at once with the last one", after[0], before[2])
	}
	if d := after[999] - (3*ms + 100*ms); d < 0 || d > 2*LinkTick {
		t.Errorf("last is %v late", d)
	}
}

// TestLinkStalls: what a link holds back arrives together, in order and nothing is lost.
func TestLinkStalls(t *testing.T) {
	const delay, stall, every = 10 * ms, 8 * ms, 20 * ms
	l := NewLink(LinkConfig{Delay: delay, Stall: stall, StallEvery: every, Seed: 7})
	var last, sum, most time.Duration
	bunch, bunched := 0, 0
	const n = 20_000
	for i := range n {
		now := time.Duration(i) * 100 * time.Microsecond
		at, ok := l.Admit(now, 1000)
		if !ok || at < last {
			t.Fatalf("packet %d: admitted %v, at %v after one at %v", i, ok, at, last)
		}
		if at == last {
			bunch++
			bunched = max(bunched, bunch)
		} else {
			bunch = 0
		}
		last = at
		sum, most = sum+at-now-delay, max(most, at-now-delay)
	}
	// A stall of d, uniform up to 8 ms, costs the packets of that time d/2 on average: 64/6 ms²
	// in each 24 ms.
	if mean := sum / n; mean < 350*time.Microsecond || mean > 550*time.Microsecond {
		t.Errorf("held back for %v on average", mean)
	}
	if most < 7*ms || most > stall+LinkTick || bunched < 60 {
		t.Errorf("held back for at most %v, %d together", most, bunched)
	}
}

func TestLinkJitter(t *testing.T) {
	const delay, jitter, n = 5 * ms, 3 * ms, 10_000
	for _, reorder := range []bool{false, true} {
		l := NewLink(LinkConfig{Delay: delay, Jitter: jitter, Reorder: reorder})
		at := offer(l, 0, 100*time.Microsecond, n, 100)
		for i, a := range at {
			if d := a - time.Duration(i)*100*time.Microsecond; d < delay || d > delay+jitter+LinkTick {
				t.Fatalf("packet %d took %v", i, d)
			}
		}
		if sorted := slices.IsSorted(at); sorted == reorder {
			t.Errorf("reorder %v: sorted %v", reorder, sorted)
		}
	}
}

// Equal seeds, equal outcomes; other seeds, others.
func TestLinkDeterminism(t *testing.T) {
	trace := func(seed uint64) []time.Duration {
		cfg := LinkConfig{Rate: 50e6, Delay: ms, Jitter: ms, Loss: 0.1, LossBurst: 2, QueueBytes: 20_000, Seed: seed}
		return offer(NewLink(cfg), 0, 100*time.Microsecond, 1000, 1000)
	}
	if !slices.Equal(trace(1), trace(1)) {
		t.Error("two runs differ")
	}
	if slices.Equal(trace(1), trace(1+uint64(LinkTick))) {
		t.Error("another seed with the same offset makes no difference")
	}
}

// No two links deliver at the same instant.
func TestLinkOffsets(t *testing.T) {
	seen := make(map[time.Duration]uint64)
	for seed := range uint64(LinkTick) {
		l := NewLink(LinkConfig{Rate: 1e9, Delay: ms, Jitter: ms, Seed: 1<<40 + seed})
		for _, at := range offer(l, 0, time.Microsecond, 20, 1000) {
			if other, ok := seen[at]; ok && other != seed {
				t.Fatalf("links %d and %d deliver at %d", other, seed, at)
			}
			seen[at] = seed
		}
	}
}

func TestDropReasonString(t *testing.T) {
	for d := range numDropReasons {
		if d.String() == "" {
			t.Errorf("reason %d has no name", d)
		}
	}
}

// FuzzLink checks what holds for every configuration and sequence of calls.
func FuzzLink(f *testing.F) {
	f.Add(uint64(1), int64(10e6), int64(ms), int64(ms), 10_000, 0.1, 3.0, false)
	f.Add(uint64(2), int64(0), int64(0), int64(ms), 0, 0.0, 0.0, true)
	f.Add(uint64(3), int64(1e9), int64(0), int64(0), 3000, 1.0, 0.0, false)
	f.Fuzz(func(t *testing.T, seed uint64, rate, delay, jitter int64, queue int, loss, burst float64, reorder bool) {
		cfg := LinkConfig{
			Rate:       max(rate, 0),
			Delay:      time.Duration(delay & int64(time.Second-1)),
			Jitter:     time.Duration(jitter & int64(time.Second-1)),
			QueueBytes: max(queue, 0),
			Loss:       loss,
			LossBurst:  burst,
			Reorder:    reorder,
			Seed:       seed,
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		l := NewLink(cfg)
		var now, last time.Duration
		const n = 200
		for i := range n {
			now += time.Duration(rng.Int64N(int64(ms)))
			size := 1 + rng.IntN(1500)
			queued, packets := l.Queued(now)
			at, ok := l.Admit(now, size)
			if after, more := l.Queued(now); after != queued && (after != queued+size || more != packets+1) ||
				cfg.QueueBytes > 0 && after > cfg.QueueBytes && more > 1 {
				t.Fatalf("packet %d of %d bytes: queue of %d bytes became %d", i, size, queued, after)
			}
			if !ok {
				continue
			}
			if at < now+cfg.Delay || !reorder && at < last || at%LinkTick != time.Duration(seed%uint64(LinkTick)) {
				t.Fatalf("packet %d sent at %d delivered at %d, the one before at %d", i, now, at, last)
			}
			last = at
		}
		s := l.Stats()
		total := s.Packets
		for _, d := range s.Dropped {
			total += d
		}
		if total != n {
			t.Fatalf("counted %d of %d packets: %+v", total, n, s)
		}
	})
}

func TestAdmitAllocs(t *testing.T) {
	l := NewLink(LinkConfig{Rate: 1e9, Jitter: ms, Loss: 0.01, QueueBytes: 100_000})
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() { now += 10 * time.Microsecond; l.Admit(now, 1500) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkAdmit(b *testing.B) {
	for _, cfg := range []LinkConfig{{}, {Rate: 1e9, Delay: ms, Jitter: ms, Loss: 0.01, QueueBytes: 100_000}} {
		b.Run(fmt.Sprintf("rate=%d", cfg.Rate), func(b *testing.B) {
			l := NewLink(cfg)
			now := time.Duration(0)
			for b.Loop() {
				now += 10 * time.Microsecond
				l.Admit(now, 1500)
			}
		})
	}
}
