// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// silence lets the peer leave path 1 unanswered, but not path 0, until it is dead, and take
// note of that.
func (tc *testConn) silence() {
	tc.t.Helper()
	for range 100 {
		tc.sendDatagrams(1)
		tc.advance(20 * ms)
		tc.fill()
		tc.write(tc.ackFrame(0))
		if tc.pathState(1).phase == pathDead && tc.core().pathID(1).ourStatus.isReceived() {
			tc.skip()
			return
		}
	}
	tc.t.Fatalf("path 1 is %v", tc.pathState(1).phase)
}

// pass lets d pass, in which the peer answers on path 0.
func (tc *testConn) pass(d time.Duration) {
	tc.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		tc.advance(min(20*ms, time.Until(end)))
		tc.fill()
		tc.write(tc.ackFrame(0))
	}
	tc.skip()
}

// TestUseOfDeadPath: a peer that goes on to send on a path that is dead to us, one second
// after it has learnt that it should not, is kept from that.
func TestUseOfDeadPath(t *testing.T) {
	content := frRaw(append([]byte{tDatagram}, "content"...)...)
	within := func(name string, limit uint64, f func(t *testing.T, tc *testConn)) {
		t.Run(name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				tc.openPath(1)
				if limit > 1 {
					tc.write(tc.peerCIDFrame(2, 0, 0))
					tc.remotes[2] = tc.addr
				}
				tc.silence()
				f(t, tc)
			}, multipathUpTo(limit))
		})
	}
	isLeft := func(t *testing.T, tc *testConn, why string, want bool) {
		t.Helper()
		if left := tc.pathState(1).phase >= pathAbandoning; left != want {
			t.Fatalf("%s: abandoned %v, want %v", why, left, want)
		}
	}
	within("is ended", 4, func(t *testing.T, tc *testConn) {
		tc.pass(useAfterBackup - 100*ms)
		tc.writeOn(1, content)
		isLeft(t, tc, "within a second", false)
		tc.pass(100 * ms)
		tc.writeOn(1, frPing(), frPadding(30))
		isLeft(t, tc, "only probed", false)
		tc.skip()
		tc.ignore(tPing, tPathAck)
		tc.writeOn(1, content)
		if p := tc.wantFrame("used", frInts(tPathAbandon, 1, wire.Draft21.PathUnstableOrPoor)); p.path != 0 {
			t.Errorf("sent in %v", p)
		}
		if tc.isClient {
			tc.wantReopened(t)
		}
	})
	within("where the peer has no other path", 4, func(t *testing.T, tc *testConn) {
		tc.write(frInts(tPathStatusBackup, 0, 0))
		tc.pass(useAfterBackup)
		tc.writeOn(1, content)
		isLeft(t, tc, "the other one is dead to the peer", false)
	})
	within("without a path id to spare", 1, func(t *testing.T, tc *testConn) {
		tc.pass(useAfterBackup)
		tc.writeOn(1, content)
		isLeft(t, tc, "the last id", false)
	})
}

// wantReopened checks that path 1, which was abandoned, is opened again as path 2 after a rest.
func (tc *testConn) wantReopened(t *testing.T) {
	t.Helper()
	tc.ack()
	tc.skip()
	tc.advance(retryPathAfter - 10*ms)
	if tc.pathState(2) != nil {
		t.Error("opened again at once")
	}
	tc.skip()
	tc.advance(20 * ms)
	for f, p, ok := tc.nextFrame(); ok; f, p, ok = tc.nextFrame() {
		if f.typ == tPathChallenge && p.path == 2 && p.dgram.sock == tc.sockets[1] {
			return
		}
	}
	t.Error("not opened again")
}

// TestPoorPathIsOpenedAgain: what the server abandons because it does not work may work later.
func TestPoorPathIsOpenedAgain(t *testing.T) {
	for code, again := range map[uint64]bool{wire.Draft21.PathUnstableOrPoor: true, wire.Draft21.ApplicationAbandonPath: false} {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.openPath(1)
			tc.write(tc.peerCIDFrame(2, 0, 0))
			tc.remotes[2] = tc.addr
			tc.write(frInts(tPathAbandon, 1, code))
			if again {
				tc.wantReopened(t)
			} else if tc.advance(retryPathAfter + 20*ms); tc.pathState(2) != nil {
				t.Error("opened again against the will of the server")
			}
		}, multipathUpTo(4))
	}
}

// TestDeadPathTellsAbandonment: what an end sends on the last path it has, which is dead, may
// arrive, and the peer must know that the other one is abandoned.
func TestDeadPathTellsAbandonment(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.openPath(1)
		tc.silence()
		tc.conn.AbandonPath(0)
		tc.ignore(tPing, tPathAck)
		for range 3 { // until it is acknowledged
			tc.advance(2 * deadProbeMax)
			if _, p := tc.wantType("with a probe", tPathAbandon); p.path != 1 {
				t.Errorf("sent in %v", p)
			}
			tc.skip()
		}
		tc.ack()
		tc.writeOn(1, frPing())
		tc.skip()
		tc.advance(2 * deadProbeMax)
		for f, p, ok := tc.nextFrame(); ok; f, p, ok = tc.nextFrame() {
			if f.typ == tPathAbandon {
				t.Errorf("again in %v", p)
			}
		}
	}, multipathUpTo(1))
}
