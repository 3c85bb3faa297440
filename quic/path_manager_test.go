// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Several paths, against a peer that offers multipath.

// preparePath has the peer issue connection ids for a path, and makes an address for
// it: a socket of the client under test, or where the peer is.
func (tc *testConn) preparePath(path uint32) {
	tc.t.Helper()
	tc.write(tc.peerCIDFrame(path, 0, 0), tc.peerCIDFrame(path, 1, 0))
	tc.remotes[path] = tc.addr
	addr := testOtherAddr.Addr()
	for range path - 1 {
		addr = addr.Next()
	}
	if tc.isClient {
		tc.addSocket(netip.AddrPortFrom(addr, 40000+uint16(path)))
	} else {
		tc.remotes[path] = netip.AddrPortFrom(addr, 40000+uint16(path))
	}
}

// startPath begins to open a prepared path. A client under test sends its challenge,
// a server answers that of the peer; both are taken by the caller.
func (tc *testConn) startPath(path uint32) {
	tc.t.Helper()
	if !tc.isClient {
		tc.writeOn(path, frPathChallenge("the peer"), frPadding(1150))
		return
	}
	if err := tc.conn.OpenPath(tc.sockets[path], tc.addr, ""); err != nil {
		tc.t.Fatal(err)
	}
}

// openPath opens a path and has both sides validate it.
func (tc *testConn) openPath(path uint32) {
	tc.t.Helper()
	tc.ignore(tMaxPathID, tPathNewConnectionID) // path ids are replaced
	tc.preparePath(path)
	tc.settle()
	tc.startPath(path)
	for f, _, ok := tc.nextFrame(); ok; f, _, ok = tc.nextFrame() {
		if f.typ == tPathChallenge {
			tc.advance(testRTT / 2)
			tc.writeOn(path, frPathResponse(f.blobs[0]), frPadding(1150))
		}
	}
	tc.settle()
	if p := tc.pathState(path); p == nil || p.phase != pathActive {
		tc.t.Fatalf("path %d is not active: %+v", path, tc.conn.Stats().Paths)
	}
}

// pathState is the state of a path, nil without one.
func (tc *testConn) pathState(path uint32) *pathState {
	if s := tc.core().pathID(path); s != nil {
		return s.path
	}
	return nil
}

