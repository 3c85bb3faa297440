// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
	"github.com/mqvpn/mqvpn/quic/sched"
)

const (
	packetThreshold = 3 // R9002-6.1.1-1
	// persistentPTOs is kPersistentCongestionThreshold of RFC 9002.
	persistentPTOs = 3
	// maxBackoff bounds the exponent of the PTO back-off, against overflow only.
	maxBackoff = 20
	// maxSentPackets bounds what a peer that never acknowledges makes us remember:
	// older packets are lost. It is beyond the window of 5 Gbit/s at 250 ms.
	maxSentPackets = 1 << 17
	// maxIdleAcks is how many packets are remembered at the front of the ring that
	// need no acknowledgment; forgetting them costs repeated ACK ranges at most.
	maxIdleAcks = 64
	// foreignRTTAfter is for how long a path waits for acknowledgments on itself
	// before it takes RTT samples from those that came over another path.
	foreignRTTAfter = 2 * time.Second
	// lossGain is the weight of one packet in the loss fraction.
	lossGain = 1.0 / 256
	// resumeWithin is for how long the window of a path that fell silent stays
	// meaningful.
	resumeWithin = 10 * time.Second
)

// A fateFunc takes what became of a frame that was sent in a packet of space sp.
// It must not send packets.
type fateFunc func(sp spaceID, r frameRecord, f fate)

// lossConfig is what a path's lossState needs to know from the beginning.
type lossConfig struct {
	isClient    bool
	maxDatagram int // bytes of UDP payload
	// spaces are those of the path, nil for absent ones. A path with the Handshake
	// space has the handshake to do; any other one begins confirmed.
	spaces        [numSpaces]*space
	newController func(maxDatagram int) congestion.Controller
}

// A lossState is loss recovery and congestion control of one path: RFC 9002 with
// the exceptions of ptoCap and discardAllInFlight. Only its own acknowledgments
// tell it anything. Owned by the token holder.
type lossState struct {
	spaces        [numSpaces]*space // nil: absent or discarded
	newController func(maxDatagram int) congestion.Controller
	maxDatagram   int
	isClient      bool

	rtt   rttState
	cc    congestion.Controller
	pacer congestion.Pacer
	rate  deliveryRate
	ecn   ecnState

	inFlight     int     // bytes
	lossFraction float64 // of the packets of late, 0..1; exponentially weighted

	// packetsLost and spuriousLosses count packets declared lost, and those of them
	// that were acknowledged afterwards. MTU probes do not count.
	packetsLost, spuriousLosses uint64
	// An episode of losses begins with one that was sent after the former began.
	// episodeLost counts its losses that are not known to be spurious.
	episodeStart, episodeFrom instant // when; and when its first packet was sent
	episodeLost               int
	markedAt                  instant // when CE marks were the signal of congestion last

	maxAckDelay   time.Duration // the peer's
	ptoCap        time.Duration // upper bound of the PTO with back-off, 0 for none
	ptoCount      int           // consecutive time-outs without an acknowledgment
	confirmed     bool          // the handshake
	handshakeKeys bool
	// peerValidated says that the server knows our address: probes to lift its
	// amplification limit are not needed any more.
	peerValidated bool
	ampBlocked    bool

	// largeLost counts packets above 1200 bytes lost without one acknowledged that is as
	// large as the smallest of them, largeMin, MTU probes aside; the first one was sent at
	// largeLostSince. largeArrived is the size of the largest that was acknowledged since
	// somebody looked.
	largeLost, largeMin int
	largeLostSince      instant
	largeArrived        int

	log *qlogPath // nil: no log

	appLimited bool
	windowUsed instant // when the window, or pacing, was the limit last

	firstSent instant // first packet of the path, since the last address change
	lastSent  instant // newest packet
	// lastAcked is when an ack-eliciting packet was newly acknowledged last, and
	// lastAckedSent when the newest of those acknowledged so far was sent.
	lastAcked, lastAckedSent instant
	silence                  time.Duration // between the last two times lastAcked
	foreignRTT               bool          // the last RTT sample came over another path

	// ownSince is the first packet sent to the present address: R9000-9.4-2.
	ownSince packetNumber
	// persistentFloor: packets sent until then have had their say in persistent congestion.
	persistentFloor instant

	// The timer is computed when asked for. timerBase is when the state that it
	// depends on last changed.
	timerAt    instant
	timerBase  instant
	lastPTO    instant // when the PTO expired last
	timerStale bool
}

