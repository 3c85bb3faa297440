// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// setMTU changes what all links of a client carry.
func (c *simClient) setMTU(mtu int) {
	for i := range c.links {
		for _, l := range c.links[i] {
			cfg := l.Config()
			cfg.MTU = mtu
			l.SetConfig(cfg)
		}
	}
}

// TestServerFollowsMTU: the host of the server knows what a client's paths carry,
// and a client has IPv6 while they carry what that needs.
func TestServerFollowsMTU(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		h := s.newHost("server")
		srv := newServer(s.serverConfig(), s.logger("server"), h)
		server := s.start(h, srv.run)
		defer server.end()
		host, links := s.newClientHost(0)
		client := &simClient{nil, links}
		v4, v6 := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")

		wantState := func(what string, ipv6, limited bool) {
			t.Helper()
			offered := srv.status().Clients[0].Addresses
			addrs, limits := client.dev.Addresses(), h.packetLimits()
			if slices.Contains(addrs, pfx("fd00::2/128")) != ipv6 || slices.Contains(offered, v6) != ipv6 || !slices.Contains(addrs, pfx("10.0.0.2/32")) {
				t.Errorf("%s: the client has %v, the server offers %v", what, addrs, offered)
			}
			mtu := srv.open()[0].session.MTU()
			if !limited && len(limits) != 0 || limited && limits[v4] != mtu || limited && ipv6 != (limits[v6] == mtu) {
				t.Errorf("%s: limits %v with an MTU of %d", what, limits, mtu)
			}
			if inner := ipPacket("2001:db8::9", "fd00::2", protoUDP, udp(1, 2, "x")); send(t, h, client.simHost, inner) != ipv6 {
				t.Errorf("%s: IPv6 passes: %v", what, !ipv6)
			}
		}
		client.setMTU(1400)
		client.simProgram = s.runClient(host, 0, nil)
		client.waitUp(5 * time.Second)
		time.Sleep(5 * time.Second)
		wantState("paths of 1400 bytes", true, true)

		client.setMTU(1300)
		for range 100 {
			h.dev.Inject(ipPacket("192.0.2.9", "10.0.0.2", protoUDP, udp(1, 2, string(make([]byte, 1240)))))
			client.dev.Inject(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, string(make([]byte, 1240)))))
			time.Sleep(50 * time.Millisecond)
		}
		wantState("paths of 1300 bytes", false, true)

		client.setMTU(1500)
		time.Sleep(3 * time.Minute)
		wantState("paths of 1500 bytes", true, false)

		client.end()
		host, client.links = s.newClientHost(1)
		client.setMTU(1400)
		client.simProgram = s.runClient(host, 0, nil)
		client.waitUp(5 * time.Second)
		time.Sleep(5 * time.Second)
		wantState("paths of 1400 bytes again", true, true)
		client.end()
		time.Sleep(time.Second)
		if limits := h.packetLimits(); len(limits) != 0 {
			t.Errorf("limits %v of a client that is gone", limits)
		}
	})
}
