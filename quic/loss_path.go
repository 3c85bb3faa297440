// SPDX-License-Identifier: Apache-2.0

package quic

import "github.com/mqvpn/mqvpn/quic/internal/congestion"

// What the life of a path does to its loss recovery: suspicion, death and return,
// and a new address.

// oldestUnackedAckEliciting returns when the oldest ack-eliciting 1-RTT packet
// that is neither acknowledged nor lost was sent, and how many there are.
func (l *lossState) oldestUnackedAckEliciting() (sent instant, count int, ok bool) {
	s := l.spaces[appSpace]
	p := s.oldestEliciting()
	if p == nil {
		return 0, 0, false
	}
	return p.time, s.outstanding, true
}

// forEachInFlight calls f with the records of each 1-RTT packet that is neither
// acknowledged nor lost, in one or two parts, so that their content can be sent
// elsewhere. The packets stay in flight. f must not send packets.
func (l *lossState) forEachInFlight(f func(recs []frameRecord)) {
	s := l.spaces[appSpace]
	for pn := max(s.scan, s.sent.first); pn < s.next; pn++ {
		p := s.sent.at(pn)
		if p.resolved() {
			continue
		}
		head, tail := s.sent.recordsOf(p)
		if len(head) > 0 {
			f(head)
		}
		if len(tail) > 0 {
			f(tail)
		}
	}
}

// discardAllInFlight reports all packets in flight as lost because the path is dead
// or abandoned, or because a Retry made them void. That is no congestion signal,
// and losses until now do not add up to persistent congestion with later ones.
func (l *lossState) discardAllInFlight(out fateFunc) {
	for id, s := range l.spaces {
		if s != nil {
			l.discard(spaceID(id), s.scan, s.next-1, out)
			s.scan, s.lossTime, s.ptoProbes = s.next, 0, 0
		}
	}
	l.rate.limited(l.inFlight) // what follows are probes
	l.closePersistentPeriod(l.lastSent)
}

// discardSent reports the 1-RTT packets from first to last as lost without a
// congestion signal, because they never left this host.
func (l *lossState) discardSent(first, last packetNumber, out fateFunc) {
	l.discard(appSpace, first, last, out)
}

func (l *lossState) discard(sp spaceID, first, last packetNumber, out fateFunc) {
	s := l.spaces[sp]
	for pn := max(first, s.sent.first); pn <= last; pn++ {
		if p := s.sent.at(pn); !p.resolved() {
			p.flags |= sentDiscarded
			if l.log != nil {
				l.log.lost(sp, pn, p.flags, "")
			}
			l.losePacket(sp, s, p, out)
		}
	}
	l.timerStale = true
}

// resetForNewAddress restarts congestion control and RTT estimation for another
// network path. Packets in flight stay acknowledgeable but no longer count. R9000-9.4-1 R9000-9.4-2
func (l *lossState) resetForNewAddress() {
	s := l.spaces[appSpace]
	for pn := s.sent.first; pn < s.next; pn++ {
		s.sent.at(pn).flags &^= packetInFlight | sentECT
	}
	l.inFlight = 0
	l.ecn.restart()
	l.ownSince = s.next
	l.ptoCount = 0
	l.closePersistentPeriod(l.lastSent)
	l.restart()
}

// resumeCarefully continues on a path that was dead. After a short silence the
// controller goes on carefully; after a long one congestion control restarts. The
// losses of packets sent until now are no congestion signal.
func (l *lossState) resumeCarefully(now instant) {
	s := l.spaces[appSpace]
	for pn := max(s.scan, s.sent.first); pn < s.next; pn++ {
		if p := s.sent.at(pn); !p.resolved() {
			p.flags |= sentDiscarded
		}
	}
	if l.silence <= resumeWithin {
		l.cc.Resume(now.since())
	} else {
		l.cc = l.newController(l.maxDatagram)
	}
	l.rate.limited(l.inFlight) // until a flight of now is acknowledged nothing new is known
	l.closePersistentPeriod(l.lastSent)
	l.pacer = congestion.NewPacer(l.cc.SendQuantum())
	l.updatePacing(now)
}
