// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// nextPhase moves the peer's keys to the next phase, for good.
func (tc *testConn) nextPhase() {
	l := &tc.levels[appSpace]
	l.read, l.write = l.read.next(), l.write.next()
	tc.phase = !tc.phase
}

// ahead is a packet of the peer's next key phase.
func ahead(path uint32, frames ...testFrame) *peerPacket {
	return &peerPacket{typ: packetOneRTT, path: path, phase: true, frames: frames}
}

func TestKeyUpdateByPeer(t *testing.T) {
	withAndWithoutMultipath(t, func(t *testing.T, tc *testConn) {
		old := tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPathChallenge("too late")}})
		late := tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPathChallenge("old keys")}})
		tc.writePackets(ahead(0, frPathChallenge("new keys")))
		p := tc.wantFrame("the new keys are known", frPathResponse([]byte("new keys")))
		if !p.phase { // R9001-6.2-1: before anything acknowledges it
			t.Error("answered with old keys")
		}
		tc.nextPhase()
		tc.settle()
		tc.writeRaw(late) // R9001-6.1-3 R9001-6.3-1
		p = tc.wantFrame("a packet that was overtaken", frPathResponse([]byte("old keys")))
		if p.phase { // R9001-6.4-1
			t.Error("the key phase went on")
		}
		tc.settle()
		tc.advance(3 * tc.core().largestPTO())
		tc.writeRaw(old)
		tc.wantSilence("old keys after three PTOs", testRTT) // R9001-6.5-2
		tc.writePackets(ahead(0, frPathChallenge("thirdkey")))
		if p := tc.wantFrame("another update", frPathResponse([]byte("thirdkey"))); !p.phase {
			t.Error("answered with old keys")
		}
		if n := tc.conn.Stats().KeyUpdates; n != 2 {
			t.Errorf("%d key updates", n)
		}
	})
}

// TestForgedKeyUpdate: only a packet that decrypts changes keys.
//
// R9001-5.5-1
func TestForgedKeyUpdate(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		forged := ahead(0, frPing())
		forged.corrupt = true
		tc.writePackets(forged)
		tc.wantNoDatagram("forged")
		if tc.conn.Stats().KeyUpdates != 0 {
			t.Error("keys were updated")
		}
		tc.wantAlive("forged key update")
	})
}

// TestOldKeysAfterNewOnes is a packet with a higher number and older keys.
//
// R9001-6.4-2
func TestOldKeysAfterNewOnes(t *testing.T) {
	withAndWithoutMultipath(t, func(t *testing.T, tc *testConn) {
		tc.writePackets(ahead(0, frPing()))
		tc.skip()
		tc.write(frPing())
		tc.nextPhase()
		tc.wantClose("phases mixed", KeyUpdateError)
	})
}

// TestKeyUpdateBeforeConfirmation: a server confirms the handshake before its client
// does, and may go on to the next keys at once.
func TestKeyUpdateBeforeConfirmation(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.completeHandshake()
		tc.skip()
		tc.writePackets(ahead(0, frPathChallenge("new keys")))
		tc.ignore(tCrypto, tNewConnectionID)
		tc.wantFrame("HANDSHAKE_DONE was overtaken", frPathResponse([]byte("new keys")))
	})
}

// TestKeyUpdateByUs: when we start one, and when not.
func TestKeyUpdateByUs(t *testing.T) {
	withAndWithoutMultipath(t, func(t *testing.T, tc *testConn) {
		updates := func() int { return tc.conn.Stats().KeyUpdates }
		tc.sendDatagrams(1)
		tc.ack()
		tc.skip()
		tc.core().keyUpdateAfter = 10 // R9001-6.6-1
		tc.advance(3 * tc.core().largestPTO())
		for range 20 {
			tc.sendDatagrams(1)
		}
		if updates() != 1 {
			t.Fatalf("%d updates after more packets than the limit", updates())
		}
		ahead := false
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if ahead && !p.phase { // R9001-6.4-1
				t.Errorf("%v with old keys", p)
			}
			ahead = p.phase
		}
		tc.nextPhase()
		for range 20 {
			tc.sendDatagrams(1)
		}
		if updates() != 1 { // R9001-6.1-2
			t.Error("second update before a packet of the first one is acknowledged")
		}
		tc.ack()
		tc.skip()
		wait := 3 * tc.core().largestPTO()
		tc.advance(wait / 2)
		tc.sendDatagrams(1)
		if updates() != 1 { // R9001-6.5-1
			t.Errorf("second update %v after the acknowledgment, want three PTOs: %v", wait/2, wait)
		}
		tc.ack()
		tc.skip()
		tc.advance(3 * tc.core().largestPTO())
		tc.sendDatagrams(1)
		if updates() != 2 {
			t.Errorf("%d updates", updates())
		}
		if _, p := tc.wantType("second update", tDatagram); !p.phase {
			t.Error("old keys")
		}
	})
}

