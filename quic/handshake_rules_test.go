// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"testing"
	"time"
)

// patchHello changes the ClientHello of the peer. The handshake cannot end well then,
// but the server's answer can be seen.
func (tc *testConn) patchHello(old, patched []byte) {
	tc.t.Helper()
	hello := tc.levels[initialSpace].crypto
	if len(old) != len(patched) || bytes.Count(hello, old) != 1 {
		tc.t.Fatalf("%x is not once in the ClientHello", old)
	}
	copy(hello[bytes.Index(hello, old):], patched)
}

// TestOlderTLS ends the handshake.
func TestOlderTLS(t *testing.T) { // R9001-4.2-2
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.patchHello([]byte{0, 43, 0, 3, 2, 3, 4}, []byte{0, 43, 0, 3, 2, 3, 3})
		tc.writePackets(tc.flight(packetInitial)...)
		tc.wantClose("ClientHello of TLS 1.2", CryptoErrorBase+70) // protocol_version
	})
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		l := &tc.levels[initialSpace]
		i := bytes.Index(l.crypto, []byte{0, 43, 0, 2, 3, 4})
		if i < 0 {
			t.Fatal("no supported_versions in the ServerHello")
		}
		l.crypto[i+5] = 3
		tc.writePackets(tc.flight(packetInitial)...)
		for {
			f, _, ok := tc.nextFrame()
			if !ok {
				t.Fatal("no CONNECTION_CLOSE")
			}
			if f.typ == tConnectionClose {
				if code := TransportErrorCode(f.ints[0]); code < CryptoErrorBase || code > CryptoErrorBase+255 {
					t.Errorf("closed with %v", code)
				}
				return
			}
		}
	})
}

// TestFirstPacketRepeated: a client that gets no answer repeats its first packet after
// the initial PTO, not later.
func TestFirstPacketRepeated(t *testing.T) { // R9002-6.2.2-1
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.skip()
		if d := tc.waitSent(5 * time.Second); d != initialPTO {
			t.Errorf("repeated after %v, want %v", d, initialPTO)
		}
		tc.skip()
		if d := tc.waitSent(5 * time.Second); d != 2*initialPTO {
			t.Errorf("repeated again after %v, want %v", d, 2*initialPTO)
		}
	})
}

// TestUnknownCipherSuites beside one that is known do no harm.
func TestUnknownCipherSuites(t *testing.T) { // R9001-5.3-2
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		hello := tc.levels[initialSpace].crypto
		const suitesAt = sessionIDAt + 1
		if hello[suitesAt] != 0 || hello[suitesAt+1] < 4 {
			t.Fatalf("cipher suites %x", hello[suitesAt:suitesAt+10])
		}
		copy(hello[suitesAt+2:], []byte{0x5a, 0x5a}) // reserved by RFC 8701
		tc.writePackets(tc.flight(packetInitial)...)
		d := <-tc.sent
		p := &peerPacket{dgram: d, raw: d.data}
		tc.openLong(p)
		if f, ok := p.has(tCrypto); !ok || f.blobs[0][0] != 2 {
			t.Errorf("%v", p)
		}
	})
}

// TestLegacySessionID: compatibility mode of TLS is not for QUIC.
func TestLegacySessionID(t *testing.T) { // R9001-8.4-2
	for _, split := range []bool{false, true} {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			l := &tc.levels[initialSpace]
			hello := bytes.Clone(l.crypto[:sessionIDAt])
			hello = append(append(hello, 32), make([]byte, 32)...)
			hello = append(hello, l.crypto[sessionIDAt+1:]...)
			n := len(hello) - 4
			hello[1], hello[2], hello[3] = byte(n>>16), byte(n>>8), byte(n)
			l.crypto = hello
			if split {
				tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(0, hello[:sessionIDAt])}})
				tc.wantPacket("acknowledgment", packetInitial)
			}
			tc.writePackets(tc.flight(packetInitial)...)
			tc.wantClose("legacy_session_id", ProtocolViolation)
		})
	}
}

// TestPacketNumbersUsedUp: after number 2^62-1 the connection ends without a word.
func TestPacketNumbersUsedUp(t *testing.T) { // R9000-12.3-3
	const last = 1<<62 - 1
	bothSides(t, func(t *testing.T, tc *testConn) {
		p := tc.core().paths[0]
		p.space.next = last
		p.space.sent = sentRing{first: last, end: last}
		p.space.scan, p.space.eliciting = last, last
		tc.sendDatagrams(1)
		if tc.nextPacket() == nil || tc.core().paths[0].space.next != last+1 {
			t.Error("the last packet was not sent")
		}
		tc.sendDatagrams(1)
		tc.wantNoDatagram("no number is left")
		if tc.conn.Err() == nil {
			t.Error("the connection is still there")
		}
		tc.write(frPing())
		if p := tc.nextPacket(); p != nil && p.typ != packetReset {
			t.Errorf("answer %v", p)
		}
	})
}

// TestInitialMaxPathIDRange: however many paths are asked for.
func TestInitialMaxPathIDRange(t *testing.T) { // RMP21-2.1-1
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		if v, ok := tc.intParam(paramMaxPathID); !ok || v != maxPathsLimit {
			t.Errorf("initial_max_path_id %d", v)
		}
	}, multipathUpTo(2), func(c *Config) { c.InitialMaxPathID = 1 << 40 })
}

// TestIssuedConnIDsAccepted until the peer retires them, whatever was issued since.
func TestIssuedConnIDsAccepted(t *testing.T) { // R9000-5.1.2-2
	bothSides(t, func(t *testing.T, tc *testConn) {
		old := tc.destination(0)
		tc.use[0] = 1
		tc.wantAlive("the newer one")
		tc.write(frInts(tRetireConnectionID, 1))
		tc.settle()
		tc.use[0] = 2
		tc.wantAlive("the one issued instead")
		tc.use[0] = 0
		tc.wantAlive("the first one")
		tc.use[0] = 2
		tc.write(frInts(tRetireConnectionID, 0))
		tc.settle()
		tc.writePackets(&peerPacket{typ: packetOneRTT, dcid: old, frames: []testFrame{frPing()}})
		if p := tc.nextPacket(); p != nil && p.typ == packetOneRTT {
			t.Errorf("answer %v to a retired connection id", p)
		}
	})
}
