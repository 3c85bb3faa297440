// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"maps"
	"slices"
	"testing/synctest"
)

// The peer's part in the handshake.

// flight returns packets with the CRYPTO data of a level that the peer has not sent.
func (tc *testConn) flight(typ peerPacketType) (packets []*peerPacket) {
	l := &tc.levels[typ.space()]
	for l.cryptoSent < uint64(len(l.crypto)) {
		n := min(1000, uint64(len(l.crypto))-l.cryptoSent)
		f := frCrypto(l.cryptoSent, l.crypto[l.cryptoSent:l.cryptoSent+n])
		l.cryptoSent += n
		packets = append(packets, &peerPacket{typ: typ, frames: []testFrame{f}})
	}
	return packets
}

// ackLevel returns an ACK of what came at a handshake level, and whether there is any.
func (tc *testConn) ackLevel(typ peerPacketType) (testFrame, bool) {
	l := &tc.levels[typ.space()]
	if len(l.received) == 0 || l.write == nil {
		return testFrame{}, false
	}
	return withECN(frAck(slices.Sorted(maps.Keys(l.received))...), &l.ecn), true
}

// writeHandshake sends what the peer has to send at the handshake levels.
func (tc *testConn) writeHandshake() {
	tc.t.Helper()
	for _, typ := range []peerPacketType{packetInitial, packetHandshake} {
		packets := tc.flight(typ)
		if ack, ok := tc.ackLevel(typ); ok {
			if len(packets) == 0 {
				packets = []*peerPacket{{typ: typ}}
			}
			packets[0].frames = append([]testFrame{ack}, packets[0].frames...)
		}
		for _, p := range packets {
			tc.writePackets(p)
		}
	}
}

// handshake completes the handshake and has it confirmed; then all is acknowledged
// and the transcript is empty.
func (tc *testConn) handshake() {
	tc.t.Helper()
	tc.completeHandshake()
	if tc.isClient {
		tc.write(frHandshakeDone(), tc.ackFrameOrPing())
		tc.wantDial()
	}
	tc.settle()
	if !tc.core().confirmed {
		tc.t.Fatal("handshake not confirmed")
	}
}

func (tc *testConn) ackFrameOrPing() testFrame {
	if len(tc.received[0]) == 0 {
		return frPing()
	}
	return tc.ackFrame(0)
}

// completeHandshake completes the handshake on both sides; a client under test does
// not know yet that it is confirmed.
func (tc *testConn) completeHandshake() {
	tc.t.Helper()
	for range 5 {
		tc.skip()
		if tc.conn != nil && tc.core().complete && tc.peerComplete {
			return
		}
		tc.advance(testRTT)
		tc.writeHandshake()
	}
	tc.skip()
	if tc.tlsErr != nil || tc.conn == nil || !tc.core().complete || !tc.peerComplete {
		tc.t.Fatalf("handshake did not complete: %v, %v", tc.tlsErr, tc.conn.Err())
	}
}

// wantDial checks that Dial has returned with success.
func (tc *testConn) wantDial() {
	tc.t.Helper()
	synctest.Wait()
	select {
	case err := <-tc.dialErr:
		if err != nil {
			tc.t.Fatalf("Dial: %v", err)
		}
	default:
		tc.t.Fatal("Dial has not returned")
	}
}

// settle acknowledges until nothing is sent any more.
func (tc *testConn) settle() {
	tc.t.Helper()
	for range 4 {
		tc.skip()
		tc.ack()
		tc.advance(maxAckDelay)
	}
	tc.skip()
}
