// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

// rawTunnel is a tunnel without mqvpn-client, which does not send what it should not.
type rawTunnel struct {
	endpoint *quic.Endpoint
	stream   *http3.RequestStream
}

// openRawTunnel opens a tunnel from a host's first link.
func (w *world) openRawTunnel(h *lab.Host, key string) *rawTunnel {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	ep := quic.NewEndpoint(nil)
	w.t.Cleanup(func() { ep.Close() })
	var socket quic.Socket
	err := h.Do(func() (err error) {
		socket, err = quic.ListenUDP("udp4", netip.MustParseAddrPort("0.0.0.0:0"), "eth0")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ep.AddSocket(socket)
	conn, err := ep.Dial(ctx, socket, w.address, &quic.Config{
		TLS:       &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{http3.NextProto}, ServerName: "x"},
		Datagrams: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := http3.NewClientConn(ctx, conn)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, stream, err := client.Do(ctx, &http3.Request{
		Method: "CONNECT", Protocol: "connect-ip", Scheme: "https", Authority: w.address.String(), Path: "/.well-known/masque/ip/*/*/",
		Header: http3.Header{http3.CapsuleProtocol, {Name: "authorization", Value: "Bearer " + key}},
	})
	if err != nil || resp.Status != 200 {
		w.t.Fatalf("CONNECT: %+v, %v", resp, err)
	}
	return &rawTunnel{ep, stream}
}

// send sends a UDP packet to a port inside.
func (r *rawTunnel) send(source netip.Addr, port uint16) {
	const size = 20 + 8
	b := quic.NewPacketBuf()
	p := b.Space()[:1+size] // after the context id, 0
	clear(p)
	ip := p[1:]
	ip[0], ip[3], ip[8], ip[9] = 0x45, size, 64, 17
	copy(ip[12:], source.AsSlice())
	copy(ip[16:], lab.InsideAddr4.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum))
	binary.BigEndian.PutUint16(ip[20:], port)
	binary.BigEndian.PutUint16(ip[22:], port)
	binary.BigEndian.PutUint16(ip[24:], 8)
	b.SetLen(len(p))
	r.stream.SendDatagrams([]*quic.PacketBuf{b})
}

// TestSpoofedSource sends packets with foreign sources into a tunnel: the server
// drops and counts them, and forwards those with the client's own source.
func TestSpoofedSource(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast}, []lab.LinkConfig{fast})
	w.startServer(w.users("mallory")...)
	w.startClient(0)
	raw := w.openRawTunnel(w.Clients[1], "key-of-mallory")

	// mallory is what the server says of the tunnel.
	mallory := func() (own netip.Addr, dropped uint64) {
		ctx, cancel := w.context()
		defer cancel()
		s, err := programs.ServerStatus(ctx, w.Server)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Clients {
			if c.User == "mallory" && len(c.Addresses) > 0 {
				return c.Addresses[0], c.Dropped[masque.DropSource.String()]
			}
		}
		return own, 0
	}
	var own netip.Addr
	w.until("the tunnel is open", func() bool {
		own, _ = mallory()
		return own.IsValid()
	})

	const port = 9999
	var arrived atomic.Int64
	sink, err := w.Inside.ListenPacket("udp4", fmt.Sprintf("%s:%d", lab.InsideAddr4, port))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	go func() {
		for b := make([]byte, 2048); ; arrived.Add(1) {
			if _, _, err := sink.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	foreign := []netip.Addr{w.innerAddr(0, false), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), lab.ServerAddr4}
	for _, source := range foreign {
		raw.send(source, port)
	}
	w.until("the packets with foreign sources are counted", func() bool {
		_, dropped := mallory()
		return dropped == uint64(len(foreign))
	})
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d packets with foreign sources came through", n)
	}
	raw.send(own, port)
	w.until("the packet with the client's own source arrives", func() bool { return arrived.Load() > 0 })
	if n := arrived.Load(); n != 1 {
		t.Errorf("%d packets arrived", n)
	}
	// The client whose address was forged has not noticed.
	w.ping(w.Clients[0], lab.InsideAddr4)
}
