// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever a frame carries that has to reach the peer must be sent again, however it
// was lost.

// lossMode is how a packet gets lost.
type lossMode int

const (
	lossByThreshold lossMode = iota // later packets are acknowledged
	lossByPTO                       // nothing is acknowledged any more
	lossByAbandon                   // its path is abandoned: RMP21-3.4.3-2
	lossBySilence                   // its path is silent, another one is not
	numLossModes
)

func (m lossMode) String() string {
	return [...]string{"loss", "PTO", "path abandoned", "path silent"}[m]
}

// lostFrameTest runs f once for each way to lose a packet. f has the connection send
// something, calls lose with the packet, and expects it again. In the modes that
// lose a path the packet goes over path 1, which then is gone.
func lostFrameTest(t *testing.T, side testSide, f func(t *testing.T, tc *testConn, lose func(*peerPacket)), options ...any) {
	t.Helper()
	for mode := range numLossModes {
		t.Run(mode.String(), func(t *testing.T) {
			established(t, side, func(t *testing.T, tc *testConn) {
				if mode >= lossByAbandon {
					tc.openPath(1)
					tc.write(frInts(tPathStatusBackup, 0, 100)) // so that path 1 is used
					tc.settle()
				}
				tc.ignore(tPing)
				f(t, tc, func(p *peerPacket) { tc.lose(p, mode) })
			}, append(slices.Clip(options), multipathUpTo(2))...)
		})
	}
}

// lose makes the connection find out that a packet did not arrive.
func (tc *testConn) lose(p *peerPacket, mode lossMode) {
	tc.t.Helper()
	tc.fill()
	tc.forget(p)
	switch mode {
	case lossByThreshold:
		tc.skip()
		for range packetThreshold {
			tc.sendDatagrams(1)
			tc.wantType("later packet", tDatagram)
		}
		tc.ack()
	case lossByPTO:
		// One probe may have nothing new to say.
		for range 3 {
			tc.waitSent(5 * time.Second)
			if _, _, ok := tc.peekFrame(); ok {
				break
			}
		}
	case lossByAbandon:
		if p.path != 1 {
			tc.t.Fatalf("%v is not on path 1", p)
		}
		tc.skip()
		tc.ignore(tPathAbandon)
		tc.write(frInts(tPathAbandon, 1, 0))
		tc.advance(4 * tc.core().largestPTO())
	case lossBySilence:
		if p.path != 1 {
			tc.t.Fatalf("%v is not on path 1", p)
		}
		// The peer answers on path 0 only.
		for range 50 {
			_, p, ok := tc.peekFrame()
			if ok && p.path == 0 {
				break
			}
			if ok { // PTO on the silent path, before that is in doubt
				tc.nextFrame()
				continue
			}
			if len(tc.received[0]) > 0 {
				tc.write(tc.ackFrame(0))
			}
			tc.advance(10 * time.Millisecond)
		}
	}
}

func TestLostStreamData(t *testing.T) {
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		s := tc.open(false)
		s.Write([]byte("hello"))
		p := tc.wantFrame("written", frStream(0, 0, "hello"))
		lose(p)
		tc.wantFrame("repeated, identical", frStream(0, 0, "hello")) // R9000-2.2-2
		tc.settle()
		s.CloseWrite()
		tc.wantFrame("end", frStreamFin(0, 5, "")) // R9000-4.5-2
	})
}

func TestLostStreamFin(t *testing.T) {
	lostFrameTest(t, serverSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		s := tc.open(true)
		s.CloseWrite()
		lose(tc.wantFrame("empty stream", frStreamFin(3, 0, "")))
		tc.wantFrame("repeated", frStreamFin(3, 0, ""))
	})
}

func TestLostResetStream(t *testing.T) {
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		s := tc.open(false)
		s.Write([]byte("hello"))
		tc.wantFrame("written", frStream(0, 0, "hello"))
		tc.ack()
		s.Reset(9)
		want := frInts(tResetStream, 0, 9, 5)
		lose(tc.wantFrame("reset", want))
		tc.wantFrame("repeated, identical", want) // R9000-13.3-1
	})
}

func TestLostStopSending(t *testing.T) {
	lostFrameTest(t, serverSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.write(frStream(0, 0, "hello"))
		tc.accept().StopSending(9)
		want := frInts(tStopSending, 0, 9) // R9000-3.5-1
		lose(tc.wantFrame("stopped", want))
		tc.wantFrame("repeated", want)
	})
}

func TestLostMaxData(t *testing.T) {
	small := func(c *Config) { c.ConnReceiveWindow, c.StreamReceiveWindow = 100, 1000 }
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		tc.wantIdle("not read yet")
		tc.accept().Read(make([]byte, 100))
		lose(tc.wantFrame("credit without being asked", frMaxData(160))) // R9000-4.2-1
		tc.wantFrame("repeated", frMaxData(160))
	}, small)
}

