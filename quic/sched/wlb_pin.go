// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

const (
	// period is the interval at which the use of the paths by pinned flows is measured.
	period = 500 * time.Millisecond

	// A pinned flow moves to a path where it expects that many times the rate it can
	// have here: the smaller gain suffices when no packet is overtaken, or when the path
	// has just come. With less, the noise of the estimates would make flows swing between
	// paths.
	gainAtGap  = 1.25
	gainAtOnce = 2.0
	// gainOfAll suffices to leave others on a path that is full for one that no large flow
	// uses: they get what it leaves, and else that path stays empty as long as they last.
	gainOfAll = 0.9
	// settleTime is for how long a flow stays on its path at least, if moving it
	// reorders packets, and gapSettleTime if not.
	settleTime    = time.Second
	gapSettleTime = 250 * time.Millisecond
	// eagerTime is for how long after a path came large flows move to it without
	// waiting for a gap: the use of the paths is measured twice in that time.
	eagerTime = 1500 * time.Millisecond
	// lossyPath is the loss from which on a flow moves to a path with less than half
	// of it, if it is not slower there; lossyFor is for how long it must have lasted. A
	// slow start that ends in a full queue loses more than that for some round trips.
	lossyPath = 0.02
	lossyFor  = time.Second
	// fullFor is for how long a path counts as overloaded that was full, at least.
	fullFor = 250 * time.Millisecond
	// bigPart is which part of what a path carries a flow must use to count as large.
	bigPart = 1.0 / 256
)

// pinStats is how pinned flows use a path, in this period and the one before.
type pinStats struct {
	flows               int     // pinned
	bytes               int     // sent in this period
	used                float64 // bytes/s in the period before
	big, wasBig         int     // large flows
	arrived, wasArrived int     // flows pinned, whose use is not measured yet
	left                bool    // flows went elsewhere in this period
}

// nextPeriod begins a new period, and forgets some idle flows.
func (s *wlb) nextPeriod(now time.Duration) {
	elapsed := (now - s.periodStart).Seconds()
	for i := range s.known {
		p := &s.known[i].pins
		measured := float64(p.bytes) / elapsed
		switch { // flows that moved count as if they had in the beginning
		case p.left:
			measured = min(measured, p.used)
		case p.arrived > 0:
			measured = max(measured, p.used)
		}
		p.used, p.bytes, p.left = measured, 0, false
		p.wasBig, p.big = p.big, 0
		p.wasArrived, p.arrived = p.arrived, 0
	}
	s.period++
	s.periodStart = now
	s.flows.sweep(now)
}

// bigFlow is how many bytes a large flow sends on p in a period.
func (p *wlbPath) bigFlow() int { return int(p.weight * bigPart * period.Seconds()) }

// sharers is how many large flows are on p, or may turn out to be.
func (p *wlbPath) sharers() int {
	return max(p.pins.big, p.pins.wasBig, p.pins.arrived+p.pins.wasArrived)
}

// expected is the rate in bytes/s that one more flow can hope for on p: a fair share,
// or what the flows there leave, shared with those that came too lately to be
// measured. How much an unproven path has to leave is not known.
func (p *wlbPath) expected() float64 {
	fair := p.promise / float64(p.sharers()+1)
	if !p.trial.proven {
		return fair
	}
	return max(fair, p.promise/float64(p.pins.arrived+p.pins.wasArrived+1)-p.pins.used)
}

// expectedHere is the same for a flow on p that uses own bytes/s.
func (p *wlbPath) expectedHere(own float64) float64 {
	fair := p.promise / float64(max(p.sharers(), 1))
	return max(fair, p.promise/float64(max(p.pins.arrived+p.pins.wasArrived, 1))-max(p.pins.used-own, 0))
}

// oneWay is arrivesIn for a path that the flows themselves fill: what the round trip
// is longer than the shortest one is the queue in front of the packet.
func (s *wlb) oneWay(i int, v *Path) time.Duration {
	return s.arrivesIn(i, v) + max(v.SRTT-v.MinRTT, 0)/2
}

// pickPinned places a packet of a flow that stays on its path.
func (s *wlb) pickPinned(now time.Duration, w *Work, paths []Path, t tier) int {
	f := s.flows.find(w.Flow)
	if f == nil {
		f = s.flows.insert(w.Flow, now)
	}
	i := s.pathOf(f, paths, t)
	if i < 0 {
		if i = s.bestForFlow(paths, t, -1); i < 0 {
			return -1
		}
		s.pin(now, f, s.at(i))
	} else {
		newPeriod := f.period != s.period
		if newPeriod {
			s.enterPeriod(f)
		}
		if newPeriod || now >= f.arrival || now < s.eagerUntil && f.pinned < s.eagerFrom {
			i = s.reconsider(now, f, i, w, paths, t)
		}
	}
	if paths[i].Blocked != NotBlocked {
		if w.Age >= queueDelay {
			s.at(i).trial.blocked = true // whatever blocks it, the flow has more to send
		}
		if i = s.spill(now, f, i, w, paths, t); i < 0 {
			return -1
		}
	}
	s.flow, s.arrival = f, now+s.oneWay(i, &paths[i])
	return i
}

