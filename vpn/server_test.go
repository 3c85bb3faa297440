// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

// TestFullPool: a client that finds no address tries again until there is one. An address
// is another client's as long as that has its request stream. // R9484-4.1-3
func TestFullPool(t *testing.T) {
	simulate(t, 2, func(t *testing.T, s *sim) {
		server := s.startServer(func(c *Config) { c.MaxClients = 1 })
		first := s.startClient(0, nil)
		first.waitUp(time.Second)
		refused := s.startClient(1, func(c *Config) { c.Reconnect = false })
		<-refused.done
		if exitCode(refused.err) != ExitRefused || !strings.Contains(refused.err.Error(), "full") {
			t.Errorf("--no-reconnect: %v", refused.err)
		}
		h, _ := s.newClientHost(2)
		second := s.runClient(h, 1, nil)
		time.Sleep(12 * time.Second)
		if len(second.tunnelRoutes()) > 0 {
			t.Error("second client is up although the pool is full")
		}
		first.end()
		second.waitUp(6 * time.Second)
		second.end()
		server.end()
	})
}

// TestSameUserTwice: the newer connection takes the address over; the older client
// is told, tries again, and so on: each device needs a user of its own.
func TestSameUserTwice(t *testing.T) {
	simulate(t, 3, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		old := s.startClient(0, func(c *Config) { c.Reconnect = false })
		addrs := old.waitUp(time.Second)
		h, _ := s.newClientHost(1)
		newer := s.runClient(h, 0, nil)
		if got := newer.waitUp(time.Second); !slices.Equal(got, addrs) {
			t.Errorf("addresses %v, want those of the user: %v", got, addrs)
		}
		<-old.done
		if exitCode(old.err) != ExitRefused || !strings.Contains(old.err.Error(), "newer connection of the same user") {
			t.Errorf("older client: %v", old.err)
		}
		wantPassed(t, server.simHost, newer.simHost, ipPacket("192.0.2.9", "10.0.0.2", protoUDP, udp(1, 2, "x")))
		// With reconnect they take turns, at the pace of the reconnect interval.
		again := s.startClient(2, func(c *Config) { c.AuthKey = s.users[0].Key })
		again.waitUp(time.Second)
		start := s.net.Stats().Sent
		time.Sleep(4 * time.Second)
		if n := s.net.Stats().Sent - start; n > 200 {
			t.Errorf("%d packets in 4 s: the clients push each other out all the time", n)
		}
		again.end()
		newer.end()
		server.end()
	})
}

// TestSharedKey: clients that share a key without a name have addresses of their own,
// none of which belongs to a user.
func TestSharedKey(t *testing.T) {
	simulate(t, 2, func(t *testing.T, s *sim) {
		server := s.startServer(func(c *Config) { c.AuthKey = "shared" })
		for i, want := range []string{"10.0.0.4/32", "10.0.0.5/32"} {
			client := s.startClient(i, func(c *Config) { c.AuthKey = "shared" })
			defer client.end()
			if addrs := client.waitUp(time.Second); addrs[0] != pfx(want) {
				t.Errorf("client %d has %v, want %s", i, addrs, want)
			}
		}
		server.end()
	})
}

// rawClient opens a tunnel by hand, to send what our client would not.
func (s *sim) rawClient(t *testing.T, number int) (*quic.Endpoint, *http3.RequestStream) {
	t.Helper()
	h, _ := s.newClientHost(number)
	ep := quic.NewEndpoint(nil)
	socket, err := h.listen(netip.MustParseAddrPort("0.0.0.0:0"), "if0")
	must(t, err)
	ep.AddSocket(socket)
	cfg := &Config{Insecure: true}
	conn, err := ep.Dial(t.Context(), socket, simServerAddr, &quic.Config{TLS: clientTLS(cfg, "x", nil), Datagrams: true})
	must(t, err)
	h3, err := http3.NewClientConn(t.Context(), conn)
	must(t, err)
	resp, stream, err := h3.Do(t.Context(), &http3.Request{
		Method: "CONNECT", Protocol: "connect-ip", Scheme: "https", Authority: "x", Path: "/.well-known/masque/ip/*/*/",
		Header: http3.Header{http3.CapsuleProtocol, {Name: "authorization", Value: "Bearer " + s.users[number].Key}},
	})
	if err != nil || resp.Status != 200 {
		t.Fatalf("CONNECT: %+v, %v", resp, err)
	}
	return ep, stream
}

// TestSpoofedSource: a packet with another client's address is dropped and counted.
func TestSpoofedSource(t *testing.T) {
	simulate(t, 2, func(t *testing.T, s *sim) {
		h := s.newHost("server")
		srv := newServer(s.serverConfig(), s.logger("server"), h)
		server := s.start(h, srv.run)
		victim := s.startClient(0, nil)
		victim.waitUp(time.Second)
		ep, stream := s.rawClient(t, 1)
		time.Sleep(time.Second)
		sendRaw := func(pkt []byte) {
			b := quic.NewPacketBuf()
			b.SetLen(1 + copy(b.Space()[1:], pkt))
			b.Space()[0] = 0 // context id
			stream.SendDatagrams([]*quic.PacketBuf{b})
		}
		own := ipPacket("10.0.0.3", "192.0.2.9", protoUDP, udp(1, 2, "own"))
		for _, source := range []string{"10.0.0.2", "10.0.0.1", "192.0.2.1", "fd00::2"} {
			dst := "192.0.2.9"
			if strings.Contains(source, ":") {
				dst = "2001:db8::9"
			}
			sendRaw(ipPacket(source, dst, protoUDP, udp(1, 2, "spoofed")))
		}
		sendRaw(own)
		got, err := h.dev.Receive(t.Context())
		if err != nil || !bytes.Equal(got, own) {
			t.Errorf("the server's kernel got % x, %v", got, err)
		}
		dropped := srv.status().Clients[1].Dropped
		if dropped[masque.DropSource.String()] != 4 {
			t.Errorf("dropped %v, want 4 because of their source", dropped)
		}
		ep.Close()
		victim.end()
		server.end()
	})
}

