// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

// Flows of UDP are spread packet by packet, unless they would suffer: nothing puts the
// packets in order again at the receiver, and QUIC takes the reordering for loss.

const (
	// minUDPWait and waitRoundTrips of the longest path bound how long a flow of UDP that is
	// pinned waits for its path before it is spread all the same. A flow that heeds drops has
	// heeded those of the queue by then: the interval of CoDel is as long, RFC 8289 section 4.
	minUDPWait     = 100 * time.Millisecond
	waitRoundTrips = 3
	// densePeriods is for how many periods a flow of bursts counts as one after the last.
	densePeriods = 2
	// harmless is how many packets may be in any order: RFC 9002 section 6.1.1 takes a packet
	// for lost that is three behind.
	harmless = 3
)

// pickUDP places a packet of a flow of UDP.
func (s *wlb) pickUDP(now time.Duration, w *Work, paths []Path, t tier) int {
	f := s.flows.find(w.Flow)
	if f == nil {
		f = s.flows.insert(w.Flow, now)
	}
	if f.pinned == 0 && f.period != s.period { // else pickPinned has to do with it
		s.enterPeriod(f)
	}
	if s.suffers(now, f, w.Size, paths, t) {
		if f.pinned == 0 {
			s.pinWhereItIs(now, f, paths, t)
		}
		i := s.pickPinned(now, w, paths, t)
		if i >= 0 || w.Age < s.maxUDPWait(paths, t) {
			return i
		}
	} else {
		s.unpin(f)
	}
	i := s.pickAny(now, w, paths, t)
	if i >= 0 {
		s.flow, s.arrival = f, now+s.arrivesIn(i, &paths[i])
	}
	return i
}

func (s *wlb) maxUDPWait(paths []Path, t tier) time.Duration {
	var longest time.Duration
	for i := range paths {
		if s.at(i).tier == t {
			longest = max(longest, paths[i].SRTT)
		}
	}
	return max(minUDPWait, waitRoundTrips*longest)
}

// suffers says that f is large, and that its packets follow each other so closely that they
// would arrive in another order over different paths, if only those of a burst: one that lost
// its window by that sends little on average. Of a flow that was not measured some packets
// suffice, or its first windows would be lost.
func (s *wlb) suffers(now time.Duration, f *flow, size int, paths []Path, t tier) bool {
	var first, last, most time.Duration
	large, n := 0, 0
	for i := range paths {
		p, v := s.at(i), &paths[i]
		if p.tier != t || v.SRTT == 0 {
			continue
		}
		a := s.arrivesIn(i, v)
		if n++; n == 1 || a < first {
			first = a
		}
		last, most = max(last, a), max(most, v.RTTVar)
		large = max(large, p.bigFlow())
	}
	if f.bytes > 0 && now-f.used < last-first+most {
		f.dense = s.period + 1
	}
	if f.rate == 0 {
		large = min(large, harmless*size)
	}
	return n > 1 && f.dense != 0 && s.period < f.dense+densePeriods && max(f.bytes, int(f.rate*period.Seconds())) >= large
}

// pinWhereItIs pins f to the path of its last packet, unless another one promises much more,
// or is nearer and has room.
func (s *wlb) pinWhereItIs(now time.Duration, f *flow, paths []Path, t tier) {
	best := s.bestForFlow(paths, t, -1)
	for i := range paths {
		p := s.at(i)
		if best < 0 || p.id != f.path || p.tier != t {
			continue
		}
		if p.expected()*gainAtOnce >= s.at(best).expected() || p.hasRoom(now, f) {
			best = i
		}
		if j := s.nearer(now, f, i, true, paths, t); j >= 0 {
			best = j
		}
		break
	}
	if best >= 0 {
		bytes := f.bytes
		s.pin(now, f, s.at(best))
		f.bytes = bytes // by which it is large
	}
}
