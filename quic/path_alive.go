// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"time"
)

// Liveness of paths: suspicion, death, and probing of the dead. A path is judged
// by its own acknowledgments, and only against another path that answers: if none
// answers it is not the path, and RFC 9002 rules apply alone.

const (
	minSuspicion = 25 * time.Millisecond
	// minSuspect is how long a suspect path is waited for at least.
	minSuspect = 250 * time.Millisecond
	// idleProbe is the interval of PINGs on a silent path while datagrams flow, or a client
	// receives stream data.
	idleProbe = 200 * time.Millisecond
	// recentTraffic is how long after the last datagram idleProbe goes on.
	recentTraffic = 5 * time.Second
	// Interval of PINGs on a dead path, doubling from the first to the second value, or
	// to idleProbe while datagrams flow: a path is to be back at its rate within 1 s.
	deadProbeMin = 50 * time.Millisecond
	deadProbeMax = 500 * time.Millisecond
	// serverDeadProbes bounds the probes of a server, which then waits for the client.
	serverDeadProbes = 3
	// useAfterBackup is for how long a peer that knows it may go on to use a dead path.
	useAfterBackup = time.Second
	// maxPTO bounds the PTO of an only path that is to be kept alive, and of a server's paths,
	// an exception to R9002-6.2.1-5 that docs/conformance.md explains.
	maxPTO = 2 * time.Second
)

// suspicionTime is how long an ack-eliciting packet may stay unacknowledged before
// the path is doubted.
func (c *Conn) suspicionTime(p *pathState, outstanding int) time.Duration {
	srtt, rttvar := p.loss.rtt.smoothed, p.loss.rtt.variation
	t := max(minSuspicion, srtt+srtt/4+4*rttvar)
	if outstanding < 2 {
		t += c.peerParams.maxAckDelay()
	}
	return t
}

// suspicionDeadline is when p becomes doubted, or unset.
func (c *Conn) suspicionDeadline(p *pathState) instant {
	if p.doubted || !c.confirmed || (p.phase != pathActive && p.phase != pathSuspect) || len(c.paths) < 2 {
		return 0
	}
	sent, n, ok := p.loss.oldestUnackedAckEliciting()
	if !ok || !p.loss.rtt.hasSample() {
		return 0
	}
	return max(sent, p.lastAcked).add(c.suspicionTime(p, n))
}

// doubt starts the suspicion of p: two PINGs on it, which force an immediate
// acknowledgment, and on the other active paths too unless they have just proven
// themselves. If no other path seems to work, those that had failed are asked again.
// From now on new work goes elsewhere.
func (c *Conn) doubt(now instant, p *pathState) {
	sent, n, _ := p.loss.oldestUnackedAckEliciting()
	t := c.suspicionTime(p, n)
	p.doubted, p.doubtedAt, p.doubtSince = true, now, sent
	p.probePings = 2
	for _, q := range c.paths {
		if q != p && q.phase == pathActive && !q.doubted && now.sub(q.lastAcked) > t {
			q.probePings = 2
		}
	}
	if c.otherPathAnswers(p) {
		return
	}
	for _, q := range c.paths { // those that were given up may be back
		switch {
		case q.phase == pathSuspect:
			q.probePings = 2
		case q.phase == pathDead && !q.linkDown:
			q.deadProbes, q.nextProbe = 0, now
		}
	}
}

// pathAcked notes that a packet of p, sent at sentTime, was acknowledged.
// onPath says that the acknowledgment came over p itself.
func (c *Conn) pathAcked(now instant, p *pathState, sentTime instant, onPath bool) {
	p.lastAcked = now
	if p.phase == pathDead && (p.linkDown || sentTime <= p.since && !onPath) {
		return // sent before the path died, and told elsewhere: says nothing about now
	}
	if p.doubted && sentTime >= p.doubtSince {
		p.doubted = false
	}
	// What was on its way already when sending failed does not say that it works again.
	if p.phase == pathSuspect && sentTime >= p.doubtSince || p.phase == pathDead {
		dead := p.phase == pathDead
		c.setPhase(now, p, evAcked, "answers again")
		p.doubted, p.deadProbes, p.nextProbe = false, 0, 0
		if dead {
			p.loss.resumeCarefully(now)
		}
	}
	// A packet sent later on this path was acknowledged before those of a doubted one.
	for _, q := range c.paths {
		if q != p && q.doubted && q.phase == pathActive && sentTime > q.doubtSince {
			c.setPhase(now, q, evSuspicion, "no acknowledgments while other paths answer")
			q.suspectAt = now
			c.resendElsewhere(q)
		}
	}
}

// resendElsewhere makes the stream data and control frames in flight on p due
// again; the originals stay in flight, and a late acknowledgment still counts.
func (c *Conn) resendElsewhere(p *pathState) {
	p.loss.forEachInFlight(func(recs []frameRecord) {
		for _, r := range recs {
			if r.kind != recordMTUProbe { // bound to its path
				c.handleFate(appSpace, p, r, fateLost)
			}
		}
	})
}

// aliveDeadline is the next time that checkAlive has something to do for p.
func (c *Conn) aliveDeadline(p *pathState) instant {
	switch p.phase {
	case pathActive, pathSuspect:
		d := c.suspicionDeadline(p)
		if p.phase == pathSuspect {
			d = earliest(d, c.deathTime(p))
		}
		return earliest(d, c.keepAliveTime(p))
	case pathDead:
		return p.nextProbe
	}
	return 0
}

