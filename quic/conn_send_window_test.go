// SPDX-License-Identifier: Apache-2.0

package quic

import "testing"

// TestWindowGrowsByUseOnly: a loop that has more to send than a batch holds is not
// limited by the window, which must not grow for that. // R9002-7.8-1
func TestWindowGrowsByUseOnly(t *testing.T) {
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
