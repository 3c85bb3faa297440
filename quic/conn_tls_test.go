// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestClientHandshake is the transcript of a handshake, seen from the server.
func TestClientHandshake(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		if len(tc.initialDCID) < 8 { // R9000-7.2-1
			t.Errorf("first Destination Connection ID %x", tc.initialDCID)
		}
		p := tc.wantPacket("ClientHello", packetInitial)
		if len(p.dgram.data) < 1200 { // R9000-8.1-4
			t.Errorf("datagram of %d bytes", len(p.dgram.data))
		}
		if p.num != 0 || len(p.token) != 0 { // R9000-12.3-1
			t.Errorf("first packet has number %d and token %x", p.num, p.token)
		}
		if f, ok := p.has(tCrypto); !ok || f.ints[0] != 0 || f.blobs[0][0] != 1 || f.blobs[0][38] != 0 { // R9001-8.4-1: no legacy_session_id
			t.Errorf("%v, want a ClientHello", p)
		} else if !bytes.Contains(f.blobs[0], []byte{0, 43, 0, 3, 2, 3, 4}) { // R9001-4.2-1
			t.Error("supported_versions is not TLS 1.3 alone")
		}
		tc.waitSent(3 * time.Second)
		p = tc.wantPacket("PTO", packetInitial)
		if !bytes.Equal(p.dcid, tc.initialDCID) { // R9000-7.2-2
			t.Errorf("second packet to %x, first to %x", p.dcid, tc.initialDCID)
		}
		tc.skip()

		ack, _ := tc.ackLevel(packetInitial)
		first := tc.flight(packetInitial)
		first[0].frames = append([]testFrame{ack}, first[0].frames...)
		tc.writePackets(first...)
		p = tc.wantPacket("the Initial packet is acknowledged at once", packetInitial) // R9000-13.2.1-1
		if _, ok := p.has(tAck); !ok || !bytes.Equal(p.dcid, peerCID(0, 0)) {          // R9000-7.2-4 RMP21-2.3-3
			t.Errorf("%v to %x", p, p.dcid)
		}
		if len(p.dgram.data) < 1200 { // R9000-8.1-4: also when nothing is ack-eliciting
			t.Errorf("datagram of %d bytes with an Initial packet", len(p.dgram.data))
		}
		if tc.core().initial == nil {
			t.Error("Initial keys dropped before a Handshake packet was sent")
		}
		tc.skip()
		for _, p := range tc.flight(packetHandshake) {
			tc.writePackets(p)
		}
		tc.wantDial()
		tc.wantPacket("Finished", packetHandshake)
		if tc.core().initial != nil { // R9001-4.9.1-1
			t.Error("Initial keys are kept after the first Handshake packet")
		}
		if !tc.core().complete || tc.core().confirmed {
			t.Fatalf("complete %v, confirmed %v", tc.core().complete, tc.core().confirmed)
		}
		tc.skip()
		if !tc.peerComplete {
			t.Fatal("no Finished")
		}
		tc.sendDatagrams(1)
		tc.wantType("1-RTT data needs no confirmation", tDatagram)
		tc.write(frPing())
		if tc.core().confirmed || tc.core().handshake == nil {
			t.Error("confirmed by a PING")
		}
		tc.write(frHandshakeDone())
		if !tc.core().confirmed || tc.core().handshake != nil { // R9001-4.1.2-2 R9001-4.9.2-1
			t.Error("HANDSHAKE_DONE does not confirm the handshake")
		}
		tc.settle()
		tc.write(frHandshakeDone())
		tc.wantAlive("HANDSHAKE_DONE again")
	})
}

// TestConfirmedByAck: HANDSHAKE_DONE may be on its way to a former address.
func TestConfirmedByAck(t *testing.T) { // R9001-4.1.2-2
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.completeHandshake()
		tc.sendDatagrams(1)
		_, p := tc.wantType("1-RTT data", tDatagram)
		tc.write(frAck(p.num))
		if !tc.core().confirmed || tc.core().handshake != nil { // R9001-4.9.2-1
			t.Error("the acknowledgment of a 1-RTT packet does not confirm the handshake")
		}
		tc.settle()
		tc.write(frHandshakeDone())
		tc.wantAlive("HANDSHAKE_DONE afterwards")
	})
}

