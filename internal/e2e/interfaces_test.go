// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// TestInterfacePluggedIn: with a pattern for --path, a link that did not exist when
// the client was started is used soon after it is there, and keeps the tunnel up when
// the first one fails.
func TestInterfacePluggedIn(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast})
	w.startServer()
	ctx, cancel := w.context()
	defer cancel()
	client, err := programs.StartClient(ctx, w.Clients[0], append(slices.Clone(w.login), "--path", "auto", "--path", "!lo*"))
	if err != nil {
		t.Fatal(err)
	}
	w.printOnFailure("mqvpn-client", client)
	peer := w.peer(w.Inside, lab.InsideAddr4)
	probe, err := peer.StartProbe(ctx, w.Clients[0])
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()

	if err := w.AddLink(0, fast); err != nil {
		t.Fatal(err)
	}
	took := w.until("the new link carries packets", func() bool {
		s := w.clientStatus(0)
		p, ok := s.Path("eth1")
		return ok && p.Used && p.BytesRx > 10_000
	})
	t.Logf("the new link carried 10 kB after %v", took.Round(time.Millisecond))
	w.Links[0][0].SetSilent(true)
	w.until("both ends have given up the first link", func() bool {
		r, err := w.Clients[0].Ping(ctx, lab.InsideAddr4, 3, 84, 50*time.Millisecond)
		return err == nil && r.Received() == r.Sent
	})
}

// TestPathCommand: interfaces are removed and added at the command line while the
// client runs.
func TestPathCommand(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast, fast})
	w.startServer()
	w.startClient(0)
	ctx, cancel := w.context()
	defer cancel()
	path := func(wantCode int, want string, args ...string) {
		t.Helper()
		out, code, err := w.Clients[0].Run(ctx, lab.Command{Path: programs.Client, Args: append([]string{"path"}, args...)})
		if err != nil {
			t.Fatal(err)
		}
		if code != wantCode || !strings.Contains(out, want) {
			t.Errorf("path %q: exit code %d, want %d, and %q in\n%s", args, code, wantCode, want, out)
		}
	}
	used := func(iface string) bool {
		s := w.clientStatus(0)
		p, ok := s.Path(iface)
		return ok && p.Used
	}
	w.until("both paths are used", func() bool { return used("eth0") && used("eth1") })
	path(0, "eth1", "list")
	path(0, "", "priority", "eth1", "backup")
	path(1, "want primary, secondary, backup or never", "priority", "eth1", "low")
	path(0, "", "remove", "eth0")
	w.until("eth0 is gone", func() bool { s := w.clientStatus(0); _, ok := s.Path("eth0"); return !ok })
	path(1, "is the only one", "remove", "eth1")
	w.ping(w.Clients[0], lab.InsideAddr4)
	path(1, "no such interface", "add", "eth7")
	path(0, "", "add", "eth0")
	w.until("eth0 is used again", func() bool { return used("eth0") })
	path(2, "want list, add IFACE", "frobnicate")
}
