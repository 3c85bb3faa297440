// SPDX-License-Identifier: Apache-2.0

package loadclients

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// TestPacket compares with a packet whose checksums were computed by hand.
func TestPacket(t *testing.T) {
	b := udpPacket(netip.MustParseAddrPort("10.0.0.2:7001"), netip.MustParseAddrPort("10.0.0.1:7001"), 3)
	const want = "4500001f00004000401126cc0a0000020a0000011b591b59000bb523000000"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// server is a VPN server that sends each client as much as it gets from it.
type server struct {
	ep     *quic.Endpoint
	socket quic.Socket
	count  atomic.Uint32
	got    atomic.Int64
}

// echo sends packets back to where they came from.
type echo struct {
	s       *server
	session *masque.Session
}

func (e *echo) HandlePacket(b []byte) {
	e.s.got.Add(1)
	p := quic.NewPacketBuf()
	n := copy(p.Space(), b)
	p.SetLen(n)
	copy(p.Bytes()[12:16], b[16:20])
	copy(p.Bytes()[16:20], b[12:16])
	e.session.Send([]*quic.PacketBuf{p})
}

func (e *echo) FlushPackets() {}

func newServer(t *testing.T, token string) *server {
	cert, _ := quictest.Cert(serverName)
	s := &server{ep: quic.NewEndpoint(&quic.Config{Datagrams: true, TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{http3.NextProto}, MinVersion: tls.VersionTLS13}})}
	t.Cleanup(func() { s.ep.Close() })
	var err error
	if s.socket, err = quic.ListenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), ""); err != nil {
		t.Fatal(err)
	}
	s.ep.AddSocket(s.socket)
	m := &masque.Server{Authorize: func(_ *http3.Request, got string) error {
		if got != token {
			return &masque.RefusedError{Status: 403}
		}
		return nil
	}}
	h := &http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
		session, err := m.Accept(req, st)
		if err != nil {
			return
		}
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + s.count.Add(1))})
		session.SetHandler(&echo{s, session})
		session.AssignAddresses([]netip.Prefix{netip.PrefixFrom(addr, 32)})
		session.AdvertiseRoutes([]masque.Route{{End: netip.MustParseAddr("255.255.255.255"), Start: netip.IPv4Unspecified()}})
		<-session.Done()
	}}
	go func() {
		for {
			c, err := s.ep.Accept(context.Background())
			if err != nil {
				return
			}
			go h.Serve(c)
		}
	}()
	return s
}

func TestManyClients(t *testing.T) {
	s := newServer(t, "the key")
	const n = 20
	cs, err := Dial(t.Context(), n, Config{Server: s.socket.LocalAddr(), Token: "the key"})
	if err != nil {
		t.Fatal(err)
	}
	addrs := map[netip.Addr]bool{}
	for i := range cs.Len() {
		addrs[cs.Addr(i)] = true
	}
	if len(addrs) != n {
		t.Errorf("%d addresses of %d clients", len(addrs), n)
	}
	cs.Prepare(netip.MustParseAddrPort("10.0.0.1:7001"), 1100)
	for i := range n {
		cs.Send(i)
	}
	for deadline := time.Now().Add(10 * time.Second); cs.Received() < n*Burst && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s.got.Load() != n*Burst || cs.Received() != n*Burst {
		t.Errorf("of %d packets %d arrived, and %d came back", n*Burst, s.got.Load(), cs.Received())
	}
	cs.Close()
}

// TestWrongKey: the first client that fails ends it, with the reason.
func TestWrongKey(t *testing.T) {
	s := newServer(t, "the key")
	if _, err := Dial(t.Context(), 3, Config{Server: s.socket.LocalAddr(), Token: "another"}); err == nil {
		t.Error("clients with a wrong key are connected")
	}
}
