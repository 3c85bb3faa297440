// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// TestEveryFamilyInEveryFamily carries IPv4 and IPv6 inside IPv4 and IPv6.
func TestEveryFamilyInEveryFamily(t *testing.T) {
	for _, outside := range []netip.Addr{lab.ServerAddr4, lab.ServerAddr6} {
		t.Run("outside "+family(outside), func(t *testing.T) {
			w := newWorld(t, outside, []lab.LinkConfig{fast, fast})
			w.startServer()
			w.startClient(0)
			for _, inside := range []netip.Addr{lab.InsideAddr4, lab.InsideAddr6} {
				t.Run("inside "+family(inside), func(t *testing.T) {
					w := *w
					w.t = t
					w.ping(w.Clients[0], inside)
					testDownload(&w, inside)
					// Through the server's NAT, opened by the client, and to the client,
					// opened from behind the server.
					testTraffic(&w, w.Clients[0], w.peer(w.Inside, inside))
					testTraffic(&w, w.Inside, w.peer(w.Clients[0], w.innerAddr(0, inside.Is6())))
				})
			}
		})
	}
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// testDownload fetches 100 MB over HTTP from behind the server and compares the
// hash.
func testDownload(w *world, inside netip.Addr) {
	w.t.Helper()
	const size = 100e6
	sent := make(chan hash.Hash, 1)
	stop, err := w.Inside.ServeHTTP(netip.AddrPortFrom(inside, 80).String(), http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		h := sha256.New()
		io.CopyN(io.MultiWriter(rw, h), rand.NewChaCha8([32]byte{1}), size)
		sent <- h
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	defer stop()
	resp, err := w.Clients[0].HTTPClient().Get("http://" + net.JoinHostPort(inside.String(), "80"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	received := sha256.New()
	n, err := io.Copy(received, resp.Body)
	if err != nil || n != size {
		w.t.Fatalf("received %d of %d bytes: %v", n, int(size), err)
	}
	if a, b := (<-sent).Sum(nil), received.Sum(nil); string(a) != string(b) {
		w.t.Errorf("SHA-256 sent %x, received %x", a, b)
	}
}

// testTraffic sends TCP and UDP both ways between a host and a peer.
func testTraffic(w *world, from *lab.Host, peer *lab.Peer) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	for _, way := range []lab.Way{lab.Up, lab.Down} {
		b, err := peer.Transfer(ctx, from, way, 2, 4<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		w.finish(ctx, b, "TCP "+way.String())
	}
	probe, err := peer.StartProbe(ctx, from) // returns when UDP has passed both ways
	if err != nil {
		w.t.Fatal(err)
	}
	probe.Close()
}
