// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"

	"github.com/mqvpn/mqvpn/quic/sched"
)

// TestWindowGrowsByUseOnly: a loop that has more to send than a batch holds is not
// limited by the window, which must not grow for that. // R9002-7.8-1
func TestWindowGrowsByUseOnly(t *testing.T) {
	longSimulation(t)
	p := newPump(t, 1)
	p.client.load = newPumpLoad(64, 1300) // a batch and a half in each tick
	for range 2000 {
		p.step()
	}
	l := &p.client.c.paths[0].loss
	if l.cc.Window() > 8*l.inFlight {
		t.Errorf("the window has grown to %d bytes, with %d in flight", l.cc.Window(), l.inFlight)
	}
}

// TestAcksAreNotPaced, nor do they wait for the window. // R9002-7.7-2
func TestAcksAreNotPaced(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		for _, reason := range []sched.Reason{sched.BlockedPacing, sched.BlockedCwnd} {
			p := tc.core().paths[0]
			if reason == sched.BlockedPacing {
				p.loss.pacer.Spend(tc.core().turnTime.since(), 100*p.loss.cc.Window())
			} else {
				p.loss.inFlight += p.loss.cc.Window()
			}
			if got, _ := p.loss.sendLimit(tc.core().turnTime, minInitialSize); got != reason {
				t.Fatalf("%v, want %v", got, reason)
			}
			tc.open(true).Write([]byte("x"))
			tc.wantNoDatagram("data waits")
			tc.write(frPing())
			tc.write(frPing())
			if q := tc.nextPacket(); q == nil || len(q.frames) != 1 || q.frames[0].typ != tAck {
				t.Errorf("%v: %v, want an acknowledgment at once", reason, q)
			}
			tc.wantNoDatagram("data waits")
			if reason == sched.BlockedPacing {
				tc.settle()
			}
		}
	})
}
