// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// ackedPackets sums up what one ACK frame newly acknowledged.
type ackedPackets struct {
	packets   int
	eliciting bool
	largest   packetNumber
	sent      instant // when largest was sent

	ect    int        // packets sent with ECT(0)
	ectOld int        // of these, sent before the last signal of congestion
	bytes  int        // no longer in flight
	counts int        // packets that were in flight
	newest sentPacket // of those sent to the present address, in flight, the one sent last
}

// handleAck takes an ACK or PATH_ACK frame for space sp. ackDelay is its decoded
// delay. onPath says that it arrived on this path: others are no RTT samples, since
// the way back is another one. It reports whether an ack-eliciting packet was newly
// acknowledged; the error is a *TransportError.
func (l *lossState) handleAck(now instant, sp spaceID, f *wire.Frame, ackDelay time.Duration, onPath bool, out fateFunc) (eliciting bool, err error) {
	s := l.spaces[sp]
	if s == nil {
		return false, nil
	}
	if f.LargestAcked >= uint64(s.next) { // R9000-13.1-2
		return false, &TransportError{Code: ProtocolViolation, FrameType: f.WireType,
			Reason: "acknowledgment of a packet that was not sent"}
	}
	acked := ackedPackets{largest: noPacket}
	ranges := f.Ranges
	for {
		lo, hi, ok := ranges.Next()
		if ok && s.skipped >= packetNumber(lo) && s.skipped <= packetNumber(hi) { // R9000-13.1-2
			return false, &TransportError{Code: ProtocolViolation, FrameType: f.WireType,
				Reason: "acknowledgment of a packet number that was left out"}
		}
		if !ok || packetNumber(hi) < s.sent.first {
			break
		}
		l.ackRange(now, sp, s, max(packetNumber(lo), s.sent.first), packetNumber(hi), &acked, out)
	}
	largest := packetNumber(f.LargestAcked)
	if acked.packets == 0 && largest <= s.largestAcked {
		return false, nil
	}
	raised := largest > s.largestAcked
	s.largestAcked = max(s.largestAcked, largest)
	if sp == handshakeSpace {
		l.peerValidated = true
	}
	// R9002-5.1-1 R9002-5.1-2 R9000-9.4-2
	sampled := false
	if acked.largest == largest && acked.eliciting && (sp != appSpace || largest >= l.ownSince) {
		sampled = l.sampleRTT(now, sp, acked.sent, ackDelay, onPath)
	}
	var rate float64
	if acked.newest.size > 0 {
		rate = l.rate.acked(now, &acked.newest, &l.rtt)
	}
	lost := l.detectLost(now, sp, s, out)
	l.updateLossFraction(acked.counts, lost)
	if raised {
		ce := l.ecn.validate(s, f, acked.ect)
		// The older packets are taken for those with the marks: one signal tells of a queue,
		// and what was sent into it says the same again.
		if ce > uint64(acked.ectOld) {
			l.congestionMarked(now, &acked)
		}
	}
	l.ecn.judge(l.confirmed)
	if acked.bytes > 0 {
		a := congestion.Ack{
			Now:        now.since(),
			Bytes:      acked.bytes,
			SentTime:   acked.newest.time.since(),
			InFlight:   l.inFlight,
			AppLimited: l.appLimited && l.windowUsed < acked.newest.time,
			SRTT:       l.rtt.smoothed,
			MinRTT:     l.rtt.min,

			Delivered:      l.rate.delivered,
			PriorDelivered: acked.newest.delivered,
			DeliveryRate:   rate,
			RateLimited:    acked.newest.flags&sentAppLimited != 0,
			TxInFlight:     int(acked.newest.inFlight),
			LostSince:      int(l.rate.lost - acked.newest.lost),
		}
		if sampled {
			a.LatestRTT = l.rtt.latest
		}
		l.cc.Acked(a)
	}
	if acked.eliciting {
		l.silence, l.lastAcked = now.sub(l.lastAcked), now
		s.ptoProbes = 0
	}
	if l.peerValidated { // R9002-6.2.1-8
		l.ptoCount = 0
	}
	l.updatePacing(now)
	l.timerBase, l.timerStale = now, true // R9002-6.2.1-7
	l.trim(now, s)
	return acked.eliciting, nil
}

// ackRange acknowledges the packets lo to hi, which are held.
func (l *lossState) ackRange(now instant, sp spaceID, s *space, lo, hi packetNumber, acked *ackedPackets, out fateFunc) {
	pn := hi
	for pn >= lo {
		p := s.sent.at(pn)
		if p.flags&sentAcked == 0 {
			l.ackPacket(now, sp, s, pn, p, acked, out)
		}
		pn -= 1 + packetNumber(p.ackedBelow)
	}
	s.sent.at(hi).ackedBelow = uint32(hi - pn - 1)
}