func (l *lossState) init(cfg lossConfig) {
	hasHandshake := cfg.spaces[handshakeSpace] != nil
	*l = lossState{
		spaces:        cfg.spaces,
		newController: cfg.newController,
		maxDatagram:   cfg.maxDatagram,
		isClient:      cfg.isClient,
		confirmed:     !hasHandshake,
		peerValidated: !hasHandshake || !cfg.isClient,
		appLimited:    true,
	}
	for id, s := range l.spaces {
		if s != nil {
			s.init(spaceID(id))
		}
	}
	l.restart()
}

// restart sets congestion control and estimates to their initial values.
func (l *lossState) restart() {
	l.rtt.init()
	l.cc = l.newController(l.maxDatagram)
	l.pacer = congestion.NewPacer(l.cc.SendQuantum())
	l.rate = deliveryRate{}
	l.lossFraction = 0
	l.firstSent = 0
	l.timerStale = true
}

// setMaxDatagram tells the new largest UDP payload of the path in bytes.
func (l *lossState) setMaxDatagram(n int) {
	l.maxDatagram = n
	l.cc.SetMaxDatagram(n)
}

// setMaxAckDelay tells the peer's max_ack_delay.
func (l *lossState) setMaxAckDelay(d time.Duration) { l.maxAckDelay, l.timerStale = d, true }

// setPTOCap bounds the PTO with back-off, 0: nothing does.
func (l *lossState) setPTOCap(d time.Duration) {
	if l.ptoCap != d {
		l.ptoCap, l.timerStale = d, true
	}
}

// setHandshakeKeys tells that Handshake packets can be sent.
func (l *lossState) setHandshakeKeys() { l.handshakeKeys, l.timerStale = true, true }

// setConfirmed tells that the handshake is confirmed.
func (l *lossState) setConfirmed() {
	l.confirmed, l.peerValidated, l.timerStale = true, true, true
}

// setAmplificationBlocked tells whether the anti-amplification limit forbids
// sending. When it is lifted the timer may turn out to have expired.
func (l *lossState) setAmplificationBlocked(blocked bool) {
	l.ampBlocked, l.timerStale = blocked, true
}

// sendEnd says why a path sends no more for now.
type sendEnd uint8

const (
	outOfWork  sendEnd = iota
	windowFull         // or pacing forbids more
	turnOver           // neither: a batch or the socket is full, and more is to come
)

// sendingEnded tells, after sending, why it ended. Only a full window lets the window
// grow, and only sending for lack of work makes rate samples mean little.
func (l *lossState) sendingEnded(why sendEnd) {
	limited := why != windowFull
	if limited && !l.appLimited {
		l.windowUsed = max(l.windowUsed, l.lastSent)
	}
	if why == outOfWork && l.inFlight+l.maxDatagram <= l.cc.Window() {
		l.rate.limited(l.inFlight)
	}
	l.appLimited = limited
}

// sendLimit says whether congestion control allows a packet of size bytes now, and
// if not why, and for pacing when it will. PTO probes and packets that are not in
// flight need not ask. R9002-7-1
func (l *lossState) sendLimit(now instant, size int) (sched.Reason, instant) {
	if l.inFlight+size > l.cc.Window() {
		return sched.BlockedCwnd, 0
	}
	if l.pacer.Budget(now.since()) < size {
		return sched.BlockedPacing, instant(l.pacer.NextTime(now.since(), size))
	}
	return sched.NotBlocked, 0
}

