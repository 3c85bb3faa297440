// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"testing"
	"time"
)

// Address validation, of the handshake and of a peer that moves.

// TestAmplificationLimit: what a server sends to an address that may be forged.
func TestAmplificationLimit(t *testing.T) {
	sentBytes := func(tc *testConn) (n int) {
		var last *peerDatagram
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if p.dgram != last {
				last = p.dgram
				n += len(last.data)
			}
		}
		return n
	}
	t.Run("silent client", func(t *testing.T) { // R9000-8-1 R9000-8.1-1
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writePackets(tc.flight(packetInitial)...)
			tc.advance(8 * time.Second) // all that PTOs can do
			if n := sentBytes(tc); n < 1200 || n > 3*1200 {
				t.Fatalf("sent %d bytes in answer to 1200", n)
			}
			tc.write1200()
			tc.advance(time.Second)
			if n := sentBytes(tc); n == 0 || n > 3*1200 { // it resumes
				t.Errorf("sent %d bytes in answer to 1200 more", n)
			}
		}, func(c *Config) { c.HandshakeTimeout = time.Minute })
	})
	t.Run("bytes of packets that are dropped count", func(t *testing.T) { // R9000-8.1-2
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writePackets(tc.flight(packetInitial)...)
			tc.advance(8 * time.Second)
			sentBytes(tc)
			tc.writeRaw(tc.datagram(1200, &peerPacket{typ: packetInitial, frames: []testFrame{frPing()}, corrupt: true}))
			tc.advance(8 * time.Second)
			if n := sentBytes(tc); n == 0 || n > 3*1200 {
				t.Errorf("sent %d bytes in answer to 1200", n)
			}
		}, func(c *Config) { c.HandshakeTimeout = time.Minute })
	})
	t.Run("a Handshake packet lifts it", func(t *testing.T) { // R9000-8.1-3
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writePackets(tc.flight(packetInitial)...)
			tc.skip()
			if tc.core().paths[0].validated {
				t.Error("validated by an Initial packet")
			}
			tc.writePackets(&peerPacket{typ: packetHandshake, frames: []testFrame{frPing()}})
			if !tc.core().paths[0].validated {
				t.Error("not validated by a Handshake packet")
			}
		})
	})
	t.Run("small Initial packets", func(t *testing.T) { // R9000-14.1-2
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeRaw(tc.datagram(1199, &peerPacket{typ: packetInitial, frames: []testFrame{frPing()}}))
			tc.wantNoDatagram("datagram of 1199 bytes")
			if tc.conn != nil {
				t.Fatal("there is a connection")
			}
			tc.writePackets(tc.flight(packetInitial)...)
			tc.skip()
			small := &peerPacket{typ: packetInitial, frames: []testFrame{frPing()}}
			tc.writeRaw(tc.datagram(1199, small))
			tc.wantSilenceNoDatagram("Initial packet in 1199 bytes") // R9000-14-2
			if c := tc.core(); c.Err() != nil || c.initial.space.acks.isDuplicate(packetNumber(small.num)) {
				t.Errorf("the packet was taken, or the connection ended: %v", c.Err())
			}
		})
	})
	t.Run("the client does not wait for ever", func(t *testing.T) { // R9000-8.1-5
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			// The server has nothing to lose: it has acknowledged the ClientHello.
			tc.skip()
			ack, _ := tc.ackLevel(packetInitial)
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{ack}})
			tc.skip()
			tc.waitSent(5 * time.Second)
			if p := tc.wantPacket("without Handshake keys", packetInitial); len(p.dgram.data) < 1200 {
				t.Errorf("%d bytes", len(p.dgram.data))
			}
			tc.skip()
			tc.writePackets(tc.flight(packetInitial)...)
			tc.skip()
			ack, _ = tc.ackLevel(packetInitial)
			tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{ack}})
			tc.skip()
			tc.waitSent(5 * time.Second)
			tc.wantPacket("with Handshake keys", packetHandshake)
		})
	})
}

// write1200 sends an Initial packet without news in 1200 bytes.
func (tc *testConn) write1200() {
	tc.t.Helper()
	tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frPing()}})
}

var testMovedAddr = netip.MustParseAddrPort("10.9.9.9:5000")