func (l *lossState) ackPacket(now instant, sp spaceID, s *space, pn packetNumber, p *sentPacket, acked *ackedPackets, out fateFunc) {
	wasLost := p.flags&sentLost != 0
	p.flags |= sentAcked
	if size := int(p.size); size > minInitialSize {
		l.largeArrived = max(l.largeArrived, size)
		if size >= l.largeMin {
			l.largeLost = 0
		}
	}
	acked.packets++
	if p.flags&sentECT != 0 {
		acked.ect++
		if p.time <= max(l.episodeStart, l.markedAt) {
			acked.ectOld++
		}
	}
	if p.marked() {
		l.ecn.packetAcked(wasLost)
	}
	if pn > acked.largest {
		acked.largest, acked.sent = pn, p.time
	}
	if p.flags&sentAckEliciting != 0 {
		acked.eliciting = true
		l.lastAckedSent = max(l.lastAckedSent, p.time)
		if !wasLost {
			s.outstanding--
		}
	}
	if p.flags&packetInFlight != 0 {
		l.rate.delivered += uint64(p.size)
		switch {
		case !wasLost:
			l.inFlight -= int(p.size)
			acked.bytes += int(p.size)
			acked.counts++
			if p.time >= acked.newest.time {
				acked.newest = *p
			}
		case p.flags&sentNoSignal == 0:
			l.spuriousLoss(now, p)
		}
	}
	l.report(sp, s, p, fateAcked, out)
}

func (l *lossState) report(sp spaceID, s *space, p *sentPacket, f fate, out fateFunc) {
	head, tail := s.sent.recordsOf(p)
	for _, r := range head {
		out(sp, r, f)
	}
	for _, r := range tail {
		out(sp, r, f)
	}
}

// sampleRTT takes an RTT sample, if its way back qualifies it.
func (l *lossState) sampleRTT(now instant, sp spaceID, sent instant, ackDelay time.Duration, onPath bool) bool {
	if !onPath && now.sub(max(l.rtt.lastSample, l.firstSent)) < foreignRTTAfter {
		return false
	}
	switch {
	case sp == initialSpace:
		ackDelay = 0 // not delayed on purpose
	case l.confirmed: // R9002-5.3-2 R9002-5.3-3
		ackDelay = min(ackDelay, l.maxAckDelay)
	}
	l.rtt.update(now, now.sub(sent), ackDelay)
	l.spaces[sp].acks.srtt = l.rtt.smoothed
	if l.foreignRTT == onPath {
		l.rtt.restartMin()
		l.foreignRTT = !onPath
	}
	return true
}

// detectLost declares packets of s lost that were sent enough packets or time
// before an acknowledged one, sets lossTime for the others, and returns how many
// packets were lost that count for congestion. RFC 9002 section 6.1.
func (l *lossState) detectLost(now instant, sp spaceID, s *space, out fateFunc) (packets int) {
	s.lossTime = 0
	s.scan = max(s.scan, s.sent.first)
	delay := l.rtt.lossDelay()
	// Beyond the largest acknowledged packet only the bound on memory counts.
	tooOld := s.next - maxSentPackets
	end := max(s.largestAcked+1, tooOld)
	// Up to reordered, enough packets that were sent later have arrived.
	reordered := s.largestAcked - packetThreshold
	if reordered < s.skipped && s.skipped < s.largestAcked { // one number was no packet
		reordered--
	}
	for pn := s.scan; pn < end; pn++ {
		p := s.sent.at(pn)
		if p.resolved() {
			continue
		}
		mayWait := pn > reordered && now.sub(p.time) < delay &&
			p.flags&(packetInFlight|sentAckEliciting) != 0 && pn >= tooOld
		if mayWait {
			if s.lossTime.isZero() {
				s.lossTime = p.time.add(delay)
			}
			continue
		}
		if l.log != nil {
			trigger := "time_threshold"
			if pn <= reordered {
				trigger = "reordering_threshold"
			}
			l.log.lost(sp, pn, p.flags, trigger)
		}
		l.losePacket(sp, s, p, out)
		if p.flags&packetInFlight != 0 && p.flags&sentNoSignal == 0 {
			packets++
			l.congestionLoss(now, s, pn, p)
		}
	}
	persistent := l.advanceScan(now, s)
	l.packetsLost += uint64(packets)
	if persistent { // R9002-7.6.2-3
		l.episodeLost = 0
		l.cc.PersistentCongestion(now.since())
		l.rtt.restartMin() // R9002-5.2-2
	}
	return packets
}