func TestLostMaxStreamData(t *testing.T) {
	small := func(c *Config) { c.StreamReceiveWindow = 100 }
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.write(frStream(1, 0, strings.Repeat("x", 60)))
		tc.accept().Read(make([]byte, 100))
		want := frInts(tMaxStreamData, 1, 160)
		lose(tc.wantFrame("credit without being asked", want)) // R9000-4.2-1
		tc.wantFrame("repeated", want)
	}, small)
}

func TestLostMaxStreams(t *testing.T) {
	few := func(c *Config) { c.MaxIncomingUniStreams = 2 }
	lostFrameTest(t, serverSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.write(frStreamFin(2, 0, ""))
		tc.accept().Read(make([]byte, 1))
		lose(tc.wantFrame("credit without being asked", frInts(tMaxStreamsUni, 3))) // R9000-4.6-7
		tc.wantFrame("repeated", frInts(tMaxStreamsUni, 3))
	}, few)
}

func TestLostDataBlocked(t *testing.T) {
	little := func(p *testParams) { p.set(paramMaxData, 3) }
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.open(false).Write([]byte("hello"))
		tc.ignore(tStream)
		lose(tc.wantFrame("blocked", frInts(tDataBlocked, 3))) // R9000-4.1-5
		tc.wantFrame("repeated", frInts(tDataBlocked, 3))
	}, little)
}

func TestLostStreamDataBlocked(t *testing.T) {
	little := func(p *testParams) { p.set(paramStreamDataBidi, 3) }
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.open(false).Write([]byte("hello"))
		tc.ignore(tStream)
		lose(tc.wantFrame("blocked", frInts(tStreamDataBlocked, 0, 3))) // R9000-4.1-5
		tc.wantFrame("repeated", frInts(tStreamDataBlocked, 0, 3))
	}, little)
}

func TestLostStreamsBlocked(t *testing.T) {
	none := func(p *testParams) { p.set(paramMaxStreamsBidi, 0) }
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		go tc.conn.OpenStream(tc.t.Context()) // R9000-4.6-3: it waits
		want := frInts(tStreamsBlockedBidi, 0)
		lose(tc.wantFrame("blocked", want)) // R9000-4.6-6
		tc.wantFrame("repeated", want)
	}, none)
}

func TestLostNewConnectionID(t *testing.T) {
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.use[0] = 1
		tc.write(tc.frRetire(0, 0))
		delete(tc.ignored, tPathNewConnectionID)
		f, p, _ := tc.nextFrame()
		lose(p)
		tc.wantFrame("repeated, identical", f)
	})
}

func TestLostRetireConnectionID(t *testing.T) {
	lostFrameTest(t, serverSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.write(tc.peerCIDFrame(0, 1, 1))
		lose(tc.wantFrame("retired", tc.frRetire(0, 0)))
		tc.wantFrame("repeated", tc.frRetire(0, 0))
	})
}

func TestLostHandshakeDone(t *testing.T) { // R9000-13.3-2
	for _, mode := range []lossMode{lossByThreshold, lossByPTO} {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshake()
			tc.skip()
			tc.writePackets(tc.flight(packetHandshake)...)
			tc.ignore(tNewConnectionID, tPing, tNewToken, tCrypto)
			p := tc.wantFrame("confirmed", frHandshakeDone())
			tc.lose(p, mode)
			tc.wantFrame("repeated", frHandshakeDone())
		})
	}
}

func TestLostMaxPathID(t *testing.T) { // RMP21-4.6-6
	lostFrameTest(t, serverSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		delete(tc.ignored, tMaxPathID)
		tc.ignore(tPathAbandon)
		tc.write(frInts(tPathAbandon, 2, 0))
		f, p := tc.wantType("one path id less", tMaxPathID)
		lose(p)
		if f2, _ := tc.wantType("repeated", tMaxPathID); f2.ints[0] < f.ints[0] {
			t.Errorf("%v after %v", f2, f)
		}
	})
}

func TestLostPathStatus(t *testing.T) {
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.conn.SetPathBackup(0, true)
		want := frInts(tPathStatusBackup, 0, 1)
		lose(tc.wantFrame("backup", want))
		tc.wantFrame("repeated", want)
	})
}

func TestLostPathAbandon(t *testing.T) { // RMP21-4.2-2
	lostFrameTest(t, clientSide, func(t *testing.T, tc *testConn, lose func(*peerPacket)) {
		tc.ignore(tMaxPathID)
		tc.conn.AbandonPath(2)
		want := frInts(tPathAbandon, 2, 0x3e)
		p := tc.wantFrame("abandoned", want)
		lose(p)
		delete(tc.ignored, tPathAbandon)
		for {
			f, _, ok := tc.nextFrame()
			if !ok {
				t.Fatal("not repeated")
			}
			if f.equal(want) {
				return
			}
		}
	})
}

