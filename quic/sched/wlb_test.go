// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"math"
	"testing"
	"time"
)

// place sends n packets of w, one each 10 µs, and returns how many each path got.
func place(s Scheduler, now time.Duration, w Work, n int, paths []Path) []int {
	got := make([]int, len(paths))
	for range n {
		now += 10 * time.Microsecond
		if i, _ := s.Pick(now, w, paths); i >= 0 {
			s.Sent(now, w, i, w.Size)
			got[i]++
		}
	}
	return got
}

func TestWLBShares(t *testing.T) {
	const n = 6400
	cwndOnly := func(rtt time.Duration, cwnd int) Path {
		return Path{SRTT: rtt, MinRTT: rtt, Cwnd: cwnd}
	}
	tests := []struct {
		name  string
		paths []Path
		want  []float64 // part of the packets
	}{
		{"equal", []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}, []float64{0.5, 0.5}},
		{"by rate", []Path{path(0, 20*ms, 60*mbit), path(1, 21*ms, 20*mbit)}, []float64{0.75, 0.25}},
		{"by window where it is less", []Path{path(0, 20*ms, 60*mbit),
			with(path(1, 20*ms, 60*mbit), func(p *Path) { p.Cwnd = int(20 * mbit * 0.02) })}, []float64{0.75, 0.25}},
		{"by window before a rate is known", []Path{cwndOnly(20*ms, 30000), with(cwndOnly(20*ms, 10000), func(p *Path) { p.ID = 1 })},
			[]float64{0.75, 0.25}},
		{"less loss", []Path{path(0, 20*ms, 50*mbit), with(path(1, 20*ms, 50*mbit), func(p *Path) { p.Loss = 0.25 })},
			[]float64{4.0 / 7, 3.0 / 7}},
		{"inflated RTT", []Path{path(0, 20*ms, 50*mbit), with(path(1, 20*ms, 50*mbit), func(p *Path) { p.MinRTT = 5 * ms })},
			[]float64{2.0 / 3, 1.0 / 3}},
		{"at least one of a round", []Path{path(0, 20*ms, 500*mbit), path(1, 20*ms, 5*mbit)}, []float64{64.0 / 65, 1.0 / 65}},
		{"a lossy one only if all others are blocked", []Path{path(0, 20*ms, 50*mbit), lossy(path(1, 20*ms, 50*mbit))}, []float64{1, 0}},
		{"suspect gets nothing", []Path{suspect(path(0, 20*ms, 50*mbit)), path(1, 20*ms, 50*mbit)}, []float64{0, 1}},
		{"standby gets nothing", []Path{standby(path(0, 20*ms, 50*mbit)), path(1, 20*ms, 50*mbit)}, []float64{0, 1}},
		{"a blocked one does not hold the round open", []Path{blocked(path(0, 20*ms, 50*mbit)), path(1, 20*ms, 50*mbit)}, []float64{0, 1}},
		{"three", []Path{path(0, 20*ms, 40*mbit), path(1, 20*ms, 20*mbit), path(2, 20*ms, 20*mbit)}, []float64{0.5, 0.25, 0.25}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			anything := udp
			anything.Flow, anything.Class = 0, ClassOther
			got := place(NewWLB(), time.Second, anything, n, tt.paths)
			for i, want := range tt.want {
				if part := float64(got[i]) / n; math.Abs(part-want) > 0.012 {
					t.Errorf("shares %v of %d, want %v", got, n, tt.want)
					break
				}
			}
		})
	}
}

// TestWLBInterleaves checks that a round is no sequence of bursts.
func TestWLBInterleaves(t *testing.T) {
	s := NewWLB()
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}
	run, last := 0, -1
	for n := range 200 {
		i, _ := s.Pick(time.Second+time.Duration(n), udp, paths)
		s.Sent(time.Second, udp, i, udp.Size)
		if i != last {
			run, last = 0, i
		}
		if run++; run > 2 {
			t.Fatalf("packet %d is the %dth in a row on path %d", n, run, i)
		}
	}
}

