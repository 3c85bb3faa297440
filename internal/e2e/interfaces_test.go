// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"slices"
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