// TestClientOpensPath is the transcript of a second path of a client.
func TestClientOpensPath(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		var events []Event
		tc.conn.SetEventHandler(func(e Event) { events = append(events, e) })
		tc.addSocket(testOtherAddr)
		if err := tc.conn.OpenPath(tc.sockets[1], tc.addr, "second"); err != nil {
			t.Fatal(err)
		}
		// The path waits for connection ids of the peer, and says so. RMP21-3-2
		tc.wantFrame("no connection id", frInts(tPathCIDsBlocked, 1, 0))
		tc.wantSilence("no connection id", testRTT)
		tc.ack()
		tc.remotes[1] = tc.addr
		tc.write(tc.peerCIDFrame(1, 0, 0))
		challenge, p := tc.wantType("the path opens", tPathChallenge) // RMP21-3.1-3
		switch {
		case p.path != 1 || !bytes.Equal(p.dcid, peerCID(1, 0)): // RMP21-3.1-1 RMP21-3.2.1-3 R9000-9.5-1
			t.Errorf("%v to %x", p, p.dcid)
		case p.dgram.sock != tc.sockets[1]:
			t.Error("sent on the wrong socket")
		case len(p.dgram.data) < 1200: // RMP21-3.1-8 R9000-8.2.1-2
			t.Errorf("PATH_CHALLENGE in %d bytes", len(p.dgram.data))
		case p.num != 0: // a packet number space of its own
			t.Errorf("packet number %d", p.num)
		}
		tc.wantIdle("nothing else before validation")
		tc.sendDatagrams(3)
		for range 3 {
			if _, p := tc.wantType("datagrams use the other path", tDatagram); p.path != 0 {
				t.Errorf("%v before validation", p)
			}
		}
		// An acknowledgment does not validate. R9000-8.2.3-2
		tc.writeOn(1, frPathAck(1, 0))
		if tc.pathState(1).phase != pathProbing {
			t.Error("validated by PATH_ACK")
		}
		tc.writeOn(1, frPathResponse([]byte("wrong!!!")))
		if tc.pathState(1).phase != pathProbing {
			t.Error("validated by the wrong data")
		}
		tc.writeOn(1, frPathResponse(challenge.blobs[0]))
		if tc.pathState(1).phase != pathActive {
			t.Error("not validated by PATH_RESPONSE")
		}
		if len(events) == 0 || events[0].Kind != PathUp || events[0].Path != 1 || events[0].Label != "second" {
			t.Errorf("events %+v", events)
		}
		// Path 0 is not touched. RMP21-3.1.2-1
		if st := tc.pathState(0); st.phase != pathActive || !st.validated || st.remote != tc.addr {
			t.Errorf("path 0: %v", st.phase)
		}
		// What arrives on a path is answered on that path.
		tc.settle()
		tc.writeOn(1, frPathChallenge("abcdefgh"), frPadding(1150))
		p = tc.wantFrame("challenge on path 1", frPathResponse([]byte("abcdefgh"))) // RMP21-3.1-6 RMP21-3.1-2
		if p.path != 1 || p.dgram.sock != tc.sockets[1] || len(p.dgram.data) < 1200 {
			t.Errorf("PATH_RESPONSE in %v, %d bytes", p, len(p.dgram.data))
		}
		if _, ok := p.has(tPing); !ok { // R9000-9.3.3-2
			t.Errorf("only probing frames on an active path: %v", p)
		}
	}, multipathUpTo(2))
}