func TestWLBAdmission(t *testing.T) {
	fast, slow := path(0, 20*ms, 50*mbit), path(1, 50*ms, 50*mbit)
	aged := func(d time.Duration) Work { w := udp; w.Age = d; return w }
	tests := []struct {
		name  string
		w     Work
		paths []Path
		want  int // of the first packet; -1: waits
		both  bool
	}{
		{"the slow one stays out", udp, []Path{slow, fast}, 1, false},
		{"within the hold budget", udp, []Path{fast, path(1, 23*ms, 50*mbit)}, 0, true},
		{"beyond the hold budget", udp, []Path{fast, path(1, 25*ms, 50*mbit)}, 0, false},
		{"waiting is faster", udp, []Path{slow, blocked(fast)}, -1, false},
		{"waiting is not faster any more", aged(15 * ms), []Path{slow, blocked(fast)}, 0, false},
		{"a long queue makes a path slow", udp, []Path{with(fast, func(p *Path) { p.Queued = 100_000 }), path(1, 30*ms, 50*mbit)}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewWLB()
			if got, _ := s.Pick(time.Second, tt.w, tt.paths); got != tt.want {
				t.Errorf("path %d, want %d", got, tt.want)
			}
			got := place(s, time.Second, tt.w, 1000, tt.paths)
			if both := got[0] > 0 && got[len(got)-1] > 0; both != tt.both {
				t.Errorf("shares %v", got)
			}
		})
	}
}

func TestWLBFairTrial(t *testing.T) {
	warm := path(0, 20*ms, 100*mbit)
	fresh := Path{ID: 1, SRTT: 20 * ms, MinRTT: 20 * ms, Cwnd: 12000}
	unsampled := Path{ID: 1, Cwnd: 12000}
	for name, p := range map[string]Path{"sampled": fresh, "without RTT": unsampled} {
		if got := place(NewWLB(), time.Second, udp, 6400, []Path{warm, p}); got[1] < 60 {
			t.Errorf("%s: shares %v, want one of 64 at least for the new path", name, got)
		}
	}
	// New TCP flows try it out, too.
	s := NewWLB()
	paths := []Path{warm, fresh}
	counts := [2]int{}
	for flow := range uint64(8) {
		counts[pathOfFlow(s, time.Second, tcp(flow+1), paths)]++
	}
	if counts[1] < 2 {
		t.Errorf("flows %v, want some on the new path", counts)
	}
}

// TestWLBFullByPacing: a path whose pacing is the limit is full when packets wait for it.
func TestWLBFullByPacing(t *testing.T) {
	for _, age := range []time.Duration{0, 2 * queueDelay} {
		s := newWLB()
		p := path(0, 20*ms, 50*mbit)
		pathOfFlow(s, time.Second, tcp(1), []Path{p})
		p.Blocked = BlockedPacing
		w := tcp(1)
		w.Age = age
		for now := time.Second; now < 2*time.Second; now += 10 * ms {
			pathOfFlow(s, now, w, []Path{p})
			if s.redeal || now >= s.roundEnd {
				s.deal(now, []Path{p}, tierPrimary)
			}
		}
		if got, want := s.known[0].trial.proven, age > 0; got != want {
			t.Errorf("packets wait for %v: proven %v", age, got)
		}
	}
}

// pathOfFlow sends one packet of w and returns its path.
func pathOfFlow(s Scheduler, now time.Duration, w Work, paths []Path) int {
	i, _ := s.Pick(now, w, paths)
	if i >= 0 {
		s.Sent(now, w, i, w.Size)
	}
	return i
}

// warmWLB returns a scheduler that knows what the paths carry: they were full.
func warmWLB(paths []Path) Scheduler {
	s := NewWLB()
	full := make([]Path, len(paths))
	for i := range paths {
		full[i] = blocked(paths[i])
	}
	for now := time.Duration(1); now < time.Second; now += 10 * ms {
		s.Pick(now, udp, full)
	}
	return s
}

