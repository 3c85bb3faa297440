// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

// What the connection does with packets and frames that arrive.

// TestFrameErrors sends one packet that breaks a rule and expects the error that the
// rule names. Streams: 0 and 2 are the client's, 1 and 3 the server's; 2 and 3 are
// unidirectional.
func TestFrameErrors(t *testing.T) {
	for _, test := range []struct {
		name   string // with the requirements
		side   testSide
		code   TransportErrorCode
		frames []testFrame
	}{
		{"no frame R9000-12.4-1", clientSide, ProtocolViolation, nil},
		{"unknown frame type R9000-12.4-3", clientSide, FrameEncodingError, []testFrame{frRaw(0x21)}},
		{"unknown frame type of 8 bytes R9000-12.4-3", serverSide, FrameEncodingError, []testFrame{frRaw(0xc0, 0, 0, 1, 0, 0, 0, 0)}},
		{"frame cut short", clientSide, FrameEncodingError, []testFrame{frRaw(0x06, 0x00, 0x05, 0xaa)}},
		{"type of PING in two bytes", clientSide, ProtocolViolation, []testFrame{frRaw(0x40, 0x01)}},

		{"RESET_STREAM of a stream that we send R9000-19.4-1", clientSide, StreamStateError, []testFrame{frInts(tResetStream, 2, 0, 0)}},
		{"RESET_STREAM of a stream that we send R9000-19.4-1", serverSide, StreamStateError, []testFrame{frInts(tResetStream, 3, 0, 0)}},
		{"STOP_SENDING of a stream that we receive R9000-19.5-2", clientSide, StreamStateError, []testFrame{frInts(tStopSending, 3, 0)}},
		{"STREAM before our stream exists R9000-19.8-1", serverSide, StreamStateError, []testFrame{frStream(1, 0, "x")}},
		{"STREAM of a stream that we send R9000-19.8-1", clientSide, StreamStateError, []testFrame{frStream(2, 0, "x")}},
		{"MAX_STREAM_DATA of a stream that we receive R9000-19.10-2", serverSide, StreamStateError, []testFrame{frInts(tMaxStreamData, 2, 1)}},
		{"STREAM_DATA_BLOCKED of a stream that we send R9000-19.13-1", clientSide, StreamStateError, []testFrame{frInts(tStreamDataBlocked, 2, 1)}},
	} {
		t.Run(test.side.String()+" "+test.name, func(t *testing.T) {
			established(t, test.side, func(t *testing.T, tc *testConn) {
				tc.write(test.frames...)
				f := tc.wantClose(test.name, test.code)
				if n := len(test.frames); n > 0 && test.frames[n-1].raw == nil {
					want := test.frames[n-1].typ
					if want == tStream {
						want = 0x0e | test.frames[n-1].ints[2]
					}
					if f.ints[1] != want {
						t.Errorf("CONNECTION_CLOSE names frame type 0x%x, want 0x%x", f.ints[1], want)
					}
				}
			})
		})
	}
}

// TestHarmlessFrames sends frames that must not end the connection.
func TestHarmlessFrames(t *testing.T) {
	for _, test := range []struct {
		name   string
		side   testSide
		frames []testFrame
	}{
		{"limits that do not grow R9000-4.1-4 R9000-4.6-5 R9000-13.3-3", clientSide,
			[]testFrame{frMaxData(1), frInts(tMaxStreamsBidi, 1), frInts(tMaxStreamsUni, 1)}},
		{"the same connection id again R9000-19.15-4", clientSide,
			[]testFrame{frNewConnectionID(1, 0, peerCID(0, 1), peerToken(0, 1)), frNewConnectionID(1, 0, peerCID(0, 1), peerToken(0, 1))}},
		{"blocked frames", serverSide,
			[]testFrame{frInts(tDataBlocked, 5), frInts(tStreamDataBlocked, 0, 5), frInts(tStreamsBlockedBidi, 5), frInts(tStreamsBlockedUni, 5)}},
		{"token for later", clientSide, []testFrame{frNewToken("token")}},
		{"response without a challenge", serverSide, []testFrame{frPathResponse([]byte("01234567"))}},
	} {
		t.Run(test.name, func(t *testing.T) {
			established(t, test.side, func(t *testing.T, tc *testConn) {
				tc.write(test.frames...)
				tc.wantIdle("frames without an effect")
				tc.wantAlive(test.name)
			})
		})
	}
}

