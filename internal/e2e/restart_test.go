// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// TestServerKilledAndRestarted is what a client does when its server disappears
// without a word and comes back.
func TestServerKilledAndRestarted(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 5 * time.Second /* the default */} {
		t.Run(interval.String(), func(t *testing.T) { testServerRestart(t, interval) })
	}
}

func testServerRestart(t *testing.T, interval time.Duration) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast, fast})
	w.startServer()
	client := w.startClient(0, append(w.login, "--reconnect-interval", fmt.Sprint(interval.Seconds()))...)
	addr := w.innerAddr(0, false)
	line := dialEcho(w)
	line.say("before")

	leaks := watchForLeaks(w)
	routes := watchRoutes(w.Clients[0])
	// Something that would leak, all the time.
	peer := w.peer(w.Inside, lab.InsideAddr4)
	ctx, cancel := w.context()
	defer cancel()
	probe, err := peer.StartProbe(ctx, w.Clients[0])
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()

	w.server.Kill()
	// Long enough for the client to find out.
	if err := client.WaitOutput(ctx, "connecting anew"); err != nil {
		t.Fatal(err)
	}
	probe.Take(lab.Up)
	w.startServer()
	took := w.until("packets pass again", func() bool { return probe.Take(lab.Up).Received > 0 })
	if took > interval+time.Second {
		t.Errorf("packets pass again %v after the server listens, the reconnect interval is %v", took, interval)
	}
	if got := w.innerAddr(0, false); got != addr {
		t.Errorf("the inner address was %s and is %s", addr, got)
	}
	line.say("after")
	if missing := routes(); missing > 0 {
		t.Errorf("the default routes into the tunnel were missing in %d of the polls", missing)
	}
	if seen := leaks(); len(seen) > 0 {
		t.Errorf("on the links there was something else than UDP to the server: %q", seen)
	}
}

// TestRefusedLater is a client that was up and finds that its server has no place for
// it any more, or does not know it: it keeps trying, and says why.
func TestRefusedLater(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast}, []lab.LinkConfig{fast})
	w.startServer(w.users("bob")...)
	client := w.startClient(0, append(w.login, "--reconnect-interval", "1")...)
	addr := w.innerAddr(0, false)
	ctx, cancel := w.context()
	defer cancel()
	wait := func(text string) {
		t.Helper()
		if err := client.WaitOutput(ctx, text); err != nil {
			t.Fatal(err)
		}
	}

	w.server.Kill()
	w.startServer("--config", lab.ServerConfig, "--user", "alice:another-key", "--user", "bob:key-of-bob", "--max-clients", "1")
	wait("does not accept the key")
	w.server.Kill()
	// bob takes the only place while alice's packets do not arrive.
	w.Links[0][0].SetSilent(true)
	w.startServer(append(w.users("bob"), "--max-clients", "1")...)
	bob := w.startClient(1, w.loginAs("bob")...)
	w.Links[0][0].SetSilent(false)
	wait("the server is full")
	if iface, err := w.Clients[0].RouteTo(lab.InsideAddr4); err != nil || iface != tunnelInterface {
		t.Errorf("while refused the client routes into %q, %v", iface, err)
	}
	if code, err := bob.Stop(patience); code != 0 || err != nil {
		t.Errorf("the other client: exit code %d, %v", code, err)
	}
	w.until("the client is back", func() bool { return w.clientStatus(0).State == "up" })
	w.ping(w.Clients[0], lab.InsideAddr4)
	if got := w.innerAddr(0, false); got != addr {
		t.Errorf("the inner address was %s and is %s", addr, got)
	}
}

// echoLine is a TCP connection through the tunnel to somebody who repeats lines.
type echoLine struct {
	w *world
	net.Conn
	answers *bufio.Reader
}

// dialEcho opens a connection to a new echo service behind the server.
func dialEcho(w *world) *echoLine {
	w.t.Helper()
	address := netip.AddrPortFrom(lab.InsideAddr4, 7).String()
	l, err := w.Inside.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for lines := bufio.NewScanner(c); lines.Scan(); {
			fmt.Fprintln(c, lines.Text())
		}
	}()
	ctx, cancel := w.context()
	defer cancel()
	c, err := w.Clients[0].Dial(ctx, "tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return &echoLine{w, c, bufio.NewReader(c)}
}