// TestNoKeyUpdateBeforeConfirmation, however many packets were sent, and 0-RTT packets
// acknowledged.
//
// R9001-6.1-1
func TestNoKeyUpdateBeforeConfirmation(t *testing.T) {
	store := sessionFor(t)
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.wantPacket("ClientHello", packetInitial)
		early := tc.wantPacket("data", packetZeroRTT)
		tc.completeHandshake()
		tc.wantDial()
		tc.core().keyUpdateAfter = 1
		tc.write(frAck(early.num))
		tc.sendDatagrams(3)
		tc.advance(time.Second)
		tc.sendDatagrams(3)
		if n := tc.conn.Stats().KeyUpdates; n != 0 {
			t.Errorf("%d updates", n)
		}
		tc.write(frHandshakeDone())
		tc.sendDatagrams(3)
		if n := tc.conn.Stats().KeyUpdates; n != 1 {
			t.Errorf("%d updates after confirmation", n)
		}
		tc.fill()
	}, ticketKeys, func(c *Config) { c.Sessions = store }, dialEarly(sendHello))
}

// TestKeyUpdateOnSeveralPaths: keys belong to the connection.
func TestKeyUpdateOnSeveralPaths(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		// RMP21-2.5-1: the slowest path decides for how long old keys are kept.
		tc.pathState(1).loss.rtt.update(tc.core().turnTime, time.Second, 0)
		// RMP21-2.5-2: a packet of the slow path that is still on its way
		late := tc.seal(&peerPacket{typ: packetOneRTT, path: 1, frames: []testFrame{frPathChallenge("old keys"), frPadding(1150)}})
		tc.writePackets(ahead(0, frPathChallenge("new keys")))
		if p := tc.wantFrame("update on path 0", frPathResponse([]byte("new keys"))); !p.phase || p.path != 0 {
			t.Errorf("%v, new keys: %v", p, p.phase)
		}
		tc.nextPhase()
		tc.advance(time.Second)
		tc.skip()
		m := udpReceived(tc, 1, late)
		tc.deliver(m)
		if p := tc.wantFrame("path 1 is late", frPathResponse([]byte("old keys"))); p.phase || p.path != 1 {
			t.Errorf("%v, one phase ahead: %v", p, p.phase)
		}
		if n := tc.conn.Stats().KeyUpdates; n != 1 {
			t.Errorf("%d key updates", n)
		}
	}, multipathUpTo(2))
}

// TestKeyUsageCountsAllPaths: the limit of a key is on the sum.
//
// RMP21-7.3-1
func TestKeyUsageCountsAllPaths(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		tc.core().keyUpdateAfter = tc.core().appKeys.sealed + 20
		tc.advance(3 * tc.core().largestPTO())
		for range 10 {
			tc.writeOn(0, frPathChallenge("01234567"))
			tc.writeOn(1, frPathChallenge("01234567"))
		}
		tc.skip()
		tc.sendDatagrams(1)
		if n := tc.conn.Stats().KeyUpdates; n != 1 {
			t.Errorf("%d key updates", n)
		}
		tc.fill()
	}, multipathUpTo(2))
}

// TestIntegrityLimit: too many packets that do not decrypt.
//
// R9001-6.6-2
func TestIntegrityLimit(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.core().appKeys.failed = integrityLimit - 1
		bad := func() *peerPacket {
			return &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}, corrupt: true}
		}
		tc.writePackets(bad())
		tc.wantAlive("at the limit")
		tc.writePackets(bad())
		tc.wantClose("beyond the limit", AEADLimitReached)
	})
}

// TestUpdateKeys: the application asks for one update, and gets it once it is permitted.
func TestUpdateKeys(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.UpdateKeys()
		for range 4 { // the first update need not wait for three PTOs
			transfer(t, client, server, 1000)
		}
		if c, s := client.Stats().KeyUpdates, server.Stats().KeyUpdates; c != 1 || s != 1 {
			t.Errorf("%d key updates at the client, %d at the server", c, s)
		}
	})
}
