// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"
)

// Loss, as it shows on the wire.

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

// TestProbeContent: a probe has something new to say if there is anything, though the
// window is full, and is a PING otherwise. What it replaces need not come again.
//
// R9002-6.2.4-2
func TestProbeContent(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.sendDatagrams(1)
		tc.wantType("in flight", tDatagram)
		for range 2 {
			tc.waitSent(time.Second)
			if p := tc.wantFrame("nothing else to say", frPing()); len(p.frames) != 1 {
				t.Errorf("%v", p)
			}
		}
		tc.settle()
		l := &tc.core().paths[0].loss
		for l.inFlight+minInitialSize <= l.cc.Window() {
			tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 1000)})
			tc.advance(time.Millisecond)
		}
		tc.skip()
		s := tc.open(true)
		s.Write([]byte("hello"))
		tc.wantIdle("the window is full")
		tc.waitSent(time.Second)
		tc.wantFrame("new data in a probe", frStream(s.ID(), 0, "hello"))
	})
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
