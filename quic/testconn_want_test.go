// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"encoding/binary"
	"fmt"
	"time"
)

// What a test expects of the connection under test.

// wantPacket takes the next packet, which must be of type typ.
func (tc *testConn) wantPacket(why string, typ peerPacketType) *peerPacket {
	tc.t.Helper()
	p := tc.nextPacket()
	if p == nil || p.typ != typ {
		tc.t.Fatalf("%s: got %v, want a packet of type %v", why, p, typ)
	}
	return p
}

// wantFrame takes the next frame, which must be want, and returns its packet.
func (tc *testConn) wantFrame(why string, want testFrame) *peerPacket {
	tc.t.Helper()
	f, p, ok := tc.nextFrame()
	switch {
	case !ok:
		tc.t.Fatalf("%s: nothing was sent, want %v", why, want)
	case !f.equal(want):
		tc.t.Fatalf("%s: got %v, want %v", why, f, want)
	}
	return p
}

// wantType takes the next frame, which must be of type typ.
func (tc *testConn) wantType(why string, typ uint64) (testFrame, *peerPacket) {
	tc.t.Helper()
	f, p, ok := tc.nextFrame()
	if !ok || f.typ != typ || p.typ != packetOneRTT && frameLayouts[typ].name == "" {
		tc.t.Fatalf("%s: got %v (any: %v), want %s", why, f, ok, frameLayouts[typ].name)
	}
	return f, p
}

// wantIdle checks that nothing is sent, ignored frames excepted.
func (tc *testConn) wantIdle(why string) {
	tc.t.Helper()
	if f, p, ok := tc.nextFrame(); ok {
		tc.t.Fatalf("%s: got %v in %v, want nothing", why, f, p)
	}
}

// wantSilence is wantIdle for the next d.
func (tc *testConn) wantSilence(why string, d time.Duration) {
	tc.t.Helper()
	tc.wantIdle(why)
	tc.advance(d)
	tc.wantIdle(fmt.Sprintf("%s, for %v", why, d))
}

// wantNoDatagram checks that not even an acknowledgment is sent.
func (tc *testConn) wantNoDatagram(why string) {
	tc.t.Helper()
	if p := tc.nextPacket(); p != nil {
		tc.t.Fatalf("%s: got %v, want no datagram at all", why, p)
	}
}

// ignore has wantFrame and wantIdle pass over further frame types.
func (tc *testConn) ignore(types ...uint64) {
	for _, typ := range types {
		tc.ignored[typ] = true
	}
}

// skip drops what was received, after learning from it.
func (tc *testConn) skip() {
	tc.fill()
	tc.packets, tc.frame = nil, 0
}

// waitSent waits until something is sent, at most for limit, and returns the time
// that it took.
func (tc *testConn) waitSent(limit time.Duration) time.Duration {
	tc.t.Helper()
	start := time.Now()
	tc.fill()
	if len(tc.packets) > 0 && tc.frame > 0 && tc.frame == len(tc.packets[0].frames) {
		tc.packets, tc.frame = tc.packets[1:], 0
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for len(tc.packets) == 0 {
		select {
		case d := <-tc.sent:
			tc.readDatagram(d)
			tc.fill()
		case <-timeout.C:
			tc.t.Fatalf("nothing was sent for %v", limit)
		}
	}
	return time.Since(start)
}

// wantClose takes the next frame that is sent, CONNECTION_CLOSE with a transport
// error, and checks that the application is told the same.
func (tc *testConn) wantClose(why string, code TransportErrorCode) testFrame {
	tc.t.Helper()
	for {
		f, _, ok := tc.nextFrame()
		if !ok {
			tc.t.Fatalf("%s: no CONNECTION_CLOSE; connection: %v", why, tc.conn.Err())
		}
		if f.typ != tConnectionClose {
			continue
		}
		if got := TransportErrorCode(f.ints[0]); got != code {
			tc.t.Fatalf("%s: closed with %v %q, want %v", why, got, f.blobs[0], code)
		}
		if te, ok := tc.conn.Err().(*TransportError); !ok || te.Code != code || te.Remote {
			tc.t.Errorf("%s: Err is %v, want %v", why, tc.conn.Err(), code)
		}
		return f
	}
}

// wantAlive checks that the connection goes on: it answers a PING.
func (tc *testConn) wantAlive(why string) {
	tc.t.Helper()
	tc.skip()
	tc.write(frPing(), frPadding(10))
	tc.advance(maxAckDelay)
	tc.fill()
	if tc.conn.Err() != nil || len(tc.packets) == 0 {
		tc.t.Fatalf("%s: the connection does not answer: %v", why, tc.conn.Err())
	}
	tc.skip()
}

// challengeOf is the data of a PATH_CHALLENGE as a number, for comparisons.
func challengeOf(f testFrame) uint64 { return binary.BigEndian.Uint64(f.blobs[0]) }