// TestClientPathRules: what some peers insist on.
func TestClientPathRules(t *testing.T) {
	t.Run("our connection ids must have arrived", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.completeHandshake()
			tc.write(frHandshakeDone())
			tc.wantDial()
			tc.preparePath(1)
			tc.startPath(1)
			for f, p, ok := tc.nextFrame(); ok; f, p, ok = tc.nextFrame() {
				if f.typ == tPathChallenge || p.path != 0 {
					t.Fatalf("%v before our connection ids are acknowledged", p)
				}
			}
			tc.ack()
			tc.wantType("they have arrived", tPathChallenge)
		}, multipathUpTo(2))
	})
	t.Run("not before the handshake is confirmed", func(t *testing.T) { // R9000-9-1
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.completeHandshake()
			tc.writeHandshake()
			tc.skip()
			tc.preparePath(1)
			tc.startPath(1)
			tc.wantSilence("not confirmed", 10*testRTT)
			tc.ack()
			tc.wantType("confirmed", tPathChallenge)
		}, multipathUpTo(2))
	})
	t.Run("in the order of their ids", func(t *testing.T) { // RMP21-3.2.1-3 RMP21-3.2.1-5
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.preparePath(1)
			tc.preparePath(2)
			tc.settle()
			tc.startPath(1)
			tc.startPath(2)
			for path := range uint32(2) {
				if _, p := tc.wantType("challenge", tPathChallenge); p.path != path+1 {
					t.Errorf("%v, want path %d", p, path+1)
				}
				for f, _, ok := tc.peekFrame(); ok && f.typ != tPathChallenge; f, _, ok = tc.peekFrame() {
					tc.nextFrame()
				}
			}
			tc.settle()
			tc.preparePath(3)
			tc.skip()
			tc.startPath(3)
			tc.wantFrame("no path id left", frInts(tPathsBlocked, 2))
			tc.wantIdle("no path id left")
			tc.write(frInts(tMaxPathID, 3))
			tc.settle()
			if tc.pathState(3) == nil {
				t.Error("the path does not open when the limit grows")
			}
		}, multipathUpTo(2), func(c *Config) { c.InitialMaxPathID = 3 })
	})
	t.Run("our limit grows with the paths", func(t *testing.T) {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(frInts(tMaxPathID, 10))
			tc.skip()
			tc.preparePath(1)
			tc.settle()
			tc.conn.AbandonPath(2)
			tc.wantFrame("one path id less", frInts(tMaxPathID, 3)) // RMP21-4.6-1 RMP21-4.6-2
			tc.wantFrame("abandoned", frInts(tPathAbandon, 2, 0x3e))
			tc.wantIdle("the peer may not know of path id 3 yet")
			tc.ack()
			tc.wantNewCID("MAX_PATH_ID has arrived", 3, 0)
		}, multipathUpTo(2))
	})
	t.Run("disable_active_migration", func(t *testing.T) { // RMP21-2.2-2 R9000-9-2
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.preparePath(1)
			tc.settle()
			if err := tc.conn.OpenPath(tc.sockets[1], tc.addr, ""); err == nil {
				t.Error("a path to the address of the handshake")
			}
			tc.wantIdle("the peer forbids it")
		}, multipathUpTo(2), func(p *testParams) { p.setBytes(paramDisableActiveMigration, nil) })
	})
	t.Run("peer without multipath", func(t *testing.T) {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			s := tc.addSocket(testOtherAddr)
			if err := tc.conn.OpenPath(s, tc.addr, ""); err == nil {
				t.Error("OpenPath succeeds")
			}
			tc.wantIdle("no multipath")
		})
	})
	t.Run("a server opens none", func(t *testing.T) { // RMP21-3-1
		established(t, serverSide, func(t *testing.T, tc *testConn) {
			if err := tc.conn.OpenPath(tc.sockets[0], testOtherAddr, ""); err == nil {
				t.Error("OpenPath succeeds")
			}
		}, multipathUpTo(2))
	})
	t.Run("validation fails", func(t *testing.T) { // RMP21-3.1-9 R9000-8.2.4-1
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.preparePath(1)
			tc.settle()
			start := time.Now()
			tc.ignore(tMaxPathID, tPathNewConnectionID)
			tc.startPath(1)
			seen := make(map[uint64]bool)
			for {
				tc.waitSent(10 * time.Second)
				f, p, ok := tc.nextFrame()
				if ok && f.typ == tPathAbandon {
					if p.path != 0 || f.ints[0] != 1 || f.ints[1] != 0x3e76 { // RMP21-3.4-3 RMP21-4.2.1-1
						t.Errorf("%v on path %d", f, p.path)
					}
					break
				}
				if !ok {
					continue
				}
				if f.typ != tPathChallenge || p.path != 1 || len(p.dgram.data) < 1200 {
					t.Fatalf("%v in %v", f, p)
				}
				if seen[challengeOf(f)] { // R9000-8.2.1-1
					t.Error("the same data in two PATH_CHALLENGE")
				}
				seen[challengeOf(f)] = true
			}
			if took := time.Since(start); took != 3*(initialPTO+25*time.Millisecond) {
				t.Errorf("given up after %v", took)
			}
			if len(seen) < 2 {
				t.Errorf("%d challenges", len(seen))
			}
		}, multipathUpTo(2))
	})
}

// peekFrame is nextFrame without taking the frame.
func (tc *testConn) peekFrame() (f testFrame, p *peerPacket, ok bool) {
	tc.t.Helper()
	tc.fill()
	packets, frame := tc.packets, tc.frame
	f, p, ok = tc.nextFrame()
	if ok {
		tc.packets, tc.frame = packets, frame
	}
	return f, p, ok
}

