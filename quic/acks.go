// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

const (
	// maxAckDelay is the max_ack_delay that we announce.
	maxAckDelay = 5 * time.Millisecond
	// ackAfter is how many ack-eliciting packets make an acknowledgment due at the start of a
	// path, when its sender needs each to grow. R9000-13.2.2-1
	ackAfter = 2
	// Later on, when that is over after ackStart packets, acknowledgments are collected for
	// 1/ackSpread of a round trip, but not for more than ackSeldom packets: each costs two
	// system calls and a wake-up, a tenth of what a full tunnel costs both ends. RFC 9000
	// section 13.2.2 leaves that to those who know the sender's congestion control.
	ackStart  = 128
	ackSpread = 16
	ackSeldom = 32
	// maxAckRanges bounds what is remembered. Older ranges are dropped, and packets
	// below those left then count as duplicates.
	maxAckRanges = 64
	// usualAckRanges have room from the beginning: numbers that the peer leaves out make
	// one every now and then.
	usualAckRanges = 16
	// maxFrameRanges bounds the ranges of one ACK frame.
	maxFrameRanges = 32
)

// ackState is the receive side of a packet number space: which packets came, and
// when the peer must be told. Owned by the token holder.
type ackState struct {
	immediate bool // acknowledge at once: Initial and Handshake. R9000-13.2.1-1

	ranges      []wire.Range // ascending, disjoint, not adjacent
	floor       packetNumber // packets below may have been received: too old to tell
	confirmed   packetNumber // the peer knows of all ranges up to here
	news        packetNumber // ACK frames of ours with no larger packet number may lack a late packet
	largestTime instant      // when the largest packet came
	largestEl   packetNumber // largest ack-eliciting packet

	unacked int     // ack-eliciting packets since the last acknowledgment
	urgent  bool    // one of them shall be acknowledged at once
	first   instant // when the first of them came
	count   int     // ack-eliciting packets, up to ackStart
	srtt    time.Duration

	ecn wire.ECNCounts
}

func (a *ackState) init(immediate bool) {
	*a = ackState{immediate: immediate, confirmed: noPacket, news: noPacket, largestEl: noPacket}
}

// largest is the largest packet number received, noPacket for none.
func (a *ackState) largest() packetNumber {
	if len(a.ranges) == 0 {
		return noPacket
	}
	return packetNumber(a.ranges[len(a.ranges)-1].Hi)
}

// isDuplicate reports whether pn was received, or is too old to know. R9000-12.3-4
func (a *ackState) isDuplicate(pn packetNumber) bool {
	if pn < a.floor {
		return true
	}
	for i := len(a.ranges) - 1; i >= 0; i-- {
		r := a.ranges[i]
		if uint64(pn) > r.Hi {
			return false
		}
		if uint64(pn) >= r.Lo {
			return true
		}
	}
	return false
}

// received notes a packet whose frames were processed (R9000-13.1-1), and reports
// whether it had been received before, which changes nothing.
func (a *ackState) received(now instant, pn packetNumber, ackEliciting bool, ecn udpio.ECN) (duplicate bool) {
	if a.isDuplicate(pn) {
		return true
	}
	// R9000-13.4.1-1
	switch ecn {
	case udpio.ECT0:
		a.ecn.ECT0++
	case udpio.ECT1:
		a.ecn.ECT1++
	case udpio.CE:
		a.ecn.CE++
	}
	if pn > a.largest() {
		a.largestTime = now
	} else if pn <= a.confirmed {
		a.confirmed, a.news = pn-1, a.largest()
	}
	if a.ranges == nil {
		a.ranges = make([]wire.Range, 0, usualAckRanges)
	}
	run := a.insert(uint64(pn))
	if !ackEliciting {
		return false
	}
	if a.unacked == 0 {
		a.first = now
	}
	a.unacked++
	if a.count < ackStart {
		a.count++
	}
	// R9000-13.2.1-5: it came after a later ack-eliciting packet, or packets are
	// missing since the last one.
	reordered := pn < a.largestEl || run > a.largestEl+1
	a.urgent = a.urgent || a.immediate || reordered || ecn == udpio.CE // R9000-13.2.1-6
	a.largestEl = max(a.largestEl, pn)
	return false
}