// TestPeerMoves is the transcript of a client that is seen at a new address.
func TestPeerMoves(t *testing.T) {
	withOption := func(name string, f func(t *testing.T, tc *testConn)) {
		t.Run(name, func(t *testing.T) {
			t.Run("single path", func(t *testing.T) { established(t, serverSide, f) })
			t.Run("multipath", func(t *testing.T) { established(t, serverSide, f, multipathUpTo(2)) })
		})
	}
	withOption("and answers", func(t *testing.T, tc *testConn) {
		tc.write(tc.peerCIDFrame(0, 1, 0))
		tc.settle()
		p := tc.core().paths[0]
		window := p.loss.newController(p.loss.maxDatagram).Window()
		for range 20 {
			tc.sendDatagrams(5)
			tc.ack()
			tc.skip()
		}
		if p.loss.cc.Window() == window && p.loss.rtt.latest == 0 {
			t.Fatal("no congestion state to lose")
		}
		tc.ignore(tPathAck, tPing)
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing(), frPadding(1150)}})
		old, fresh := testFrame{}, testFrame{}
		for range 2 {
			f, p := tc.wantType("both addresses are validated", tPathChallenge) // R9000-9-4 RMP21-3.1.2-2
			switch p.dgram.to {
			case tc.addr: // R9000-9.3.3-1
				old = f
			case testMovedAddr:
				fresh = f
				if string(p.dcid) != string(peerCID(0, 1)) { // R9000-9.5-2 RMP21-3.2.2-1
					t.Errorf("sent to connection id %x", p.dcid)
				}
			default:
				t.Fatalf("%v to %v", f, p.dgram.to)
			}
		}
		if old.blobs == nil || fresh.blobs == nil {
			t.Fatal("two challenges to one address")
		}
		// R9000-9.4-1 RMP21-5.1-1
		if p.loss.rtt.hasSample() || p.loss.cc.Window() != window {
			t.Errorf("congestion state is kept: srtt %v, window %d", p.loss.rtt.smoothed, p.loss.cc.Window())
		}
		// A packet that was overtaken does not move the path back. R9000-9.3-2
		tc.writeFrom(tc.addr, &peerPacket{typ: packetOneRTT, num: *tc.nextNum[0] - 1000, numSet: false, frames: []testFrame{frPathResponse([]byte("nonsense"))}})
		if p.remote != testMovedAddr {
			t.Errorf("a probing packet moved the path to %v", p.remote)
		}
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPathResponse(fresh.blobs[0])}})
		tc.wantFrame("the connection id of the old address", tc.frRetire(0, 0))
		if !p.validated || p.prevValid {
			t.Errorf("validated %v, old address kept %v", p.validated, p.prevValid)
		}
		tc.skip()
		tc.sendDatagrams(1)
		if _, p := tc.wantType("datagram", tDatagram); p.dgram.to != testMovedAddr { // R9000-9.3-1
			t.Errorf("sent to %v", p.dgram.to)
		}
	})
	withOption("and does not answer", func(t *testing.T, tc *testConn) { // R9000-9.3.2-1
		p := tc.core().paths[0]
		received := len(tc.seal(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing(), frPadding(50)}}))
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing(), frPadding(50)}})
		tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 1000)})
		tc.advance(3 * initialPTO)
		tc.advance(3 * tc.core().largestPTO())
		sent := 0
		var last *peerDatagram
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if p.dgram != last && p.dgram.to == testMovedAddr {
				sent += len(p.dgram.data)
			}
			last = p.dgram
		}
		if sent > 3*received { // R9000-8-1
			t.Errorf("sent %d bytes in answer to %d", sent, received)
		}
		if p.remote != tc.addr || !p.validated {
			t.Errorf("path is at %v", p.remote)
		}
		tc.wantAlive("back at the old address")
	})
	withOption("in a small packet", func(t *testing.T, tc *testConn) {
		// What goes to the old address does not count against the new one.
		ping := &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}}
		tc.writeFrom(testMovedAddr, ping)
		sent := 0
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if p.dgram.to == testMovedAddr {
				sent += len(p.dgram.data)
			}
		}
		if p := tc.core().paths[0]; p.ampSent != sent || sent > 3*len(tc.seal(ping)) { // R9000-8-1
			t.Errorf("counted %d bytes to the new address, sent %d", p.ampSent, sent)
		}
	})
	withOption("only its port", func(t *testing.T, tc *testConn) { // R9000-9.4-1
		p := tc.core().paths[0]
		tc.sendDatagrams(1)
		tc.advance(testRTT)
		tc.ack()
		tc.skip()
		srtt := p.loss.rtt.smoothed
		tc.writeFrom(netip.AddrPortFrom(tc.addr.Addr(), 9), &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}})
		if p.loss.rtt.smoothed != srtt || p.remote.Port() != 9 {
			t.Errorf("RTT was %v, is %v; address %v", srtt, p.loss.rtt.smoothed, p.remote)
		}
	})
	withOption("with a probing packet", func(t *testing.T, tc *testConn) {
		// R9000-8.2.2-3, and R9000-8.2.2-5: the address may be forged.
		frames := []testFrame{frPathChallenge("01234567"), frPadding(60)}
		received := len(tc.seal(&peerPacket{typ: packetOneRTT, frames: frames}))
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: frames})
		p := tc.wantFrame("answered where it came from", frPathResponse([]byte("01234567")))
		if p.dgram.to != testMovedAddr || len(p.dgram.data) > 3*received {
			t.Errorf("%d bytes to %v in answer to %d", len(p.dgram.data), p.dgram.to, received)
		}
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPathChallenge("abcdefgh"), frPadding(1150)}})
		p = tc.wantFrame("answered where it came from", frPathResponse([]byte("abcdefgh")))
		if len(p.dgram.data) < 1200 {
			t.Errorf("%d bytes", len(p.dgram.data))
		}
		if got := tc.core().paths[0].remote; got != tc.addr {
			t.Errorf("path moved to %v", got)
		}
	})
}