// congestionLoss tells the controller about packet pn, which is lost. R9002-7.4-1
func (l *lossState) congestionLoss(now instant, s *space, pn packetNumber, p *sentPacket) {
	l.rate.lost += uint32(p.size)
	if p.time > l.episodeStart {
		l.episodeStart, l.episodeFrom, l.episodeLost = now, p.time, 0
	}
	l.episodeLost++
	l.cc.Lost(congestion.Loss{
		Now:         now.since(),
		Bytes:       int(p.size),
		SentTime:    p.time.since(),
		NewRun:      !s.followsLost(pn),
		Delivered:   l.rate.delivered,
		RateLimited: p.flags&sentAppLimited != 0,
		TxInFlight:  int(p.inFlight),
		LostSince:   int(l.rate.lost - p.lost),
	})
}

// followsLost says that the packet sent before pn is known to be lost.
func (s *space) followsLost(pn packetNumber) bool {
	if pn--; pn == s.skipped {
		pn--
	}
	return pn >= s.sent.first && s.sent.at(pn).flags&sentLost != 0
}

// congestionMarked tells the controller about packets that came with CE; the newest
// one acknowledged stands for them. // R9002-7.1-1
func (l *lossState) congestionMarked(now instant, acked *ackedPackets) {
	l.markedAt = now
	l.cc.Lost(congestion.Loss{
		Now:         now.since(),
		SentTime:    acked.sent.since(),
		ECN:         true,
		Delivered:   l.rate.delivered,
		RateLimited: acked.newest.flags&sentAppLimited != 0,
		TxInFlight:  int(acked.newest.inFlight),
		LostSince:   int(l.rate.lost - acked.newest.lost),
	})
}

// spuriousLoss notes that p was declared lost, and is delivered after all.
func (l *lossState) spuriousLoss(now instant, p *sentPacket) {
	l.spuriousLosses++
	l.lossFraction = max(l.lossFraction-lossGain, 0)
	if l.episodeLost > 0 && p.time >= l.episodeFrom {
		if l.episodeLost--; l.episodeLost == 0 {
			l.cc.SpuriousLoss(now.since())
		}
	}
}

// losePacket declares an unresolved packet lost.
func (l *lossState) losePacket(sp spaceID, s *space, p *sentPacket, out fateFunc) {
	p.flags |= sentLost
	if p.size > minInitialSize && p.flags&sentNoSignal == 0 {
		if l.largeLost == 0 {
			l.largeMin, l.largeLostSince = int(p.size), p.time
		}
		l.largeLost++
		l.largeMin = min(l.largeMin, int(p.size))
	}
	if p.flags&sentAckEliciting != 0 {
		s.outstanding--
	}
	if p.flags&packetInFlight != 0 {
		l.inFlight -= int(p.size)
	}
	if p.marked() {
		l.ecn.packetLost(p.flags&sentDiscarded != 0)
	}
	l.report(sp, s, p, fateLost, out)
}

// advanceScan moves scan over the packets that are resolved, and reports whether
// the losses among them establish persistent congestion: an unbroken run of lost
// packets whose ack-eliciting ends were sent far enough apart, after the first RTT
// sample. R9002-7.6.1-1 R9002-7.6.2-1 R9002-7.6.2-2
func (l *lossState) advanceScan(now instant, s *space) (persistent bool) {
	duration := persistentPTOs * l.ptoDuration()
	for ; s.scan < s.next; s.scan++ {
		p := s.sent.at(s.scan)
		if !p.resolved() {
			break
		}
		if p.flags&sentAcked != 0 {
			s.lostSince = 0
			continue
		}
		counts := p.flags&sentAckEliciting != 0 && p.flags&sentNoSignal == 0 &&
			l.rtt.hasSample() && p.time > max(l.rtt.firstSample, l.persistentFloor)
		switch {
		case !counts:
		case s.lostSince.isZero():
			s.lostSince = p.time
		case p.time.sub(s.lostSince) > duration:
			persistent = true
		}
	}
	if persistent {
		l.closePersistentPeriod(now)
	}
	return persistent
}

// closePersistentPeriod lets only packets sent after t establish persistent congestion.
func (l *lossState) closePersistentPeriod(t instant) {
	l.persistentFloor = t
	for _, s := range l.spaces {
		if s != nil {
			s.lostSince = 0
		}
	}
}

// updateLossFraction adds acknowledged and lost packets to the moving average.
func (l *lossState) updateLossFraction(acked, lost int) {
	if n := acked + lost; n > 0 {
		weight := min(float64(n)*lossGain, 1)
		l.lossFraction += weight * (float64(lost)/float64(n) - l.lossFraction)
	}
}
