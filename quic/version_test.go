// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// versionNegotiation encodes the packet of RFC 8999 section 6.
func versionNegotiation(first byte, dcid, scid []byte, versions ...uint32) []byte {
	b := append([]byte{first, 0, 0, 0, 0, byte(len(dcid))}, dcid...)
	b = append(append(b, byte(len(scid))), scid...)
	for _, v := range versions {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// TestVersionNegotiationReceived by a client, before and after other packets.
func TestVersionNegotiationReceived(t *testing.T) {
	const other = 0x6b3343cf                        // version 2
	t.Run("no common version", func(t *testing.T) { // R9000-6.2-1 R9000-17.2.1-2 R8999-6-1
		for _, first := range []byte{0x80, 0xff} {
			scripted(t, clientSide, func(t *testing.T, tc *testConn) {
				tc.skip()
				tc.writeRaw(versionNegotiation(first, tc.connSCID, tc.initialDCID, other, 0x1a2a3a4a))
				err, ok := (<-tc.dialErr).(*VersionNegotiationError)
				if !ok || !slices.Equal(err.Offered, []uint32{other, 0x1a2a3a4a}) {
					t.Errorf("Dial: %v", err)
				}
				tc.wantNoDatagram("the attempt has ended")
			})
		}
	})
	ignored := func(name string, packet func(tc *testConn) []byte) {
		t.Run(name, func(t *testing.T) {
			scripted(t, clientSide, func(t *testing.T, tc *testConn) {
				tc.skip()
				tc.writeRaw(packet(tc))
				tc.wantNoDatagram("Version Negotiation is not answered") // R9000-6.1-1
				tc.handshake()
			})
		})
	}
	ignored("lists our version R9000-6.2-3", func(tc *testConn) []byte {
		return versionNegotiation(0xc0, tc.connSCID, tc.initialDCID, other, 1)
	})
	ignored("without versions R8999-6-2", func(tc *testConn) []byte {
		return versionNegotiation(0xc0, tc.connSCID, tc.initialDCID)
	})
	ignored("with half a version R8999-6-2", func(tc *testConn) []byte {
		return append(versionNegotiation(0xc0, tc.connSCID, tc.initialDCID, other), 0x6b, 0x33)
	})
	ignored("for another packet", func(tc *testConn) []byte {
		return versionNegotiation(0xc0, tc.connSCID, []byte("somebody"), other)
	})
	t.Run("after another packet", func(t *testing.T) { // R9000-6.2-2
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}})
			tc.writeRaw(versionNegotiation(0xc0, tc.connSCID, tc.initialDCID, other))
			tc.handshake()
		})
	})
}