// TestPacketsDropped sends packets that must have no effect, not even that they are
// acknowledged, and then the same packet in good order.
func TestPacketsDropped(t *testing.T) {
	long := func(b []byte, version byte) []byte {
		h := []byte{0xc3, 0, 0, 0, version, 8}
		h = append(h, b[:8]...)
		return append(h, make([]byte, 60)...)
	}
	for _, test := range []struct {
		name string
		raw  func(tc *testConn) []byte
	}{
		{"does not decrypt R9000-13.1-1", func(tc *testConn) []byte {
			return tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}, corrupt: true})
		}},
		{"Fixed Bit 0 R9000-17.3.1-1", func(tc *testConn) []byte {
			return tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}, flipFirst: 0x40})
		}},
		{"no room for a sample R9001-5.4.2-1", func(tc *testConn) []byte {
			return tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}})[:1+8+19]
		}},
		{"other version R9000-5.2.1-1", func(tc *testConn) []byte { return long(tc.destination(0), 2) }},
		{"0-RTT R9001-5.6-1", func(tc *testConn) []byte {
			return append(append([]byte{0xd3, 0, 0, 0, 1, 8}, tc.destination(0)...), append([]byte{0, 0x40, 50}, make([]byte, 50)...)...)
		}},
		{"Handshake packet after the handshake R9001-4.9.2-1", func(tc *testConn) []byte {
			return tc.seal(&peerPacket{typ: packetHandshake, frames: []testFrame{frPing()}})
		}},
		{"Initial packet after the handshake R9001-4.9.1-1 R9001-4.9.1-2", func(tc *testConn) []byte {
			return tc.datagram(1200, &peerPacket{typ: packetInitial, frames: []testFrame{frPing()}})
		}},
		{"one byte", func(tc *testConn) []byte { return []byte{0x40} }},
		{"long header cut short", func(tc *testConn) []byte { return append([]byte{0xc3, 0, 0, 0, 1, 8}, tc.destination(0)...) }},
		{"header only", func(tc *testConn) []byte { return append([]byte{0x43}, tc.destination(0)...) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				tc.writeRaw(test.raw(tc))
				tc.advance(maxAckDelay)
				tc.wantNoDatagram(test.name)
				tc.wantAlive("after a packet that was dropped")
			}, fixedQUICBit)
		})
	}
}

// TestPacketErrors sends packets whose header breaks a rule that only an authentic
// packet can break.
func TestPacketErrors(t *testing.T) {
	t.Run("reserved bits of a short header R9000-17.3.1-2", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.writePackets(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}, flipFirst: 0x08})
			tc.wantClose("reserved bits", ProtocolViolation)
		})
	})
	t.Run("reserved bits of a long header R9000-17.2-3", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}, flipFirst: 0x04})
			tc.wantClose("reserved bits", ProtocolViolation)
		})
	})
	t.Run("token in an Initial of the server R9000-17.2.2-2", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}, token: []byte("x")})
			tc.wantClose("token", ProtocolViolation)
		})
	})
}

func TestDuplicatePacket(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		b := tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPathChallenge("01234567")}})
		tc.writeRaw(slices.Clone(b))
		tc.wantFrame("a challenge is answered", frPathResponse([]byte("01234567")))
		tc.settle()
		tc.writeRaw(b)
		tc.advance(maxAckDelay)
		tc.wantNoDatagram("duplicate packet") // R9000-12.3-4
	})
}

