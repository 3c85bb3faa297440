// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"strings"
	"testing"
	"time"
)

// The rows of TestLostFrames.

func smallWindow(c *Config)       { c.ConnReceiveWindow, c.StreamReceiveWindow = 100, 1000 }
func smallStreamWindow(c *Config) { c.StreamReceiveWindow = 100 }
func threePathIDs(c *Config)      { c.InitialMaxPathID = 3 }

// peerParam is an option: a transport parameter of the peer.
func peerParam(id, v uint64) func(*testParams) { return func(p *testParams) { p.set(id, v) } }

// repeatedFrames have to reach the peer.
var repeatedFrames = []lostFrame{
	{tStream, "data", clientSide, func(tc *testConn, mode lossMode) {
		s := tc.open(false)
		s.Write([]byte("hello"))
		want := frStream(0, 0, "hello")
		tc.wantAgain(tc.wantFrame("written", want), mode, want) // R9000-2.2-2
		tc.settle()
		s.CloseWrite()
		tc.wantFrame("end", frStreamFin(0, 5, "")) // R9000-4.5-2
	}, nil},
	{tStream, "empty, with FIN", serverSide, again(func(tc *testConn) testFrame {
		tc.open(true).CloseWrite()
		return frStreamFin(3, 0, "")
	}), nil},
	{tResetStream, "", clientSide, again(func(tc *testConn) testFrame { // R9000-13.3-1
		s := tc.open(false)
		s.Write([]byte("hello"))
		tc.wantFrame("written", frStream(0, 0, "hello"))
		tc.ack()
		s.Reset(9)
		return frInts(tResetStream, 0, 9, 5)
	}), nil},
	{tStopSending, "", serverSide, again(func(tc *testConn) testFrame {
		tc.write(frStream(0, 0, "hello"))
		tc.accept().StopSending(9)
		return frInts(tStopSending, 0, 9) // R9000-3.5-1
	}), nil},
	{tMaxData, "", clientSide, again(func(tc *testConn) testFrame {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		tc.wantIdle("not read yet")
		tc.accept().Read(make([]byte, 100))
		return frMaxData(160) // R9000-4.2-1: without being asked
	}), []any{smallWindow}},
	{tMaxStreamData, "", clientSide, again(func(tc *testConn) testFrame {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		tc.accept().Read(make([]byte, 100))
		return frInts(tMaxStreamData, 1, 160) // R9000-4.2-1
	}), []any{smallStreamWindow}},
	{tMaxStreamsUni, "", serverSide, again(func(tc *testConn) testFrame {
		tc.write(frStreamFin(2, 0, ""))
		tc.accept().Read(make([]byte, 1))
		return frInts(tMaxStreamsUni, 3) // R9000-4.6-7
	}), []any{func(c *Config) { c.MaxIncomingUniStreams = 2 }}},
	{tMaxStreamsBidi, "", clientSide, again(func(tc *testConn) testFrame {
		tc.write(frStreamFin(1, 0, ""))
		s := tc.accept()
		s.Read(make([]byte, 1))
		s.CloseWrite()
		tc.wantFrame("other direction", frStreamFin(1, 0, ""))
		tc.ack()
		return frInts(tMaxStreamsBidi, 3)
	}), []any{func(c *Config) { c.MaxIncomingStreams = 2 }}},
	{tDataBlocked, "", clientSide, again(func(tc *testConn) testFrame {
		tc.open(false).Write([]byte("hello"))
		tc.ignore(tStream)
		return frInts(tDataBlocked, 3) // R9000-4.1-5
	}), []any{peerParam(paramMaxData, 3)}},
	{tStreamDataBlocked, "", clientSide, again(func(tc *testConn) testFrame {
		tc.open(false).Write([]byte("hello"))
		tc.ignore(tStream)
		return frInts(tStreamDataBlocked, 0, 3) // R9000-4.1-5
	}), []any{peerParam(paramStreamDataBidi, 3)}},
	{tStreamsBlockedBidi, "", clientSide, again(func(tc *testConn) testFrame {
		go tc.conn.OpenStream(tc.t.Context()) // R9000-4.6-3: it waits
		return frInts(tStreamsBlockedBidi, 0) // R9000-4.6-6
	}), []any{peerParam(paramMaxStreamsBidi, 0)}},
	{tStreamsBlockedUni, "", serverSide, again(func(tc *testConn) testFrame {
		go tc.conn.OpenUniStream(tc.t.Context())
		return frInts(tStreamsBlockedUni, 0)
	}), []any{peerParam(paramMaxStreamsUni, 0)}},
	{tCrypto, "ticket", serverSide, again(func(tc *testConn) testFrame {
		sent := tc.core().appCrypto.out.sent
		tc.core().appCrypto.write([]byte("a ticket"))
		tc.write(frPing())
		return frCrypto(sent, []byte("a ticket"))
	}), nil},
	{tNewToken, "", serverSide, again(func(tc *testConn) testFrame {
		c := tc.core()
		c.newTokenFrame.set()
		c.controlDue = true
		tc.write(frPing())
		return frNewToken(string(c.newToken))
	}), nil},
	{tHandshakeDone, "", serverSide, again(func(tc *testConn) testFrame { // R9000-13.3-2
		c := tc.core()
		c.doneFrame.set()
		c.controlDue = true
		tc.write(frPing())
		return frHandshakeDone()
	}), nil},
	{tPathNewConnectionID, "", clientSide, newConnectionIDAgain, nil},
	{tPathRetireConnectionID, "", serverSide, again(func(tc *testConn) testFrame {
		tc.write(tc.peerCIDFrame(0, 1, 1))
		return tc.frRetire(0, 0)
	}), nil},
	{tNewConnectionID, "", clientSide, newConnectionIDAgain, []any{singlePath{}}},
	{tRetireConnectionID, "", serverSide, again(func(tc *testConn) testFrame {
		tc.write(tc.peerCIDFrame(0, 1, 1))
		return tc.frRetire(0, 0)
	}), []any{singlePath{}}},
	{tMaxPathID, "", serverSide, func(tc *testConn, mode lossMode) { // RMP21-4.6-6
		delete(tc.ignored, tMaxPathID)
		tc.ignore(tPathAbandon)
		tc.write(frInts(tPathAbandon, 2, 0))
		f, p := tc.wantType("one path id less", tMaxPathID)
		want := f
		if mode == lossByAbandon { // another one
			want = frInts(tMaxPathID, f.ints[0]+1)
		}
		tc.wantAgain(p, mode, want)
	}, nil},
	{tPathStatusBackup, "", clientSide, again(func(tc *testConn) testFrame {
		tc.conn.SetPathBackup(0, true)
		return frInts(tPathStatusBackup, 0, 1)
	}), nil},
	{tPathStatusAvailable, "", serverSide, again(func(tc *testConn) testFrame {
		tc.conn.SetPathBackup(0, true)
		tc.wantFrame("backup", frInts(tPathStatusBackup, 0, 1))
		tc.ack()
		tc.conn.SetPathBackup(0, false)
		return frInts(tPathStatusAvailable, 0, 2)
	}), nil},
	{tPathAbandon, "", clientSide, func(tc *testConn, mode lossMode) { // RMP21-4.2-2
		tc.ignore(tMaxPathID)
		tc.conn.AbandonPath(2)
		want := frInts(tPathAbandon, 2, 0x3e)
		p := tc.wantFrame("abandoned", want)
		tc.lose(p, mode)
		delete(tc.ignored, tPathAbandon)
		for f, q, ok := tc.nextFrame(); !f.equal(want) || mode.ofPath() && q.path != 0; f, q, ok = tc.nextFrame() {
			if !ok {
				tc.t.Fatal("not repeated")
			}
		}
	}, nil},
	{tPathsBlocked, "", clientSide, again(func(tc *testConn) testFrame {
		if tc.pathState(1) == nil {
			tc.preferSecondPath()
		}
		tc.addSocket(testOtherAddr)
		tc.startPath(2)
		return frInts(tPathsBlocked, 1) // RMP21-4.7-1
	}), []any{multipathUpTo(1), threePathIDs}},
	{tPathCIDsBlocked, "", clientSide, again(func(tc *testConn) testFrame {
		path := uint64(len(tc.sockets))
		tc.addSocket(testOtherAddr)
		tc.startPath(uint32(path))
		return frInts(tPathCIDsBlocked, path, 0) // RMP21-4.7-1
	}), nil},
}

