// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSelectInterfaces(t *testing.T) {
	candidates := []string{"eth0", "wlan0", "wlan1", "docker0"}
	for _, tt := range []struct{ wanted, want string }{
		{"auto", "eth0 wlan0 wlan1 docker0"},
		{"wl*", "wlan0 wlan1"},
		{"auto !docker*", "eth0 wlan0 wlan1"},
		{"!docker*", "eth0 wlan0 wlan1"},
		{"!docker* !wlan1", "eth0 wlan0"},
		{"wlan1 auto !docker?", "wlan1 eth0 wlan0"},
		{"docker0 !docker*", "docker0"}, // named
		{"usb*", ""},
		{"wlan[12] eth0", "wlan1 eth0"},
		{"ppp0 eth*", "ppp0 eth0"}, // named, without a default route
	} {
		if got := strings.Join(selectInterfaces(strings.Fields(tt.wanted), candidates), " "); got != tt.want {
			t.Errorf("%q selects %q, want %q", tt.wanted, got, tt.want)
		}
	}
}

func TestPathPatterns(t *testing.T) {
	for _, bad := range []string{"wl[", "!", "![a-"} {
		cfg := defaultConfig(ModeClient)
		if err := setPaths(cfg, bad); err == nil || !strings.Contains(err.Error(), "pattern") {
			t.Errorf("--path %s: %v", bad, err)
		}
	}
}

// TestInterfaceFoundLater: with a pattern, an interface that did not exist at the
// start carries packets within a second of having an address; one that the pattern
// leaves out does not.
func TestInterfaceFoundLater(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		h, _ := s.newClientHost(0)
		second := h.addrs["if1"]
		delete(h.addrs, "if1")
		cfg := s.clientConfig(0)
		cfg.Paths = []string{"if*", "!if7"}
		c := newClient(cfg, s.logger("client"), h, s.roots)
		client := s.start(h, c.run)
		client.waitUp(time.Second)
		time.Sleep(time.Second)

		h.mu.Lock()
		h.addrs["if1"], h.addrs["if7"] = second, netip.MustParseAddr("10.7.0.2")
		h.mu.Unlock()
		h.events <- struct{}{}
		time.Sleep(time.Second)
		var usable []string
		for _, p := range c.current.conn.Stats().Paths {
			if p.Reason == "" {
				usable = append(usable, p.Label)
			}
		}
		slices.Sort(usable)
		if !slices.Equal(usable, []string{"if0", "if1"}) {
			t.Errorf("usable paths: %q", usable)
		}
		client.end()
		server.end()
	})
}

// TestInterfacesForgotten: those that get another name each time that they are plugged
// in do not add up; one that is named, or comes back under its name, stays.
func TestInterfacesForgotten(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		h, _ := s.newClientHost(0)
		cfg := s.clientConfig(0)
		cfg.Paths = []string{"if0", "usb*"}
		c := newClient(cfg, s.logger("client"), h, s.roots)
		c.ifaces = []string{"if0"}
		a := h.addrs["if0"]
		for _, tt := range []struct{ there, want string }{
			{"if0 usb1", "if0 usb1"},
			{"if0", "if0 usb1"},
			{"usb2", "if0 usb2"},
			{"if0 usb2 usb3", "if0 usb2 usb3"},
		} {
			clear(h.addrs)
			for _, name := range strings.Fields(tt.there) {
				h.addrs[name] = a
			}
			c.findInterfaces()
			if got := strings.Join(c.ifaces, " "); got != tt.want {
				t.Errorf("with %s: %q, want %q", tt.there, got, tt.want)
			}
		}
	})
}