// TestServerAcceptsPath is the transcript of a second path of a server.
func TestServerAcceptsPath(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.preparePath(1)
		tc.settle()
		sent := 0
		tc.writeOn(1, frPathChallenge("the peer"), frPadding(100)) // R9000-8.2.1-4
		response := tc.wantFrame("the peer's challenge", frPathResponse([]byte("the peer")))
		if response.path != 1 || response.dgram.to != tc.remotes[1] { // R9000-8.2.2-1 R9000-8.2.2-2 R9000-8.2.2-3
			t.Errorf("%v to %v", response, response.dgram.to)
		}
		tc.ignore(tPing)
		challenge, p := tc.wantType("the server validates, too", tPathChallenge) // RMP21-3.1-4
		if p.path != 1 {
			t.Errorf("challenge in %v", p)
		}
		tc.sendDatagrams(3)
		for range 3 {
			if _, p := tc.wantType("data uses the path that is validated", tDatagram); p.path != 0 {
				t.Errorf("%v before validation", p)
			}
		}
		count := func(d *peerDatagram) { sent += len(d.data) }
		count(response.dgram)
		if p.dgram != response.dgram {
			count(p.dgram)
		}
		received := 1 + 8 + 4 + 9 + 100 + 16
		if sent > 3*received { // RMP21-3.1-5 R9000-8-1 R9000-8.2.2-5
			t.Errorf("sent %d bytes in answer to %d", sent, received)
		}
		tc.wantIdle("the limit is reached")
		// The response to a small challenge validates the address but not the path. R9000-8.2.3-1
		tc.writeOn(1, frPathResponse(challenge.blobs[0]))
		again, p := tc.wantType("challenge of full size", tPathChallenge)
		if len(p.dgram.data) < 1200 || challengeOf(again) == challengeOf(challenge) {
			t.Errorf("%v in %d bytes", again, len(p.dgram.data))
		}
		if tc.pathState(1).phase != pathProbing {
			t.Error("active before it is known to carry 1200 bytes") // RMP21-3.1-8
		}
		tc.write(frPathResponse(again.blobs[0])) // R9000-8.2.2-4: over another path
		if tc.pathState(1).phase != pathActive {
			t.Error("not active")
		}
		tc.settle()
		tc.writeOn(1, frPing())
		tc.writeOn(1, frPing())
		_, p = func() (testFrame, *peerPacket) {
			tc.ignored = nil
			return tc.wantType("acknowledged on its own path", tPathAck) // RMP21-4.1-1
		}()
		if p.path != 1 || !bytes.Equal(p.dcid, peerCID(1, 0)) {
			t.Errorf("PATH_ACK in %v", p)
		}
	}, multipathUpTo(2))
}

// TestServerPathWithData: the first packet of a path may carry anything.
//
// RMP21-3.1-7
func TestServerPathWithData(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.preparePath(1)
		tc.settle()
		tc.writeOn(1, frStreamFin(0, 0, "data"), frPadding(1100))
		if s := tc.accept(); s.ID() != 0 {
			t.Errorf("stream %d", s.ID())
		}
		if _, p := tc.wantType("validation", tPathChallenge); p.path != 1 {
			t.Errorf("challenge in %v", p)
		}
	}, multipathUpTo(2))
}

// TestServerPathWithoutCID: the peer opens a path on which we cannot answer.
func TestServerPathWithoutCID(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.remotes[1] = testOtherAddr
		tc.ignore(tMaxPathID)
		tc.writeOn(1, frPathChallenge("01234567"), frPadding(1150))
		if p := tc.wantFrame("no connection id", frInts(tPathAbandon, 1, 0x3e77)); p.path != 0 { // RMP21-3.1-10
			t.Errorf("sent in %v", p)
		}
		tc.settle()
		tc.wantAlive("path refused")
	}, multipathUpTo(2))
}