func TestWLBPinsFlows(t *testing.T) {
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 50*ms, 50*mbit)}
	s := warmWLB(paths)
	pins := map[uint64]int{}
	counts := [2]int{}
	for flow := range uint64(8) {
		i := pathOfFlow(s, time.Second, tcp(flow+1), paths)
		pins[flow+1] = i
		counts[i]++
	}
	if counts != [2]int{4, 4} {
		t.Errorf("8 flows at once over equal paths: %v", counts)
	}
	// They stay while all of them send at their share, for many periods and rounds.
	for n := range 50_000 {
		now := time.Second + time.Duration(n)*100*time.Microsecond
		flow := uint64(n%8) + 1
		if got := pathOfFlow(s, now, tcp(flow), paths); got != pins[flow] {
			t.Fatalf("packet %d of flow %d on path %d, pinned to %d", n, flow, got, pins[flow])
		}
	}
}

// TestWLBUDPPin keeps each flow of UDP where it was put first.
func TestWLBUDPPin(t *testing.T) {
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}
	s := NewWLBUDPPin()
	counts := [2]int{}
	for flow := range uint64(8) {
		w := udp
		w.Flow = flow + 1
		got := place(s, time.Second, w, 100, paths)
		if got[0] > 0 && got[1] > 0 {
			t.Errorf("flow %d on both paths: %v", flow, got)
		}
		counts[0] += got[0]
		counts[1] += got[1]
	}
	if counts[0] == 0 || counts[1] == 0 {
		t.Errorf("packets %v of 8 flows", counts)
	}
}

func TestWLBPinsByWeight(t *testing.T) {
	paths := []Path{path(0, 20*ms, 90*mbit), path(1, 20*ms, 30*mbit)}
	s := warmWLB(paths)
	counts := [2]int{}
	for flow := range uint64(16) {
		counts[pathOfFlow(s, time.Second, tcp(flow+1), paths)]++
	}
	if counts != [2]int{12, 4} {
		t.Errorf("16 flows over 90 and 30 Mbit/s: %v, want 12 and 4", counts)
	}
}

func TestWLBPinsFollowFailure(t *testing.T) {
	// Path 1 has a queue when it is alone.
	both := []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}
	alone := with(both[1], func(p *Path) { p.SRTT = 35 * ms })
	s := warmWLB(both)
	now := time.Second
	send := func(flow uint64, paths []Path) uint32 {
		now += 224 * time.Microsecond
		i := pathOfFlow(s, now, tcp(flow), paths)
		if i < 0 {
			t.Fatalf("flow %d waits", flow)
		}
		return paths[i].ID
	}
	first := map[uint64]uint32{}
	for flow := range uint64(6) {
		first[flow] = send(flow+1, both)
	}
	// Path 0 is suspect, then absent.
	for _, views := range [][]Path{{suspect(both[0]), both[1]}, {alone}} {
		for n := range uint64(10_000) {
			if got := send(n%6+1, views); got != 1 {
				t.Errorf("flow %d on path %d", n%6, got)
			}
		}
		s.Event(now, 0, EventPathDown)
	}
	// The pins to it are void when it comes back, and the flows use it again.
	s.Event(now, 0, EventPathUp)
	for range 100 {
		for flow := range uint64(6) {
			send(flow+1, []Path{both[0], alone})
		}
	}
	counts := map[uint32]int{}
	for flow := range uint64(6) {
		counts[send(flow+1, both)]++
	}
	if counts[0] < 2 || counts[1] < 2 {
		t.Errorf("flows %v 150 ms after the path came back", counts)
	}
	s.Event(now, 1, EventPathGone)
	if got := send(1, both[:1]); got != 0 {
		t.Errorf("path %d after the other one has gone", got)
	}
}

// TestWLBPinsEndWithPath lets a path go down and up between two packets of a flow.
func TestWLBPinsEndWithPath(t *testing.T) {
	s := NewWLB()
	a, b := path(0, 20*ms, 50*mbit), path(1, 20*ms, 48*mbit)
	if got := pathOfFlow(s, time.Second, tcp(1), []Path{a, b}); got != 0 {
		t.Fatalf("pinned to path %d", got)
	}
	s.Event(time.Second, 0, EventPathDown)
	s.Event(time.Second, 0, EventPathUp)
	// Too small a difference to move a flow, but it is not pinned any more.
	b.Rate, b.Cwnd = 55*mbit, b.Cwnd*2
	if got := pathOfFlow(s, time.Second+ms, tcp(1), []Path{a, b}); got != 1 {
		t.Errorf("the flow returned to path %d", got)
	}
}