// fillView sets what a scheduler sees of the path's metrics.
func (l *lossState) fillView(now instant, v *sched.Path) {
	v.Cwnd = l.cc.Window()
	v.InFlight = l.inFlight
	v.CwndFree = max(v.Cwnd-l.inFlight, 0)
	v.PaceFree = l.pacer.Budget(now.since())
	v.SRTT, v.RTTVar, v.MinRTT = 0, 0, 0
	if l.rtt.hasSample() {
		v.SRTT, v.RTTVar, v.MinRTT = l.rtt.smoothed, l.rtt.variation, l.rtt.min
	}
	v.Rate, v.Loss, v.PTOCount = l.rate.rate(), l.lossFraction, l.ptoCount
}

// packetSent notes that packet number next of space sp was sent. Of p the caller
// sets size and flags: sentAckEliciting, packetInFlight, sentMTUProbe and sentECT.
func (l *lossState) packetSent(now instant, sp spaceID, p sentPacket, recs []frameRecord) {
	s := l.spaces[sp]
	p.time = now
	l.lastSent = now
	if l.firstSent.isZero() {
		l.firstSent = now
	}
	if p.flags&packetInFlight != 0 {
		l.rate.packetSent(now, l.inFlight, &p)
		l.inFlight += int(p.size)
		if l.inFlight+l.maxDatagram > l.cc.Window() {
			l.windowUsed = now
		}
		l.cc.PacketSent(now.since(), int(p.size), l.inFlight, p.flags&sentAppLimited != 0)
		l.pacer.Spend(now.since(), int(p.size))
	}
	if p.flags&sentAckEliciting != 0 {
		s.outstanding++
		s.lastEliciting = now
		l.timerBase, l.timerStale = now, true // R9002-6.2.1-7
	}
	if p.flags&sentECT != 0 {
		l.ecn.packetSent(s, &p)
	}
	s.sent.push(p, recs)
	s.next = s.sent.end
	if s.sent.len() > maxSentPackets && s.lossTime.isZero() {
		s.lossTime, l.timerStale = now, true
	}
	l.trim(now, s)
}

// leaveOut leaves out packet number next of the 1-RTT space. The ring has a place for it,
// which is no packet sent: it neither gets lost nor counts as one that was sent later.
func (l *lossState) leaveOut(now instant) {
	s := l.spaces[appSpace]
	s.skipped = s.next
	s.sent.push(sentPacket{time: now, flags: leftOut}, nil)
	s.next = s.sent.end
}

// trim frees the packets at the front of the ring that do not matter any more.
// Lost ones with records are kept for a while: a late acknowledgment saves
// sending the content again.
func (l *lossState) trim(now instant, s *space) {
	keep := 2 * l.ptoDuration()
	for s.sent.len() > 0 {
		p := s.sent.at(s.sent.first)
		switch {
		case p.flags&(sentAcked|leftOut) != 0:
		case p.flags&sentLost != 0:
			if p.nrec > 0 && now.sub(p.time) < keep && s.sent.len() <= maxSentPackets {
				return
			}
		case p.flags&(packetInFlight|sentAckEliciting) != 0 || s.sent.len() <= maxIdleAcks:
			return
		}
		s.sent.pop()
	}
}

// ptoDuration is the PTO without back-off, with the peer's max_ack_delay.
func (l *lossState) ptoDuration() time.Duration { return l.rtt.pto() + l.maxAckDelay }

// backoff is d doubled for each time-out in a row. R9002-6.2.1-5
func (l *lossState) backoff(d time.Duration) time.Duration {
	b := d << min(l.ptoCount, maxBackoff)
	if l.ptoCap > 0 {
		b = min(b, max(l.ptoCap, d))
	}
	return b
}

// timer is when expired wants to be called, unset for never. It may be in the past.
func (l *lossState) timer() instant {
	if l.timerStale {
		l.timerStale = false
		l.timerAt = l.lossTimer()
		if l.timerAt.isZero() { // R9002-6.2.1-6
			l.timerAt, _ = l.ptoTimer()
		}
	}
	return l.timerAt
}

// lossTimer is when the next packet is lost by time. R9002-6.1.2-3
func (l *lossState) lossTimer() (t instant) {
	for _, s := range l.spaces {
		if s != nil {
			t = earliest(t, s.lossTime)
		}
	}
	return t
}