// pathOf returns the index of the path that f is pinned to, -1 if it cannot be
// used any more or f is new.
func (s *wlb) pathOf(f *flow, paths []Path, t tier) int {
	if f.pinned == 0 {
		return -1
	}
	for i := range paths {
		if paths[i].ID == f.path {
			if p := s.at(i); p.life != f.life || p.tier != t {
				return -1
			}
			return i
		}
	}
	return -1
}

// pin puts f on p.
func (s *wlb) pin(now time.Duration, f *flow, p *wlbPath) {
	s.unpin(f)
	p.pins.flows++
	f.path, f.life, f.pinned = p.id, p.life, now
	f.period, f.bytes = s.period, 0
	p.pins.arrived++
}

// unpin takes f off its path.
func (s *wlb) unpin(f *flow) {
	if f.pinned == 0 {
		return
	}
	for i := range s.known {
		if p := &s.known[i]; p.id == f.path && p.life == f.life {
			p.pins.flows--
		}
	}
	f.pinned = 0
}

// enterPeriod begins a new period for f.
func (s *wlb) enterPeriod(f *flow) {
	f.rate = 0
	if s.period-f.period == 1 {
		f.rate = float64(f.bytes) / period.Seconds()
	}
	f.period, f.bytes = s.period, 0
}

// fills says that f takes more to q, which has come back and has room for most of it, than p
// loses: a window that only made a queue on p is not missed there. stretch is what the queue makes
// of the shortest round trip, and begins the rate in bytes/s that the window of f makes on q.
func (p *wlbPath) fills(q *wlbPath, f *flow, stretch, begins float64) bool {
	room := q.trial.was - q.pins.used
	if 2*room < begins {
		return false // it would get less there than it has, and others grow slowly into its place
	}
	loss := min(p.pins.used*stretch, p.rate) - min(max(p.pins.used-f.rate, 0)*stretch, p.rate)
	return min(begins, room) > gainAtGap*loss
}

// steadyRTT is the round trip without what a pause of the link or the machine adds to some: no
// window grows by that.
func steadyRTT(v *Path) time.Duration { return max(srtt(v)-2*v.RTTVar, v.MinRTT) }

// move puts f from p to q, where it begins with a rate in bytes/s.
func (s *wlb) move(now time.Duration, f *flow, p, q *wlbPath, begins float64) {
	rate, bytes := f.rate, f.bytes
	big := p.bigFlow()
	s.pin(now, f, q)
	p.pins.used -= min(rate, p.pins.used)
	p.pins.left = true
	q.pins.used += begins
	if rate*period.Seconds() >= float64(big) {
		p.pins.wasBig = max(p.pins.wasBig-1, 0)
		q.pins.wasBig++
	}
	if bytes >= big {
		p.pins.big = max(p.pins.big-1, 0)
	}
	s.moves++
}

// bestForFlow returns the index of the path, other than except, on which a flow
// expects most, -1 if there is none. It may be blocked.
func (s *wlb) bestForFlow(paths []Path, t tier, except int) int {
	best := -1
	var most float64
	for i := range paths {
		p, v := s.at(i), &paths[i]
		if i == except || p.tier != t || p.share == 0 {
			continue
		}
		e := p.expected()
		if best < 0 || e > most || e == most && srtt(v) < srtt(&paths[best]) {
			best, most = i, e
		}
	}
	return best
}

// nearer returns the index of a path on which f arrives clearly sooner than on path i, -1 if
// there is none. A flow that its path does not limit can gain nothing but that; one of
// acknowledgments holds up what they acknowledge.
func (s *wlb) nearer(now time.Duration, f *flow, i int, udp bool, paths []Path, t tier) int {
	best, soonest := -1, s.oneWay(i, &paths[i])-holdBudget
	for j := range paths {
		q, v := s.at(j), &paths[j]
		// By the shortest round trips, too, or queues would make flows swing.
		if v.MinRTT == 0 || 4*v.MinRTT > 3*paths[i].MinRTT || q.tier != t || q.share == 0 || v.Loss >= lossyPath {
			continue
		}
		room := f.small(q) || udp && f.modest(q) || q.hasRoom(now, f)
		if a := s.oneWay(j, v); room && a < soonest {
			best, soonest = j, a
		}
	}
	return best
}