func newConnectionIDAgain(tc *testConn, mode lossMode) {
	tc.use[0] = 1
	tc.write(tc.frRetire(0, 0))
	delete(tc.ignored, tPathNewConnectionID)
	f, p, _ := tc.nextFrame()
	tc.wantAgain(p, mode, f)
}

// obsoleteFrames are out of date when their loss is noticed: the present content is sent,
// or nothing.
var obsoleteFrames = []lostFrame{
	{tStream, "after RESET_STREAM", clientSide, never(func(tc *testConn) testFrame {
		s := tc.open(false)
		s.Write([]byte("hello"))
		tc.fill()
		s.Reset(9)
		return frStream(0, 0, "hello")
	}), nil},
	{tMaxData, "new value", clientSide, func(tc *testConn, mode lossMode) {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		s := tc.accept()
		s.Read(make([]byte, 100))
		p := tc.wantFrame("credit", frMaxData(160))
		tc.write(frStream(1, 60, strings.Repeat("x", 20)))
		s.Read(make([]byte, 100))
		tc.wantAgain(p, mode, frMaxData(180))
	}, []any{smallWindow}},
	{tMaxStreamData, "new value", clientSide, func(tc *testConn, mode lossMode) {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		s := tc.accept()
		s.Read(make([]byte, 100))
		p := tc.wantFrame("credit", frInts(tMaxStreamData, 1, 160))
		tc.write(frStream(1, 60, strings.Repeat("x", 20)))
		s.Read(make([]byte, 100))
		tc.wantAgain(p, mode, frInts(tMaxStreamData, 1, 180))
	}, []any{smallStreamWindow}},
	{tMaxStreamData, "final size is known", clientSide, never(func(tc *testConn) testFrame {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		tc.accept().Read(make([]byte, 100))
		tc.fill()
		tc.write(frStreamFin(1, 60, ""))
		return frInts(tMaxStreamData, 1, 160)
	}), []any{smallStreamWindow}},
	{tMaxStreamsUni, "new value", serverSide, func(tc *testConn, mode lossMode) {
		end := func(id uint64) {
			tc.write(frStreamFin(id, 0, ""))
			tc.accept().Read(make([]byte, 1))
		}
		end(2)
		end(6)
		p := tc.wantFrame("credit", frInts(tMaxStreamsUni, 10))
		end(10)
		tc.wantAgain(p, mode, frInts(tMaxStreamsUni, 11))
	}, []any{func(c *Config) { c.MaxIncomingUniStreams = 8 }}},
	{tStopSending, "the stream has ended", serverSide, never(func(tc *testConn) testFrame {
		tc.write(frStream(0, 0, "hello"))
		tc.accept().StopSending(9)
		tc.fill()
		tc.write(frInts(tResetStream, 0, 9, 5))
		return frInts(tStopSending, 0, 9)
	}), nil},
	{tDataBlocked, "limit raised", clientSide, never(func(tc *testConn) testFrame {
		tc.open(false).Write([]byte("hello"))
		tc.ignore(tStream)
		tc.fill()
		tc.write(frMaxData(100))
		return frInts(tDataBlocked, 3)
	}), []any{peerParam(paramMaxData, 3)}},
	{tStreamDataBlocked, "limit raised", clientSide, never(func(tc *testConn) testFrame {
		tc.open(false).Write([]byte("hello"))
		tc.ignore(tStream)
		tc.fill()
		tc.write(frInts(tMaxStreamData, 0, 100))
		return frInts(tStreamDataBlocked, 0, 3)
	}), []any{peerParam(paramStreamDataBidi, 3)}},
	{tStreamsBlockedBidi, "limit raised", clientSide, never(func(tc *testConn) testFrame {
		go tc.conn.OpenStream(tc.t.Context())
		tc.fill()
		tc.write(frInts(tMaxStreamsBidi, 1))
		return frInts(tStreamsBlockedBidi, 0)
	}), []any{peerParam(paramMaxStreamsBidi, 0)}},
	{tPathNewConnectionID, "retired", clientSide, func(tc *testConn, mode lossMode) {
		tc.use[0] = 1
		tc.write(tc.frRetire(0, 0))
		delete(tc.ignored, tPathNewConnectionID)
		f, p, _ := tc.nextFrame()
		tc.write(tc.frRetire(0, 2))
		tc.wantNever(p, mode, f.equal)
	}, nil},
	{tPathStatusBackup, "new status", clientSide, func(tc *testConn, mode lossMode) {
		tc.conn.SetPathBackup(0, true)
		old := frInts(tPathStatusBackup, 0, 1)
		p := tc.wantFrame("backup", old)
		tc.conn.SetPathBackup(0, false)
		tc.wantFrame("available", frInts(tPathStatusAvailable, 0, 2))
		tc.wantNever(p, mode, old.equal) // RMP21-4.3-5
	}, nil},
	{tPathsBlocked, "limit raised", clientSide, never(func(tc *testConn) testFrame {
		if tc.pathState(1) == nil {
			tc.preferSecondPath()
		}
		tc.addSocket(testOtherAddr)
		tc.startPath(2)
		tc.fill()
		tc.write(frInts(tMaxPathID, 3))
		tc.ignore(tPathCIDsBlocked)
		return frInts(tPathsBlocked, 1)
	}), []any{multipathUpTo(1), threePathIDs}},
}