// TestServerHandshake is the transcript of a handshake, seen from the client.
func TestServerHandshake(t *testing.T) {
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.writeHandshake()
		p := tc.wantPacket("ServerHello", packetInitial)
		if len(p.token) != 0 || len(p.scid) == 0 { // R9000-17.2.2-1
			t.Errorf("token %x, Source Connection ID %x", p.token, p.scid)
		}
		if len(p.dgram.data) < 1200 { // R9000-14.1-1
			t.Errorf("datagram of %d bytes with an ack-eliciting Initial packet", len(p.dgram.data))
		}
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if _, ok := p.has(tHandshakeDone); ok { // R9000-19.20-2
				t.Error("HANDSHAKE_DONE before the handshake is complete")
			}
		}
		select {
		case <-tc.e.acceptc:
			t.Error("accepted before the handshake is complete")
		default:
		}
		// Another Source Connection ID has no effect.
		tc.writePackets(&peerPacket{typ: packetInitial, scid: []byte("somebody"), frames: []testFrame{frPing()}})
		tc.wantNoDatagram("Initial packet with another Source Connection ID") // R9000-7.2-5
		tc.advance(testRTT)
		ack, _ := tc.ackLevel(packetHandshake)
		flight := tc.flight(packetHandshake)
		flight[0].frames = append([]testFrame{ack}, flight[0].frames...)
		tc.writePackets(flight...)
		if tc.core().initial != nil || tc.core().handshake != nil { // R9001-4.9.1-2 R9001-4.9.2-1
			t.Error("Initial or Handshake keys are kept when the handshake is confirmed")
		}
		done := tc.wantFrame("confirmation", frHandshakeDone()) // R9001-4.1.2-1
		f, _ := tc.wantType("a spare connection id", tNewConnectionID)
		if f.ints[0] != 1 || f.ints[1] != 0 || len(f.blobs[0]) != 8 { // R9000-5.1.1-2
			t.Errorf("%v, want sequence number 1", f)
		}
		if done.num != 0 { // R9000-12.3-1
			t.Errorf("first 1-RTT packet has number %d", done.num)
		}
		tc.wantType("an address validation token", tNewToken)
		tc.wantType("a session ticket", tCrypto)
		tc.wantIdle("handshake complete")
		if c, err := tc.e.Accept(t.Context()); err != nil || c != tc.conn {
			t.Errorf("Accept: %v", err)
		}
	})
}

// TestHandshakeLoss loses each datagram of the handshake once, in turn.
//
// R9001-4.9-1 R9000-8.1-5
func TestHandshakeLoss(t *testing.T) {
	for _, side := range []testSide{clientSide, serverSide} {
		for lost := range 6 {
			scripted(t, side, func(t *testing.T, tc *testConn) {
				n := 0
				for range 40 {
					tc.fill()
					tc.skip()
					if tc.conn != nil && tc.core().complete && tc.peerComplete {
						return
					}
					tc.advance(testRTT)
					for _, typ := range []peerPacketType{packetInitial, packetHandshake} {
						if tc.levels[typ.space()].write == nil {
							continue
						}
						// The peer repeats all that it has, always.
						tc.levels[typ.space()].cryptoSent = 0
						packets := tc.flight(typ)
						if len(packets) == 0 {
							packets = []*peerPacket{{typ: typ, frames: []testFrame{frPing()}}}
						}
						if ack, ok := tc.ackLevel(typ); ok {
							packets[0].frames = append([]testFrame{ack}, packets[0].frames...)
						}
						for _, p := range packets {
							b := tc.datagram(1200, p)
							if n++; n-1 != lost {
								tc.writeRaw(b)
							}
						}
					}
					if tc.conn != nil {
						tc.advance(300 * time.Millisecond)
					}
				}
				t.Fatalf("%v: no handshake when datagram %d is lost", side, lost)
			}, func(c *Config) { c.HandshakeTimeout = time.Minute })
		}
	}
}

