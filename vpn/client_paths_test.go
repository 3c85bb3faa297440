// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// pathsOf returns the paths of an interface.
func pathsOf(c *client, iface string) (paths []quic.PathStats) {
	c.mu.Lock()
	t := c.current
	c.mu.Unlock()
	for _, p := range t.conn.Stats().Paths {
		if p.Label == iface {
			paths = append(paths, p)
		}
	}
	return paths
}

// TestLinkDown: a link that the host says is down is given up at once, in both
// directions, without any packet being lost in between, and comes back when the host
// says so.
func TestLinkDown(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server, client := s.startTunnel(nil)
		c, h, links := client.client, client.simHost, client.links

		setDown := func(down bool) {
			for _, l := range links[0] {
				l.SetBlackhole(down)
			}
			h.mu.Lock()
			h.down["if0"] = down
			h.mu.Unlock()
			h.events <- struct{}{}
		}
		setDown(true)
		// As long as news takes to the server over the other link.
		time.Sleep(simLinks[1].Delay + time.Millisecond)
		wantPassed(t, h, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "up")))
		wantPassed(t, server.simHost, h, ipPacket("192.0.2.9", "10.0.0.2", protoUDP, udp(2, 1, "down")))
		if p := pathsOf(c, "if0"); len(p) != 1 || p[0].State != "dead" || p[0].Reason == "" {
			t.Errorf("path of a link that is down: %+v", p)
		}
		setDown(false)
		time.Sleep(time.Second)
		if p := pathsOf(c, "if0"); len(p) != 1 || p[0].Reason != "" {
			t.Errorf("path of a link that is up again: %+v", p)
		}
		client.end()
		server.end()
	})
}

// TestAddressChange: an interface that gets another address carries packets again
// within a round trip and 50 ms, also when it is the only one.
func TestAddressChange(t *testing.T) {
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
			h.addrs["if1"] = fresh
			h.mu.Unlock()
			h.events <- struct{}{}
			time.Sleep(2*simLinks[1].Delay + 50*time.Millisecond)
			usable := 0
			for _, p := range pathsOf(c, "if1") {
				if p.Reason == "" && p.Local.Addr() == fresh {
					usable++
				}
			}
			if usable != 1 {
				t.Errorf("%v: paths after the change: %+v", paths, pathsOf(c, "if1"))
			}
			wantPassed(t, h, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "up")))
			wantPassed(t, server.simHost, h, ipPacket("192.0.2.9", "10.0.0.2", protoUDP, udp(2, 1, "down")))
			time.Sleep(3 * time.Second)
			for _, p := range pathsOf(c, "if1") {
				if p.Local.Addr() != fresh {
					t.Errorf("%v: left over: %+v", paths, p)
				}
			}
			client.end()
			server.end()
		})
	}
}

// TestPathCommands: interfaces are added, ordered and removed while the client runs.
func TestPathCommands(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server, client := s.startTunnel(func(c *Config) { c.Paths = []string{"if0"} })
		c, h := client.client, client.simHost

		command := func(want string, req controlRequest) {
			t.Helper()
			got := ""
			if _, err := c.control(req); err != nil {
				got = err.Error()
			}
			if (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%+v: %q, want %q", req, got, want)
			}
			time.Sleep(time.Second)
		}
		priority := func(iface string) sched.Priority {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.current.paths[iface].priority
		}
		command("the only one", controlRequest{Cmd: "path_remove", Path: "if0"})
		command("no interface if9", controlRequest{Cmd: "path_add", Path: "if9"})
		command("the tunnel itself", controlRequest{Cmd: "path_add", Path: c.dev.Name()})
		command("used already", controlRequest{Cmd: "path_add", Path: "if0"})
		command("", controlRequest{Cmd: "path_add", Path: "if1"})
		if p := pathsOf(c, "if1"); len(p) != 1 || p[0].Reason != "" {
			t.Errorf("added: %+v", p)
		}
		command("want primary, secondary", controlRequest{Cmd: "path_priority", Path: "if1", Priority: "low"})
		command(`those used are if0, if1`, controlRequest{Cmd: "path_priority", Path: "if2", Priority: "backup"})
		command("", controlRequest{Cmd: "path_priority", Path: "if1", Priority: "backup"})
		if p := priority("if1"); p != sched.PriorityBackup {
			t.Errorf("priority %v", p)
		}
		command("", controlRequest{Cmd: "path_priority", Path: "if1", Priority: "primary"})
		command("", controlRequest{Cmd: "path_remove", Path: "if0"})
		time.Sleep(3 * time.Second)
		if p := pathsOf(c, "if0"); len(p) != 0 {
			t.Errorf("removed: %+v", p)
		}
		wantPassed(t, h, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "up")))
		wantPassed(t, server.simHost, h, ipPacket("192.0.2.9", "10.0.0.2", protoUDP, udp(2, 1, "down")))
		client.end()
		server.end()
	})
}