func TestWLBSpill(t *testing.T) {
	type step struct {
		at    time.Duration
		paths []Path
		age   time.Duration
		want  int
	}
	a, b := path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)
	slow := path(1, 50*ms, 40*mbit)
	fast := path(1, 20*ms, 40*mbit)
	tests := []struct {
		name  string
		steps []step // the first one pins
	}{
		{"to an equal path, and back", []step{
			{0, []Path{a, b}, 0, 0},
			{ms, []Path{blocked(a), b}, 0, 1},
			{2 * ms, []Path{a, b}, 0, 0}}},
		{"not to a slower one", []step{
			{0, []Path{a, slow}, 0, 0},
			{ms, []Path{blocked(a), slow}, 0, -1}}},
		{"not to a slower one, however long it has waited: those behind it would overtake", []step{
			{0, []Path{a, slow}, 0, 0},
			{20 * ms, []Path{blocked(a), slow}, 200 * ms, -1}}},
		{"not where it overtakes", []step{
			{0, []Path{path(0, 50*ms, 50*mbit), fast}, 0, 0},
			{ms, []Path{blocked(path(0, 50*ms, 50*mbit)), fast}, 0, -1},
			{20 * ms, []Path{blocked(path(0, 50*ms, 50*mbit)), fast}, 0, 1}}},
		{"nowhere if all are blocked", []step{
			{0, []Path{a, b}, 0, 0},
			{ms, []Path{blocked(a), blocked(b)}, time.Second, -1}}},
		{"not to a lossy path", []step{
			{0, []Path{a, lossy(b)}, 0, 0},
			{ms, []Path{blocked(a), lossy(b)}, 0, -1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := warmWLB(tt.steps[0].paths)
			for i, st := range tt.steps {
				w := tcp(1)
				w.Age = st.age
				if got := pathOfFlow(s, time.Second+st.at, w, st.paths); got != st.want {
					t.Errorf("step %d: path %d, want %d", i, got, st.want)
				}
			}
		})
	}
}

// TestWLBMovesElephants begins with two large flows on the only path; then a
// second one comes up.
func TestWLBMovesElephants(t *testing.T) {
	s := NewWLB()
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}
	moves, last := 0, map[uint64]int{}
	for n := range 60_000 {
		now := time.Second + time.Duration(n)*224*time.Microsecond // 50 Mbit/s in all
		views := []Path{paths[0], paths[1]}
		if last[1] == last[2] {
			views[last[1]].SRTT = 35 * ms // a queue
		}
		if n < 10_000 {
			views = views[:1]
		}
		flow := uint64(n%2) + 1
		i := pathOfFlow(s, now, tcp(flow), views)
		if n >= 10_000 && i != last[flow] {
			moves++
		}
		last[flow] = i
	}
	if last[1] == last[2] || moves != 1 {
		t.Errorf("flows on paths %d and %d after %d moves, want one move", last[1], last[2], moves)
	}
}

// TestWLBLeavesNoLinkEmpty: of flows that are all on the large link, one goes to the small one
// for about as much as it has, since the others gain by that; not for half of it, and none comes
// back.
func TestWLBLeavesNoLinkEmpty(t *testing.T) {
	for flows, want := range map[int]int{1: 0, 2: 0, 3: 0, 4: 1, 5: 1} {
		const step = 400 * time.Microsecond // for a packet of the large link
		s := newWLB()
		large := with(path(0, 28*ms, 300*mbit), func(p *Path) { p.MinRTT = 20 * ms })
		small := path(1, 60*ms, 80*mbit)
		s.known = []wlbPath{{id: 1, tier: tierNone}, {id: 0, tier: tierNone}}
		homes := map[uint64]uint32{}
		moves := 0
		for n := range 25_000 {
			now := time.Second + time.Duration(n)*step
			views := []Path{large, small}
			if n < 2500 {
				views = views[:1]
			}
			if n == 2500 { // not new, but unused
				s.survey(now, views)
				s.eagerUntil = now
			}
			if p := &s.known[0]; n >= 2500 {
				p.trial.proven, p.trial.full = true, now-time.Second
			}
			w := tcp(uint64(n%flows + 1))
			w.Size, w.Age = int(300*mbit*step.Seconds()), 10*ms
			if i, _ := s.Pick(now, w, views); i >= 0 {
				s.Sent(now, w, i, w.Size)
				if id, ok := homes[w.Flow]; ok && id != views[i].ID {
					moves++
				}
				homes[w.Flow] = views[i].ID
			}
		}
		if moves != want {
			t.Errorf("%d flows: %d moves, want %d: %v", flows, moves, want, homes)
		}
	}
}