// TestHandshakeFailures: what the peer can do wrong, and how the connection ends.
func TestHandshakeFailures(t *testing.T) {
	const (
		noApplication = CryptoErrorBase + 120
		unknownCA     = CryptoErrorBase + 42 // bad_certificate, which crypto/tls sends
	)
	set := func(id, v uint64) func(*testParams) { return func(p *testParams) { p.set(id, v) } }
	setBytes := func(id uint64, v []byte) func(*testParams) { return func(p *testParams) { p.setBytes(id, v) } }
	remove := func(id uint64) func(*testParams) { return func(p *testParams) { p.remove(id) } }
	for _, test := range []struct {
		name   string
		side   testSide
		code   TransportErrorCode
		option any
	}{
		{"initial_source_connection_id missing R9000-7.3-1", clientSide, TransportParameterError, remove(paramInitialSrcConnID)},
		{"initial_source_connection_id missing R9000-7.3-1", serverSide, TransportParameterError, remove(paramInitialSrcConnID)},
		{"initial_source_connection_id differs R9000-7.3-5", clientSide, TransportParameterError, setBytes(paramInitialSrcConnID, []byte("12345678"))},
		{"initial_source_connection_id differs R9000-7.3-5", serverSide, TransportParameterError, setBytes(paramInitialSrcConnID, nil)},
		{"retry_source_connection_id without Retry R9000-7.3-4", clientSide, TransportParameterError, setBytes(paramRetrySrcConnID, []byte("12345678"))},
		{"invalid value R9000-7.4-1", clientSide, TransportParameterError, set(paramAckDelayExponent, 21)},
		{"value out of range R9000-4.6-1", serverSide, TransportParameterError, set(paramMaxStreamsBidi, 1<<60+1)},
		{"server's parameter from a client R9000-7.4-1", serverSide, TransportParameterError, setBytes(paramStatelessResetToken, make([]byte, 16))},
		{"twice R9000-7.4-3", clientSide, TransportParameterError, func(p *testParams) { *p = append(*p, (*p)[1]) }},
		{"initial_max_path_id above 2^32-1 RMP21-2.1-2", clientSide, TransportParameterError, set(paramMaxPathID, 1<<32)},
		{"grease_quic_bit with content R9287-3-1", serverSide, TransportParameterError, set(paramGreaseQUICBit, 1)},
	} {
		t.Run(test.side.String()+" "+test.name, func(t *testing.T) {
			scripted(t, test.side, func(t *testing.T, tc *testConn) {
				tc.writeHandshakeUntilClosed()
				tc.wantClose(test.name, test.code)
			}, test.option)
		})
	}

	t.Run("original_destination_connection_id missing", func(t *testing.T) { // R9000-7.3-2
		testOriginalDCID(t, nil)
	})
	t.Run("original_destination_connection_id differs", func(t *testing.T) { // R9000-7.3-6
		testOriginalDCID(t, []byte("12345678"))
	})
	t.Run("retry_source_connection_id missing after Retry", func(t *testing.T) { // R9000-7.3-3
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			tc.writeRaw(retry(tc, 0xf0, []byte("retryscid"), "token"))
			tc.setInitialKeys([]byte("retryscid"))
			tc.writeHandshakeUntilClosed()
			tc.wantClose("no retry_source_connection_id", TransportParameterError)
		})
	})

	tlsFailure := func(name string, side testSide, code TransportErrorCode, change func(peer *tls.Config)) {
		t.Run(name, func(t *testing.T) {
			scripted(t, side, func(t *testing.T, tc *testConn) {
				tc.writeHandshakeUntilClosed()
				f := tc.wantClose(name, code) // R9001-4.8-1
				if f.ints[1] != tCrypto {
					t.Errorf("frame type 0x%x in CONNECTION_CLOSE", f.ints[1])
				}
				if _, ok := errors.AsType[tls.AlertError](tc.conn.Err()); !ok {
					t.Errorf("the cause is lost: %#v", tc.conn.Err())
				}
			}, change)
		})
	}
	tlsFailure("no common ALPN R9001-8.1-1", serverSide, noApplication, func(peer *tls.Config) { peer.NextProtos = []string{"other"} })
	tlsFailure("unknown authority R9001-4.4-1", clientSide, unknownCA, func(peer *tls.Config) {
		cert, _ := testOtherCert()
		peer.Certificates = []tls.Certificate{cert}
	})
	t.Run("server without ALPN R9001-8.1-2", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshakeUntilClosed()
			tc.wantClose("no ALPN", noApplication)
		}, func(peer *tls.Config) { peer.NextProtos = nil })
	})
}

func testOriginalDCID(t *testing.T, value []byte) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.writeHandshakeUntilClosed()
		tc.wantClose("original_destination_connection_id", TransportParameterError)
	}, originalDCID{value})
}

// writeHandshakeUntilClosed goes on with the handshake until the connection under
// test gives up.
func (tc *testConn) writeHandshakeUntilClosed() {
	tc.t.Helper()
	for range 5 {
		tc.fill()
		if tc.conn != nil && tc.core().closing.phase != notClosing {
			return
		}
		tc.writeHandshake()
	}
}

