// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// What users notice of a link that fails beside another one: for how long a call is silent,
// and how soon the flows have their rate again.

// A fault is a way in which a link fails.
type fault int

const (
	faultDown       fault = iota // the client's kernel says so
	faultRefused                 // the client's kernel refuses packets
	faultSilent                  // in both directions
	faultSilentUp                // towards the server
	faultSilentDown              // towards the client
	faultAddress                 // the client gets another address there
)

func (f fault) String() string {
	return [...]string{"down", "refused", "silent", "silent up", "silent down", "changes its address"}[f]
}

// set begins a fault of link i, or ends it.
func (f fault) set(n *testNet, client *Conn, i int, on bool) {
	if f == faultAddress && !on {
		return
	}
	n.up[i].SetBlackhole(on && f != faultSilentDown)
	n.down[i].SetBlackhole(on && f != faultSilentUp)
	label := string(rune('a' + i))
	switch {
	case f == faultRefused && on:
		n.sockets[i].(*quictest.Socket).Refuse(syscall.ENETUNREACH)
	case f == faultRefused:
		n.sockets[i].(*quictest.Socket).Refuse(nil)
	case f == faultAddress:
		old := n.sockets[i]
		a := old.LocalAddr().Addr().Next()
		n.up[i], n.down[i] = n.AddLink(a.String(), serverAddr.Addr().String(), n.up[i].Config())
		n.sockets[i] = n.Socket(netip.AddrPortFrom(a, 0), 1500)
		n.client.AddSocket(n.sockets[i])
		client.ReplacePathSocket(label, n.sockets[i])
		n.client.RemoveSocket(old)
	case f == faultDown && on:
		client.LinkDown(label)
	case f == faultDown:
		client.LinkUp(label)
	}
}

// silences are the bounds of the silences of a call, up and down.
func (f fault) silences(p PathStats, other quictest.LinkConfig) (up, down time.Duration) {
	const told = 50 * ms // and the way to the server, which is told over the other link
	noticed := max(200*ms, p.SRTT*3/2+25*ms)
	switch f {
	case faultAddress:
		const interval = 5 * ms // of the probes, which makes a gap longer than the silence
		return p.MinRTT + told + interval, p.MinRTT + told + interval
	case faultDown:
		return told, told + other.Delay
	case faultRefused:
		return told, noticed
	}
	return noticed, noticed
}

// failover begins traffic of flows over links, up or down, and a call beside it, lets the links
// fail, one after the other and once for each fault, and holds what becomes of that to bounds.
func failover(t *testing.T, links []quictest.LinkConfig, faults []fault, flows int, up bool) {
	t.Helper()
	simulate(t, links, nil, func(n *testNet) {
		client, server, it := n.startFlows(t, flows, up)
		defer it.close()
		go it.probe()
		rate := func(d time.Duration) float64 {
			before := it.delivered()
			time.Sleep(d)
			return float64(it.delivered()-before) * 8 / 1e6 / d.Seconds()
		}
		time.Sleep(500 * ms)
		if flows > 0 {
			time.Sleep(2500 * ms)
		}
		for i := range links {
			for _, f := range faults {
				before := rate(time.Second)
				mostUp, mostDown := f.silences(pathOf(t, client, string(rune('a'+i))), links[(i+1)%len(links)])
				it.silences()
				f.set(n, client, i, true)
				time.Sleep(failoverOutage)
				f.set(n, client, i, false)
				time.Sleep(500 * ms)
				gaps := it.silences()
				gapUp, gapDown := gaps[0], gaps[1]
				if !up {
					gapUp, gapDown = gapDown, gapUp
				}
				time.Sleep(300 * ms)
				back := rate(200 * ms)
				what := fmt.Sprintf("link %d %v, %d flows, up %v: silent for %.1f ms up and %.1f ms down, %.1f Mbit/s before, %.1f a second after",
					i, f, flows, up, gapUp.Seconds()*1e3, gapDown.Seconds()*1e3, before, back)
				t.Log(what)
				if gapUp > mostUp || gapDown > mostDown {
					t.Errorf("%s; %v and %v are allowed", what, mostUp, mostDown)
				}
				// A new path is on trial, and has no rate that it could be back at.
				if back < 0.9*before && f != faultAddress {
					t.Error(what)
				}
				time.Sleep(time.Second)
				wantPaths(t, len(links), client, server)
			}
		}
	})
}

// failoverOutage is how long a link is gone.
const failoverOutage = 1500 * ms

// TestFailover: a quarter of 300 and 80 Mbit/s, which costs a quarter of the time.
func TestFailover(t *testing.T) {
	longSimulation(t)
	links := []quictest.LinkConfig{queued(75, 20*ms), queued(20, 60*ms)}
	failover(t, links, []fault{faultDown, faultRefused, faultSilent, faultSilentUp, faultSilentDown, faultAddress}, 0, true)
	failover(t, links, []fault{faultDown, faultRefused, faultSilent, faultSilentUp}, 4, true)
	failover(t, links, []fault{faultDown, faultSilent, faultSilentDown}, 4, false)
	failover(t, links, []fault{faultAddress}, 4, true)
	failover(t, links, []fault{faultAddress}, 4, false)
}

// TestRefusedPathIsLeft: the kernel refuses what is sent on a path. What it took before is
// acknowledged during the next round trip, but that does not bring the path back.
func TestRefusedPathIsLeft(t *testing.T) {
	simulate(t, []quictest.LinkConfig{queued(20, 40*ms), queued(20, 60*ms)}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		n.addPaths(t, client, server)
		it := startInnerTCP(client, server, 4)
		defer it.close()
		time.Sleep(time.Second)
		faultRefused.set(n, client, 0, true)
		time.Sleep(200 * ms)
		p := pathOf(t, client, "a")
		if t.Log(p.State, p.SendErrors); p.State != "suspect" || p.SendErrors == 0 || p.SendErrors > 8 {
			t.Errorf("path %s after %d refusals", p.State, p.SendErrors)
		}
	})
}
