// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var testPreferredAddr = netip.MustParseAddrPort("192.0.2.9:4433")

// preferIPv4 is an option: the server prefers testPreferredAddr.
func preferIPv4(p *testParams) {
	ip := testPreferredAddr.Addr().As4()
	v := binary.BigEndian.AppendUint16(ip[:], testPreferredAddr.Port())
	v = append(v, make([]byte, 16+2)...)
	v = append(append(v, 8), peerCID(0, 1)...)
	token := peerToken(0, 1)
	p.setBytes(paramPreferredAddress, append(v, token[:]...))
}

// answerFrom has a packet with the frames arrive from the preferred address.
func (tc *testConn) answerFrom(src netip.AddrPort, frames ...testFrame) {
	tc.t.Helper()
	tc.deliver(udpReceivedFrom(src, tc.datagram(0, &peerPacket{typ: packetOneRTT, frames: frames})))
}

// TestPreferredAddress: the client probes the server's preferred address with the
// connection id that belongs to it, and moves there once it has answered, on the same path
// id, with multipath or without. // R9000-9.6.1-1 RMP21-2.2-3
func TestPreferredAddress(t *testing.T) {
	for _, options := range [][]any{{preferIPv4}, {preferIPv4, multipathUpTo(2)}} {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.completeHandshake()
			tc.ignore(tCrypto, tNewConnectionID, tPathNewConnectionID, tPing)
			tc.wantSilence("the handshake is not confirmed", 100*time.Millisecond)
			tc.write(frHandshakeDone())
			challenge, p := tc.wantType("probe", tPathChallenge)
			if p.dgram.to != testPreferredAddr || !bytes.Equal(p.dcid, peerCID(0, 1)) || p.path != 0 || len(p.dgram.data) < minInitialSize {
				t.Errorf("%v to %v with %x, %d bytes", p, p.dgram.to, p.dcid, len(p.dgram.data))
			}
			for _, f := range p.frames { // R9000-9.6.2-1
				if f.typ != tPathChallenge && f.typ != tPadding {
					t.Errorf("%v beside the challenge", f)
				}
			}
			tc.sendDatagrams(1)
			if _, p := tc.wantType("data before the answer", tDatagram); p.dgram.to != testServerAddr || !bytes.Equal(p.dcid, peerCID(0, 0)) {
				t.Errorf("%v to %v", p, p.dgram.to) // R9000-9.6.2-1
			}
			tc.answerFrom(testPreferredAddr, frPathResponse(challenge.blobs[0]))
			tc.ignore(tPathChallenge)
			seen := map[uint64]bool{}
			tc.sendDatagrams(1)
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				for _, f := range p.frames {
					seen[f.typ] = true
				}
				if p.dgram.to != testPreferredAddr || !bytes.Equal(p.dcid, peerCID(0, 1)) || p.path != 0 { // R9000-9.6.1-3
					t.Errorf("%v to %v with %x", p, p.dgram.to, p.dcid)
				}
			}
			if !seen[tDatagram] || !seen[tRetireConnectionID] && !seen[tPathRetireConnectionID] {
				t.Errorf("sent only %v", seen)
			}
			// What is still on its way from the former address counts.
			tc.answerFrom(testServerAddr, frPathChallenge("from old"))
			tc.wantFrame("former address", frPathResponse([]byte("from old")))
			tc.answerFrom(testOtherAddr, frPathChallenge("anybody!"))
			tc.ack()
			delete(tc.ignored, tPathChallenge)
			tc.wantSilence("an address that is not the server's, and no more probes", 5*time.Second)
		}, options...)
	}
}

// TestPreferredAddressSilent: without an answer from there the client stays, and does not
// listen to that address any more. // R9000-9.6.1-2
func TestPreferredAddressSilent(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.completeHandshake()
		tc.ignore(tCrypto, tNewConnectionID, tPing)
		tc.write(frHandshakeDone())
		probes := 0
		for start := time.Now(); time.Since(start) < 10*time.Second; tc.advance(20 * time.Millisecond) {
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				if p.dgram.to == testPreferredAddr {
					probes++
				}
			}
			tc.ack()
		}
		if probes < 2 || probes > maxPreferredTries {
			t.Errorf("%d probes", probes)
		}
		tc.sendDatagrams(1)
		if _, p := tc.wantType("data", tDatagram); p.dgram.to != testServerAddr || !bytes.Equal(p.dcid, peerCID(0, 0)) {
			t.Errorf("%v to %v", p, p.dgram.to)
		}
		tc.answerFrom(testPreferredAddr, frPathChallenge("too late"))
		tc.wantSilence("an address that is not in use", testRTT)
	}, preferIPv4)
}

// TestPreferredAddressWithoutID: a server that has its connection id retired is not
// followed.
func TestPreferredAddressWithoutID(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.completeHandshake()
		tc.ignore(tCrypto, tNewConnectionID, tPing, tRetireConnectionID)
		tc.write(frNewConnectionID(2, 2, peerCID(0, 2), peerToken(0, 2)), frHandshakeDone())
		tc.wantSilence("no connection id for the preferred address", 5*time.Second)
		tc.wantAlive("without a preferred address")
	}, preferIPv4)
}
