// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"math"
	"time"
)

const (
	// A round deals roundPackets packets of packetBytes.
	roundPackets = 64
	packetBytes  = 1500
	// holdBudget is how much later than on the best path a packet of a flow that is
	// not pinned may arrive.
	holdBudget = 2 * time.Millisecond
	// minRate bounds estimates in bytes/s from below, so that they can be divided by.
	minRate = 1000.0
	// trialWindow is assumed of a path whose window is not known.
	trialWindow = 10 * 1200
)

// wlb is weighted load balancing. All datagrams are charged to the deficits of a
// weighted round robin. Those of TCP stay on the path that their flow is pinned
// to (wlb_pin.go); any other one goes to the path with the most deficit left among
// those where it arrives early enough.
type wlb struct {
	pinUDP bool

	known []wlbPath // in the order of appearance
	view  []int     // indices in known of the paths of the last Pick

	roundEnd time.Duration
	tier     tier // that the round was dealt to
	redeal   bool // a path came or went

	// What the last Pick chose: index in known, -1 for none; the flow, nil if it was
	// none that is pinned; and when its packet is predicted to arrive.
	chosen  int
	flow    *flow
	arrival time.Duration

	flows       flowTable
	period      uint32 // counts the periods of pin statistics
	periodStart time.Duration
	eagerFrom   time.Duration // a path came, and flows move to it until eagerUntil
	eagerUntil  time.Duration
	moves       uint64 // of flows from a path that they could have stayed on
}

// wlbPath is what wlb knows of a path besides its view.
type wlbPath struct {
	id uint32
	// life changes when the path goes down: pins of an earlier life are void.
	life uint32

	// Set when a round begins.
	rate     float64 // bytes/s that the path carries
	perByte  float64 // nanoseconds that it takes for a byte
	weight   float64 // bytes/s that are worth using
	promise  float64 // weight for pinned flows: an unproven path has credit
	share    float64 // bytes dealt
	perShare float64 // 1/share
	deficit  float64 // bytes left of the share; negative when overdrawn

	// Set by each Pick.
	tier    tier
	arrival time.Duration // what arrivesIn says

	lossySince time.Duration // 0: it is not

	trial trial
	pins  pinStats
}

// NewWLB returns the scheduler that balances the load by live estimates of what
// the paths carry, and keeps each TCP flow on one path as long as that is good.
func NewWLB() Scheduler { return newWLB() }

func newWLB() *wlb {
	s := &wlb{chosen: -1}
	s.flows.forgotten = s.unpin
	return s
}

// NewWLBUDPPin is NewWLB, except that the flows of UDP are kept on one path, too.
func NewWLBUDPPin() Scheduler {
	s := newWLB()
	s.pinUDP = true
	return s
}

func (s *wlb) Pick(now time.Duration, w Work, paths []Path) (first, second int) {
	s.flow, s.chosen = nil, -1
	t := s.survey(now, paths)
	i := -1
	switch {
	case t == tierNone:
		return -1, -1
	case w.Kind != WorkDatagram || w.Class == ClassRealtime:
		i = fastest(paths, t)
	default:
		if s.redeal || t != s.tier || now >= s.roundEnd {
			s.deal(now, paths, t)
		}
		if now-s.periodStart >= period {
			s.nextPeriod(now)
		}
		if w.Flow != 0 && (w.Class == ClassTCP || s.pinUDP && w.Class == ClassUDP) {
			i = s.pickPinned(now, &w, paths, t)
		} else if w.Flow != 0 && w.Class == ClassUDP {
			i = s.pickUDP(now, &w, paths, t)
		} else {
			i = s.pickAny(now, &w, paths, t)
		}
	}
	if i >= 0 {
		s.chosen = s.view[i]
	}
	return i, -1
}

