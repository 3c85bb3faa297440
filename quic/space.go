// SPDX-License-Identifier: Apache-2.0

package quic

import "github.com/mqvpn/mqvpn/quic/internal/wire"

// A packetNumber numbers the packets of one space; noPacket stands for none.
type packetNumber int64

const noPacket packetNumber = -1

// spaceID says which of its packet number spaces a path means. Only path 0 has
// the first two.
type spaceID uint8

const (
	initialSpace spaceID = iota
	handshakeSpace
	appSpace
	numSpaces
)

func (s spaceID) String() string {
	return [...]string{"Initial", "Handshake", "1-RTT"}[s]
}

// A space is one packet number space: the send side for lossState, which is its
// only writer besides what is said below, and the receive side in acks. Owned by
// the token holder.
type space struct {
	acks ackState

	// next is the number of the next packet to be sent. lossState.packetSent and leaveOut
	// advance it: no number is used twice. R9000-12.3-1 R9000-12.3-2
	next         packetNumber
	skipped      packetNumber // the last number left out, noPacket for none
	largestAcked packetNumber // noPacket before the first acknowledgment

	// ptoProbes is how many ack-eliciting packets are owed by expired PTOs. They
	// ignore congestion window and pacing. The sender counts it down.
	ptoProbes int

	sent sentRing
	// scan is the oldest packet that loss detection still has to judge: all below
	// are acknowledged or lost.
	scan packetNumber
	// eliciting is a lower bound of the oldest unresolved ack-eliciting packet.
	eliciting packetNumber
	// outstanding counts the ack-eliciting packets neither acknowledged nor lost.
	outstanding   int
	lastEliciting instant // when the newest ack-eliciting packet was sent
	lossTime      instant // when the next packet is lost by time, unset for none
	// lostSince is when the oldest packet of an unbroken run of losses was sent,
	// unset without one. It ends in persistent congestion if it gets too long.
	lostSince instant

	ectSent uint64         // packets sent with ECT(0)
	ecn     wire.ECNCounts // newest counts of the peer
}

func (s *space) init(id spaceID) {
	*s = space{largestAcked: noPacket, skipped: noPacket}
	s.acks.init(id != appSpace)
}

// oldestEliciting returns the oldest ack-eliciting packet that is neither
// acknowledged nor lost, nil for none.
func (s *space) oldestEliciting() *sentPacket {
	s.eliciting = max(s.eliciting, s.sent.first)
	for ; s.eliciting < s.next; s.eliciting++ {
		p := s.sent.at(s.eliciting)
		if p.flags&sentAckEliciting != 0 && !p.resolved() {
			return p
		}
	}
	return nil
}