// TestPeerMovesWithoutValidAddress: the only address of the peer turns out wrong.
//
// R9000-9.3.2-2
func TestPeerMovesWithoutValidAddress(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		p := tc.core().paths[0]
		p.validated = false // as if the handshake had not shown it
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}})
		tc.skip()
		<-tc.conn.Done()
		tc.fill()
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if _, ok := p.has(tConnectionClose); ok {
				t.Error("CONNECTION_CLOSE to nobody")
			}
		}
		if te, ok := tc.conn.Err().(*TransportError); !ok || te.Code != NoViablePath {
			t.Errorf("Err is %v", tc.conn.Err())
		}
	})
}

// TestServerMoves: a client takes packets from the server's address only.
//
// R9000-9-5
func TestServerMoves(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}})
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPathChallenge("01234567")}})
		tc.wantSilenceNoDatagram("unknown address")
	})
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.skip()
		p := tc.flight(packetInitial)[0]
		b := tc.datagram(1200, p)
		tc.deliver(udpReceivedFrom(testMovedAddr, b))
		tc.wantNoDatagram("unknown address during the handshake")
	})
}

// TestChallengeOnActivePath is answered at once and not only with probing frames.
//
// R9000-8.2.2-2 R9000-9.3.3-2
func TestChallengeOnActivePath(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.write(frPathChallenge("01234567"))
		p := tc.wantFrame("answered", frPathResponse([]byte("01234567")))
		if _, ok := p.has(tPing); !ok || len(p.dgram.data) < 1200 { // R9000-8.2.2-5
			t.Errorf("%v in %d bytes", p, len(p.dgram.data))
		}
	})
}

// TestIdleOnSeveralPaths: traffic on any path keeps the connection.
//
// RMP21-5.9-1
func TestIdleOnSeveralPaths(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		for range 10 {
			tc.advance(6 * time.Second)
			tc.writeOn(1, frPathAck(1, 0))
		}
		if err := tc.conn.Err(); err != nil {
			t.Error(err)
		}
	}, multipathUpTo(2), func(c *Config) { c.MaxIdleTimeout = 10 * time.Second })
}

// TestServerKeepsValidating: a server that hears the peer on a new path later than on any
// other one asks again there, since the peer may have left the others for it; a peer that
// was heard elsewhere since then has not.
func TestServerKeepsValidating(t *testing.T) {
	for name, elsewhere := range map[string]bool{"heard on the new path last": false, "heard on the old path last": true} {
		t.Run(name, func(t *testing.T) {
			established(t, serverSide, func(t *testing.T, tc *testConn) {
				tc.ignore(tMaxPathID, tPathNewConnectionID)
				tc.preparePath(1)
				tc.settle()
				tc.startPath(1)
				for range 70 {
					tc.advance(100 * ms)
					tc.skip()
					tc.writeOn(1, frPing(), frPadding(1100))
					if elsewhere {
						tc.advance(ms)
						tc.write(frPing())
					}
				}
				if left := tc.pathState(1) == nil || tc.pathState(1).phase >= pathAbandoning; left != elsewhere {
					t.Fatalf("abandoned %v, want %v", left, elsewhere)
				} else if left {
					return
				}
				tc.write(frInts(tPathAbandon, 0, 0)) // which was lost until now
				tc.advance(4 * initialPTO)
				tc.skip()
				tc.writeOn(1, frPing(), frPadding(1100))
				tc.ignore(tPing, tPathAck, tPathAbandon)
				for range 50 {
					tc.advance(100 * ms)
					for f, p, ok := tc.nextFrame(); ok; f, p, ok = tc.nextFrame() {
						if f.typ == tPathChallenge && p.path == 1 {
							tc.writeOn(1, frPathResponse(f.blobs[0]))
							if tc.pathState(1).phase != pathActive {
								t.Error("not active after PATH_RESPONSE")
							}
							return
						}
					}
					tc.writeOn(1, frPing(), frPadding(1100))
				}
				t.Error("not challenged again")
			}, multipathUpTo(2))
		})
	}
}
