// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

const inFlightPacket = sentAckEliciting | packetInFlight

func (lt *lossTest) wantExpired(why string, d time.Duration, pto bool) {
	lt.t.Helper()
	if got := lt.expired(at(d), lt.out); got != pto {
		lt.t.Errorf("%s: expired reports PTO %v, want %v", why, got, pto)
	}
}

func TestTimeThreshold(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(80 * ms)
	lt.send(0)
	lt.send(10 * ms)
	lt.ack(85*ms, r(2, 2)) // RTT 75 ms: the larger one, smoothed 79.375 ms, counts
	// R9002-6.1.2-1 R9002-6.1.2-3
	loss := lt.rtt.smoothed * 9 / 8
	lt.wantTimer("time threshold", loss)
	lt.wantExpired("before its time", loss-1, false)
	if len(lt.lost) != 0 {
		t.Error("lost before the time threshold")
	}
	lt.wantExpired("time threshold", loss, false)
	if lt.lost[1] != 1 || lt.inFlight != 0 || lt.ptoCount != 0 {
		t.Errorf("lost %v, in flight %d, %d PTOs", lt.lost, lt.inFlight, lt.ptoCount)
	}
	lt.wantNoTimer("nothing in flight")

	// The newest sample counts if it is larger.
	lt.send(time.Second)
	lt.send(time.Second)
	lt.ack(time.Second+160*ms, r(4, 4))
	if lt.lost[3] != 0 {
		t.Error("a sample above the smoothed RTT was ignored")
	}
	lt.wantTimer("after a large sample", time.Second+180*ms)
}

func TestPTO(t *testing.T) {
	lt := newLossTest(t)
	lt.setMaxAckDelay(25 * ms)
	// R9002-6.2.2-1: 333 + 4·166.5 + 25.
	lt.send(0)
	lt.wantTimer("before the first sample", 999*ms+25*ms)
	lt.ack(100*ms, r(0, 0))
	lt.wantNoTimer("nothing in flight")

	// R9002-6.2.1-1: 100 + 4·50 + 25.
	lt.send(200 * ms)
	lt.wantTimer("first PTO", 525*ms)
	// R9002-6.2.1-7
	lt.send(300 * ms)
	lt.wantTimer("restarted by another packet", 625*ms)

	lt.wantExpired("not yet", 624*ms, false)
	lt.wantExpired("first PTO", 625*ms, true)
	// R9002-6.2.4-1 R9002-6.2-1
	if n := lt.space[appSpace].ptoProbes; n != 2 {
		t.Errorf("%d probes are due, want 2", n)
	}
	if len(lt.lost) != 0 || lt.inFlight != 2*testMTU {
		t.Errorf("a PTO made %v lost", lt.lost)
	}
	// R9002-6.2.1-5: from the last packet on.
	lt.wantTimer("second PTO", 300*ms+650*ms)
	lt.send(625 * ms)
	lt.wantTimer("second PTO after a probe", 625*ms+650*ms)
	// R9002-7.5-1
	if lt.inFlight != 3*testMTU {
		t.Errorf("in flight %d with a probe, want 3 packets", lt.inFlight)
	}
	lt.wantExpired("second PTO", 1275*ms, true)
	lt.send(1275 * ms)
	lt.wantTimer("third PTO", 1275*ms+1300*ms)
	lt.ptoCap = 500 * ms
	lt.timerStale = true
	lt.wantTimer("third PTO with a cap", 1275*ms+500*ms)
	lt.ptoCap = 100 * ms
	lt.timerStale = true
	lt.wantTimer("a cap below the PTO", 1275*ms+325*ms)
	lt.ptoCap = 0

	// A late acknowledgment counts, and ends the back-off.
	if !lt.ack(1300*ms, r(1, 1)) || lt.acked[1] != 1 {
		t.Error("the acknowledgment of a packet before the PTO was ignored")
	}
	if lt.ptoCount != 0 || lt.space[appSpace].ptoProbes != 0 {
		t.Errorf("PTO count %d, %d probes due after an acknowledgment", lt.ptoCount, lt.space[appSpace].ptoProbes)
	}
}

func TestPTOWaitsForLossTimer(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.sendN(0, 2)
	lt.ack(100*ms, r(2, 2))
	lt.send(105 * ms)
	// R9002-6.2.1-6
	lt.wantTimer("time threshold of packet 1", 112500*time.Microsecond)
	lt.wantExpired("time threshold of packet 1", 112500*time.Microsecond, false)
	lt.wantTimer("PTO of packet 3", 105*ms+lt.rtt.pto())
}