// Sent charges the path of the last Pick; there is never a second one.
func (s *wlb) Sent(now time.Duration, w Work, _, n int) {
	if s.chosen < 0 {
		return
	}
	p := &s.known[s.chosen]
	p.deficit -= float64(n)
	if f := s.flow; f != nil && f.key == w.Flow {
		f.used = now
		f.arrival = max(f.arrival, s.arrival)
		before := f.bytes
		f.bytes += n
		if f.pinned == 0 { // one of UDP
			f.path = p.id
			return
		}
		p.pins.bytes += n
		if big := p.bigFlow(); before < big && f.bytes >= big {
			p.pins.big++
		}
	}
}

func (s *wlb) Event(_ time.Duration, id uint32, e Event) {
	s.redeal = true
	for i := range s.known {
		p := &s.known[i]
		switch {
		case p.id != id || e == EventPathUp:
		case e == EventPathDown:
			*p = wlbPath{id: id, life: p.life + 1, tier: tierNone, trial: trial{was: p.remembered(), wasFull: p.trial.proven || p.trial.wasFull}}
		case e == EventPathGone:
			s.known = append(s.known[:i], s.known[i+1:]...)
			s.view, s.chosen = s.view[:0], -1
			return
		}
	}
}

func (s *wlb) Usage(id uint32) Usage {
	for i := range s.known {
		if p := &s.known[i]; p.id == id {
			return Usage{Weight: p.weight, Pins: p.pins.flows}
		}
	}
	return Usage{}
}

// at is what is known of paths[i] of the last Pick.
func (s *wlb) at(i int) *wlbPath { return &s.known[s.view[i]] }

// survey makes view fit paths, and returns the best tier among them. A path may be
// absent from some views only, because it is too small for the work, so what is
// known of it stays.
func (s *wlb) survey(now time.Duration, paths []Path) (best tier) {
	fits := len(s.view) == len(paths)
	for i := 0; fits && i < len(paths); i++ {
		fits = s.at(i).id == paths[i].ID
	}
	if !fits {
		s.view = s.view[:0]
		for i := range paths {
			s.view = append(s.view, s.lookup(paths[i].ID))
		}
	}
	best = tierNone
	came := false
	for i := range paths {
		p, t := s.at(i), tierOf(&paths[i])
		came = came || t < p.tier && t != tierNone
		p.tier = t
		if paths[i].Blocked == BlockedCwnd {
			p.trial.blocked = true
		}
		best = min(best, t)
	}
	if came {
		s.pathsCame(now, paths)
	}
	return best
}

// pathsCame is called when a path can be used, or is not in doubt any more.
func (s *wlb) pathsCame(now time.Duration, paths []Path) {
	s.redeal = true
	if len(paths) > 1 {
		s.eagerFrom, s.eagerUntil = now, now+eagerTime
	}
}

// lookup returns the index in known of path id, which it adds if it is new.
func (s *wlb) lookup(id uint32) int {
	for i := range s.known {
		if s.known[i].id == id {
			return i
		}
	}
	s.known = append(s.known, wlbPath{id: id, tier: tierNone})
	s.redeal = true
	return len(s.known) - 1
}

// estimate returns what p carries in bytes/s, and how much of that is worth using.
func estimate(p *Path) (rate, weight float64) {
	cwnd := p.Cwnd
	if cwnd == 0 {
		cwnd = trialWindow
	}
	// A path without delivery rate gets one window per round trip: a fair trial.
	rate = float64(cwnd) / srtt(p).Seconds()
	if p.Rate > 0 {
		rate = min(rate, p.Rate)
	}
	rate = max(rate, minRate)
	weight = rate * (1 - p.Loss)
	if p.SRTT > 2*p.MinRTT && p.MinRTT > 0 {
		// A queue grows: it is congested, or shares a bottleneck.
		weight *= 2 * float64(p.MinRTT) / float64(p.SRTT)
	}
	return rate, max(weight, minRate)
}