// TestServerAnswersOthers: who does not ask for a tunnel sees a web server.
func TestServerAnswersOthers(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		h, _ := s.newClientHost(0)
		ep := quic.NewEndpoint(nil)
		socket, err := h.listen(netip.MustParseAddrPort("0.0.0.0:0"), "if0")
		must(t, err)
		ep.AddSocket(socket)
		conn, err := ep.Dial(t.Context(), socket, simServerAddr, &quic.Config{TLS: clientTLS(&Config{Insecure: true}, "x", nil), Datagrams: true})
		must(t, err)
		h3, err := http3.NewClientConn(t.Context(), conn)
		must(t, err)
		for _, tt := range []struct {
			method, protocol, token string
			status                  int
		}{
			{"GET", "", "", 404},
			{"CONNECT", "connect-ip", "", 501},
			{"CONNECT", "connect-ip", "wrong", 403},
		} {
			req := &http3.Request{Method: tt.method, Protocol: tt.protocol, Scheme: "https", Authority: "x", Path: "/.well-known/masque/ip/*/*/"}
			if tt.protocol != "" {
				req.Header = http3.Header{http3.CapsuleProtocol}
			}
			if tt.token != "" {
				req.Header = append(req.Header, http3.Field{Name: "authorization", Value: "Bearer " + tt.token})
			}
			resp, stream, err := h3.Do(t.Context(), req)
			if err != nil || resp.Status != tt.status {
				t.Errorf("%+v: %+v, %v", tt, resp, err)
				continue
			}
			stream.Close()
		}
		ep.Close()
		server.end()
	})
}

func TestStatus(t *testing.T) {
	simulate(t, 2, func(t *testing.T, s *sim) {
		sh := s.newHost("server")
		srv := newServer(s.serverConfig(), s.logger("server"), sh)
		server := s.start(sh, srv.run)
		client := s.startClient(1, nil)
		cl, ch, links := client.client, client.simHost, client.links
		client.waitUp(time.Second)
		time.Sleep(time.Second)
		for range 20 {
			wantPassed(t, ch, sh, ipPacket("10.0.0.3", "192.0.2.9", protoUDP, udp(1, 2, "x")))
		}
		links[1][0].SetBlackhole(true)
		links[1][1].SetBlackhole(true)
		for range 20 {
			ch.dev.Inject(ipPacket("10.0.0.3", "192.0.2.9", protoUDP, udp(1, 2, "x")))
			time.Sleep(50 * time.Millisecond)
		}

		got, err := cl.control(controlRequest{Cmd: "get_status"})
		must(t, err)
		st := got.(clientStatus)
		if st.State != "up" || st.Server != simServerAddr.String() || st.MTU != 1440 || len(st.Paths) != 2 || st.Connected != 2 {
			t.Errorf("status %+v", st)
		}
		used, cut := st.Paths[0], st.Paths[1]
		if !used.Used || used.Name != "if0" || used.Local.Addr() != ch.addrs["if0"] || used.SRTTms < 20 || used.SRTTms > 25 || used.MTU != 1500 {
			t.Errorf("path in use: %+v", used)
		}
		if cut.Used || cut.Name != "if1" || cut.Reason == "" || cut.State == "active" {
			t.Errorf("path that was cut 1 s ago: %+v", cut)
		}
		if rx := links[0][1].Stats().Bytes; rx < used.BytesRx*95/100 || rx > used.BytesRx*105/100 {
			t.Errorf("received %d bytes, the link counts %d", used.BytesRx, rx)
		}
		if _, err := cl.control(controlRequest{Cmd: "list_users"}); err == nil {
			t.Error("a client lists users")
		}

		peer := srv.status().Clients[0]
		if peer.User != "user1" || !slices.Equal(peer.Addresses, []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("fd00::3")}) ||
			len(peer.Paths) != 2 || peer.DgramRecv < 20 {
			t.Errorf("server's status of the client: %+v", peer)
		}
		users, err := srv.control(controlRequest{Cmd: "list_users"})
		if line, _ := json.Marshal(users); err != nil || string(line) != `{"users":["user0","user1"]}` {
			t.Errorf("list_users: %s, %v", line, err)
		}
		for _, answer := range []any{st, srv.status()} {
			var out bytes.Buffer
			line, _ := json.Marshal(answer)
			print := printClient
			if _, ok := answer.(serverStatus); ok {
				print = printServer
			}
			must(t, print(line, &out))
			for _, want := range []string{"10.0.0.3", "SHARE", simServerAddr.Addr().String()} {
				if _, server := answer.(serverStatus); !strings.Contains(out.String(), want) && !server {
					t.Errorf("status does not show %s:\n%s", want, &out)
				}
			}
		}
		client.end()
		server.end()
	})
}
