// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/quic/sched"
)

// What the scheduler sees. Eligibility is decided here and nowhere else.

// refreshViews rebuilds the views of the paths that may carry new work.
func (c *Conn) refreshViews(now instant) {
	c.views, c.viewPaths = c.views[:0], c.viewPaths[:0]
	early := c.sendsEarly()
	for _, p := range c.paths {
		if !early && (!p.usable() && !c.onlyAddress(p) || p.priority == sched.PriorityNever && c.otherPathLives(p)) {
			continue
		}
		c.views = append(c.views, sched.Path{})
		c.viewPaths = append(c.viewPaths, p)
		i := len(c.views) - 1
		c.refreshView(now, i)
	}
	c.shapeQueue(now)
}

// onlyAddress says that p, whose peer was seen at another address that is not validated yet,
// carries what the amplification limit allows, since nothing else does (RFC 9000 section 9.3).
// To wait for the validation would be a silence of one more round trip.
func (c *Conn) onlyAddress(p *pathState) bool {
	return p.phase == pathActive && !p.validated && p.prevValid && len(p.ids.remote) > 0 &&
		!slices.ContainsFunc(c.paths, (*pathState).usable)
}

// shapeQueue tells the queue of datagrams what the paths are like. The window of a flow of TCP
// that moves to a path with a longer round trip, or back to one that was away, is too small
// for it, unless it had a queue where it was: so such a queue is left to bulk flows, which is
// their own wait only. So is the queue that flows make which begin when a path does: it has
// the window of one flow then, and grows only as fast as theirs. Dropping would end their slow
// start far below what the path carries.
func (c *Conn) shapeQueue(now instant) {
	var rate, away float64 // bytes/s; bytes that paths carried which may be back soon
	var srtt, shortest, longest, ramp time.Duration
	for i := range c.views {
		v := &c.views[i]
		if p := c.viewPaths[i]; p.held && now.sub(p.heldAt) <= v.SRTT {
			ramp = max(ramp, v.SRTT)
		}
		rate += v.Rate
		srtt = max(srtt, v.SRTT)
		longest = max(longest, v.MinRTT)
		if v.MinRTT > 0 && (shortest == 0 || v.MinRTT < shortest) {
			shortest = v.MinRTT
		}
	}
	for _, p := range c.paths {
		if (p.phase == pathDead || p.phase == pathSuspect) && now.sub(p.lastAcked) <= resumeWithin {
			away += p.loss.rate.rate() * p.loss.rtt.min.Seconds()
		}
	}
	reserve := longest - shortest
	if rate > 0 {
		reserve += time.Duration(min(away/rate, 1) * 1e9)
	}
	c.dgrams.setPaths(rate, srtt, reserve, ramp)
}

// refreshView renews view i, after each packet on its path.
func (c *Conn) refreshView(now instant, i int) {
	p, v := c.viewPaths[i], &c.views[i]
	v.ID = p.id
	v.Phase = sched.PhaseActive
	if p.phase == pathSuspect || p.doubted {
		v.Phase = sched.PhaseSuspect
	}
	v.Priority = p.priority
	v.PeerBackup = p.ids.peerBackup
	v.Queued = p.batch.n
	v.MaxDatagram = c.maxDatagramOn(p)
	p.loss.fillView(now, v)
	v.Blocked, _ = p.loss.sendLimit(now, p.mtu.size)
	if v.Blocked != sched.NotBlocked {
		p.held, p.heldAt = p.loss.cc.InSlowStart(), now
	}
	switch {
	case p.sockBlocked || c.batchFull(p):
		v.Blocked = sched.BlockedSocket
	case p.ampAllowance() < p.mtu.size:
		v.Blocked = sched.BlockedAmplification
	}
}

// batchFull says that p has sent its share of this turn.
func (c *Conn) batchFull(p *pathState) bool { return p.batch.n+p.mtu.size > txBatchSize }

