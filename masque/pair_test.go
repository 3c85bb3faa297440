// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// withConns runs f in a bubble of virtual time with the two ends of a QUIC
// connection over a link of 20 ms round trip time.
func withConns(t *testing.T, f func(t *testing.T, client, server *quic.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := quictest.NewNet(1)
		defer n.Close()
		n.AddLink("10.0.0.2", "192.0.2.1", quictest.LinkConfig{Rate: 50e6, Delay: 10 * time.Millisecond, QueueBytes: 300_000})
		cert, pool := quictest.Cert("server.test")
		server := quic.NewEndpoint(&quic.Config{
			Datagrams: true,
			TLS:       &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{http3.NextProto}, MinVersion: tls.VersionTLS13},
		})
		defer server.Close()
		addr := netip.MustParseAddrPort("192.0.2.1:443")
		server.AddSocket(n.Socket(addr, 1500))
		client := quic.NewEndpoint(nil)
		defer client.Close()
		socket := n.Socket(netip.MustParseAddrPort("10.0.0.2:0"), 1500)
		client.AddSocket(socket)
		cc, err := client.Dial(t.Context(), socket, addr, &quic.Config{
			Datagrams: true,
			TLS:       &tls.Config{RootCAs: pool, ServerName: "server.test", NextProtos: []string{http3.NextProto}, MinVersion: tls.VersionTLS13},
		})
		if err != nil {
			t.Fatal(err)
		}
		sc, err := server.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f(t, cc, sc)
	})
}

// packets is a PacketHandler that keeps copies.
type packets struct {
	mu      sync.Mutex
	got     []string
	flushes int
}

func (p *packets) HandlePacket(b []byte) {
	p.mu.Lock()
	p.got = append(p.got, string(b))
	p.mu.Unlock()
}

func (p *packets) FlushPackets() {
	p.mu.Lock()
	p.flushes++
	p.mu.Unlock()
}

// take returns what has come since the last call.
func (p *packets) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// buf puts a packet into a PacketBuf.
func buf(pkt []byte) *quic.PacketBuf {
	b := quic.NewPacketBuf()
	b.SetLen(copy(b.Space(), pkt))
	return b
}

// settle lets everything that is under way arrive.
func settle() { time.Sleep(time.Second) }