// TestWLBDoesNotSwing lets small flows with pauses share two paths with a large one.
func TestWLBDoesNotSwing(t *testing.T) {
	s := NewWLB()
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 25*ms, 40*mbit)}
	moves, last := 0, map[uint64]int{}
	send := func(now time.Duration, flow uint64) {
		i := pathOfFlow(s, now, tcp(flow), paths)
		if before, ok := last[flow]; ok && before != i {
			moves++
		}
		last[flow] = i
	}
	for n := range 100_000 {
		now := time.Second + time.Duration(n)*300*time.Microsecond
		send(now, 1)
		if n%100 == 0 {
			send(now, 2+uint64(n/100)%10)
		}
	}
	if moves > 12 {
		t.Errorf("%d moves of 11 flows in 30 s", moves)
	}
}

func TestWLBLeavesLossyPath(t *testing.T) {
	s := NewWLB()
	clean := path(1, 20*ms, 50*mbit)
	if got := pathOfFlow(s, time.Second, tcp(1), []Path{path(0, 20*ms, 55*mbit), clean}); got != 0 {
		t.Fatalf("pinned to path %d", got)
	}
	bad := with(path(0, 20*ms, 55*mbit), func(p *Path) { p.Loss = 0.1 })
	got := -1
	for n := range 3000 {
		got = pathOfFlow(s, time.Second+time.Duration(n)*ms, tcp(1), []Path{bad, clean})
	}
	if got != 1 {
		t.Error("the flow stays on a path with 10 % loss beside a clean one")
	}
}

// TestWLBSmallFlowsGoNearer: a flow that its path does not limit, as one of acknowledgments,
// goes where its packets arrive sooner, and stays there.
func TestWLBSmallFlowsGoNearer(t *testing.T) {
	far, near := path(1, 60*ms, 80*mbit), path(0, 20*ms, 80*mbit)
	queue := with(blocked(near), func(p *Path) { p.SRTT = 35 * ms })
	for _, tt := range []struct {
		name     string
		size     int           // of a packet
		interval time.Duration // of packets
		first    []Path        // for 2 s
		then     []Path        // for 5 s
		want     uint32
	}{
		{"a small flow", 100, 5 * ms, []Path{far}, []Path{near, far}, 0},
		{"one with gaps", 100, 50 * ms, []Path{far}, []Path{near, far}, 0},
		{"a large one that finds room", 1400, ms, []Path{far}, []Path{near, far}, 0},
		{"a large one that finds none", 1400, ms, []Path{far}, []Path{queue, far}, 1},
		{"not for little", 100, 5 * ms, []Path{far}, []Path{path(0, 50*ms, 80*mbit), far}, 1},
		{"not where packets are lost", 100, 5 * ms, []Path{far}, []Path{with(near, func(p *Path) { p.Loss = 0.05 }), far}, 1},
		{"not away for more room", 100, 50 * ms, []Path{near}, []Path{queue, with(far, func(p *Path) { p.Rate, p.Cwnd = 300*mbit, 1e7 })}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewWLB()
			w := tcp(1)
			w.Size = tt.size
			moves, last := 0, tt.first[0].ID
			for now := time.Second; now < 8*time.Second; now += tt.interval {
				views := tt.then
				if now < 3*time.Second {
					views = tt.first
				}
				i := pathOfFlow(s, now, w, views)
				if i < 0 { // the pinned path is blocked, but not for long
					views = []Path{with(views[0], func(p *Path) { p.Blocked = NotBlocked }), views[1]}
					i = pathOfFlow(s, now, w, views)
				}
				if id := views[i].ID; id != last {
					moves, last = moves+1, id
				}
			}
			if want := map[bool]int{true: 1}[tt.want != tt.first[0].ID]; last != tt.want || moves != want {
				t.Errorf("on path %d after %d moves, want %d after %d", last, moves, tt.want, want)
			}
		})
	}
}