// TestForgedPath: nothing happens before a packet with an unused path id decrypts.
func TestForgedPath(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.preparePath(1)
		tc.settle()
		if tc.isClient {
			tc.writeOn(1, frPing()) // authentic, but a server does not open paths
		} else {
			tc.writeFrom(tc.remotes[1], &peerPacket{typ: packetOneRTT, path: 1, frames: []testFrame{frPing()}, corrupt: true})
		}
		tc.wantSilence("no path", testRTT)
		if tc.pathState(1) != nil { // RMP21-7.1-1
			t.Error("there is a state of the path")
		}
	}, multipathUpTo(2))
}

// TestAbandon: closing paths, from either side.
func TestAbandon(t *testing.T) {
	t.Run("by us", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.openPath(1)
			tc.conn.AbandonPath(1)
			p := tc.wantFrame("abandoned", frInts(tPathAbandon, 1, 0x3e)) // RMP21-3.4-1 RMP21-4.2-1
			if p.path != 0 {                                              // RMP21-3.4-3
				t.Errorf("sent in %v", p)
			}
			tc.skip()
			tc.forget(p) // RMP21-4.2-2
			tc.waitSent(5 * time.Second)
			tc.wantFrame("repeated", frInts(tPathAbandon, 1, 0x3e))
			tc.settle()
			// Late packets are acknowledged, on another path. RMP21-3.4.3-1
			tc.ignored = nil
			num := *tc.nextNum[1]
			tc.writeOn(1, frPing())
			tc.writeOn(1, frPing())
			f, p := tc.wantType("late packets", tPathAck)
			if path, nums := f.acked(); path != 1 || p.path != 0 || !slices.Contains(nums, num) {
				t.Errorf("%v in %v", f, p)
			}
			tc.write(frInts(tPathAbandon, 1, 0))
			tc.skip()
			d := 3 * tc.core().largestPTO()
			tc.advance(d - time.Millisecond) // RMP21-3.4-5
			if tc.pathState(1) == nil {
				t.Error("state dropped too early")
			}
			tc.advance(2 * time.Millisecond)
			if tc.core().pathID(1) != nil {
				t.Error("state is left")
			}
			// Its frames are ignored from now on. RMP21-4-4 RMP21-3.4-7
			tc.write(frPathAck(1, 0), frInts(tPathStatusBackup, 1, 9), frInts(tPathAbandon, 1, 0), frInts(tPathCIDsBlocked, 1, 0),
				tc.peerCIDFrame(1, 5, 0), frInts(tPathRetireConnectionID, 1, 0))
			tc.skip()
			tc.wantAlive("frames about a path that is gone")
		}, multipathUpTo(2))
	})
	t.Run("by the peer", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.openPath(1)
			tc.write(frInts(tPathAbandon, 1, 0x3e76))
			p := tc.wantFrame("answered", frInts(tPathAbandon, 1, 0)) // RMP21-3.4-4
			if p.path != 0 {
				t.Errorf("sent in %v", p)
			}
			tc.settle()
			if ph := tc.pathState(1).phase; ph != pathDraining {
				t.Errorf("path is %v", ph)
			}
			tc.sendDatagrams(20)
			for f, p, ok := tc.nextFrame(); ok; f, p, ok = tc.nextFrame() {
				if p.path == 1 { // RMP21-3.4-2
					t.Errorf("%v on the abandoned path", f)
				}
			}
			// RMP21-3.4.2-1
			tc.writeRaw(resetDatagram(peerToken(1, 0), 40))
			tc.writeRaw(resetDatagram(peerToken(1, 1), 40))
			tc.wantAlive("tokens of the abandoned path")
		}, multipathUpTo(2))
	})
	t.Run("never used", func(t *testing.T) { // RMP21-3.4-9
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.ignore(tMaxPathID)
			tc.write(frInts(tPathAbandon, 2, 0))
			tc.wantFrame("answered", frInts(tPathAbandon, 2, 0))
			tc.settle()
			tc.wantAlive("abandoned before it was used")
		}, multipathUpTo(2))
	})
	t.Run("the only path", func(t *testing.T) { // RMP21-3.4-8
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.write(frInts(tPathAbandon, 0, 0))
			tc.wantClose("no path is left", NoError)
		}, multipathUpTo(2))
	})
	t.Run("without an answer", func(t *testing.T) { // RMP21-3.4-6
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.openPath(1)
			wait := 3 * tc.core().largestPTO()
			tc.conn.AbandonPath(1)
			tc.wantFrame("abandoned", frInts(tPathAbandon, 1, 0x3e))
			tc.write(tc.ackFrame(0))
			tc.advance(wait - time.Millisecond)
			if ph := tc.pathState(1).phase; ph != pathAbandoning {
				t.Errorf("path is %v", ph)
			}
			tc.advance(4 * tc.core().largestPTO())
			if tc.core().pathID(1) != nil || tc.conn.Err() != nil {
				t.Errorf("state is left, or the connection ended: %v", tc.conn.Err())
			}
		}, multipathUpTo(2))
	})
	t.Run("path 0", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.openPath(1)
			tc.writeOn(1, frInts(tPathAbandon, 0, 0))
			if p := tc.wantFrame("answered", frInts(tPathAbandon, 0, 0)); p.path != 1 {
				t.Errorf("sent in %v", p)
			}
			tc.writeOn(1, tc.ackFrame(1))
			tc.advance(4 * tc.core().largestPTO())
			tc.skip()
			if tc.core().pathID(0) != nil {
				t.Error("path 0 is left")
			}
			tc.writeOn(1, frPing())
			tc.writeOn(1, frPathChallenge("01234567"), frPadding(1150))
			tc.wantFrame("the connection lives on path 1", frPathResponse([]byte("01234567")))
			tc.conn.CloseWithError(1, "")
			tc.skip()
		}, multipathUpTo(2))
	})
}