// pick asks the scheduler for a path for w, among those that can carry it.
func (c *Conn) pick(now instant, w sched.Work) int {
	if w.Kind == sched.WorkDatagram && c.viewPaths[0].priority == sched.PriorityNever {
		return -1 // nothing but such a path is left, to keep the connection
	}
	if w.Kind == sched.WorkDatagram && w.Size > c.smallestDatagram() {
		return c.pickLarge(now, w)
	}
	c.picked, _ = c.scheduler.Pick(time.Duration(now), w, c.views)
	return c.picked
}

// pickLarge is pick for a datagram that not every path can carry.
func (c *Conn) pickLarge(now instant, w sched.Work) int {
	c.largeViews, c.largeIndex = c.largeViews[:0], c.largeIndex[:0]
	for i := range c.views {
		if c.views[i].MaxDatagram >= w.Size {
			c.largeViews = append(c.largeViews, c.views[i])
			c.largeIndex = append(c.largeIndex, i)
		}
	}
	if len(c.largeViews) == 0 {
		return -1
	}
	c.picked, _ = c.scheduler.Pick(time.Duration(now), w, c.largeViews)
	if c.picked < 0 {
		return -1
	}
	return c.largeIndex[c.picked]
}

func (c *Conn) smallestDatagram() int {
	n := c.views[0].MaxDatagram
	for i := range c.views {
		n = min(n, c.views[i].MaxDatagram)
	}
	return n
}

// fitsAnyPath says that some usable path can carry a datagram of n bytes.
func (c *Conn) fitsAnyPath(n int) bool {
	if c.peerDatagramLimit() == 0 {
		return false // not even an empty one
	}
	for i := range c.views {
		if c.views[i].MaxDatagram >= n {
			return true
		}
	}
	return false
}

// allBlocked says that no path takes a packet now.
func (c *Conn) allBlocked() bool {
	for i := range c.views {
		if c.views[i].Blocked == sched.NotBlocked {
			return false
		}
	}
	return true
}

// maxDatagramOn is the largest datagram payload in bytes that p carries.
func (c *Conn) maxDatagramOn(p *pathState) int { return c.datagramIn(p, p.mtu.size) }

// datagramIn is the largest datagram payload in a packet of size bytes on p.
func (c *Conn) datagramIn(p *pathState, size int) int {
	if len(p.ids.remote) == 0 {
		return 0
	}
	room := size - (c.appHeaderLen(p) + 1 + aeadTagLen)
	return max(0, min(room, c.peerDatagramLimit()-1)) // R9221-3-2
}

// peerDatagramLimit is the largest DATAGRAM frame that the peer takes.
func (c *Conn) peerDatagramLimit() int { return int(c.peerDatagram.Load()) } // R9221-3-1

// updateMaxDatagram recomputes MaxDatagramPayload: the second largest of the paths
// that carry an inner packet of 1280 bytes, so that one bad path does not shrink
// the tunnel; the only one's, if there is one.
func (c *Conn) updateMaxDatagram() {
	if !c.complete || c.peerDatagramLimit() == 0 {
		return
	}
	first, second, n := 0, 0, 0
	smallest := 0
	for _, p := range c.paths {
		if p.phase >= pathAbandoning || p.phase == pathProbing {
			continue
		}
		if p.mtu.unknown() {
			return // what was known stays, for the moment
		}
		size := c.datagramIn(p, p.mtu.tunnelSize())
		if smallest == 0 || size < smallest {
			smallest = size
		}
		if p.mtu.tunnelSize() < ipv6ProbeSize {
			continue
		}
		n++
		switch {
		case size > first:
			first, second = size, first
		case size > second:
			second = size
		}
	}
	best := second
	switch n {
	case 0:
		best = smallest
	case 1:
		best = first
	}
	if best == 0 {
		return // no path at all: what was known stays
	}
	if c.maxDatagram.Swap(int64(best)) != int64(best) {
		c.event(MTUChanged, nil)
	}
}