// say sends a line and waits for it to come back.
func (e *echoLine) say(text string) {
	e.w.t.Helper()
	e.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(e, text); err != nil {
		e.w.t.Fatalf("inner TCP connection: %v", err)
	}
	answer, err := e.answers.ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != text {
		e.w.t.Fatalf("inner TCP connection: said %q, heard %q, %v", text, answer, err)
	}
}

// watchForLeaks looks at what the client sends on its links. The function that it
// returns ends the watch, and tells what was not UDP to the server.
func watchForLeaks(w *world) (end func() []string) {
	var mu sync.Mutex
	var seen []string
	for _, l := range w.Links[0] {
		l.Observe(lab.AtoB, func(frame []byte) {
			what := describe(frame, w.address)
			if what == "" {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(seen, what) {
				seen = append(seen, what)
			}
		})
	}
	return func() []string {
		for _, l := range w.Links[0] {
			l.Observe(lab.AtoB, nil)
		}
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// describe says what a frame is. It is empty for UDP to the server, for ICMP that
// tells the server that a UDP port is closed, and for the reports about multicast
// groups that the kernel sends for the interface itself.
func describe(frame []byte, server netip.AddrPort) string {
	const header, multicast, icmp, udp, unreachable = 14, 1, 1, 17, 3
	p := frame[header:]
	if frame[0]&multicast != 0 {
		return ""
	}
	if len(p) < 28 || p[0]>>4 != 4 {
		return fmt.Sprintf("a packet of another kind, %x", p[:min(len(p), 40)])
	}
	dst := netip.AddrFrom4([4]byte(p[16:20]))
	port := uint16(p[22])<<8 | uint16(p[23])
	switch {
	case p[9] == udp && netip.AddrPortFrom(dst, port) == server:
		return ""
	case p[9] == icmp && dst == server.Addr() && p[20] == unreachable:
		return ""
	}
	return fmt.Sprintf("IPv4 protocol %d to %s", p[9], dst)
}

// watchRoutes looks every 10 ms whether the whole internet is routed into the
// tunnel. The function that it returns ends the watch and tells how often it was
// not.
func watchRoutes(h *lab.Host) (end func() int) {
	halves := []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("198.51.100.1"),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("9000::1")}
	stop, result := make(chan struct{}), make(chan int)
	go func() {
		missing := 0
		for tick := time.Tick(10 * time.Millisecond); ; {
			for _, dst := range halves {
				if iface, err := h.RouteTo(dst); err != nil || iface != tunnelInterface {
					missing++
				}
			}
			select {
			case <-tick:
			case <-stop:
				result <- missing
				return
			}
		}
	}()
	return func() int {
		close(stop)
		return <-result
	}
}

// TestNothingIsLeft compares what the client's host looks like before and after: a
// clean stop, and a kill with a new start and a clean stop.
func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast, fast})
	serverBefore := w.snapshot(w.Server)
	clientBefore := w.snapshot(w.Clients[0])
	w.startServer()
	for _, kill := range []bool{false, true} {
		p := w.startClient(0)
		if slices.Equal(clientBefore, w.snapshot(w.Clients[0])) {
			t.Fatal("the snapshot does not show that a client runs")
		}
		if kill {
			p.Kill()
			p = w.startClient(0)
		}
		w.ping(w.Clients[0], lab.InsideAddr4)
		if code, err := p.Stop(patience); code != 0 || err != nil {
			t.Errorf("client: exit code %d, %v", code, err)
		}
		w.compare("client", clientBefore, w.snapshot(w.Clients[0]))
	}
	w.server.Kill()
	w.startServer()
	if code, err := w.server.Stop(patience); code != 0 || err != nil {
		t.Errorf("server: exit code %d, %v", code, err)
	}
	w.compare("server", serverBefore, w.snapshot(w.Server))
}

func (w *world) snapshot(h *lab.Host) []string {
	w.t.Helper()
	s, err := h.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// compare reports the lines of two snapshots that are not in both.
func (w *world) compare(what string, before, after []string) {
	w.t.Helper()
	for _, l := range before {
		if !slices.Contains(after, l) {
			w.t.Errorf("%s: gone: %s", what, l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			w.t.Errorf("%s: left: %s", what, l)
		}
	}
}