// TestPriorities: those of the configuration hold for names and patterns, the first
// that fits; one set at run time goes before them.
func TestPriorities(t *testing.T) {
	cfg := defaultConfig(ModeClient)
	must(t, setPaths(cfg, "eth0, wwan0=never, wwan*=backup, auto=secondary"))
	if !slices.Equal(cfg.Paths, []string{"eth0", "wwan0", "wwan*", "auto"}) {
		t.Errorf("paths %q", cfg.Paths)
	}
	c := newClient(cfg, discardLog, nil, nil)
	c.priorities["wwan1"] = sched.PriorityPrimary
	for iface, want := range map[string]sched.Priority{
		"wwan0": sched.PriorityNever, "wwan1": sched.PriorityPrimary, "wwan2": sched.PriorityBackup, "wlan0": sched.PrioritySecondary,
	} {
		if got := c.priorityOf(iface); got != want {
			t.Errorf("%s: %v, want %v", iface, got, want)
		}
	}
	if err := setPaths(cfg, "eth1=low"); err == nil || !strings.Contains(err.Error(), "want primary, secondary, backup or never") {
		t.Errorf("eth1=low: %v", err)
	}
}

// TestRemoveLastWorking: the interface that carries everything is given up when another
// one works again, not before.
func TestRemoveLastWorking(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server, client := s.startTunnel(nil)
		c, h, links := client.client, client.simHost, client.links

		setDown := func(down bool) {
			for _, l := range links[1] {
				l.SetBlackhole(down)
			}
		}
		setDown(true)
		for range 100 { // the silence is noticed
			h.dev.Inject(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "up")))
			time.Sleep(20 * time.Millisecond)
		}
		if _, err := c.control(controlRequest{Cmd: "path_remove", Path: "if0"}); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second)
		if p := pathsOf(c, "if0"); len(p) != 1 || p[0].Reason != "" {
			t.Errorf("the last path that works: %+v", p)
		}
		setDown(false)
		time.Sleep(5 * time.Second)
		if p := pathsOf(c, "if0"); len(p) != 0 {
			t.Errorf("not removed: %+v", p)
		}
		if p := pathsOf(c, "if1"); len(p) != 1 || p[0].Reason != "" {
			t.Errorf("what is left: %+v", p)
		}
		client.end()
		server.end()
	})
}

// TestAbandonOlder: news of a path that has come up, and was replaced meanwhile, does not
// end the one that replaces it.
func TestAbandonOlder(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server, client := s.startTunnel(nil)
		c := client.client
		c.current.abandonOlder(quic.Event{Kind: quic.PathUp, Label: "if1", Path: 0})
		if p := pathsOf(c, "if1"); len(p) != 1 || p[0].State != "active" {
			t.Errorf("the newer path: %+v", p)
		}
		client.end()
		server.end()
	})
}
