// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/quic/sched"
)

// PathID identifies a path of a connection, the same in both directions.
type PathID = uint32

// pathPhase is the life cycle of a path. Backup is an attribute, not a phase.
type pathPhase uint8

const (
	pathProbing    pathPhase = iota // address not validated yet
	pathActive                      // validated and answering
	pathSuspect                     // others answer, this one does not
	pathDead                        // suspect, and probes were not answered; still probed
	pathAbandoning                  // PATH_ABANDON sent, the peer's not received
	pathDraining                    // both sent; late packets are still acknowledged
	pathGone                        // no state left
)

var pathPhaseNames = [...]string{"probing", "active", "suspect", "dead", "abandoning", "draining", "gone"}

func (p pathPhase) String() string { return pathPhaseNames[p] }

// pathEvent is what moves a path through its life cycle.
type pathEvent uint8

const (
	evValidated     pathEvent = iota // PATH_RESPONSE arrived, or the handshake validated it
	evAcked                          // one of its packets was acknowledged
	evSuspicion                      // a later packet on another path was acknowledged first
	evProbeTimeout                   // the probes of a suspect path were not answered
	evAbandonSent                    // we sent PATH_ABANDON
	evAbandonRecv                    // the peer sent PATH_ABANDON
	evDrained                        // three PTOs have passed
	evAddressChange                  // its 4-tuple changed and must be validated again
	evLinkDown                       // the application knows that the link is down
	numPathEvents
)

// nextPhase is the transition function of the life cycle. Events that mean nothing
// in a phase leave it unchanged.
func nextPhase(p pathPhase, e pathEvent) pathPhase {
	switch e {
	case evValidated:
		if p == pathProbing {
			return pathActive
		}
	case evAcked:
		if p == pathSuspect || p == pathDead {
			return pathActive
		}
	case evSuspicion:
		if p == pathActive {
			return pathSuspect
		}
	case evProbeTimeout, evLinkDown:
		if p == pathSuspect || p == pathActive {
			return pathDead
		}
	case evAddressChange:
		if p == pathActive || p == pathSuspect || p == pathDead {
			return pathActive
		}
	case evAbandonSent:
		if p < pathAbandoning {
			return pathAbandoning
		}
	case evAbandonRecv:
		if p <= pathAbandoning {
			return pathDraining
		}
	case evDrained:
		if p == pathDraining || p == pathAbandoning {
			return pathGone
		}
	}
	return p
}

// tuple is one pair of addresses of a path.
type tuple struct {
	sock   *endpointSocket
	remote netip.AddrPort
	local  netip.Addr // our address, from packet info; invalid: the kernel chooses
}

// pathState is one path: a packet number space, loss recovery and congestion
// state, a socket and a batch. Owned by the loop.
type pathState struct {
	id    PathID
	ids   *idState
	label string
	phase pathPhase
	since instant // of phase
	why   string  // reason for the phase, for people

	tuple
	seenLocal netip.Addr // where the last packet came to, for people
	prev      tuple      // before an address change that is not validated yet
	prevValid bool

	validated bool // the peer's address
	// Anti-amplification: what may still be sent to an unvalidated address is
	// 3*received - sent bytes.
	ampReceived, ampSent int
	limited              bool // the server: a client chose the address that it sends to

	space space
	skips numberSkips
	loss  lossState
	batch txBatch

	// Address validation.
	challenges     [2][8]byte // data of the newest challenges
	numChallenges  int
	challengeDue   bool
	challengeSent  instant // time of the newest one
	challengeEnd   instant // when validation has failed
	challengeTries int
	challengeFull  bool // a full-size datagram carried it
	prevChallenge  [8]byte
	prevCheckDue   bool
	prevCheckTries int
	response       [8]byte // PATH_RESPONSE that is due
	responseDue    bool
	responseTo     tuple
	responseRoom   int // bytes that may be sent to responseTo, unless it is the path's address

	mtu mtuState

	// Liveness; see path_alive.go.
	doubted     bool // T has passed without an acknowledgment
	doubtedAt   instant
	doubtSince  instant // when the oldest unacknowledged packet was sent
	suspectAt   instant
	deadProbes  int
	nextProbe   instant
	lastAcked   instant // last time a packet of this path was acknowledged
	heldAt      instant // last time its window or its pacer held something back
	held        bool    // in slow start then
	lastSent    instant // last ack-eliciting packet
	lastRecv    instant // last packet received
	probePings  int     // PINGs owed beyond the window
	sockBlocked bool
	linkDown    bool // LinkDown was called: nothing to be probed

	priority   sched.Priority
	sentLately recentBytes

	largestRecvNonProbing int64 // R9000-9.3-2

	keyPhaseRecv packetNumber // lowest number received in the current key phase
	keyPhaseSent packetNumber // first number sent in it

	stats pathCounters
}

type pathCounters struct {
	bytesSent, bytesReceived     uint64
	packetsSent, packetsReceived uint64
	datagramsSent                uint64
	timesDead                    uint64
	sendErrors                   uint64
}

// setPhase moves p by event e, and tells those who must know.
func (c *Conn) setPhase(now instant, p *pathState, e pathEvent, why string) {
	old, next := p.phase, nextPhase(p.phase, e)
	if next == old {
		return
	}
	p.phase, p.since, p.why = next, now, why
	if c.qlog != nil {
		c.qlog.phaseChanged(p, old)
	}
	wasUp, isUp := old == pathActive, next == pathActive
	switch {
	case isUp:
		c.scheduler.Event(time.Duration(now), p.id, sched.EventPathUp)
		if old == pathProbing {
			c.event(PathUp, p)
		} else if old == pathDead {
			c.event(PathBack, p)
		}
	case next == pathGone:
		c.scheduler.Event(time.Duration(now), p.id, sched.EventPathGone)
		c.event(PathGone, p)
	case wasUp || old == pathSuspect:
		c.scheduler.Event(time.Duration(now), p.id, sched.EventPathDown)
		if next == pathDead || next >= pathAbandoning && old < pathDead {
			c.event(PathLost, p)
		}
	}
	c.tellStatus(p)
	c.updateMaxDatagram()
}

// usable says that p may carry new work, as a last resort if it is suspect.
func (p *pathState) usable() bool {
	return (p.phase == pathActive || p.phase == pathSuspect) && p.validated && len(p.ids.remote) > 0
}

// ampAllowance is how many bytes may be sent to the current address now.
func (p *pathState) ampAllowance() int {
	if p.validated || !p.limited {
		return 1 << 30
	}
	return max(0, 3*p.ampReceived-p.ampSent) // R9000-8-1
}

// otherPathAnswers says that a path other than p is active and not in doubt.
func (c *Conn) otherPathAnswers(p *pathState) bool {
	for _, q := range c.paths {
		if q != p && q.phase == pathActive && !q.doubted {
			return true
		}
	}
	return false
}

// otherPathLives says that there is a path that carries inner traffic besides p.
func (c *Conn) otherPathLives(p *pathState) bool {
	for _, q := range c.paths {
		if q != p && q.usable() && q.priority != sched.PriorityNever {
			return true
		}
	}
	return false
}

// activePaths counts the paths that may carry new work.
func (c *Conn) activePaths() (n int) {
	for _, p := range c.paths {
		if p.phase == pathActive {
			n++
		}
	}
	return n
}
