// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// users are the arguments of a server with several users. The first is alice, who
// has the key that init made.
func (w *world) users(names ...string) (args []string) {
	args = []string{"--config", lab.ServerConfig, "--user", "alice:" + value(w.login, "--auth-key")}
	for _, name := range names {
		args = append(args, "--user", name+":key-of-"+name)
	}
	return args
}

// loginAs are the client's arguments of a user made by users.
func (w *world) loginAs(name string) []string {
	return append(without(w.login, "--auth-key"), "--auth-key", "key-of-"+name)
}

// TestThreeClients has three clients with two paths each, all carrying traffic.
func TestThreeClients(t *testing.T) {
	links := []lab.LinkConfig{
		lab.Symmetric("A", 20e6, 5*time.Millisecond, 50*time.Millisecond),
		lab.Symmetric("B", 20e6, 10*time.Millisecond, 50*time.Millisecond),
	}
	w := newWorld(t, lab.ServerAddr4, links, links, links)
	w.startServer(w.users("bob", "carol")...)
	w.startClient(0)
	w.startClient(1, w.loginAs("bob")...)
	w.startClient(2, w.loginAs("carol")...)

	inner := map[netip.Addr]bool{}
	for i := range w.Clients {
		inner[w.innerAddr(i, false)] = true
		w.until("both paths are used", func() bool {
			s := w.clientStatus(i)
			used := 0
			for _, p := range s.Paths {
				if p.Used {
					used++
				}
			}
			return used == 2
		})
	}
	if len(inner) != 3 {
		t.Errorf("three clients have the addresses %v", inner)
	}
	testAllAtOnce(w)
	// Clients reach each other through the server's kernel, which forwards.
	w.ping(w.Clients[0], w.innerAddr(1, false))
	w.ping(w.Clients[2], w.innerAddr(0, false))

	ctx, cancel := w.context()
	defer cancel()
	s, err := programs.ServerStatus(ctx, w.Server)
	if err != nil || len(s.Clients) != 3 {
		t.Errorf("the server knows %d clients, %v", len(s.Clients), err)
	}
}

// testAllAtOnce transfers over all clients at the same time, and looks for the
// bytes on all their links.
func testAllAtOnce(w *world) {
	w.t.Helper()
	peer := w.peer(w.Inside, lab.InsideAddr4)
	ctx, cancel := w.context()
	defer cancel()
	const size = 6e6
	var before [3][2]uint64
	var bulks []*lab.Bulk
	for i, client := range w.Clients {
		for j, l := range w.Links[i] {
			before[i][j] = l.Counters(lab.BtoA).Bytes
		}
		b, err := peer.Transfer(ctx, client, lab.Down, 6, size)
		if err != nil {
			w.t.Fatal(err)
		}
		bulks = append(bulks, b)
	}
	for i, b := range bulks {
		w.finish(ctx, b, w.Clients[i].Name())
		for j, l := range w.Links[i] {
			if carried := l.Counters(lab.BtoA).Bytes - before[i][j]; carried < size/10 {
				w.t.Errorf("client %d: link %d carried %d bytes of a transfer of %d", i, j, carried, int(size))
			}
		}
	}
}

// TestFullPool lets a client wait for a place.
func TestFullPool(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast}, []lab.LinkConfig{fast})
	w.startServer(append(w.users("bob"), "--max-clients", "1")...)
	first := w.startClient(0)
	second, err := w.Clients[1].Start(lab.Command{Path: programs.Client,
		Args: w.clientArgs(1, append(w.loginAs("bob"), "--reconnect-interval", "1")...)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := w.context()
	defer cancel()
	if err := second.WaitOutput(ctx, "the server is full"); err != nil {
		t.Fatal(err)
	}
	if code, err := first.Stop(patience); code != 0 || err != nil {
		t.Errorf("first client: exit code %d, %v", code, err)
	}
	w.until("the second client is served", func() bool {
		iface, err := w.Clients[1].RouteTo(lab.InsideAddr4)
		return err == nil && iface == tunnelInterface
	})
	w.ping(w.Clients[1], lab.InsideAddr4)
}

// TestSameKeyTwice has a second client with the key of the first, which takes its
// place and its address.
func TestSameKeyTwice(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast}, []lab.LinkConfig{fast})
	w.startServer()
	first := w.startClient(0)
	addr := w.innerAddr(0, false)
	if _, err := first.Stop(patience); err != nil {
		t.Fatal(err)
	}
	w.startClient(0, append(w.login, "--no-reconnect")...)
	w.startClient(1)
	w.ping(w.Clients[1], lab.InsideAddr4)
	if got := w.innerAddr(1, false); got != addr {
		t.Errorf("the second client has %s, the first had %s", got, addr)
	}
}
