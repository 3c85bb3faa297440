// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTunnelEndToEnd(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		client := s.startClient(0, nil)
		addrs := client.waitUp(time.Second)
		if !slices.Equal(addrs, []netip.Prefix{pfx("10.0.0.2/32"), pfx("fd00::2/128")}) {
			t.Errorf("inner addresses %v", addrs)
		}
		if !slices.Equal(client.tunnelRoutes(), everywhere) {
			t.Errorf("routes into the tunnel %v", client.tunnelRoutes())
		}
		mtu, _ := client.dev.MTU()
		if mtu != 1440 {
			t.Errorf("MTU %d, want 1440: 1500 less what QUIC adds", mtu)
		}
		for _, pair := range [][2]string{{"10.0.0.2", "192.0.2.9"}, {"fd00::2", "2001:db8::9"}} {
			there := ipPacket(pair[0], pair[1], protoUDP, udp(1000, 2000, "there"))
			back := ipPacket(pair[1], pair[0], protoUDP, udp(2000, 1000, "back"))
			wantPassed(t, client.simHost, server.simHost, there)
			wantPassed(t, server.simHost, client.simHost, back)
		}
		// A packet as large as the MTU passes, a larger one is answered by ICMP.
		overhead := len(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "")))
		wantPassed(t, client.simHost, server.simHost,
			ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, string(make([]byte, mtu-overhead)))))
		client.dev.Inject(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, string(make([]byte, mtu-overhead+1)))))
		answer, err := client.dev.Receive(t.Context())
		if err != nil || answer[9] != 1 || answer[20] != 3 || answer[21] != 4 {
			t.Errorf("answer to a packet that is too large: % x, %v", answer, err)
		}
		// The second path is used when the first one is cut.
		client.links[0][0].SetBlackhole(true)
		client.links[0][1].SetBlackhole(true)
		time.Sleep(2 * time.Second)
		wantPassed(t, client.simHost, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "cut")))

		if err := client.end(); err != nil {
			t.Errorf("client: %v", err)
		}
		if err := server.end(); err != nil {
			t.Errorf("server: %v", err)
		}
		if !client.isClosed() || !server.isClosed() {
			t.Error("changes of the system were not undone")
		}
	})
}

// TestReconnectKeepsInnerAddress kills the server, without a word to the client,
// and starts another one.
func TestReconnectKeepsInnerAddress(t *testing.T) {
	for _, outage := range []time.Duration{500 * time.Millisecond, 20 * time.Second} {
		simulate(t, 3, func(t *testing.T, s *sim) {
			server := s.startServer(nil)
			client := s.startClient(1, nil)
			before := client.waitUp(time.Second)
			time.Sleep(time.Second)
			for _, l := range client.links {
				l[1].SetBlackhole(true)
			}
			server.end()
			time.Sleep(outage)
			for _, l := range client.links {
				l[1].SetBlackhole(false)
			}
			server = s.startServer(nil)
			pkt := ipPacket("10.0.0.3", "192.0.2.9", protoUDP, udp(1, 2, "again"))
			start, back := time.Now(), false
			for !back && time.Since(start) < 6*time.Second { // the reconnect interval + 1 s
				back = send(t, client.simHost, server.simHost, pkt)
			}
			if !back {
				t.Errorf("outage of %v: client not back after %v", outage, time.Since(start))
			}
			if after := client.dev.Addresses(); !slices.Equal(before, after) || before[0] != pfx("10.0.0.3/32") {
				t.Errorf("inner addresses %v, before %v", after, before)
			}
			select {
			case <-client.dev.Closed():
				t.Error("the TUN device was closed")
			default:
			}
			if client.isClosed() || !slices.Equal(client.tunnelRoutes(), everywhere) {
				t.Error("routes were lost")
			}
			client.end()
			server.end()
		})
	}
}

// TestOutageOfAMinute: all links are gone for a minute. The connection goes on without being
// made anew, and carries packets within the longest PTO of the transport, 2 s.
func TestOutageOfAMinute(t *testing.T) {
	for _, paths := range [][]string{{"if0"}, {"if0", "if1"}} {
		simulate(t, 1, func(t *testing.T, s *sim) {
			server, client := s.startTunnel(func(c *Config) { c.Paths, c.Reconnect = paths, false })
			cut := func(silent bool) {
				for _, l := range client.links {
					l[0].SetBlackhole(silent)
					l[1].SetBlackhole(silent)
				}
			}
			pkt := ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "on"))
			cut(true)
			for range 200 {
				for range 10 { // the window of the transport is full
					client.dev.Inject(ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 3, strings.Repeat("bulk", 200))))
				}
				if send(t, client.simHost, server.simHost, pkt) { // waits for 0.3 s
					t.Fatal("a packet passed links that are cut")
				}
			}
			cut(false)
			start, back := time.Now(), false
			for !back && time.Since(start) < 10*time.Second {
				back = send(t, client.simHost, server.simHost, pkt)
			}
			if took := time.Since(start); !back || took > 2100*time.Millisecond {
				t.Errorf("paths %v: back %v after %v", paths, back, took)
			}
			if err := client.end(); err != nil {
				t.Errorf("client: %v", err)
			}
			server.end()
		})
	}
}

// TestThreeClients: each with its own addresses; what another's address is on is
// dropped and counted; traffic between clients goes by the server's kernel.
func TestThreeClients(t *testing.T) {
	simulate(t, 3, func(t *testing.T, s *sim) {
		h := s.newHost("server")
		srv := newServer(s.serverConfig(), s.logger("server"), h)
		server := s.start(h, srv.run)
		var clients []*simClient
		for i := range 3 {
			clients = append(clients, s.startClient(i, nil))
		}
		for i, c := range clients {
			addrs := c.waitUp(2 * time.Second)
			if addrs[0].Addr() != netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 2)}) {
				t.Errorf("client %d has %v", i, addrs)
			}
		}
		for i, c := range clients {
			own := fmt.Sprintf("10.0.0.%d", i+2)
			wantPassed(t, c.simHost, server.simHost, ipPacket(own, "192.0.2.9", protoUDP, udp(1, 2, own)))
			wantPassed(t, server.simHost, c.simHost, ipPacket("192.0.2.9", own, protoUDP, udp(2, 1, own)))
		}
		between := ipPacket("10.0.0.2", "10.0.0.4", protoUDP, udp(1, 2, "hello"))
		wantPassed(t, clients[0].simHost, server.simHost, between) // into the kernel
		wantPassed(t, server.simHost, clients[2].simHost, between) // and out of it
		if send(t, server.simHost, clients[2].simHost, ipPacket("192.0.2.9", "10.0.0.99", protoUDP, udp(1, 2, "nobody"))) {
			t.Error("a packet to nobody was delivered")
		}
		st := srv.stats()
		if st.Count != 3 || st.Dropped["no_session"] != 1 {
			t.Errorf("statistics %+v", st)
		}
		for _, c := range clients {
			c.end()
		}
		server.end()
	})
}