// TestMissingParameters: a ClientHello without quic_transport_parameters.
//
// R9001-8.2-1
func TestMissingParameters(t *testing.T) {
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		hello := tc.levels[initialSpace].crypto
		params := tc.params.encode()
		i := bytes.Index(hello, params)
		if i < 4 || hello[i-4] != 0 || hello[i-3] != 0x39 {
			t.Fatal("extension not found")
		}
		hello[i-4] = 0x39 // an extension that nobody knows
		for _, p := range tc.flight(packetInitial) {
			tc.writePackets(p)
		}
		tc.wantClose("no transport parameters", CryptoErrorBase+109)
	})
}

// TestForeignPackets: Initial packets that a client must not take for the server's.
func TestForeignPackets(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.skip()
		tc.writePackets(&peerPacket{typ: packetInitial, flipFirst: 0x40, frames: []testFrame{frPing()}})
		tc.wantNoDatagram("Fixed Bit 0") // R9000-17.2-1
		tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}})
		tc.wantPacket("acknowledged", packetInitial)
		tc.skip()
		tc.writePackets(&peerPacket{typ: packetInitial, scid: []byte("somebody"), frames: []testFrame{frPing()}})
		tc.wantNoDatagram("another Source Connection ID") // R9000-7.2-3 R9000-7.2-4
		tc.handshake()
		tc.wantAlive("foreign packets")
	}, fixedQUICBit)
}

// TestUnknownParameters are ignored.
//
// R9000-7.4.2-1
func TestUnknownParameters(t *testing.T) {
	for _, side := range []testSide{clientSide, serverSide} {
		established(t, side, func(t *testing.T, tc *testConn) { tc.wantAlive("unknown transport parameters") },
			func(p *testParams) {
				p.setBytes(31*1000+27, []byte("anything"))
				p.setBytes(1<<62-1, nil)
			})
	}
}

// TestAnnouncedParameters: what we announce, byte by byte where it is fixed.
func TestAnnouncedParameters(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		for id, want := range map[uint64]uint64{
			paramMaxIdleTimeout: 120_000, paramMaxData: 2 << 20, paramStreamDataBidiLocal: 1 << 20, paramStreamDataBidi: 1 << 20,
			paramStreamDataUni:  1 << 20, // R9114-6.2-2
			paramMaxStreamsBidi: 100, paramMaxStreamsUni: 100, paramMaxAckDelay: 5,
			paramActiveCIDLimit: 4, paramMaxDatagramFrame: 65535, paramMaxPathID: 2, paramMaxPathIDDraft15: 2,
		} {
			if got, ok := tc.intParam(id); !ok || got != want {
				t.Errorf("parameter 0x%x is %d (%v), want %d", id, got, ok, want)
			}
		}
		if got := tc.connParams[paramInitialSrcConnID]; !bytes.Equal(got, tc.connSCID) || len(got) == 0 { // RMP21-2.1-3
			t.Errorf("initial_source_connection_id %x, want %x", got, tc.connSCID)
		}
		original, ok := tc.connParams[paramOriginalDstConnID]
		if ok == tc.isClient || !tc.isClient && !bytes.Equal(original, tc.initialDCID) {
			t.Errorf("original_destination_connection_id %x (%v)", original, ok)
		}
		if v, ok := tc.intParam(paramMaxUDPPayloadSize); ok && v < 1432 { // the C implementation shrinks its datagrams otherwise
			t.Errorf("max_udp_payload_size %d", v)
		}
	}, multipathUpTo(2))
}