// TestAckedWhenReceived: which packets are acknowledged, and when.
func TestAckedWhenReceived(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		num := *tc.nextNum[0]
		tc.ignored = map[uint64]bool{}

		tc.write(frPing())
		tc.wantNoDatagram("one ack-eliciting packet can wait") // R9221-5.2-2 is the same rule
		took := tc.waitSent(time.Second)                       // R9000-13.2.1-2
		f, _ := tc.wantType("acknowledged within max_ack_delay", tAck)
		if _, nums := f.acked(); nums[len(nums)-1] != num || took != maxAckDelay {
			t.Errorf("after %v: %v, want packet %d", took, f, num)
		}
		// RFC 9000 section 19.3: the delay in units of 2^ack_delay_exponent microseconds.
		if want := uint64(maxAckDelay.Microseconds() >> 3); f.ints[1] != want {
			t.Errorf("ACK Delay %d, want %d", f.ints[1], want)
		}

		tc.write(tc.ackFrame(0))
		tc.wantSilenceNoDatagram("ACK alone is not acknowledged") // R9000-13.2.1-4

		tc.write(frPing())
		tc.wantNoDatagram("first of two")
		tc.write(frPing())
		f, _ = tc.wantType("the second one makes an ACK due", tAck) // R9000-13.2.2-1 R9000-13.2.1-3
		if _, nums := f.acked(); nums[len(nums)-1] != num+3 {       // R9000-13.2.3-1
			t.Errorf("%v does not acknowledge the newest packet %d", f, num+3)
		}
		tc.wantSilenceNoDatagram("one ACK for two packets")

		tc.writePackets(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}, num: num + 6, numSet: true})
		f, _ = tc.wantType("a gap makes an ACK due", tAck) // R9000-13.2.1-5
		if _, nums := f.acked(); slices.Contains(nums, num+5) {
			t.Errorf("%v acknowledges the packet that is missing", f)
		}

		m := udpio.Received{Buf: tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}}), Src: tc.addr, ECN: udpio.CE}
		tc.deliver(m)
		f, _ = tc.wantType("congestion experienced is told at once", tAckECN) // R9000-13.2.1-6 R9000-13.4.1-1
		if ecn := f.ints[len(f.ints)-3:]; !slices.Equal(ecn, []uint64{0, 0, 1}) {
			t.Errorf("ECN counts %v, want ECT(0) 0, ECT(1) 0, CE 1", ecn)
		}
	})
}

// wantSilenceNoDatagram checks that nothing is sent for longer than max_ack_delay.
func (tc *testConn) wantSilenceNoDatagram(why string) {
	tc.t.Helper()
	tc.wantNoDatagram(why)
	tc.advance(2 * maxAckDelay)
	tc.wantNoDatagram(why)
}

// TestCoalescedPackets is about several packets in one datagram.
func TestCoalescedPackets(t *testing.T) {
	server := func(t *testing.T, f func(t *testing.T, tc *testConn)) {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			// The client's flight up to its Finished, which the test sends.
			tc.writeHandshake()
			tc.skip()
			f(t, tc)
		})
	}
	t.Run("all are processed", func(t *testing.T) { // R9000-12.2-1
		server(t, func(t *testing.T, tc *testConn) {
			ack, _ := tc.ackLevel(packetInitial)
			flight := tc.flight(packetHandshake)
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{ack}}, flight[0],
				&peerPacket{typ: packetOneRTT, frames: []testFrame{frStreamFin(0, 0, "early")}})
			if !tc.core().complete {
				t.Fatal("the Handshake packet was not processed")
			}
			if s := tc.accept(); s.ID() != 0 {
				t.Errorf("stream %d", s.ID())
			}
		})
	})
	t.Run("one does not decrypt", func(t *testing.T) { // R9000-12.2-4
		server(t, func(t *testing.T, tc *testConn) {
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}, corrupt: true}, tc.flight(packetHandshake)[0])
			if !tc.core().complete {
				t.Error("the packet behind it was not processed")
			}
		})
	})
	t.Run("another connection id", func(t *testing.T) { // R9000-12.2-3
		server(t, func(t *testing.T, tc *testConn) {
			p := tc.flight(packetHandshake)[0]
			p.dcid = tc.initialDCID // it is the connection's, too
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}}, p)
			if tc.core().complete {
				t.Error("a packet with another Destination Connection ID was processed")
			}
		})
	})
	t.Run("sent with one connection id", func(t *testing.T) { // R9000-12.2-2
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshake()
			several := false
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				several = several || len(p.dgram.packets) > 1
				if string(p.dcid) != string(peerCID(0, 0)) {
					t.Errorf("packet to %x", p.dcid)
				}
			}
			if !several {
				t.Error("no packets were coalesced")
			}
		})
	})
}