// transientFrames are bound to a moment or to a path.
var transientFrames = []lostFrame{
	{tPing, "", clientSide, func(tc *testConn, mode lossMode) {
		if mode == lossByPTO {
			return // a probe is a PING, whatever was lost
		}
		delete(tc.ignored, tPing)
		tc.conn.SetKeepAlive(time.Second)
		tc.waitSent(time.Minute)
		_, p := tc.wantType("silence", tPing)
		tc.conn.SetKeepAlive(0)
		if mode.ofPath() {
			return // which path has a PING does not matter, and a doubted one is probed
		}
		tc.wantNever(p, mode, func(testFrame) bool { return true })
	}, []any{singlePath{}}},
	{tDatagram, "", serverSide, never(func(tc *testConn) testFrame { // R9221-5.2-1
		tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 77)})
		return testFrame{typ: tDatagram, blobs: [][]byte{make([]byte, 77)}}
	}), nil},
	{tDatagramLen, "", clientSide, never(func(tc *testConn) testFrame {
		tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 77), datagram(0, 78)})
		return testFrame{typ: tDatagramLen, blobs: [][]byte{make([]byte, 77)}}
	}), nil},
	{tPathResponse, "", clientSide, func(tc *testConn, mode lossMode) {
		path := uint32(0)
		if mode.ofPath() {
			path = 1
		}
		tc.writeOn(path, frPathChallenge("01234567"), frPadding(1150))
		response := frPathResponse([]byte("01234567"))
		p := tc.wantFrame("answered", response)
		tc.wantNever(p, mode, response.equal) // R9000-8.2.2-6: one response at most
	}, nil},
	{tPathChallenge, "", clientSide, func(tc *testConn, mode lossMode) {
		path := uint32(len(tc.sockets))
		tc.preparePath(path)
		tc.settle()
		tc.startPath(path)
		first, p := tc.wantType("the path opens", tPathChallenge)
		if mode == lossByAbandon {
			tc.write(frInts(tPathAbandon, uint64(path), 0))
		}
		tc.forget(p)
		for range 20 {
			for f, q, ok := tc.nextFrame(); ok; f, q, ok = tc.nextFrame() {
				if f.typ == tPathChallenge && (q.path != path || f.equal(first) || mode == lossByAbandon) {
					tc.t.Errorf("%v in %v", f, q)
				}
			}
			if mode == lossByThreshold {
				tc.ack()
			}
			tc.advance(100 * time.Millisecond)
		}
	}, nil},
	{tPathAck, "", clientSide, func(tc *testConn, mode lossMode) { ackIsNotRepeated(tc) }, nil},
	{tAck, "", serverSide, func(tc *testConn, mode lossMode) { ackIsNotRepeated(tc) }, []any{singlePath{}}},
}