// link is a path that carries rate bytes/s, with a window that allows a queue of
// half a round trip.
type link struct {
	rate, backlog float64 // bytes not yet carried
	carried       float64
	rtt           time.Duration
}

func (l *link) view(id uint32) Path {
	p := path(id, l.rtt, l.rate)
	if l.backlog > l.rate*l.rtt.Seconds()/2 {
		p.Blocked = BlockedCwnd
	}
	return p
}

// TestWLBFillsLinks lets flows compete for two links, and measures how well these
// are used: TCP flows that always have something to send, or one UDP flow that
// offers a constant rate and waits in a queue.
func TestWLBFillsLinks(t *testing.T) {
	tests := []struct {
		name  string
		links []link
		tcp   int     // flows
		udp   float64 // offered bytes/s
		want  float64 // bytes/s carried
	}{
		{"8 TCP, RTT 20 and 50", []link{{rate: 50 * mbit, rtt: 20 * ms}, {rate: 50 * mbit, rtt: 50 * ms}}, 8, 0, 98 * mbit},
		{"8 TCP, 300 and 80 Mbit/s", []link{{rate: 300 * mbit, rtt: 20 * ms}, {rate: 80 * mbit, rtt: 60 * ms}}, 8, 0, 370 * mbit},
		{"2 TCP", []link{{rate: 50 * mbit, rtt: 20 * ms}, {rate: 50 * mbit, rtt: 50 * ms}}, 2, 0, 94 * mbit},
		{"1 TCP, equal links", []link{{rate: 50 * mbit, rtt: 20 * ms}, {rate: 50 * mbit, rtt: 20 * ms}}, 1, 0, 98 * mbit},
		{"1 TCP, a bad second link", []link{{rate: 100 * mbit, rtt: 20 * ms}, {rate: 2 * mbit, rtt: 200 * ms}}, 1, 0, 97 * mbit},
		{"UDP, RTT 20 and 50", []link{{rate: 50 * mbit, rtt: 20 * ms}, {rate: 50 * mbit, rtt: 50 * ms}}, 0, 90 * mbit, 88.5 * mbit},
		{"UDP, a bad second link", []link{{rate: 100 * mbit, rtt: 20 * ms}, {rate: 1 * mbit, rtt: 300 * ms}}, 0, 99 * mbit, 97 * mbit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const seconds, step = 10, 200 * time.Microsecond
			s := NewWLB()
			start := time.Second
			waiting := make([]time.Duration, max(tt.tcp, 1)) // since when the head of each queue waits
			for i := range waiting {
				waiting[i] = start
			}
			interval := time.Duration(0)
			if tt.udp > 0 {
				interval = time.Duration(1400 / tt.udp * 1e9)
			}
			views := make([]Path, len(tt.links))
			for n := range seconds * int(time.Second/step) {
				now := start + time.Duration(n)*step
				for i := range tt.links {
					l := &tt.links[i]
					done := min(l.rate*step.Seconds(), l.backlog)
					l.backlog -= done
					l.carried += done
					views[i] = l.view(uint32(i))
				}
				for k := range waiting {
					q := (n + k) % len(waiting)
					for waiting[q] <= now {
						w := tcp(uint64(q + 1))
						if tt.udp > 0 {
							w = udp
						}
						w.Age = now - waiting[q]
						i := pathOfFlow(s, now, w, views)
						if i < 0 {
							break
						}
						tt.links[i].backlog += 1400
						views[i] = tt.links[i].view(uint32(i))
						if waiting[q] += interval; interval == 0 {
							waiting[q] = now
						}
					}
				}
			}
			carried := 0.0
			for _, l := range tt.links {
				carried += l.carried / seconds
			}
			if carried < tt.want {
				t.Errorf("carried %.1f Mbit/s, want %.1f: %+v", carried/mbit, tt.want/mbit, tt.links)
			}
		})
	}
}