// TestCryptoOrder: CRYPTO data that comes out of order, and what is too much of it.
func TestCryptoOrder(t *testing.T) {
	t.Run("4096 bytes ahead", func(t *testing.T) { // R9000-7.5-1
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(frCrypto(4096-1, []byte{0}))
			tc.wantAlive("CRYPTO data in a gap")
		})
	})
	t.Run("backwards", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.writePackets(tc.flight(packetInitial)...)
			tc.skip()
			data := tc.levels[handshakeSpace].crypto
			for off := len(data) / 100 * 100; off >= 0; off -= 100 {
				tc.writePackets(&peerPacket{typ: packetHandshake, frames: []testFrame{frCrypto(uint64(off), data[off:min(off+150, len(data))])}})
			}
			tc.wantDial()
		})
	})
	t.Run("too much during the handshake", func(t *testing.T) { // R9000-7.5-2
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(70_000, []byte("x"))}})
			tc.wantClose("buffer exceeded", CryptoBufferExceeded)
		})
	})
	t.Run("more at a level that is done", func(t *testing.T) { // R9001-4.1.3-1
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshake()
			tc.skip()
			n := uint64(len(tc.levels[initialSpace].crypto))
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(n-1, tc.levels[initialSpace].crypto[n-1:])}})
			if err := tc.conn.Err(); err != nil {
				t.Fatalf("repeated data: %v", err)
			}
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(n, []byte{1, 0, 0, 1, 0})}})
			tc.wantClose("Initial data after the Handshake keys", ProtocolViolation)
		})
	})
	t.Run("data behind the last message of a level", func(t *testing.T) { // R9001-4.1.3-2
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			l := &tc.levels[initialSpace]
			hello := append(bytes.Clone(l.crypto), 8, 0, 0, 2, 0, 0)
			l.cryptoSent = uint64(len(l.crypto))
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(0, hello)}})
			tc.wantClose("EncryptedExtensions at the Initial level", ProtocolViolation)
		})
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			l := &tc.levels[initialSpace]
			n := len(l.crypto)
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(uint64(n), []byte{8, 0, 0, 2, 0, 0})}})
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(0, l.crypto)}})
			tc.wantClose("it came first", ProtocolViolation)
		})
	})
	t.Run("CertificateRequest after the handshake", func(t *testing.T) { // R9001-4.4-2
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(frCrypto(0, []byte{13, 0, 0}))
			tc.wantIdle("part of a message")
			tc.write(frCrypto(3, []byte{3, 0, 0, 0}))
			tc.wantClose("CertificateRequest", ProtocolViolation)
		})
	})
	t.Run("KeyUpdate message", func(t *testing.T) { // R9001-6-1
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.write(frCrypto(0, []byte{24, 0, 0, 1, 0}))
			tc.wantClose("TLS KeyUpdate", CryptoErrorBase+10)
		})
	})
}

// TestPostHandshakeData is acknowledged, whatever becomes of it.
//
// R9000-7.5-3
func TestPostHandshakeData(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		if err := tc.tls.SendSessionTicket(tls.QUICSessionTicketOptions{}); err != nil {
			t.Fatal(err)
		}
		tc.peerTLSEvents()
		tc.writePackets(tc.flight(packetOneRTT)...)
		tc.wantAlive("session ticket")
		if !slices.Contains(ackedBy(tc, 0), *tc.nextNum[0]-2) {
			t.Error("the packet with the ticket is not acknowledged")
		}
	})
}

// ackedBy returns the packet numbers that the connection has acknowledged so far.
func ackedBy(tc *testConn, path uint32) []uint64 {
	return slices.Collect(func(yield func(uint64) bool) {
		for _, r := range tc.core().pathID(path).path.space.acks.ranges {
			for n := r.Lo; n <= r.Hi; n++ {
				if !yield(n) {
					return
				}
			}
		}
	})
}

// TestLargeClientHello arrives in two packets and in any order.
func TestLargeClientHello(t *testing.T) {
	for _, reversed := range []bool{false, true} {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			packets := tc.flight(packetInitial)
			if len(packets) < 2 {
				t.Fatalf("ClientHello of %d bytes", len(tc.levels[initialSpace].crypto))
			}
			if reversed {
				slices.Reverse(packets)
			}
			for _, p := range packets {
				tc.writePackets(p)
			}
			tc.handshake()
		}, func(peer *tls.Config) {
			peer.NextProtos = append(slices.Clip(peer.NextProtos), strings.Repeat("x", 250), strings.Repeat("y", 250), strings.Repeat("z", 250), strings.Repeat("w", 250))
		})
	}
}

// TestKeptPacketsAfterClose: when one of the packets that waited for their keys ends the
// connection, those behind it are not processed.
func TestKeptPacketsAfterClose(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.wantPacket("ClientHello", packetInitial)
		tc.writePackets(&peerPacket{typ: packetHandshake, frames: []testFrame{frHandshakeDone()}})
		for _, p := range tc.flight(packetHandshake) {
			tc.writePackets(p)
		}
		tc.writePackets(tc.flight(packetInitial)...)
		if tc.core().complete {
			t.Error("the handshake was completed after the end")
		}
		tc.wantClose("HANDSHAKE_DONE in a Handshake packet", ProtocolViolation)
	})
}

// TestKeptPacketsSize: what a client can make a server hold before the handshake is
// bounded in bytes too.
func TestKeptPacketsSize(t *testing.T) {
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		hello := tc.levels[initialSpace].crypto
		tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(0, hello[:100])}})
		key, _ := initialKeys([]byte("any"))
		for i, n := range []int{1400, 16000} {
			tc.writePackets(&peerPacket{typ: packetHandshake, keys: key, numSet: true, num: uint64(i), frames: []testFrame{frPadding(n)}})
		}
		if n := len(tc.core().early); n != 1 {
			t.Errorf("%d packets are kept, want the small one", n)
		}
	})
}