// ackIsNotRepeated loses a packet that is nothing but an acknowledgment: the next one is
// sent when there is something new to acknowledge.
func ackIsNotRepeated(tc *testConn) {
	tc.write(frPing())
	tc.write(frPing())
	p := tc.nextPacket()
	if p == nil || len(p.frames) != 1 || p.frames[0].typ != tAck && p.frames[0].typ != tPathAck {
		tc.t.Fatalf("%v, want an acknowledgment", p)
	}
	tc.forget(p)
	tc.sendDatagrams(packetThreshold)
	tc.skip()
	tc.ack()
	tc.advance(5 * time.Second)
	for q := tc.nextPacket(); q != nil; q = tc.nextPacket() {
		if _, ok := q.has(p.frames[0].typ); ok {
			tc.t.Errorf("%v although nothing came since", q)
		}
	}
}

// TestCloseIsNotRepeated without a packet that asks for it: there is no PTO in the
// closing state.
func TestCloseIsNotRepeated(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.conn.CloseWithError(7, "bye")
		tc.wantFrame("the application closes", frApplicationClose(7, "bye"))
		tc.wantSilenceNoDatagram("nobody asks")
		tc.advance(tc.closeTime())
		tc.wantNoDatagram("nobody asks")
	})
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.write(frRaw(0x21))
		tc.wantClose("unknown frame type", FrameEncodingError)
		tc.wantSilenceNoDatagram("nobody asks")
		tc.advance(tc.closeTime())
		tc.wantNoDatagram("nobody asks")
	})
}