// deathTime is when a suspect path counts as dead. Nothing new goes there meanwhile,
// so it may take its time: wireless links stall for 100 ms and more without a loss,
// and death costs the window.
func (c *Conn) deathTime(p *pathState) instant {
	_, n, _ := p.loss.oldestUnackedAckEliciting()
	return p.doubtedAt.add(max(c.suspicionTime(p, n), minSuspect))
}

// keepAliveTime is when a PING is due on an active path because it was silent.
func (c *Conn) keepAliveTime(p *pathState) instant {
	if p.phase != pathActive || p.probePings > 0 || p.doubted || !c.confirmed {
		return 0
	}
	every := c.keepAlive
	if len(c.paths) > 1 && (c.carriesDatagrams(c.turnTime) || c.isClient && c.receivesStreams(c.turnTime)) {
		every = idleProbe
	}
	if every == 0 {
		return 0
	}
	if _, _, ok := p.loss.oldestUnackedAckEliciting(); ok && c.suspicionDeadline(p) == 0 {
		return 0 // its PTO asks, which a PING would put off, for ever if that is longer
	}
	return max(p.lastSent, p.since).add(every)
}

// carriesDatagrams says that some were sent or received lately.
func (c *Conn) carriesDatagrams(now instant) bool {
	return c.lastDatagram != 0 && now.sub(c.lastDatagram) < recentTraffic
}

// receivesStreams says that stream data came lately. A client that only receives would not
// notice that its address has changed, and the peer cannot reach it before it has sent.
func (c *Conn) receivesStreams(now instant) bool {
	return c.lastStream != 0 && now.sub(c.lastStream) < recentTraffic
}

// checkAlive runs the liveness timers of p.
func (c *Conn) checkAlive(now instant, p *pathState) {
	switch p.phase {
	case pathActive, pathSuspect:
		if d := c.suspicionDeadline(p); d != 0 && now >= d {
			c.doubt(now, p)
		}
		if p.phase == pathSuspect && now >= c.deathTime(p) {
			c.pathDied(now, p, evProbeTimeout, "silent for "+now.sub(max(p.lastAcked, p.doubtSince)).Round(time.Millisecond).String())
			return
		}
		if d := c.keepAliveTime(p); d != 0 && now >= d {
			p.probePings = 1
		}
	case pathDead:
		if p.nextProbe != 0 && now >= p.nextProbe {
			c.probeDead(now, p)
		}
	}
}

// pathDied gives up what was in flight on p without a congestion signal, an
// exception to R9002-7.6.2-3 that docs/conformance.md explains, and starts probing.
func (c *Conn) pathDied(now instant, p *pathState, e pathEvent, why string) {
	if old := p.phase; nextPhase(old, e) != pathDead || old == pathDead {
		return
	}
	c.setPhase(now, p, e, why)
	p.stats.timesDead++
	p.doubted, p.probePings = false, 0
	p.loss.ecn.pause()
	p.mtu.interrupted()
	c.fatePath = p
	p.loss.discardAllInFlight(c.fateFunc)
	p.deadProbes, p.nextProbe = 0, now.add(deadProbeMin)
}

// probeDead sends a PING on a dead path and sets the time of the next one.
func (c *Conn) probeDead(now instant, p *pathState) {
	if !c.isClient && p.deadProbes >= serverDeadProbes {
		p.nextProbe = 0
		return
	}
	c.fatePath = p
	p.loss.discardAllInFlight(c.fateFunc)
	p.probePings = 1
	p.deadProbes++
	longest := deadProbeMax
	if c.carriesDatagrams(now) {
		longest = idleProbe
	}
	p.nextProbe = now.add(min(longest, deadProbeMin<<min(p.deadProbes, 5)))
}

// pathHeard notes a packet received on p. On a path that is dead or in doubt it asks
// whether packets get through in the other direction too.
func (c *Conn) pathHeard(now instant, p *pathState) {
	p.lastRecv = now
	if p.probePings > 0 || now.sub(p.lastSent) < deadProbeMin {
		return
	}
	switch {
	case p.phase == pathDead && !p.linkDown:
		p.probePings = 1
		p.deadProbes = 0
		p.nextProbe = now.add(deadProbeMin)
	case p.doubted:
		p.probePings = 1
	}
}

// usedWhileDead notes that the peer has sent content, not only probes, on p, from where no
// answer reaches it. Where it goes on with that although it knows that it should not, p is
// abandoned, if there is an id for another one in its place and a path that it can use.
func (c *Conn) usedWhileDead(now instant, p *pathState) {
	s := p.ids
	told := s.ourBackup && s.ourStatus.isReceived() && now.sub(s.ourStatusAt) >= useAfterBackup
	if !told || !c.pathIDsRemain() || !slices.ContainsFunc(c.paths, func(q *pathState) bool {
		// If it has asked us to leave q alone, it may have nothing else.
		return q != p && q.phase == pathActive && !q.doubted && !q.ids.peerBackup
	}) {
		return
	}
	c.wishAgain(now, p)
	c.abandonPath(now, s, c.cp.PathUnstableOrPoor, "the peer uses it although it is dead")
}

// ptoCap bounds the PTO of the paths while there are several, or the only one is to be kept
// alive; 0 if nothing does. A client asks those of several that are in doubt as often as
// dead ones, for it may be that none answers, and the peer waits for the first to be back.
func (c *Conn) ptoCap(now instant) time.Duration {
	n := 0
	for _, p := range c.paths {
		if p.phase != pathProbing && p.phase < pathAbandoning {
			n++
		}
	}
	switch {
	case !c.confirmed || n < 2 && c.keepAlive == 0:
		return 0
	case !c.isClient || n < 2:
		return maxPTO
	case c.carriesDatagrams(now):
		return idleProbe
	}
	return deadProbeMax
}
