// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// tunnel is both ends of a tunnel.
type tunnel struct {
	client, server     *Session
	toClient, toServer packets
	clientConn         *http3.ClientConn
}

var (
	addr4    = netip.MustParsePrefix("10.9.0.2/32")
	addr6    = netip.MustParsePrefix("fd00::2/128")
	default4 = PrefixRoute(netip.MustParsePrefix("0.0.0.0/0"))
	default6 = PrefixRoute(netip.MustParsePrefix("::/0"))
)

// withTunnel runs f with a tunnel without addresses and routes.
func withTunnel(t *testing.T, f func(t *testing.T, tun *tunnel)) {
	t.Helper()
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		tun := new(tunnel)
		sessions := make(chan *Session)
		m := &Server{Authorize: func(_ *http3.Request, token string) error {
			if token != "secret" {
				return &RefusedError{Status: 403}
			}
			return nil
		}}
		h := &http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
			s, err := m.Accept(req, st)
			if err != nil {
				return
			}
			sessions <- s
			<-s.Done()
		}}
		go h.Serve(server)
		var err error
		if tun.clientConn, err = http3.NewClientConn(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		if tun.client, _, err = Dial(t.Context(), tun.clientConn, Request{Authority: "server.test", Token: "secret"}); err != nil {
			t.Fatal(err)
		}
		tun.server = <-sessions
		tun.client.SetHandler(&tun.toClient)
		tun.server.SetHandler(&tun.toServer)
		f(t, tun)
	})
}

// packet4 makes a UDP packet of the given total length.
func packet4(src, dst string, size int) []byte {
	b := make([]byte, size)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	b[8], b[9] = 64, 17
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20], 0))
	return b
}

func packet6(src, dst string, size int) []byte {
	b := make([]byte, size)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(size-40))
	b[6], b[7] = 17, 64
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return b
}

func TestTunnel(t *testing.T) {
	withTunnel(t, func(t *testing.T, tun *tunnel) {
		if err := tun.server.AssignAddresses([]netip.Prefix{addr4, addr6}); err != nil {
			t.Fatal(err)
		}
		if err := tun.server.AdvertiseRoutes([]Route{default6, default4}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for len(tun.client.Routes()) == 0 {
			<-tun.client.Changed()
		}
		if got := tun.client.Assigned(); !slices.Equal(got, []netip.Prefix{addr4, addr6}) {
			t.Fatalf("assigned %v", got)
		}
		if got := tun.client.Routes(); !slices.Equal(got, []Route{default4, default6}) {
			t.Fatalf("routes %v", got)
		}
		up := [][]byte{packet4("10.9.0.2", "1.1.1.1", 100), packet6("fd00::2", "2001:db8::1", 200)}
		down := [][]byte{packet4("1.1.1.1", "10.9.0.2", 300), packet6("2001:db8::1", "fd00::2", 400)}
		tun.client.Send([]*quic.PacketBuf{buf(up[0]), buf(up[1])})
		tun.server.Send([]*quic.PacketBuf{buf(down[0]), buf(down[1])})
		settle()
		if got := tun.toServer.take(); !slices.Equal(got, []string{string(up[0]), string(up[1])}) {
			t.Errorf("server got %x", got)
		}
		if got := tun.toClient.take(); !slices.Equal(got, []string{string(down[0]), string(down[1])}) {
			t.Errorf("client got %x", got)
		}
		tun.client.Close()
		<-tun.server.Done()
		if err := tun.server.Err(); err != io.EOF {
			t.Errorf("server session ended with %v", err)
		}
	})
}
