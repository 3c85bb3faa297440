// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

// fixedQUICBit is an option.
func fixedQUICBit(c *Config) { c.FixedQUICBit = true }

// greasingPeer is an option: the peer announces grease_quic_bit.
func greasingPeer(p *testParams) { p.setBytes(paramGreaseQUICBit, []byte{}) }

// TestGreaseAnnounced: grease_quic_bit and a reserved transport parameter (RFC 9000
// section 18.1).
func TestGreaseAnnounced(t *testing.T) {
	for _, fixed := range []bool{false, true} {
		bothSides(t, func(t *testing.T, tc *testConn) {
			if v, ok := tc.connParams[paramGreaseQUICBit]; ok == fixed || len(v) != 0 {
				t.Errorf("grease_quic_bit: %v %x", ok, v)
			}
			reserved := 0
			for id := range tc.connParams {
				if id%31 == 27 {
					reserved++
				}
			}
			if reserved != 1 {
				t.Errorf("%d reserved parameters", reserved)
			}
		}, func(c *Config) { c.FixedQUICBit = fixed })
	}
}

// TestQUICBitReceived: packets with QUIC Bit 0.
func TestQUICBitReceived(t *testing.T) { // R9287-3-2
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.writePackets(&peerPacket{typ: packetOneRTT, flipFirst: 0x40, frames: []testFrame{frDatagram("x")}})
		if tc.core().datagramsReceived != 1 {
			t.Error("1-RTT packet was not processed")
		}
	})
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		for _, typ := range []peerPacketType{packetInitial, packetHandshake} {
			for _, p := range tc.flight(typ) {
				p.flipFirst = 0x40
				tc.writePackets(p)
			}
			tc.skip()
		}
		if !tc.core().complete {
			t.Error("Initial or Handshake packet was not processed")
		}
	})
	scripted(t, serverSide, func(t *testing.T, tc *testConn) { // R9000-17.2-1
		p := tc.flight(packetInitial)[0]
		p.flipFirst = 0x40
		tc.sockets[0].in <- udpio.Received{Buf: tc.datagram(1200, p), Src: tc.addr, Dst: testServerAddr.Addr()}
		p.numSet, p.flipFirst = true, 0
		tc.writePackets(p)
		if tc.core().drops != (dropCounters{}) {
			t.Error("a packet with QUIC Bit 0 has made a connection")
		}
	}, fixedQUICBit)
}

// quicBits counts the values of the QUIC Bit in packets of type typ that are sent.
func (tc *testConn) quicBits(typ peerPacketType) (zero, one int) {
	tc.t.Helper()
	for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
		switch {
		case p.typ != typ:
		case p.first&0x40 == 0:
			zero++
		default:
			one++
		}
	}
	return zero, one
}

// TestQUICBitSent, with peers that announce grease_quic_bit and others.
func TestQUICBitSent(t *testing.T) {
	for _, greases := range []bool{false, true} {
		options := []any{func(p *testParams) {
			if greases {
				greasingPeer(p)
			}
		}}
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.sendDatagrams(64)
			zero, one := tc.quicBits(packetOneRTT)
			if greases && (zero < 8 || one < 8) || !greases && zero > 0 { // R9287-3.1-1 R9287-3.1-4
				t.Errorf("QUIC Bit 0 in %d packets, 1 in %d; the peer takes both: %v", zero, one, greases)
			}
		}, options...)
	}
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.sendDatagrams(64)
		if zero, _ := tc.quicBits(packetOneRTT); zero > 0 {
			t.Errorf("QUIC Bit 0 in %d packets although it is fixed", zero)
		}
	}, greasingPeer, fixedQUICBit)
}

// TestQUICBitNotRemembered: before the peer's transport parameters are processed the bit
// is 1, although those of an earlier connection allowed for more.
func TestQUICBitNotRemembered(t *testing.T) {
	for range 8 { // each bit is a coin
		store := sessionFor(t, greasingPeer)
		scripted(t, clientSide, func(t *testing.T, tc *testConn) { // R9287-3.1-2: there is no token
			for range 2 {
				if first := tc.wantPacket("ClientHello", packetInitial).first; first&0x40 == 0 {
					t.Errorf("Initial packet with first byte %#x", first)
				}
				if zero, _ := tc.quicBits(packetZeroRTT); zero > 0 {
					t.Error("0-RTT packet with QUIC Bit 0")
				}
				tc.waitSent(5e9)
			}
		}, ticketKeys, greasingPeer, func(c *Config) { c.Sessions = store }, dialEarly(sendHello))
		session := clientSession(t, earlyServer, greasingPeer)
		scripted(t, serverSide, func(t *testing.T, tc *testConn) { // R9287-3.1-3
			tc.writePackets(tc.flight(packetInitial)...)
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				if p.first&0x40 == 0 {
					t.Errorf("%v with first byte %#x", p, p.first)
				}
			}
		}, earlyServer, session)
	}
}