// deal begins a round: it refreshes the weights and deals the packets of the round
// over the paths of tier t. What was left of the last round is dropped, but not the
// packet that was overdrawn. The round lasts for the shortest round trip, so that a
// blocked path cannot hold it open.
func (s *wlb) deal(now time.Duration, paths []Path, t tier) {
	roundTime, allPoor := poorRTT, true
	for i := range paths {
		if v := &paths[i]; s.at(i).tier == t {
			allPoor = allPoor && poor(v)
			roundTime = min(roundTime, srtt(v))
		}
	}
	var sum float64
	var warm known
	for i := range paths {
		p, v := s.at(i), &paths[i]
		p.rate, p.weight = estimate(v)
		p.perByte = 1e9 / p.rate
		p.share = 0
		switch {
		case v.Loss < lossyPath:
			p.lossySince = 0
		case p.lossySince == 0:
			p.lossySince = now
		}
		p.checkTrial(now, v)
		if p.tier != t || poor(v) && !allPoor {
			continue
		}
		p.share = p.weight
		sum += p.weight
		warm.add(p, v)
	}
	for i := range paths {
		p := s.at(i)
		p.promise = warm.promise(p, &paths[i])
		p.perShare = 0
		if p.share > 0 {
			p.share = max(roundPackets*p.share/sum, 1) * packetBytes
			p.perShare = 1 / p.share
		}
		// The last packet of a round may overdraw; pinned flows do without limit.
		p.deficit = p.share + max(min(p.deficit, 0), -packetBytes)
	}
	s.roundEnd, s.tier, s.redeal = now+roundTime, t, false
}

// arrivesIn predicts how long a packet takes on path i if it is sent now: the time
// to send what is queued, and half of the round trip.
func (s *wlb) arrivesIn(i int, v *Path) time.Duration {
	return time.Duration(float64(v.Queued)*s.at(i).perByte) + srtt(v)/2
}

// waitFor predicts how long it takes until blocked path i takes w. That the work
// has waited for long already says that it may have to go on waiting.
func (s *wlb) waitFor(i int, w *Work) time.Duration {
	return max(time.Duration(float64(w.Size)*s.at(i).perByte), w.Age)
}

// pickAny places a packet that is bound to no path.
func (s *wlb) pickAny(now time.Duration, w *Work, paths []Path, t tier) int {
	best := time.Duration(math.MaxInt64)
	for i := range paths {
		p, v := s.at(i), &paths[i]
		if p.tier != t {
			continue
		}
		a := s.arrivesIn(i, v)
		p.arrival = a
		if v.Blocked != NotBlocked {
			a += s.waitFor(i, w)
		}
		best = min(best, a)
	}
	i, fallback := s.mostDeficit(paths, t, best+holdBudget)
	if i < 0 && fallback >= 0 {
		s.deal(now, paths, t)
		if i, _ = s.mostDeficit(paths, t, best+holdBudget); i < 0 {
			return fallback // poor, and all others are blocked
		}
	}
	if i < 0 && w.Age >= queueDelay {
		s.waitsFor(paths, t)
	}
	return i
}

// waitsFor notes that work waits for every blocked path of tier t, whatever blocks it.
func (s *wlb) waitsFor(paths []Path, t tier) {
	for i := range paths {
		if p := s.at(i); p.tier == t && paths[i].Blocked != NotBlocked {
			p.trial.blocked = true
		}
	}
}

// mostDeficit returns, of the unblocked paths where the packet arrives soon enough,
// the one with the largest part of its share left, -1 if none has any left, and the
// fastest one whatever is left. A path without RTT sample is always soon enough, or
// else it might never get one.
func (s *wlb) mostDeficit(paths []Path, t tier, soon time.Duration) (best, soonest int) {
	best, soonest = -1, -1
	var most float64
	for i := range paths {
		v, p := &paths[i], s.at(i)
		if v.Blocked != NotBlocked || p.tier != t || p.arrival > soon && v.SRTT > 0 {
			continue
		}
		if soonest < 0 || p.arrival < s.at(soonest).arrival {
			soonest = i
		}
		if p.deficit > 0 && p.deficit*p.perShare > most {
			best, most = i, p.deficit*p.perShare
		}
	}
	return best, soonest
}