// TestWLBFills: a flow whose window is a queue here, and fits another path, is not missed.
func TestWLBFills(t *testing.T) {
	p, q := &wlbPath{rate: 50 * mbit}, &wlbPath{trial: trial{was: 50 * mbit}}
	p.pins.used = 50 * mbit
	f := &flow{rate: 12.5 * mbit}
	for _, tt := range []struct {
		wait   time.Duration // beyond the 20 ms of the round trip here
		onFar  float64       // what others use there
		begins bool
	}{{0, 0, false}, {10 * ms, 0, true}, {80 * ms, 0, true}, {80 * ms, 40 * mbit, false}, {80 * ms, 50 * mbit, false}} {
		q.pins.used = tt.onFar
		here := 20*ms + tt.wait
		begins := f.rate * float64(here) / float64(50*ms)
		if got := p.fills(q, f, float64(here)/float64(20*ms), begins); got != tt.begins {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestWLBReturnsWhatFits: a small link comes back beside a large one. It gets one of the flows,
// not all that its window has room for; and none because the round trip was long for a moment.
func TestWLBReturnsWhatFits(t *testing.T) {
	const back, watched = 4 * time.Second, 100 * ms
	for _, tt := range []struct {
		name  string
		flows int
		large Path // when the other one comes back
		moved int
	}{
		{"4 flows", 4, with(path(0, 40*ms, 300*mbit), func(p *Path) { p.MinRTT, p.RTTVar = 20*ms, 2*ms }), 1},
		{"4 flows after a pause", 4, with(path(0, 80*ms, 300*mbit), func(p *Path) { p.MinRTT, p.RTTVar = 20*ms, 30*ms }), 1},
		{"2 flows after a pause", 2, with(path(0, 80*ms, 300*mbit), func(p *Path) { p.MinRTT, p.RTTVar = 20*ms, 30*ms }), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const step = 400 * time.Microsecond // for a packet of each link
			s := newWLB()
			large, small := path(0, 25*ms, 300*mbit), path(1, 60*ms, 80*mbit)
			s.known = []wlbPath{{id: 1, tier: tierNone, trial: trial{was: small.Rate}}}
			homes := map[uint64]uint32{}
			for n := 0; time.Duration(n)*step < back+watched; n++ {
				now := time.Second + time.Duration(n)*step
				views := []Path{large}
				if now >= time.Second+back {
					views = []Path{tt.large, small}
				}
				w := tcp(uint64(n%tt.flows + 1))
				w.Size, w.Age = int(300*mbit*step.Seconds()), 10*ms
				if i, _ := s.Pick(now, w, views); i >= 0 {
					s.Sent(now, w, i, w.Size)
					homes[w.Flow] = views[i].ID
				}
			}
			moved := 0
			for _, id := range homes {
				moved += int(id)
			}
			if moved != tt.moved {
				t.Errorf("%d of %d flows moved to the small link, want %d", moved, tt.flows, tt.moved)
			}
		})
	}
}

// TestWLBRoomOfReturnedPath: a path that was full before it went has no more room after its
// return than it had, though that is not proven yet; one that never was may have.
func TestWLBRoomOfReturnedPath(t *testing.T) {
	f := &flow{rate: 10 * mbit}
	for _, tt := range []struct {
		full bool
		used float64
		want bool
	}{{true, 20 * mbit, true}, {true, 45 * mbit, false}, {false, 45 * mbit, true}} {
		s := newWLB()
		s.known = []wlbPath{{id: 1, rate: 50 * mbit, trial: trial{proven: tt.full}}}
		for range 2 { // whatever happened since the first time
			s.Event(time.Second, 1, EventPathDown)
		}
		p := &s.known[0]
		p.promise, p.pins.used = 50*mbit, tt.used
		if got := p.hasRoom(2*time.Second, f); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