// TestVersionNegotiationSent by a server.
func TestVersionNegotiationSent(t *testing.T) {
	dcid := bytes.Repeat([]byte{0xdd}, 30)
	scid := bytes.Repeat([]byte{0x55}, 255)
	first := func(version uint32, size int) []byte {
		b := versionNegotiation(0xc3, dcid, scid)
		binary.BigEndian.PutUint32(b[1:], version)
		return append(b, make([]byte, size-len(b))...)
	}
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.writeRaw(first(0x0a1a2a3a, 1200))
		p := tc.wantPacket("unknown version", packetVersionNegotiation) // R9000-5.2.2-1
		// R9000-17.2.1-1 R8999-6-3 R9000-17.2-4
		if !bytes.Equal(p.dcid, scid) || !bytes.Equal(p.scid, dcid) || p.version != 0 {
			t.Errorf("Version Negotiation to %x from %x", p.dcid, p.scid)
		}
		// One of them is reserved: RFC 9000 section 6.3.
		if len(p.versions) != 2 || p.versions[0] != 1 || p.versions[1]&0x0f0f0f0f != 0x0a0a0a0a {
			t.Errorf("versions %x", p.versions)
		}
		tc.wantNoDatagram("one packet") // R9000-17.2.1-3

		tc.writeRaw(first(0x0a1a2a3a, 1199))
		tc.wantNoDatagram("too small for an Initial packet") // R9000-5.2.2-2
		tc.writeRaw(first(0, 1200))
		tc.wantNoDatagram("Version Negotiation") // R9000-6.1-1
		tc.writeRaw(first(1, 1200))
		tc.wantNoDatagram("version 1 with such connection ids") // R9000-17.2-2
		if n := len(tc.e.conns); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// retry encodes the packet of RFC 9000 section 17.2.5 with its tag, of RFC 9001
// section 5.8.
func retry(tc *testConn, first byte, scid []byte, token string) []byte {
	b := append([]byte{first, 0, 0, 0, 1, byte(len(tc.connSCID))}, tc.connSCID...)
	b = append(append(b, byte(len(scid))), scid...)
	b = append(b, token...)
	return append(b, retryTag(tc.initialDCID, b)...)
}

func TestRetry(t *testing.T) {
	newSCID := []byte("retryscid")
	for _, unused := range []byte{0xf0, 0xff} { // R9000-17.2.5-1
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			first := tc.wantPacket("ClientHello", packetInitial)
			tc.writeRaw(retry(tc, unused, newSCID, "token"))
			tc.setInitialKeys(newSCID) // R9001-5.2-1 R9000-17.2.5.1-3
			second := tc.wantPacket("the ClientHello goes out again at once", packetInitial)
			if string(second.token) != "token" || !bytes.Equal(second.dcid, newSCID) {
				t.Errorf("Initial to %x with token %q", second.dcid, second.token)
			}
			if !bytes.Equal(second.scid, first.scid) { // R9000-17.2.5.2-5
				t.Errorf("Source Connection ID %x, before %x", second.scid, first.scid)
			}
			if second.num <= first.num { // R9000-17.2.5.3-2
				t.Errorf("packet number %d after %d", second.num, first.num)
			}
			hello, _ := first.has(tCrypto)
			again, _ := second.has(tCrypto)
			if !again.equal(hello) { // R9000-17.2.5.3-1
				t.Errorf("%v, before %v", again, hello)
			}
			if len(second.dgram.data) < 1200 { // R9000-8.1-4
				t.Errorf("%d bytes", len(second.dgram.data))
			}
			tc.writeRaw(retry(tc, 0xf0, []byte("another"), "token2"))
			tc.wantNoDatagram("second Retry") // R9000-17.2.5.2-1
			tc.waitSent(3 * time.Second)
			p := tc.wantPacket("PTO", packetInitial)
			if string(p.token) != "token" { // R9000-8.1.2-1
				t.Errorf("token %q in a later Initial", p.token)
			}
			tc.handshake()
		}, func(p *testParams) { p.setBytes(paramRetrySrcConnID, newSCID) })
	}
}

// TestRetryIgnored: Retry packets that must have no effect.
func TestRetryIgnored(t *testing.T) {
	ignored := func(name string, packet func(tc *testConn) []byte) {
		t.Run(name, func(t *testing.T) {
			scripted(t, clientSide, func(t *testing.T, tc *testConn) {
				tc.skip()
				tc.writeRaw(packet(tc))
				tc.wantNoDatagram("no second Initial packet")
				tc.handshake()
			})
		})
	}
	ignored("wrong tag R9000-17.2.5.2-3", func(tc *testConn) []byte {
		b := retry(tc, 0xf0, []byte("retryscid"), "token")
		b[len(b)-1] ^= 1
		return b
	})
	ignored("no token R9000-17.2.5.2-4", func(tc *testConn) []byte { return retry(tc, 0xf0, []byte("retryscid"), "") })
	ignored("the connection id that we chose R9000-17.2.5.1-2", func(tc *testConn) []byte {
		return retry(tc, 0xf0, tc.initialDCID, "token")
	})
	t.Run("after an Initial packet", func(t *testing.T) { // R9000-17.2.5.2-2
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}})
			tc.skip()
			tc.writeRaw(retry(tc, 0xf0, []byte("retryscid"), "token"))
			tc.wantNoDatagram("no second ClientHello")
			tc.handshake()
		})
	})
}
