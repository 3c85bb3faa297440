// SPDX-License-Identifier: Apache-2.0

package quic

// Control frames of the connection, sent on any path and repeated when lost.

// hasControl says that a control frame is due.
func (c *Conn) hasControl() bool {
	return c.connControlDue() || c.streams.hasControl() || c.appCrypto.hasData()
}

// connControlDue says that a frame of appendConnControl is due and may be sent: none of
// them may be in a 0-RTT packet. // RMP21-4-1
func (c *Conn) connControlDue() bool { return c.controlDue && c.zeroRTT.write == nil }

// hasStreamData says that stream data can be sent.
func (c *Conn) hasStreamData() bool { return c.streams.hasData() }

// appendControl adds the control frames that are due and fit to the packet begun on p.
func (c *Conn) appendControl(p *pathState) {
	if c.connControlDue() {
		c.controlDue = !c.appendConnControl(p)
	}
	c.streams.appendControl(&c.w)
}

// appendConnControl returns false if not all frames fitted.
func (c *Conn) appendConnControl(p *pathState) bool {
	w := &c.w
	if c.doneFrame.due() && !w.appendHandshakeDone(&c.doneFrame) {
		return false
	}
	if c.maxPathID.due() && !w.appendMaxPathID(&c.maxPathID, c.localMaxPathID) {
		return false
	}
	for _, s := range c.ids {
		if !c.appendPathControl(s, p) {
			return false
		}
	}
	if c.pathsBlocked.due() && !w.appendPathsBlocked(&c.pathsBlocked, c.pathsBlockedAt) {
		return false
	}
	return !c.newTokenFrame.due() || w.appendNewToken(&c.newTokenFrame, c.newToken)
}

// appendPathControl adds the frames that are due for path id s.
func (c *Conn) appendPathControl(s *idState, on *pathState) bool {
	w := &c.w
	if s.abandon.due() && !w.appendPathAbandon(&s.abandon, s.id, s.abandonCode) {
		return false
	}
	for i := range s.local {
		l := &s.local[i]
		if !l.state.due() {
			continue
		}
		token := c.e.resetKey.token(l.id[:]) // R9000-10.3.2-1
		var ok bool
		if c.multipath { // RMP21-3.2-2
			ok = w.appendPathNewConnectionID(&l.state, s.id, l.seq, 0, l.id[:], token)
		} else {
			ok = w.appendNewConnectionID(&l.state, l.seq, 0, l.id[:], token)
		}
		if !ok {
			return false
		}
	}
	for i := range s.retire {
		r := &s.retire[i]
		if !r.state.due() {
			continue
		}
		var ok bool
		if c.multipath {
			ok = w.appendPathRetireConnectionID(&r.state, s.id, r.seq)
		} else {
			ok = w.appendRetireConnectionID(&r.state, r.seq)
		}
		if !ok {
			return false
		}
	}
	if s.ourStatus.due() && !w.appendPathStatus(&s.ourStatus, s.id, s.ourStatusSeq, s.ourBackup) {
		return false
	}
	return !s.cidsBlocked.due() || w.appendPathCIDsBlocked(&s.cidsBlocked, s.id, s.largestRemote)
}
