// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// TestStatusAgreesWithTheLinks compares what status says of each path with what
// the emulator has carried.
func TestStatusAgreesWithTheLinks(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{
		lab.Symmetric("A", 50e6, 10*time.Millisecond, 50*time.Millisecond),
		lab.Symmetric("B", 50e6, 25*time.Millisecond, 50*time.Millisecond),
	})
	w.startServer()
	w.startClient(0)
	ifaces := []string{"eth0", "eth1"}
	w.until("both paths are used", func() bool {
		s := w.clientStatus(0)
		for _, iface := range ifaces {
			if p, ok := s.Path(iface); !ok || !p.Used {
				return false
			}
		}
		return true
	})
	peer := w.peer(w.Inside, lab.InsideAddr4)
	ctx, cancel := w.context()
	defer cancel()

	// The probe's packets have samples of the RTT taken, without filling a queue.
	probe, err := peer.StartProbe(ctx, w.Clients[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, link := range w.Links[0] {
		w.until("RTT of "+ifaces[i]+" within 5 ms of the link's", func() bool {
			s := w.clientStatus(0)
			p, _ := s.Path(ifaces[i])
			return (p.RTT() - link.RTT()).Abs() <= 5*time.Millisecond
		})
	}

	before := w.clientStatus(0)
	type counts struct{ up, down uint64 }
	var links [2]counts
	for i, l := range w.Links[0] {
		links[i] = counts{l.Counters(lab.AtoB).Bytes, l.Counters(lab.BtoA).Bytes}
	}
	for _, way := range []lab.Way{lab.Up, lab.Down} {
		b, err := peer.Transfer(ctx, w.Clients[0], way, 8, 12e6)
		if err != nil {
			t.Fatal(err)
		}
		w.finish(ctx, b, "TCP "+way.String())
	}
	probe.Close()
	time.Sleep(500 * time.Millisecond) // the last acknowledgments arrive
	after := w.clientStatus(0)
	for i, l := range w.Links[0] {
		p, _ := before.Path(ifaces[i])
		q, _ := after.Path(ifaces[i])
		compareBytes(t, ifaces[i]+" sent", q.BytesTx-p.BytesTx, l.Counters(lab.AtoB).Bytes-links[i].up)
		compareBytes(t, ifaces[i]+" received", q.BytesRx-p.BytesRx, l.Counters(lab.BtoA).Bytes-links[i].down)
	}
}

func compareBytes(t *testing.T, what string, status, link uint64) {
	t.Helper()
	if math.Abs(float64(status)-float64(link)) > 0.05*float64(link) {
		t.Errorf("%s: status says %d bytes, the link carried %d", what, status, link)
	}
}

// TestStatusShowsACutPath cuts each link silently in turn.
func TestStatusShowsACutPath(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast, fast})
	w.startServer()
	w.startClient(0)
	peer := w.peer(w.Inside, lab.InsideAddr4)
	ctx, cancel := w.context()
	defer cancel()
	probe, err := peer.StartProbe(ctx, w.Clients[0])
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	for i, iface := range []string{"eth0", "eth1"} {
		used := func() bool {
			s := w.clientStatus(0)
			p, ok := s.Path(iface)
			return ok && p.Used
		}
		w.until(iface+" is used", used)
		w.Links[0][i].SetSilent(true)
		took := w.until(iface+" is not used", func() bool { return !used() })
		s := w.clientStatus(0)
		p, _ := s.Path(iface)
		if took > time.Second || p.Reason == "" {
			t.Errorf("%s: shown as unused %v after the cut, reason %q", iface, took, p.Reason)
		}
		w.Links[0][i].SetSilent(false)
		w.until(iface+" is used again", used)
	}
}

// TestEventsAreLogged looks for the lines that tell an operator what happened.
func TestEventsAreLogged(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast, fast})
	w.startServer()
	client := w.startClient(0)
	peer := w.peer(w.Inside, lab.InsideAddr4)
	ctx, cancel := w.context()
	defer cancel()
	probe, err := peer.StartProbe(ctx, w.Clients[0])
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	logged := func(text string) {
		t.Helper()
		if err := client.WaitOutput(ctx, text); err != nil {
			t.Error(err)
		}
	}
	logged("up")
	logged(`"path up" path=eth1`)
	w.Links[0][0].SetSilent(true)
	logged(`"path lost" path=eth0`)
	w.Links[0][0].SetSilent(false)
	logged(`"path back" path=eth0`)
	if code, err := client.Stop(patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	logged("down")
	for line := range strings.Lines(client.Output()) {
		if strings.Contains(line, "level=ERROR") {
			t.Errorf("an error was logged: %s", line)
		}
	}
}
