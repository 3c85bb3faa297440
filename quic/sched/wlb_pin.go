// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

const (
	// period is the interval at which the use of the paths by pinned flows is measured.
	period = time.Second

	// A pinned flow moves to a path where it expects that many times the rate it can
	// have here: the smaller gain suffices when no packet is overtaken. With less,
	// the noise of the estimates would make flows swing between paths.
	gainAtGap  = 1.25
	gainAtOnce = 2.0
	// settleTime is for how long a flow stays on its path at least, if moving it
	// reorders packets.
	settleTime = time.Second
	// lossyPath is the loss from which on a flow moves to a path with less than half
	// of it, if it is not slower there.
	lossyPath = 0.02
)

// pinStats is how pinned flows use a path, in this period and the one before.
type pinStats struct {
	bytes               int     // sent in this period
	used                float64 // bytes/s in the period before
	active, wasActive   int     // flows that sent
	arrived, wasArrived int     // flows pinned, whose use is not measured yet
}

// nextPeriod begins a new period, and forgets some idle flows.
func (s *wlb) nextPeriod(now time.Duration) {
	elapsed := (now - s.periodStart).Seconds()
	for i := range s.known {
		p := &s.known[i].pins
		p.used, p.bytes = float64(p.bytes)/elapsed, 0
		p.wasActive, p.active = p.active, 0
		p.wasArrived, p.arrived = p.arrived, 0
	}
	s.period++
	s.periodStart = now
	s.flows.sweep(now)
}

// expected is the rate in bytes/s that one more flow can hope for on p: what the
// flows there leave, shared with those that came too lately to be measured, or a
// fair share if that is more.
func (p *wlbPath) expected() float64 {
	st := &p.pins
	residual := p.promise/float64(st.arrived+st.wasArrived+1) - st.used
	return max(residual, p.promise/float64(max(st.active, st.wasActive)+1))
}

// expectedHere is the same for a flow on p that uses own bytes/s.
func (p *wlbPath) expectedHere(own float64) float64 {
	st := &p.pins
	residual := p.promise/float64(max(st.arrived+st.wasArrived, 1)) - max(st.used-own, 0)
	return max(residual, p.promise/float64(max(st.active, st.wasActive, 1)))
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
			s.enterPeriod(f, s.at(i))
		}
		if newPeriod || now >= f.arrival {
			i = s.reconsider(now, f, i, paths, t)
		}
	}
	if paths[i].Blocked != NotBlocked {
		if i = s.spill(now, f, i, w, paths, t); i < 0 {
			return -1
		}
	}
	s.flow, s.arrival = f, now+s.arrivesIn(i, &paths[i])
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
	f.path, f.life, f.pinned = p.id, p.life, now
	f.period, f.rate = s.period, 0
	p.pins.active++
	p.pins.arrived++
}

// enterPeriod counts f, which is on p, in the new period.
func (s *wlb) enterPeriod(f *flow, p *wlbPath) {
	f.rate = 0
	if s.period-f.period == 1 {
		f.rate = float64(f.bytes) / period.Seconds()
	}
	f.period, f.bytes = s.period, 0
	p.pins.active++
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

// reconsider moves f from path i if another one is clearly better, and returns
// where it is then.
func (s *wlb) reconsider(now time.Duration, f *flow, i int, paths []Path, t tier) int {
	j := s.bestForFlow(paths, t, i)
	if j < 0 {
		return i
	}
	p, q := s.at(i), s.at(j)
	need := gainAtGap
	if now+s.arrivesIn(j, &paths[j]) < f.arrival {
		if now-f.pinned < settleTime {
			return i
		}
		need = gainAtOnce
	}
	if paths[i].Loss >= lossyPath && paths[j].Loss < paths[i].Loss/2 {
		need = 1
	}
	if q.expected() < need*p.expectedHere(f.rate) {
		return i
	}
	p.pins.active--
	s.pin(now, f, q)
	return j
}

// spill returns the index of the path that takes a packet while path i, where f is
// pinned, is blocked, -1 to wait. It must arrive neither later than by waiting nor
// before those that were sent already.
func (s *wlb) spill(now time.Duration, f *flow, i int, w *Work, paths []Path, t tier) int {
	best := -1
	soonest := s.waitFor(i, w) + s.arrivesIn(i, &paths[i])
	for j := range paths {
		v := &paths[j]
		if v.Blocked != NotBlocked || s.at(j).tier != t || s.at(j).share == 0 {
			continue
		}
		if a := s.arrivesIn(j, v); a <= soonest && now+a >= f.arrival {
			best, soonest = j, a
		}
	}
	return best
}
