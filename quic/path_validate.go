// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Address validation (RFC 9000 section 8.2) and changes of a path's addresses
// (section 9).

// startValidation begins to validate the current address of p.
func (c *Conn) startValidation(now instant, p *pathState) {
	p.numChallenges, p.challengeTries = 0, 0
	p.challengeFull = false
	p.challengeDue = true
	// R9000-8.2.4-1: three times the larger of the PTO and the PTO of a new path.
	p.challengeEnd = now.add(3 * max(p.loss.ptoDuration(), initialPTO))
}

// initialPTO is the PTO with kInitialRtt: 333 ms + 4 * 333/2 ms (RFC 9002 section 6.2.2).
const initialPTO = 999 * time.Millisecond

// challengeTimeout is when an unanswered challenge is repeated: with back-off.
func (p *pathState) challengeTimeout() instant {
	if p.challengeSent == 0 || p.challengeEnd == 0 || p.challengeDue {
		return 0
	}
	d := 250 * time.Millisecond
	if p.loss.rtt.hasSample() {
		d = p.loss.ptoDuration()
	}
	return p.challengeSent.add(d << min(p.challengeTries-1, 4))
}

// newChallenge makes unpredictable data for a PATH_CHALLENGE and remembers it. // R9000-8.2.1-1
func (c *Conn) newChallenge(now instant, p *pathState, full bool) [8]byte {
	data := [8]byte(randomCID())
	p.challenges[p.numChallenges%len(p.challenges)] = data
	p.numChallenges++
	p.challengeDue = false
	p.challengeSent = now
	if p.challengeTries++; p.challengeTries > 1 {
		p.loss.ecn.pause()
	}
	p.challengeFull = p.challengeFull || full
	return data
}

// handlePathResponse matches the data over all paths: the response may come over
// another one (R9000-8.2.2-4).
func (c *Conn) handlePathResponse(now instant, f *wire.Frame) {
	if c.preferredAnswered(now, f.Challenge) {
		return
	}
	for _, p := range c.paths {
		if p.prevValid && p.prevCheckTries > 0 && p.prevChallenge == f.Challenge {
			// The old address answers too: someone replayed its packets from a new
			// one. The old address stays in use if the new one does not answer.
			continue
		}
		for i := range min(p.numChallenges, len(p.challenges)) {
			if p.challenges[i] != f.Challenge || p.challengeEnd == 0 {
				continue
			}
			if !p.challengeFull { // R9000-8.2.3-1
				c.validateAddress(now, p)
				c.startValidation(now, p)
				return
			}
			c.validate(now, p)
			return
		}
	}
}

// validateAddress lifts the amplification limit of p.
func (c *Conn) validateAddress(now instant, p *pathState) {
	p.validated = true
	p.loss.setAmplificationBlocked(false)
}

// validate notes that the current address of p is validated and carries 1200 bytes.
func (c *Conn) validate(now instant, p *pathState) {
	c.validateAddress(now, p)
	p.challengeEnd, p.challengeDue, p.challengeSent, p.numChallenges = 0, false, 0, 0
	p.prevValid, p.prevCheckDue = false, false
	p.lastAcked = now
	c.addressValidated(p)
	c.setPhase(now, p, evValidated, "")
	p.mtu.start(c.peerMaxUDPPayload())
	c.updateMaxDatagram()
	if p.linkDown { // said while it was on trial
		c.pathDied(now, p, evLinkDown, "link down")
		p.nextProbe = 0
	}
}

// validationTimers repeats or gives up the validation of p.
func (c *Conn) validationTimers(now instant, p *pathState) {
	if p.challengeEnd == 0 || p.phase >= pathAbandoning {
		return
	}
	if now >= p.challengeEnd {
		c.validationFailed(now, p)
		return
	}
	if t := p.challengeTimeout(); t != 0 && now >= t {
		p.challengeDue = true
	}
}

// validationFailed reverts an address change, or abandons a new path.
func (c *Conn) validationFailed(now instant, p *pathState) {
	p.challengeEnd, p.challengeDue, p.challengeSent = 0, false, 0
	switch {
	case p.prevValid: // R9000-9.3.2-1
		c.setTuple(p, p.prev)
		c.validate(now, p)
	case p.phase == pathProbing && !c.isClient && !c.heardElsewhere(p):
		// The client may have left the others for this one, and abandons it itself if it
		// does not work. The amplification limit and the idle time-out go on to apply.
		c.startValidation(now, p)
	case p.phase == pathProbing && len(c.paths) > 1: // RMP21-3.1-9
		c.wishAgain(now, p)
		c.abandonPath(now, p.ids, c.cp.PathUnstableOrPoor, "no answer to PATH_CHALLENGE")
	case !p.validated: // R9000-9.3.2-2
		c.enterDraining(now, &TransportError{Code: NoViablePath, Reason: "no address of the peer is valid"})
	}
}

// heardElsewhere says that the peer was heard later on another path than on p, and that
// this other path answers.
func (c *Conn) heardElsewhere(p *pathState) bool {
	return slices.ContainsFunc(c.paths, func(q *pathState) bool {
		return q != p && q.phase == pathActive && !q.doubted && q.lastRecv > p.lastRecv
	})
}

// retryPathAfter is how long a path that failed rests before it is tried again.
const retryPathAfter = time.Second

// setTuple moves p to another pair of addresses; what is sealed for the old one is
// dropped, as if it had been lost.
func (c *Conn) setTuple(p *pathState, t tuple) {
	if p.sock != t.sock {
		p.sockBlocked = false
	}
	if p.remote != t.remote || p.sock != t.sock {
		p.batch.reset()
	}
	p.tuple = t
}

// addressChanged handles a packet on p, with the highest number so far and not
// only probing, that came over another pair of addresses. // R9000-9-4 RMP21-3.1.2-2
func (c *Conn) addressChanged(now instant, p *pathState, t tuple, size int) {
	if t.remote == p.remote {
		// Only our own address or socket changed, as after a change of routes.
		c.setTuple(p, t)
		return
	}
	portOnly := t.remote.Addr() == p.remote.Addr()
	if p.validated {
		p.prev, p.prevValid = p.tuple, true
		p.prevCheckDue, p.prevCheckTries = true, 0 // R9000-9.3.3-1
	}
	c.setTuple(p, t) // R9000-9.3-1
	p.validated = false
	p.ampReceived, p.ampSent = size, 0
	if !portOnly { // R9000-9.4-1
		p.loss.resetForNewAddress()
		p.mtu.init(t.sock.MTU(), t.remote.Addr().Is6())
		p.loss.setMaxDatagram(p.mtu.size)
		c.updateMaxDatagram()
		c.rotateRemoteCID(p.ids)
	}
	c.setPhase(now, p, evAddressChange, "address changed")
	c.startValidation(now, p)
}