// TestCloseOnAnyPath: CONNECTION_CLOSE means all paths.
func TestCloseOnAnyPath(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) { // RMP21-2.6-2
		tc.openPath(1)
		tc.pathState(1).loss.rtt.update(tc.core().turnTime, time.Second, 0) // the slow one decides
		if d := tc.closeTime(); d < 3*time.Second {
			t.Fatalf("three PTOs are %v", d)
		}
		tc.writeOn(1, frApplicationClose(5, ""))
		if _, ok := tc.conn.Err().(*ApplicationError); !ok {
			t.Errorf("Err is %v", tc.conn.Err())
		}
		tc.wantEndAfter(tc.closeTime()) // RMP21-2.6-1
	}, multipathUpTo(2))
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		tc.conn.CloseWithError(5, "")
		paths := make(map[uint32]bool)
		for range 2 {
			paths[tc.wantFrame("on every path", frApplicationClose(5, "")).path] = true
		}
		if len(paths) != 2 {
			t.Errorf("CONNECTION_CLOSE on paths %v", paths)
		}
	}, multipathUpTo(2))
}

// TestMultipathFrameErrors: what ends the connection.
func TestMultipathFrameErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		code  TransportErrorCode
		frame testFrame
	}{
		// RMP21-4-3: the limit is 2, and every frame with a path id has it checked.
		{"PATH_ACK", ProtocolViolation, frPathAck(3, 0)},
		{"PATH_ABANDON", ProtocolViolation, frInts(tPathAbandon, 3, 0)},
		{"PATH_STATUS_BACKUP", ProtocolViolation, frInts(tPathStatusBackup, 3, 1)},
		{"PATH_STATUS_AVAILABLE", ProtocolViolation, frInts(tPathStatusAvailable, 3, 1)},
		{"PATH_NEW_CONNECTION_ID", ProtocolViolation, frPathNewConnectionID(3, 0, 0, peerCID(3, 0), peerToken(3, 0))},
		{"PATH_RETIRE_CONNECTION_ID", ProtocolViolation, frInts(tPathRetireConnectionID, 3, 0)},
		{"PATH_CIDS_BLOCKED RMP21-4.7-3", ProtocolViolation, frInts(tPathCIDsBlocked, 3, 0)},
		{"PATHS_BLOCKED RMP21-4.7-2", ProtocolViolation, frInts(tPathsBlocked, 3)},
		{"path id above 2^32-1", ProtocolViolation, frInts(tPathAbandon, 1<<32, 0)},
		{"MAX_PATH_ID above 2^32-1 RMP21-4.6-3", ProtocolViolation, frInts(tMaxPathID, 1<<32)},
		{"MAX_PATH_ID below the initial one RMP21-4.6-4", ProtocolViolation, frInts(tMaxPathID, 1)},
		{"PATH_CIDS_BLOCKED beyond the next one RMP21-4.7-4", ProtocolViolation, frInts(tPathCIDsBlocked, 1, 3)},
		{"never issued is retired RMP21-4.5-2", ProtocolViolation, frInts(tPathRetireConnectionID, 1, 2)},
		{"PATH_ACK of a packet never sent R9000-13.1-2", ProtocolViolation, frPathAck(0, 1<<20)},
		{"PATH_ACK of a path never used", ProtocolViolation, frPathAck(1, 0)},
		{"PATH_ACK range below 0", FrameEncodingError, frInts(tPathAck, 0, 0, 0, 0, 1)},
		{"empty connection id RMP21-4.4-3", FrameEncodingError, frPathNewConnectionID(1, 0, 0, nil, peerToken(1, 0))},
		{"Retire Prior To above the number RMP21-4.4-3", FrameEncodingError, frPathNewConnectionID(1, 0, 1, peerCID(1, 0), peerToken(1, 0))},
		{"draft-15 type", FrameEncodingError, frRaw(0x95, 0x22, 0x8c, 0x0c, 3)},
	} {
		t.Run(test.name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				tc.write(test.frame)
				f := tc.wantClose(test.name, test.code)
				if test.frame.raw == nil && f.ints[1] != test.frame.typ {
					t.Errorf("CONNECTION_CLOSE names frame type 0x%x, want 0x%x", f.ints[1], test.frame.typ)
				}
			}, multipathUpTo(2))
		})
	}
}

