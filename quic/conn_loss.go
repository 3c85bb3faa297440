// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// handleAck processes an acknowledgment of packets that were sent on p; it came over via.
func (c *Conn) handleAck(now instant, p *pathState, sp spaceID, f *wire.Frame, via *pathState) error {
	var delay time.Duration
	if sp == appSpace {
		if c.earlyAcked(p, f) { // R9001-4.6.2-3
			return &TransportError{Code: ProtocolViolation, Reason: "acknowledgment of a rejected 0-RTT packet"}
		}
		delay = scaleAckDelay(f.AckDelay, c.peerParams.ackDelayExponent)
	}
	largestBefore := p.space.largestAcked
	c.fatePath = p
	eliciting, err := p.loss.handleAck(now, sp, f, delay, via == p, c.fateFunc)
	if err != nil {
		return err
	}
	if sp != appSpace {
		return nil
	}
	if p.space.largestAcked > largestBefore {
		c.appKeys.appAcked(now, p, p.space.largestAcked)
		if c.isClient && p.space.largestAcked >= c.zeroRTT.end { // R9001-4.1.2-2
			// The server could read a 1-RTT packet. HANDSHAKE_DONE may be on the way to an
			// address that is not ours any more.
			c.confirm(now)
		}
	}
	if eliciting {
		c.pathAcked(now, p, p.loss.lastAckedSent, via == p)
	}
	return nil
}

// scaleAckDelay decodes an ACK Delay, without overflow.
func scaleAckDelay(v, exponent uint64) time.Duration {
	const longest = uint64(time.Hour / time.Microsecond)
	if v > longest>>exponent {
		v = longest >> exponent
	}
	return time.Duration(v<<exponent) * time.Microsecond
}

// handleFate tells the owner of a frame what became of the packet that carried it,
// which was sent on p in space sp.
func (c *Conn) handleFate(sp spaceID, p *pathState, r frameRecord, f fate) {
	switch r.kind {
	case recordAck:
		if f == fateAcked {
			c.ackAcked(sp, r)
		}
	case recordCrypto:
		if s := c.cryptoOf(sp); s != nil {
			s.handleFate(r, f)
		}
	case recordMTUProbe:
		if packetNumber(r.b) == p.loss.ownSince { // not of the path before a migration
			c.mtuProbeFate(p, int(r.a), f)
		}
	case recordNewConnectionID, recordRetireConnectionID, recordPathAbandon, recordPathStatus, recordPathCIDsBlocked:
		if s := c.pathID(PathID(r.id)); s != nil {
			c.pathControlFate(s, r, f)
		}
	case recordHandshakeDone:
		c.doneFrame.handleFate(r.generation, f)
	case recordNewToken:
		c.newTokenFrame.handleFate(r.generation, f)
	case recordMaxPathID:
		c.maxPathID.handleFate(r.generation, f)
		if f == fateAcked && PathID(r.a) > c.ackedMaxPathID {
			c.ackedMaxPathID = PathID(r.a)
			c.addPathIDs()
		}
	case recordPathsBlocked:
		c.pathsBlocked.handleFate(r.generation, f)
	default:
		c.streams.handleFate(r, f)
	}
	if f == fateLost && r.kind != recordAck {
		c.controlDue = true
	}
}

// pathControlFate is handleFate for the frames of path id s.
func (c *Conn) pathControlFate(s *idState, r frameRecord, f fate) {
	switch r.kind {
	case recordNewConnectionID:
		for i := range s.local {
			if s.local[i].seq == r.a {
				s.local[i].state.handleFate(r.generation, f)
			}
		}
		c.pathsWanted = c.pathsWanted || f == fateAcked
	case recordRetireConnectionID:
		for i := range s.retire {
			if s.retire[i].seq == r.a {
				s.retire[i].state.handleFate(r.generation, f)
			}
		}
	case recordPathAbandon:
		s.abandon.handleFate(r.generation, f) // RMP21-4.2-2
	case recordPathStatus:
		told := s.ourStatus.isReceived()
		s.ourStatus.handleFate(r.generation, f) // RMP21-4.3-5
		if !told && s.ourStatus.isReceived() {
			s.ourStatusAt = c.turnTime
		}
	case recordPathCIDsBlocked:
		s.cidsBlocked.handleFate(r.generation, f)
	}
}

// ackAcked notes that the peer has our acknowledgment.
func (c *Conn) ackAcked(sp spaceID, r frameRecord) {
	pn := packetNumber(r.a)
	switch {
	case sp == initialSpace && c.initial != nil:
		c.initial.space.acks.ackAcked(pn)
	case sp == handshakeSpace && c.handshake != nil:
		c.handshake.space.acks.ackAcked(pn)
	case sp == appSpace:
		if s := c.pathID(PathID(r.id)); s != nil && s.path != nil {
			s.path.space.acks.ackAcked(pn)
		}
	}
}

// cryptoOf is the CRYPTO stream of a space, nil when it is discarded.
func (c *Conn) cryptoOf(sp spaceID) *cryptoStream {
	switch {
	case sp == initialSpace && c.initial != nil:
		return &c.initial.crypto
	case sp == handshakeSpace && c.handshake != nil:
		return &c.handshake.crypto
	case sp == appSpace:
		return &c.appCrypto
	}
	return nil
}

// mtuProbeFate raises the MTU of p, or notes a lost probe.
func (c *Conn) mtuProbeFate(p *pathState, size int, f fate) {
	if f == fateLost {
		p.mtu.lost(size)
	} else {
		p.mtu.acked(size)
	}
	p.loss.setMaxDatagram(p.mtu.size)
	c.mtuMaybeSettled(p)
	c.updateMaxDatagram()
}

// mtuMaybeSettled tells WaitMTU when path 0's probes have ended.
func (c *Conn) mtuMaybeSettled(p *pathState) {
	if p.id != 0 || !p.mtu.settled() {
		return
	}
	select {
	case <-c.mtuSettled:
	default:
		close(c.mtuSettled)
	}
}
