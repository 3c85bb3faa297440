// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// countingLog counts lines with a text.
type countingLog struct {
	mu   sync.Mutex
	text string
	n    int
}

func (l *countingLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n += bytes.Count(b, []byte(l.text))
	return len(b), nil
}

func (l *countingLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// TestOneKeyTwice: two clients with one key take turns no faster than the reconnect
// interval says, however short it is.
func TestOneKeyTwice(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 5 * time.Second} {
		simulate(t, 1, func(t *testing.T, s *sim) {
			replaced := &countingLog{text: "client replaced"}
			s.log = replaced
			server := s.startServer(nil)
			s.users = append(s.users, s.users[0])
			var clients []*simClient
			for i := range 2 {
				clients = append(clients, s.startClient(i, func(c *Config) { c.ReconnectInterval = interval }))
				time.Sleep(10 * time.Second)
				if i == 0 {
					continue
				}
				if n, most := replaced.count(), int(10*time.Second/interval)+1; n > most {
					t.Errorf("interval %v: replaced %d times in the first 10 s, want at most %d", interval, n, most)
				}
			}
			time.Sleep(10 * time.Second)
			if n, most := replaced.count(), int(20*time.Second/interval)+2; n > most {
				t.Errorf("interval %v: replaced %d times in 20 s, want at most %d", interval, n, most)
			}
			for _, c := range clients {
				c.end()
			}
			server.end()
		})
	}
}

// TestOneAttemptPerInterval: a server that ends each connection as soon as it is up is
// not hammered.
func TestOneAttemptPerInterval(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		up := &countingLog{text: "msg=up"}
		s.log = up
		client := s.startClient(0, func(c *Config) { c.ReconnectInterval = 4 * time.Second })
		for range 13 {
			server := s.startServer(nil)
			time.Sleep(1400 * time.Millisecond)
			server.end()
			time.Sleep(100 * time.Millisecond)
		}
		client.end()
		if n := up.count(); n > 13+6 { // the server says "up" too
			t.Errorf("client up %d times in 20 s with an interval of 4 s", n-13)
		}
	})
}

// TestFirstInterfaceGone: the host's trouble with the interface of the first path does
// not end a connection that has another path.
func TestFirstInterfaceGone(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		client := s.startClient(0, nil)
		client.waitUp(time.Second)
		time.Sleep(time.Second)
		client.links[0][0].SetBlackhole(true)
		client.links[0][1].SetBlackhole(true)
		client.mu.Lock()
		client.routeErr = errors.New("interface if0 has no route")
		client.mu.Unlock()
		client.events <- struct{}{}
		// The first packet may be lost with the path, before its end is noticed.
		client.dev.Inject(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "lost")))
		time.Sleep(2 * time.Second)
		wantPassed(t, client.simHost, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "on")))
		client.end()
		server.end()
	})
}

// TestInterfaceMadeAnew: an interface that was deleted and made again, with another
// address, carries packets again; also when it is the only one.
func TestInterfaceMadeAnew(t *testing.T) {
	for _, paths := range [][]string{{"if0", "if1"}, {"if1"}} {
		simulate(t, 1, func(t *testing.T, s *sim) {
			server, client := s.startTunnel(func(c *Config) { c.Paths = paths })
			c, h, links := client.client, client.simHost, client.links
			for _, l := range links[1] {
				l.SetBlackhole(true)
			}
			fresh := netip.MustParseAddr("10.2.0.77")
			s.net.AddLink(fresh.String(), simServerAddr.Addr().String(), simLinks[1])
			h.mu.Lock()
			h.indexes["if1"], h.addrs["if1"] = 7, fresh
			h.mu.Unlock()
			h.events <- struct{}{}
			time.Sleep(2 * time.Second)
			c.mu.Lock()
			tunnel := c.current
			c.mu.Unlock()
			usable := 0
			for _, p := range tunnel.conn.Stats().Paths {
				if p.Label != "if1" {
					continue
				}
				if p.Local.Addr() == fresh && p.Reason == "" {
					usable++
				} else {
					t.Errorf("%v: path of %v is left: %s %s", paths, p.Local, p.State, p.Reason)
				}
			}
			if usable != 1 {
				t.Errorf("%v: %d usable paths over the new interface", paths, usable)
			}
			wantPassed(t, h, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "anew")))
			client.end()
			server.end()
		})
	}
}

// TestStatusWhileSilent: the status does not say "up" while nothing is answered, and
// says why not.
func TestStatusWhileSilent(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server, client := s.startTunnel(nil)
		c, h, links := client.client, client.simHost, client.links
		status := func() clientStatus {
			st, err := c.control(controlRequest{Cmd: "get_status"})
			must(t, err)
			return st.(clientStatus)
		}
		if st := status(); st.State != "up" || st.Error != "" {
			t.Errorf("while all is well: %s, %q", st.State, st.Error)
		}
		setBlackhole := func(on bool) {
			for _, l := range links {
				l[0].SetBlackhole(on)
				l[1].SetBlackhole(on)
			}
		}
		setBlackhole(true)
		for range 15 {
			h.dev.Inject(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "x")))
			time.Sleep(time.Second)
		}
		if st := status(); st.State != "connecting" || st.Error == "" {
			t.Errorf("while the server is silent: %s, %q", st.State, st.Error)
		}
		setBlackhole(false)
		time.Sleep(15 * time.Second)
		if st := status(); st.State != "up" || st.Error != "" {
			t.Errorf("when it is back: %s, %q", st.State, st.Error)
		}
		client.end()
		server.end()
	})
}

// lookupHost answers for names as it is told.
type lookupHost struct {
	*simHost
	mu    sync.Mutex
	names map[string]netip.Addr
	asked map[string]int
}

func (h *lookupHost) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	h.mu.Lock()
	h.asked[name]++
	a, ok := h.names[name]
	h.mu.Unlock()
	if ok {
		return []netip.Addr{a}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestNames: a name that nobody resolves does not hold up the server after it, and a
// name whose address leads nowhere is asked for again.
func TestNames(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		h, _ := s.newClientHost(0)
		names := &lookupHost{simHost: h, names: map[string]netip.Addr{"moved.example": netip.MustParseAddr("203.0.113.99")}, asked: map[string]int{}}
		cfg := s.clientConfig(0)
		cfg.Insecure = true
		cfg.Servers = []ServerAddr{{"lost.example", 443}, {simServerAddr.Addr().String(), 443}}
		client := s.start(h, newClient(cfg, s.logger("client"), names, s.roots).run)
		client.waitUp(time.Second)
		client.end()

		h, _ = s.newClientHost(0)
		names.simHost = h
		cfg = s.clientConfig(0)
		cfg.Insecure = true
		cfg.Servers = []ServerAddr{{"moved.example", 443}}
		client = s.start(h, newClient(cfg, s.logger("client"), names, s.roots).run)
		time.Sleep(time.Second)
		names.mu.Lock()
		names.names["moved.example"] = simServerAddr.Addr()
		names.mu.Unlock()
		client.waitUp(20 * time.Second)
		client.end()
		server.end()
	})
}