// TestMultipathHarmlessFrames must not end the connection.
func TestMultipathHarmlessFrames(t *testing.T) {
	for name, frames := range map[string][]testFrame{
		"ACK means path 0 RMP21-2.3-2":       {frAck(0)},
		"ECN counts":                         {frInts(tPathAckECN, 0, 0, 0, 0, 0, 1, 2, 3)},
		"blocked frames RMP21-4.7-5":         {frInts(tPathsBlocked, 1), frInts(tPathCIDsBlocked, 1, 0), frInts(tPathCIDsBlocked, 1, 2)},
		"status of an unused path":           {frInts(tPathStatusBackup, 2, 5), frInts(tPathStatusAvailable, 1, 5)},
		"limits that do not grow":            {frInts(tMaxPathID, 2), frInts(tMaxPathID, 2)},
		"unknown abandon code RMP21-4.2.1-1": {frInts(tPathAbandon, 2, 0x1234567)},
	} {
		t.Run(name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				tc.write(frames...)
				tc.settle()
				tc.wantAlive(name)
			}, multipathUpTo(2))
		})
	}
}

// TestPathStatus: whose word counts.
func TestPathStatus(t *testing.T) {
	t.Run("of the peer", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.write(frInts(tPathStatusBackup, 1, 7)) // RMP21-4.3-4: kept for later
			tc.openPath(1)
			backup := func(path PathID) bool { return tc.core().pathID(path).peerBackup }
			if !backup(1) {
				t.Error("a status before the path was used is lost")
			}
			for range 20 {
				tc.sendDatagrams(1)
				if _, p := tc.wantType("datagram", tDatagram); p.path != 0 { // RMP21-3.3-1
					t.Fatalf("%v although path 1 is a backup", p)
				}
				tc.settle()
			}
			tc.write(frInts(tPathStatusAvailable, 1, 7)) // RMP21-4.3-3
			tc.write(frInts(tPathStatusAvailable, 1, 6))
			if !backup(1) {
				t.Error("a status that is not newer has an effect")
			}
			tc.write(frInts(tPathStatusBackup, 0, 7)) // RMP21-4.3-4: numbers are per path
			if !backup(0) {
				t.Error("the same number on another path has no effect")
			}
			tc.write(frInts(tPathStatusAvailable, 1, 8))
			if backup(1) {
				t.Error("a newer status has no effect")
			}
			tc.settle()
			tc.sendDatagrams(1)
			if _, p := tc.wantType("datagram", tDatagram); p.path != 1 {
				t.Errorf("%v although path 0 is a backup", p)
			}
		}, multipathUpTo(2))
	})
	t.Run("of ours", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.openPath(1)
			tc.conn.SetPathBackup(1, true)
			lost := tc.wantFrame("backup", frInts(tPathStatusBackup, 1, 1)) // RMP21-4.3-1
			tc.conn.SetPathBackup(1, false)
			tc.wantFrame("available, with a higher number", frInts(tPathStatusAvailable, 1, 2)) // RMP21-4.3-2
			tc.conn.SetPathBackup(1, false)
			tc.wantIdle("nothing changes")
			tc.forget(lost)
			tc.sendDatagrams(5)
			tc.skip()
			tc.ack()
			tc.advance(testRTT)
			tc.wantIdle("a status that is out of date is not repeated") // RMP21-4.3-5
		}, multipathUpTo(2))
	})
}