// ptoTimer is when the next PTO expires, and in which space.
func (l *lossState) ptoTimer() (t instant, sp spaceID) {
	if l.ampBlocked { // R9002-6.2.2.1-1
		return 0, 0
	}
	for id, s := range l.spaces {
		if s == nil || s.outstanding == 0 {
			continue
		}
		d := l.rtt.pto()
		if spaceID(id) == appSpace {
			if !l.confirmed { // R9002-6.2.1-4
				continue
			}
			d += l.maxAckDelay
		}
		at := s.lastEliciting.add(l.backoff(d))
		if at <= l.lastPTO { // its probe could not be sent: a period from then
			at = l.lastPTO.add(l.backoff(d))
		}
		// R9002-6.2.1-3
		if t.isZero() || at < t {
			t, sp = at, spaceID(id)
		}
	}
	if t.isZero() && !l.peerValidated && !l.timerBase.isZero() {
		// R9002-6.2.2.1-2: the server may wait for our packets to be allowed to send.
		return l.timerBase.add(l.backoff(l.rtt.pto())), l.unblockingSpace()
	}
	return t, sp
}

// unblockingSpace is the space of the probe that lifts the server's limit. R9002-6.2.2.1-3
func (l *lossState) unblockingSpace() spaceID {
	if l.handshakeKeys || l.spaces[initialSpace] == nil {
		return handshakeSpace
	}
	return initialSpace
}

// expired does what is due at timer: it declares packets lost, or it makes probes
// due in the spaces that need them (ptoProbes), and reports whether it did that.
// It does nothing before its time.
func (l *lossState) expired(now instant, out fateFunc) (pto bool) {
	if t := l.timer(); t.isZero() || now < t {
		return false
	}
	l.timerStale = true
	if !l.lossTimer().isZero() {
		for id, s := range l.spaces {
			if s != nil && !s.lossTime.isZero() && now >= s.lossTime {
				l.detectLost(now, spaceID(id), s, out)
				l.trim(now, s)
			}
		}
		l.ecn.judge(l.confirmed)
		l.updatePacing(now)
		return false
	}
	// R9002-6.2-1: nothing is lost. R9002-6.2.4-1
	_, expiredSpace := l.ptoTimer()
	for id, s := range l.spaces {
		switch {
		case s == nil:
		case spaceID(id) == expiredSpace:
			// Two, against the loss of one; but the server needs only one to go on.
			s.ptoProbes = min(s.outstanding, 1) + 1
		case s.outstanding > 0 && (spaceID(id) != appSpace || l.confirmed):
			s.ptoProbes = max(s.ptoProbes, 1) // it may share the datagram
		case spaceID(id) == appSpace && s.next > 0 && !l.confirmed && l.isClient && l.spaces[initialSpace] == nil:
			// A server that has confirmed the handshake hears only 1-RTT packets, and has to
			// if the client's address has changed.
			s.ptoProbes = max(s.ptoProbes, 1)
		}
	}
	l.ecn.pause()
	l.ptoCount++
	l.timerBase, l.lastPTO = now, now
	return true
}

// updatePacing gives the pacer the rate that follows from window and RTT.
func (l *lossState) updatePacing(now instant) {
	if l.rtt.hasSample() {
		l.pacer.SetRate(now.since(), l.cc.PacingRate(l.rtt.smoothed), l.cc.SendQuantum())
	}
}

// discardSpace forgets a space whose keys are gone. R9002-6.4-1 R9002-6.2.2-2
func (l *lossState) discardSpace(sp spaceID) {
	s := l.spaces[sp]
	if s == nil {
		return
	}
	for pn := s.sent.first; pn < s.sent.end; pn++ {
		p := s.sent.at(pn)
		if p.flags&packetInFlight != 0 && !p.resolved() {
			l.inFlight -= int(p.size)
		}
		if p.marked() && !p.resolved() {
			l.ecn.packetLost(true)
		}
	}
	l.spaces[sp] = nil
	l.ptoCount = 0
	l.timerStale = true
}
