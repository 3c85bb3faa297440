// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// ECN of a path: RFC 9000 section 13.4, with the states of its appendix A.4. Packets
// in flight are marked ECT(0) while a path is tested and when it has proven to carry
// the mark. What is not under congestion control, acknowledgments alone and
// CONNECTION_CLOSE, is never marked, and MTU probes are not: their loss tells nothing
// about the mark.

const (
	// ecnTestPackets is how many marked packets make a test: RFC 9000 section 13.4.2.
	ecnTestPackets = 10
	// ecnTests is how many tests in a row may lose all of their packets: a lossy link
	// loses the one packet of a short test as easily as one that drops marked packets.
	ecnTests = 2
)

type ecnPhase uint8

const (
	ecnTesting ecnPhase = iota
	ecnUnknown          // marked packets are under way, or the path did not answer any
	ecnCapable
	ecnFailed // until the path has another address
)

func (p ecnPhase) String() string {
	return [...]string{"testing", "unknown", "capable", "failed"}[p]
}

// ecnState is the ECN state of a path. The counts are in its spaces.
type ecnState struct {
	phase       ecnPhase
	sent        int  // marked packets of this test
	outstanding int  // marked packets whose fate is unknown
	acked, lost int  // marked packets since the test began
	tests       int  // in a row that lost everything
	proven      bool // the path was capable, and is asked whether it still is
}

// marks says whether packets are to be marked now.
func (e *ecnState) marks() bool { return e.phase == ecnTesting || e.phase == ecnCapable }

// restart tests another network path, or one that was silent for long. Packets under
// way do not count any more.
func (e *ecnState) restart() { *e = ecnState{} }

// packetSent notes a marked packet in space s.
func (e *ecnState) packetSent(s *space, p *sentPacket) {
	s.ectSent++
	if p.flags&sentAckEliciting != 0 {
		e.outstanding++
	}
	if e.phase == ecnTesting {
		if e.sent++; e.sent == ecnTestPackets {
			e.phase = ecnUnknown
		}
	}
}

// packetAcked notes that a marked packet arrived.
func (e *ecnState) packetAcked(wasLost bool) {
	if !wasLost {
		e.outstanding--
	}
}

// packetLost notes the loss of a marked packet; discarded ones may not even have
// left this host.
func (e *ecnState) packetLost(discarded bool) {
	e.outstanding--
	if !discarded {
		e.lost++
	}
}

// pause stops marking until a marked packet is acknowledged, because the path does
// not answer: it may be that it drops marked packets, and what asks it shall not be
// one.
func (e *ecnState) pause() {
	if e.marks() {
		e.phase, e.acked, e.lost = ecnUnknown, 0, 0
	}
}

// validate takes the counts of an acknowledgment that raises the largest acknowledged
// packet number of s, and with it newly acknowledges so many marked packets. It
// returns how many CE marks are new. // R9000-13.4.2.1-1
func (e *ecnState) validate(s *space, f *wire.Frame, marked int) (ce uint64) {
	old := s.ecn
	if f.HasECN {
		s.ecn = f.ECN
	}
	if e.phase == ecnFailed {
		return 0
	}
	n := &s.ecn
	switch {
	case n.ECT0+n.CE < old.ECT0+old.CE+uint64(marked), // marks were removed, or are not reported
		n.ECT0 < old.ECT0, n.CE < old.CE,
		n.ECT0 > s.ectSent, n.ECT1 > 0: // there are marks that are not ours
		e.phase = ecnFailed // R9000-13.4.2.2-1
		return 0
	case marked > 0 && (n.ECT0 > old.ECT0 || e.proven):
		e.phase, e.proven, e.tests = ecnCapable, true, 0
	}
	e.acked += marked
	if e.phase != ecnCapable { // R9002-7.1-1
		return 0
	}
	return n.CE - old.CE
}

// judge ends a test when the fate of its packets is known. confirmed says that the
// handshake is: until then a path that drops marked packets is not given any more.
func (e *ecnState) judge(confirmed bool) {
	if e.phase != ecnUnknown || e.outstanding > 0 {
		return
	}
	if e.acked > 0 { // all with CE: a device that sets it always
		e.phase = ecnFailed
		return
	}
	if e.lost > 0 {
		e.lost = 0
		if e.tests++; e.tests == ecnTests {
			e.phase = ecnFailed
			return
		}
	}
	if confirmed {
		e.phase, e.sent = ecnTesting, 0
	}
}

// ecnMark is the ECN field of a datagram to the present address of p, and the flags
// of its packets. inFlight says that one of them counts as such. // R9484-10.2-1
func (p *pathState) ecnMark(inFlight bool, flags sentFlags) (udpio.ECN, sentFlags) {
	if inFlight && flags&sentMTUProbe == 0 && p.loss.ecn.marks() {
		return udpio.ECT0, flags | sentECT
	}
	return udpio.NotECT, flags
}