// TestOneRTTBeforeTheEnd: 1-RTT packets that arrive before the handshake is complete
// wait, and are not acknowledged until then.
//
// R9001-5.7-1 R9001-5.7-2
func TestOneRTTBeforeTheEnd(t *testing.T) {
	for _, side := range []testSide{clientSide, serverSide} {
		t.Run(side.String(), func(t *testing.T) {
			scripted(t, side, func(t *testing.T, tc *testConn) {
				var id uint64 = 1
				if side == serverSide {
					tc.writeHandshake()
					id = 0
				} else {
					tc.writePackets(tc.flight(packetInitial)...)
				}
				tc.skip()
				tc.writePackets(&peerPacket{typ: packetOneRTT, frames: []testFrame{frStreamFin(id, 0, "early")}})
				for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
					if p.typ == packetOneRTT {
						t.Errorf("%v before the handshake is complete", p)
					}
				}
				for _, p := range tc.flight(packetHandshake) {
					tc.writePackets(p)
				}
				tc.advance(maxAckDelay)
				if s := tc.accept(); s.ID() != id {
					t.Errorf("stream %d", s.ID())
				}
				acked := false
				for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
					_, ok := p.has(tAck)
					acked = acked || p.typ == packetOneRTT && ok
				}
				if !acked {
					t.Error("the packet is not acknowledged in the end")
				}
			})
		})
	}
}

func TestDatagramFrames(t *testing.T) {
	t.Run("both forms", func(t *testing.T) { // R9221-4-1 R9221-5-2
		bothSides(t, func(t *testing.T, tc *testConn) {
			var got []string
			tc.conn.SetDatagramHandler(datagramFunc(func(b []byte) { got = append(got, string(b)) }))
			tc.write(frDatagram("with length"), frDatagram(""), frRaw([]byte("\x30to the end")...))
			if want := []string{"with length", "", "to the end"}; !slices.Equal(got, want) {
				t.Errorf("datagrams %q, want %q", got, want)
			}
		})
	})
	t.Run("not announced", func(t *testing.T) { // R9221-3-3
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			if v, ok := tc.intParam(paramMaxDatagramFrame); ok && v != 0 {
				t.Errorf("max_datagram_frame_size %d", v)
			}
			tc.write(frDatagram("x"))
			tc.wantClose("DATAGRAM without support", ProtocolViolation)
		}, func(c *Config) { c.Datagrams = false })
	})
	t.Run("not taken by the peer", func(t *testing.T) { // R9221-3-1
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 10), datagram(0, 0)})
			tc.wantSilenceNoDatagram("the peer takes no datagrams")
		}, func(p *testParams) { p.remove(paramMaxDatagramFrame) })
	})
	t.Run("limit of the peer", func(t *testing.T) { // R9221-3-2
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			if got := tc.conn.MaxDatagramPayload(); got != 99 {
				t.Errorf("MaxDatagramPayload %d, want 99: the limit counts the type", got)
			}
			tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 100)})
			tc.wantSilenceNoDatagram("too large")
			tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 99)})
			tc.wantFrame("as large as it may be", testFrame{typ: tDatagram, blobs: [][]byte{make([]byte, 99)}})
		}, func(p *testParams) { p.set(paramMaxDatagramFrame, 100) })
	})
	t.Run("no flow control, acknowledged, not repeated", func(t *testing.T) { // R9221-5.3-1 R9221-5.2-1
		established(t, serverSide, func(t *testing.T, tc *testConn) {
			if v, _ := tc.intParam(paramMaxDatagramFrame); v != 65535 { // R9221-3-5
				t.Errorf("max_datagram_frame_size %d", v)
			}
			tc.sendDatagrams(4)
			_, p := tc.wantType("datagram", tDatagram)
			tc.skip()
			tc.forget(p)
			tc.ack()
			tc.wantIdle("a datagram that was lost")
		}, func(p *testParams) { p.set(paramMaxData, 0) })
	})
}

type datagramFunc func(b []byte)

func (f datagramFunc) HandleDatagram(b []byte) { f(b) }
func (datagramFunc) FlushDatagrams()           {}