// TestECNPerPath: each number space has its own counts.
//
// RMP21-4.1-2
func TestECNPerPath(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		tc.ignored = map[uint64]bool{tMaxPathID: true, tPathNewConnectionID: true}
		m := udpReceived(tc, 1, tc.seal(&peerPacket{typ: packetOneRTT, path: 1, frames: []testFrame{frPing()}}))
		m.ECN = udpio.CE
		tc.deliver(m)
		f, _ := tc.wantType("path 1", tPathAckECN)
		if n := len(f.ints); f.ints[0] != 1 || !slices.Equal(f.ints[n-3:], []uint64{0, 0, 1}) {
			t.Errorf("%v", f)
		}
		tc.write(frPing())
		tc.write(frPing())
		if f, _ := tc.wantType("path 0 has no marks", tPathAck); f.ints[0] != 0 {
			t.Errorf("%v", f)
		}
	}, multipathUpTo(2))
}

// TestDraft15 uses the code points of older drafts when the peer offers only them.
func TestDraft15(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		if !tc.core().multipath || tc.core().cp != &wire.Draft15 {
			t.Fatal("draft-15 is not negotiated")
		}
		tc.openPath(1)
		tc.conn.AbandonPath(1)
		tc.wantFrame("abandoned", frInts(tPathAbandon, 1, 0x004150504142414e))
		tc.settle()
		tc.wantAlive("draft-15")
	}, multipathUpTo(2), draft15{})
}

// TestAbandonBeforeConfirmation: another path cannot be opened before the handshake is
// confirmed, so that path 0 is the last one even if others wait.
func TestAbandonBeforeConfirmation(t *testing.T) {
	for name, abandon := range map[string]func(tc *testConn){
		"application": func(tc *testConn) { tc.conn.AbandonPath(0) },
		"peer":        func(tc *testConn) { tc.write(frInts(tPathAbandon, 0, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			scripted(t, clientSide, func(t *testing.T, tc *testConn) {
				tc.completeHandshake()
				if err := tc.conn.OpenPath(tc.addSocket(testOtherAddr), tc.addr, "waits"); err != nil {
					t.Fatal(err)
				}
				tc.skip()
				abandon(tc)
				tc.wantClose("the last path was abandoned", NoError)
			}, multipathUpTo(2))
		})
	}
}
