// SPDX-License-Identifier: Apache-2.0

package quic

// advance runs everything whose time has come.
func (c *Conn) advance(now instant) {
	if c.closing.phase != notClosing {
		c.closing.ended = c.closing.ended || now >= c.closing.until
		return
	}
	if c.handshakeTimedOut(now) {
		c.startClose(now, &HandshakeTimeoutError{})
		return
	}
	if now >= c.idleDeadline() {
		c.drop(now, &IdleTimeoutError{})
		return
	}
	c.expireKeys(now)
	c.expireEarly(now)
	if t := c.blockedTime(); t != 0 && now >= t {
		c.repeatBlocked(now)
	}
	ptoCap := c.ptoCap(now)
	for _, p := range c.paths {
		p.loss.setPTOCap(ptoCap)
		c.advancePath(now, p)
		if c.closing.phase != notClosing {
			return
		}
	}
	c.advancePathIDs(now)
	c.preferredTimer(now)
	if c.nextWish != 0 && now >= c.nextWish {
		c.nextWish, c.pathsWanted = 0, true
	}
	if c.pathsWanted {
		c.openPaths(now)
	}
}

// advancePath runs the timers of p.
func (c *Conn) advancePath(now instant, p *pathState) {
	c.validationTimers(now, p)
	if p.phase >= pathAbandoning {
		return
	}
	if c.usesLossTimer(p) {
		if pto := p.loss.expired(now, c.fateFor(p)); pto && c.confirmed {
			// What the peer lacks goes out again, on whatever path is best: RMP21-5.7-1.
			c.resendElsewhere(p)
		}
	}
	if p.mtu.phase != mtuIdle {
		c.advanceMTU(now, p)
	}
	if c.confirmed || p.phase == pathDead {
		c.checkAlive(now, p)
	}
}

// advanceMTU runs the timers of the path MTU, and notices when large packets do not
// get through any more.
func (c *Conn) advanceMTU(now instant, p *pathState) {
	l := &p.loss
	if l.largeArrived != 0 {
		p.mtu.arrived(l.largeArrived)
		l.largeArrived = 0
	}
	if l.largeLost >= blackholeLosses || l.largeLost > 1 && now.sub(l.largeLostSince) >= blackholeTime {
		l.largeLost = 0
		p.mtu.doubt()
	}
	if p.mtu.retryDue(now) {
		p.mtu.retry(interfacePayload(p.sock.MTU(), p.remote.Addr().Is6()))
	}
	c.updateMaxDatagram()
	c.mtuMaybeSettled(p)
}

// usesLossTimer: a path that is validated for the first time repeats its challenge,
// and a dead one its probes, by timers of their own.
func (c *Conn) usesLossTimer(p *pathState) bool {
	return p.phase == pathActive || p.phase == pathSuspect || !c.confirmed
}

// ackTime is when an acknowledgment becomes due. One that is due already and could
// not be sent waits for what unblocks it.
func ackTime(now instant, s *space) instant {
	if t := s.acks.deadline(); t > now {
		return t
	}
	return 0
}

// nextTimer is when advance has something to do.
func (c *Conn) nextTimer(now instant) instant {
	if c.closing.phase != notClosing {
		return c.closing.until
	}
	t := earliest(c.idleDeadline(), c.handshakeEnd)
	t = earliest(t, c.appKeys.prevUntil)
	t = earliest(t, c.zeroRTT.readUntil)
	t = earliest(t, c.blockedTime())
	t = earliest(t, c.nextWish)
	t = earliest(t, c.lastPathGone)
	for _, s := range c.ids {
		t = earliest(t, s.abandonDeadline)
		if s.abandon.isReceived() {
			t = earliest(t, s.goneAt)
		}
	}
	t = earliest(t, c.preferredTimeout())
	for _, p := range c.paths {
		t = earliest(t, ackTime(now, &p.space))
		if p.phase >= pathAbandoning {
			continue
		}
		if c.usesLossTimer(p) {
			t = earliest(t, p.loss.timer())
		}
		t = earliest(t, p.challengeEnd)
		t = earliest(t, p.challengeTimeout())
		t = earliest(t, p.mtu.raise)
		if c.confirmed || p.phase == pathDead {
			t = earliest(t, c.aliveDeadline(p))
		}
	}
	if c.initial != nil {
		t = earliest(t, ackTime(now, &c.initial.space))
	}
	if c.handshake != nil {
		t = earliest(t, ackTime(now, &c.handshake.space))
	}
	return t
}

// blockedTime is when repeatBlocked looks again: it is often enough, and rare enough
// to cost an idle connection nothing.
func (c *Conn) blockedTime() instant {
	if !c.complete {
		return 0
	}
	last := c.blockedCheck
	for _, p := range c.paths {
		last = max(last, p.lastSent)
	}
	return last.add(c.idleTimeout() / 4)
}

// repeatBlocked keeps a connection from idling out that waits for flow control
// credit with nothing in flight. // R9000-4.1-6
func (c *Conn) repeatBlocked(now instant) {
	c.blockedCheck = now
	for _, p := range c.paths {
		if _, _, ok := p.loss.oldestUnackedAckEliciting(); ok {
			return
		}
	}
	c.streams.repeatBlocked()
}