// hasRoom says that p was not full lately and, as far as is known, would not be with f.
// A path that never was may carry much more than it has carried.
func (p *wlbPath) hasRoom(now time.Duration, f *flow) bool {
	return now-p.trial.full > fullFor && (!p.trial.proven && !p.trial.wasFull || p.promise-p.pins.used > 2*f.rate)
}

// small says that f was measured, and hardly counts on p.
func (f *flow) small(p *wlbPath) bool {
	return f.rate > 0 && max(f.bytes, int(f.rate*period.Seconds())) < p.bigFlow()
}

// modest says that f uses so little of a fair share of p that the queue in front of the
// paths lets it go first. Of UDP that is a call; a flow of TCP may only be about to begin.
func (f *flow) modest(p *wlbPath) bool {
	return f.rate > 0 && 2*f.rate < p.promise/float64(p.sharers()+1)
}

// reconsider moves f from path i, where w waits for it, if another one is clearly better,
// and returns where it is then.
func (s *wlb) reconsider(now time.Duration, f *flow, i int, w *Work, paths []Path, t tier) int {
	p := s.at(i)
	udp := w.Class == ClassUDP
	small := f.small(p) || udp && f.modest(p)
	if small || f.rate > 0 && (udp || now-p.trial.full > max(fullFor, 2*srtt(&paths[i]))) {
		if j := s.nearer(now, f, i, udp, paths, t); j >= 0 && now-f.pinned >= gapSettleTime {
			s.move(now, f, p, s.at(j), f.rate)
			return j
		}
	}
	j := s.bestForFlow(paths, t, i)
	if j < 0 {
		return i
	}
	q := s.at(j)
	need, settled := gainAtGap, gapSettleTime
	gap := now+s.oneWay(j, &paths[j]) >= f.arrival
	large := f.rate*period.Seconds() >= float64(p.bigFlow())
	eager := large && now < s.eagerUntil && f.pinned < s.eagerFrom
	switch {
	case eager:
		settled = 0
	case small && 4*paths[i].MinRTT <= 3*paths[j].MinRTT:
		return i // it would be nearer here
	case gap:
		if large && p.sharers() > 1 && q.sharers() == 0 {
			need = gainOfAll
		}
	case large:
		need, settled = gainAtOnce, settleTime
	default:
		return i // what is small moves at gaps only, of which it has some
	}
	if now-f.pinned < settled {
		return i
	}
	rtt := srtt(&paths[j])
	if eager && paths[j].MinRTT > 0 {
		rtt = paths[j].MinRTT // there is no queue yet
	}
	here := steadyRTT(&paths[i]) + w.Age
	begins := min(f.rate*float64(here)/float64(rtt), q.promise)
	switch {
	case p.lossySince != 0 && now-p.lossySince >= lossyFor && paths[j].Loss < paths[i].Loss/2:
		if q.expected() < p.expectedHere(f.rate) {
			return i
		}
	case now-p.trial.full > max(fullFor, 2*srtt(&paths[i])):
		return i // the flows on it are limited by something else
	case !q.trial.proven && q.trial.was == 0 && p.sharers() < 2 && q.expected() < gainAtOnce*p.expectedHere(f.rate):
		return i // a path is tried by flows that others replace
	case eager && p.fills(q, f, float64(here)/float64(max(paths[i].MinRTT, 1)), begins):
	case q.expected() < need*p.expectedHere(f.rate):
		return i
	}
	s.move(now, f, p, q, begins)
	return j
}

// spill returns the index of the path that takes a packet while path i, where f is
// pinned, is blocked, -1 to wait. It must arrive neither before those that were sent
// already nor later than if it waited, or those behind it would overtake it.
func (s *wlb) spill(now time.Duration, f *flow, i int, w *Work, paths []Path, t tier) int {
	best := -1
	if w.Class == ClassUDP {
		return best // what is overtaken counts as lost
	}
	soonest := time.Duration(float64(w.Size)*s.at(i).perByte) + s.oneWay(i, &paths[i])
	for j := range paths {
		v := &paths[j]
		if v.Blocked != NotBlocked || s.at(j).tier != t || s.at(j).share == 0 ||
			v.RTTVar+paths[i].RTTVar > soonest/8 { // who knows
			continue
		}
		if a := s.oneWay(j, v); a <= soonest && now+a >= f.arrival {
			best, soonest = j, a
		}
	}
	return best
}