// insert adds n, which is not in the ranges, and returns the start of its range.
func (a *ackState) insert(n uint64) packetNumber {
	i := len(a.ranges) // the ranges from i on are above pn
	for i > 0 && a.ranges[i-1].Lo > n {
		i--
	}
	joinsBelow := i > 0 && a.ranges[i-1].Hi+1 == n
	joinsAbove := i < len(a.ranges) && a.ranges[i].Lo == n+1
	switch {
	case joinsBelow && joinsAbove:
		a.ranges[i-1].Hi = a.ranges[i].Hi
		a.ranges = append(a.ranges[:i], a.ranges[i+1:]...)
		return packetNumber(a.ranges[i-1].Lo)
	case joinsBelow:
		a.ranges[i-1].Hi = n
		return packetNumber(a.ranges[i-1].Lo)
	case joinsAbove:
		a.ranges[i].Lo = n
		return packetNumber(n)
	default:
		a.ranges = append(a.ranges, wire.Range{})
		copy(a.ranges[i+1:], a.ranges[i:])
		a.ranges[i] = wire.Range{Lo: n, Hi: n}
		if len(a.ranges) > maxAckRanges {
			a.floor = packetNumber(a.ranges[0].Hi) + 1
			a.ranges = append(a.ranges[:0], a.ranges[1:]...)
		}
		return packetNumber(n)
	}
}

// due reports whether an acknowledgment must be sent now. Packets that are not
// ack-eliciting never make one due. R9000-13.2.1-3 R9000-13.2.1-4
func (a *ackState) due(now instant) bool {
	return a.unacked > 0 && (a.urgent || now >= a.deadline())
}

// pending reports whether an acknowledgment would tell of an ack-eliciting packet:
// one may ride along with other frames before it is due.
func (a *ackState) pending() bool { return a.unacked > 0 }

// deadline is when an acknowledgment becomes due, unset for never. What is due at once is
// reported by due alone.
func (a *ackState) deadline() instant {
	switch {
	case a.unacked == 0:
		return 0
	case a.unacked < ackAfter: // R9000-13.2.1-2
		return a.first.add(maxAckDelay)
	case a.count < ackStart || a.unacked >= ackSeldom:
		return a.first
	default:
		return a.first.add(min(a.srtt/ackSpread, maxAckDelay))
	}
}

// frameRanges returns the ranges for an ACK frame, ascending: the newest
// maxFrameRanges, without those the peer is known to know. The largest packet
// number is always there (R9000-13.2.3-1). Valid until the next packet is received;
// empty if there was none.
func (a *ackState) frameRanges() []wire.Range {
	i := max(0, len(a.ranges)-maxFrameRanges)
	for i < len(a.ranges)-1 && packetNumber(a.ranges[i].Hi) <= a.confirmed {
		i++
	}
	return a.ranges[i:]
}

// ecnCounts returns the counts for the ACK frame, nil if no packet was marked.
func (a *ackState) ecnCounts() *wire.ECNCounts {
	if a.ecn == (wire.ECNCounts{}) {
		return nil
	}
	return &a.ecn
}

// delay is the ACK Delay of an ACK frame sent now.
func (a *ackState) delay(now instant) time.Duration {
	return max(0, now.sub(a.largestTime)) // the reader's clock may be ahead of the turn's
}

// sent notes that an acknowledgment with frameRanges has been sent.
func (a *ackState) sent() { a.unacked, a.urgent = 0, false }

// ackAcked notes that the peer has got an ACK frame of ours whose largest packet
// number was pn: ranges up to it need not be repeated. Older ranges that had no room
// in that frame are given up with them, as the peer has given up their packets.
func (a *ackState) ackAcked(pn packetNumber) {
	if pn > a.news {
		a.confirmed = max(a.confirmed, min(pn, a.largest()))
	}
}