func TestLostPathsBlocked(t *testing.T) {
	for _, mode := range []lossMode{lossByThreshold, lossByPTO} {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.ignore(tPing)
			tc.addSocket(testOtherAddr)
			tc.startPath(1)
			tc.lose(tc.wantFrame("no path id", frInts(tPathsBlocked, 0)), mode) // RMP21-4.7-1
			tc.wantFrame("repeated", frInts(tPathsBlocked, 0))
		}, multipathUpTo(0), func(c *Config) { c.InitialMaxPathID = 2 })
	}
}

func TestLostPathCIDsBlocked(t *testing.T) {
	for _, mode := range []lossMode{lossByThreshold, lossByPTO} {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.ignore(tPing)
			tc.addSocket(testOtherAddr)
			tc.startPath(1)
			tc.lose(tc.wantFrame("no connection id", frInts(tPathCIDsBlocked, 1, 0)), mode) // RMP21-4.7-1
			tc.wantFrame("repeated", frInts(tPathCIDsBlocked, 1, 0))
		}, multipathUpTo(2))
	}
}

// TestPTOElsewhere: a time-out on one path has its content sent on another one, and
// nothing is lost yet.
//
// RMP21-5.7-1
func TestPTOElsewhere(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		tc.write(frInts(tPathStatusBackup, 0, 100))
		tc.settle()
		tc.ignore(tPing)
		s := tc.open(true)
		s.Write([]byte("hello"))
		want := frStream(s.ID(), 0, "hello")
		first := tc.wantFrame("written", want)
		tc.waitSent(time.Second)
		tc.wantFrame("again", want)
		if n := tc.pathState(1).loss.packetsLost; first.path != 1 || n != 0 {
			t.Errorf("%v: %d packets lost", first, n)
		}
		tc.writeOn(1, frPathAck(1, first.num)) // the first one arrived after all
		if n := s.send.buf.buffered(); n != 0 {
			t.Errorf("%d bytes are not acknowledged", n)
		}
	}, multipathUpTo(2))
}

// TestWindowBoundsDatagrams, on each path for itself.
//
// R9221-5.4-1 RMP21-5.3-1
func TestWindowBoundsDatagrams(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		for range 100 {
			tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 1000)})
		}
		tc.advance(20 * time.Millisecond)
		sent := make(map[uint32]int)
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if _, ok := p.has(tDatagram); ok {
				sent[p.path] += len(p.raw)
			}
		}
		for path := range uint32(2) {
			if n, window := sent[path], tc.pathState(path).loss.cc.Window(); n == 0 || n > window {
				t.Errorf("path %d: %d bytes sent, window %d", path, n, window)
			}
		}
	}, multipathUpTo(2))
}

// TestNotRepeated: what is bound to a moment or a path is not sent again.
func TestNotRepeated(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.ignore(tPing)
		tc.write(frPathChallenge("01234567"))
		p := tc.wantFrame("answered", frPathResponse([]byte("01234567")))
		tc.lose(p, lossByThreshold)
		tc.wantIdle("one response at most") // R9000-8.2.2-6
	})
}

// TestBlockedIsRepeated: a sender that waits for credit and has nothing in flight
// keeps the connection alive.
//
// R9000-4.1-6
func TestBlockedIsRepeated(t *testing.T) {
	for name, test := range map[string]struct {
		param uint64
		frame testFrame
	}{
		"connection": {paramMaxData, frInts(tDataBlocked, 3)},
		"stream":     {paramStreamDataBidi, frInts(tStreamDataBlocked, 0, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			established(t, clientSide, func(t *testing.T, tc *testConn) {
				tc.open(false).Write([]byte("hello"))
				tc.ignore(tStream)
				tc.wantFrame("blocked", test.frame)
				for range 5 {
					tc.ack()
					took := tc.waitSent(time.Minute)
					tc.wantFrame("still blocked", test.frame)
					tc.wantIdle("once")
					if took < time.Second || took > 15*time.Second {
						t.Errorf("repeated after %v", took)
					}
				}
				tc.ack()
				if test.param == paramMaxData {
					tc.write(frMaxData(100))
				} else {
					tc.write(frInts(tMaxStreamData, 0, 100))
				}
				tc.settle()
				tc.wantSilence("not blocked", 25*time.Second)
			}, func(p *testParams) { p.set(test.param, 3) }, func(c *Config) { c.MaxIdleTimeout = 30 * time.Second })
		})
	}
}