func TestPTOInHandshake(t *testing.T) {
	pto := 999 * ms
	t.Run("spaces", func(t *testing.T) {
		lt := newLossTest(t, withHandshake(false))
		lt.setMaxAckDelay(25 * ms)
		lt.sendAs(0, initialSpace, inFlightPacket)
		lt.sendAs(10*ms, handshakeSpace, inFlightPacket)
		lt.sendAs(5*ms, appSpace, inFlightPacket)
		// R9002-6.2.1-3; R9002-6.2.1-1: no max_ack_delay.
		lt.wantTimer("the earlier one", pto)
		lt.wantExpired("Initial", pto, true)
		if i, h, a := lt.space[0].ptoProbes, lt.space[1].ptoProbes, lt.space[2].ptoProbes; i != 2 || h != 1 || a != 0 {
			t.Errorf("%d, %d and %d probes are due, want 2, 1 and 0", i, h, a)
		}
		lt.wantTimer("the back-off counts for all", 2*pto)
		// R9002-6.4-1 R9002-6.2.2-2
		lt.discardSpace(initialSpace)
		if lt.inFlight != 2*testMTU || lt.ptoCount != 0 {
			t.Errorf("in flight %d, PTO count %d without Initial keys", lt.inFlight, lt.ptoCount)
		}
		lt.wantTimer("Handshake", 10*ms+pto)
		lt.discardSpace(handshakeSpace)
		// R9002-6.2.1-4
		lt.wantNoTimer("1-RTT before confirmation")
		lt.setConfirmed()
		lt.wantTimer("1-RTT after confirmation", 5*ms+pto+25*ms)
		if _, err := lt.handleAck(at(0), initialSpace, ackFrame(t, r(0, 0)), 0, true, lt.out); err != nil || len(lt.acked) != 0 {
			t.Errorf("ACK in a discarded space: %v, acknowledged %v", err, lt.acked)
		}
	})
	t.Run("amplification limit", func(t *testing.T) {
		lt := newLossTest(t, withHandshake(false))
		lt.sendAs(0, initialSpace, inFlightPacket)
		lt.setAmplificationBlocked(true)
		// R9002-6.2.2.1-1
		lt.wantNoTimer("blocked by the amplification limit")
		lt.wantExpired("blocked by the amplification limit", 5*time.Second, false)
		lt.setAmplificationBlocked(false)
		lt.wantTimer("unblocked too late", pto)
		lt.wantExpired("unblocked too late", 5*time.Second, true)
	})
	t.Run("client against deadlock", func(t *testing.T) {
		lt := newLossTest(t, withHandshake(true))
		lt.sendAs(0, initialSpace, inFlightPacket)
		lt.wantExpired("Initial", pto, true)
		lt.sendAs(pto, initialSpace, inFlightPacket)
		lt.ackIn(pto+100*ms, initialSpace, 0, r(0, 1))
		// R9002-6.2.1-8
		if lt.ptoCount != 1 {
			t.Errorf("PTO count %d after an acknowledged Initial, want 1", lt.ptoCount)
		}
		// R9002-6.2.2.1-2: 100 ms + 4·50 ms, doubled.
		lt.wantTimer("nothing in flight", pto+100*ms+600*ms)
		lt.wantExpired("nothing in flight", pto+700*ms, true)
		// R9002-6.2.2.1-3
		if i, h := lt.space[0].ptoProbes, lt.space[1].ptoProbes; i != 1 || h != 0 {
			t.Errorf("%d Initial and %d Handshake probes are due, want 1 and 0", i, h)
		}
		lt.setHandshakeKeys()
		lt.wantTimer("doubled again", pto+700*ms+1200*ms)
		lt.wantExpired("doubled again", pto+1900*ms, true)
		if h := lt.space[1].ptoProbes; h != 1 {
			t.Errorf("%d Handshake probes are due, want 1", h)
		}
		lt.sendAs(4*time.Second, handshakeSpace, inFlightPacket)
		lt.ackIn(4100*ms, handshakeSpace, 0, r(0, 0))
		lt.wantNoTimer("the server knows our address")
		if lt.ptoCount != 0 {
			t.Errorf("PTO count %d after an acknowledged Handshake packet", lt.ptoCount)
		}
	})
	t.Run("client that may not know that the handshake is confirmed", func(t *testing.T) {
		lt := newLossTest(t, withHandshake(true))
		lt.setHandshakeKeys()
		lt.sendAs(0, handshakeSpace, inFlightPacket)
		lt.sendAs(0, appSpace, inFlightPacket)
		lt.wantExpired("Handshake, beside Initial", pto, true)
		if a := lt.space[appSpace].ptoProbes; a != 0 {
			t.Errorf("%d 1-RTT probes are due, want none", a)
		}
		lt.discardSpace(initialSpace)
		lt.wantExpired("Handshake", 3*pto, true)
		if h, a := lt.space[handshakeSpace].ptoProbes, lt.space[appSpace].ptoProbes; h != 2 || a != 1 {
			t.Errorf("%d Handshake and %d 1-RTT probes are due, want 2 and 1", h, a)
		}
		// The server may have acknowledged what came from the former address.
		lt.space[appSpace].ptoProbes = 0
		lt.ack(3*pto+ms, r(0, 0))
		lt.wantExpired("Handshake, nothing else in flight", lt.timer().sub(testStart), true)
		if a := lt.space[appSpace].ptoProbes; a != 1 {
			t.Errorf("%d 1-RTT probes are due with nothing in flight, want 1", a)
		}
	})
	t.Run("server has nothing to fear", func(t *testing.T) {
		lt := newLossTest(t, withHandshake(false))
		lt.wantNoTimer("nothing in flight")
	})
}

func TestAckOnlyPacketsArmNothing(t *testing.T) {
	lt := newLossTest(t)
	for i := range 1000 {
		lt.sendAs(time.Duration(i)*ms, appSpace, 0)
	}
	lt.wantNoTimer("only ACK packets")
	if lt.inFlight != 0 {
		t.Errorf("%d bytes of ACK packets in flight", lt.inFlight)
	}
	if n := lt.space[appSpace].sent.len(); n > maxIdleAcks {
		t.Errorf("%d ACK packets are remembered, want %d at most", n, maxIdleAcks)
	}
	lt.send(time.Second)
	lt.ack(1100*ms, wire.Range{Lo: 0, Hi: 1000}) // forgotten ones may be acknowledged
	if lt.inFlight != 0 || lt.acked[1000] != 1 {
		t.Error("the packet among ACK packets was not acknowledged")
	}
}
