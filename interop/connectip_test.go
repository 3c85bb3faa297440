// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	connectip "github.com/quic-go/connect-ip-go"
	quicgo "github.com/quic-go/quic-go"
	quicgohttp3 "github.com/quic-go/quic-go/http3"
	"github.com/yosida95/uritemplate/v3"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

const tunnelPath = "/.well-known/masque/ip/*/*/"

var (
	assigned  = netip.MustParsePrefix("10.7.0.2/32")
	allRoutes = netip.MustParsePrefix("0.0.0.0/0")
	remote    = netip.MustParseAddr("198.51.100.7")
)

// udpPacket is an IPv4 packet with an empty checksum of UDP, which means none.
func udpPacket(src, dst netip.Addr, payload string) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(b[20:], 5000)
	binary.BigEndian.PutUint16(b[22:], 53)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

// sameButTTL compares packets whose hop limit, and so header checksum, may differ.
func sameButTTL(a, b []byte) bool {
	if len(a) != len(b) || len(a) < 20 {
		return false
	}
	a, b = bytes.Clone(a), bytes.Clone(b)
	a[8], b[8] = 0, 0
	a[10], a[11], b[10], b[11] = 0, 0, 0, 0
	return bytes.Equal(a, b)
}

// packetChan is a masque.PacketHandler.
type packetChan chan []byte

func (c packetChan) HandlePacket(b []byte) { c <- bytes.Clone(b) }
func (c packetChan) FlushPackets()         {}

func sendPacket(s *masque.Session, pkt []byte) {
	b := quic.NewPacketBuf()
	b.SetLen(copy(b.Space(), pkt))
	s.Send([]*quic.PacketBuf{b})
}

// checkBothWays sends packets between our session, at the given end of the tunnel,
// and theirs.
func checkBothWays(t *testing.T, ours *masque.Session, theirs *connectip.Conn, weAreClient bool) {
	t.Helper()
	got := make(packetChan, 10)
	ours.SetHandler(got)
	up := udpPacket(assigned.Addr(), remote, "from the client")
	down := udpPacket(remote, assigned.Addr(), "from the server")
	fromUs, fromThem := up, down
	if !weAreClient {
		fromUs, fromThem = down, up
	}
	for range 10 {
		sendPacket(ours, fromUs)
		buf := make([]byte, 2000)
		n, err := theirs.ReadPacket(buf)
		if err != nil {
			t.Fatal(err)
		}
		if !sameButTTL(buf[:n], fromUs) {
			t.Fatalf("they got %x, want %x", buf[:n], fromUs)
		}
		if _, err := theirs.WritePacket(bytes.Clone(fromThem)); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-got:
			if !sameButTTL(p, fromThem) {
				t.Fatalf("we got %x, want %x", p, fromThem)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no packet; stats %+v", ours.Stats())
		}
	}
}

func TestConnectIPGoClient(t *testing.T) {
	clientTLS, serverTLS := tlsConfigs(http3.NextProto)
	e := quic.NewEndpoint(&quic.Config{TLS: serverTLS, Datagrams: true})
	defer e.Close()
	sock := loopbackSocket(t)
	e.AddSocket(sock)
	ctx := testContext(t)
	sessions := make(chan *masque.Session, 1)
	proxy := &masque.Server{Authorize: func(*http3.Request, string) error { return nil }}
	h3 := &http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
		s, err := proxy.Accept(req, st)
		if err != nil {
			t.Error(err)
			return
		}
		s.AssignAddresses([]netip.Prefix{assigned})
		s.AdvertiseRoutes([]masque.Route{masque.PrefixRoute(allRoutes)})
		sessions <- s
		<-s.Done()
	}}
	go func() {
		c, err := e.Accept(ctx)
		if err == nil {
			h3.Serve(c)
		}
	}()

	qc, err := quicgo.DialAddr(ctx, sock.LocalAddr().String(), clientTLS, &quicgo.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	defer qc.CloseWithError(0, "")
	cc, err := (&connectip.Transport{}).NewClientConn(qc)
	if err != nil {
		t.Fatal(err)
	}
	req, err := connectip.NewRequest(ctx, uritemplate.MustNew("https://"+sock.LocalAddr().String()+tunnelPath))
	if err != nil {
		t.Fatal(err)
	}
	theirs, rsp, err := cc.Dial(req)
	if err != nil {
		t.Fatal(err)
	}
	if rsp.StatusCode != 200 {
		t.Fatalf("status %d", rsp.StatusCode)
	}
	ours := <-sessions
	addrs, err := theirs.ReceiveAddressAssignment(ctx)
	if err != nil || len(addrs) != 1 || addrs[0].IPPrefix != assigned {
		t.Fatalf("assigned %v, %v", addrs, err)
	}
	routes, err := theirs.Routes(ctx)
	if err != nil || len(routes) != 1 || routes[0].StartIP != netip.MustParseAddr("0.0.0.0") || routes[0].EndIP != netip.MustParseAddr("255.255.255.255") {
		t.Fatalf("routes %v, %v", routes, err)
	}
	checkBothWays(t, ours, theirs, false)
}

func TestConnectIPGoServer(t *testing.T) {
	clientTLS, serverTLS := tlsConfigs(http3.NextProto)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	template := uritemplate.MustNew("https://" + udp.LocalAddr().String() + tunnelPath)
	ctx := testContext(t)
	conns := make(chan *connectip.Conn, 1)
	server := &quicgohttp3.Server{
		EnableDatagrams: true,
		QUICConfig:      &quicgo.Config{EnableDatagrams: true},
		TLSConfig:       quicgohttp3.ConfigureTLSConfig(serverTLS.Clone()),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, err := connectip.ParseProxyRequest(r, template)
			if err != nil {
				t.Error(err)
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			if got := r.Header.Get("Authorization"); got != "Bearer secret" {
				t.Errorf("authorization %q", got)
			}
			c, err := (&connectip.Proxy{}).Proxy(w, req)
			if err != nil {
				t.Error(err)
				return
			}
			conns <- c
			<-r.Context().Done()
		}),
	}
	go server.Serve(udp)
	defer server.Close()

	e := quic.NewEndpoint(nil)
	defer e.Close()
	sock := loopbackSocket(t)
	e.AddSocket(sock)
	session := dialSession(ctx, t, e, sock, udp.LocalAddr().(*net.UDPAddr).AddrPort(), clientTLS)
	theirs := <-conns
	if err := theirs.AssignAddresses([]netip.Prefix{assigned}); err != nil {
		t.Fatal(err)
	}
	err = theirs.AdvertiseRoute([]connectip.IPRoute{{StartIP: netip.MustParseAddr("0.0.0.0"), EndIP: netip.MustParseAddr("255.255.255.255")}})
	if err != nil {
		t.Fatal(err)
	}
	for len(session.Assigned()) == 0 || len(session.Routes()) == 0 {
		select {
		case <-session.Changed():
		case <-ctx.Done():
			t.Fatal("no addresses")
		}
	}
	if got := session.Assigned(); len(got) != 1 || got[0] != assigned {
		t.Errorf("assigned %v", got)
	}
	checkBothWays(t, session, theirs, true)
}

func dialSession(ctx context.Context, t *testing.T, e *quic.Endpoint, sock quic.Socket, to netip.AddrPort, tlsConf *tls.Config) *masque.Session {
	t.Helper()
	c, err := e.Dial(ctx, sock, to, &quic.Config{TLS: tlsConf, Datagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	h, err := http3.NewClientConn(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	s, rsp, err := masque.Dial(ctx, h, masque.Request{Authority: to.String(), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if rsp.Status != 200 {
		t.Fatalf("status %d", rsp.Status)
	}
	return s
}
