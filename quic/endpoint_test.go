// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Tests of whole endpoints over the simulated network, in virtual time.

var serverAddr = netip.MustParseAddrPort("192.0.2.1:443")

// testNet is a client and a server, joined by links, for each of which the client has an address.
type testNet struct {
	*quictest.Net
	up, down       []*quictest.Link
	client, server *Endpoint
	sockets        []Socket // the client's, one for each link
	clientConfig   *Config
	rebind         func(link int, port uint16) // gives the client's socket there another public port
	troubles       sync.WaitGroup              // what a scenario does meanwhile
}

// clientAddr is where the client is on link i, with any port.
func clientAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 2}), 0)
}

func newTestNet(t *testing.T, links []quictest.LinkConfig, change func(client, server *Config)) *testNet {
	n := &testNet{Net: quictest.NewNet(1)}
	for i, cfg := range links {
		up, down := n.AddLink(clientAddr(i).Addr().String(), serverAddr.Addr().String(), cfg)
		n.up, n.down = append(n.up, up), append(n.down, down)
	}
	cert, pool := quictest.Cert("server.test")
	base := Config{Datagrams: true}
	sc, cc := base, base
	sc.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"test"}, MinVersion: tls.VersionTLS13}
	cc.TLS = &tls.Config{RootCAs: pool, ServerName: "server.test", NextProtos: []string{"test"}, MinVersion: tls.VersionTLS13}
	if change != nil {
		change(&cc, &sc)
	}
	n.server = NewEndpoint(&sc)
	n.server.AddSocket(n.Socket(serverAddr, 1500))
	n.client = NewEndpoint(nil)
	for i := range links {
		s := n.Socket(clientAddr(i), 1500)
		n.client.AddSocket(s)
		n.sockets = append(n.sockets, s)
	}
	n.clientConfig = &cc
	return n
}

func (n *testNet) connect(t *testing.T) (client, server *Conn) {
	t.Helper()
	ctx := context.Background()
	client, err := n.client.Dial(ctx, n.sockets[0], serverAddr, n.clientConfig)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	server, err = n.server.Accept(ctx)
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	return client, server
}

func (n *testNet) close() {
	n.client.Close()
	n.server.Close()
	n.Net.Close()
}

var lan = quictest.LinkConfig{Rate: 20e6, Delay: 10 * time.Millisecond, QueueBytes: 120_000}

func simulate(t *testing.T, links []quictest.LinkConfig, change func(client, server *Config), f func(n *testNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, links, change)
		defer n.close()
		f(n)
	})
}

// transfer sends size bytes over a new stream and checks what arrives.
func transfer(t *testing.T, from, to *Conn, size int) time.Duration {
	t.Helper()
	start := time.Now()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i >> 8 * 7)
	}
	ctx := context.Background()
	go func() {
		s, err := from.OpenUniStream(ctx)
		if err != nil {
			t.Errorf("open: %v", err)
			return
		}
		if _, err := s.Write(data); err != nil {
			t.Errorf("write: %v", err)
		}
		s.CloseWrite()
	}()
	s, err := to.AcceptStream(ctx)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	got, err := io.ReadAll(s)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Fatalf("received %d bytes of %d, %v", len(got), size, err)
	}
	return time.Since(start)
}

func TestTransfer(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		d := transfer(t, client, server, 2e6)
		t.Logf("up %v", d)
		if d > 1500*time.Millisecond {
			t.Errorf("2 MB at 20 Mbit/s took %v", d)
		}
		d = transfer(t, server, client, 2e6)
		t.Logf("down %v", d)
		if d > 1500*time.Millisecond {
			t.Errorf("2 MB at 20 Mbit/s took %v", d)
		}
		client.CloseWithError(7, "bye")
		<-server.Done()
		if e, ok := errors.AsType[*ApplicationError](server.Err()); !ok || e.Code != 7 || e.Reason != "bye" || !e.Remote {
			t.Errorf("server ended with %v", server.Err())
		}
	})
}

func TestTransferLoss(t *testing.T) {
	lossy := lan
	lossy.Loss = 0.02
	simulate(t, []quictest.LinkConfig{lossy, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		t.Log(transfer(t, client, server, 400e3), transfer(t, server, client, 400e3))
	})
}

// datagramSink counts what arrives.
type datagramSink struct {
	count int
	bytes int
	last  []byte
	gaps  []time.Duration
	at    time.Time
}

func (s *datagramSink) HandleDatagram(b []byte) {
	s.count++
	s.bytes += len(b)
	s.last = append(s.last[:0], b...)
	now := time.Now()
	if !s.at.IsZero() {
		s.gaps = append(s.gaps, now.Sub(s.at))
	}
	s.at = now
}
func (s *datagramSink) FlushDatagrams() {}

func datagram(flow uint64, n int) *PacketBuf {
	b := NewPacketBuf()
	b.Flow, b.Class = flow, sched.ClassUDP
	b.SetLen(n)
	return b
}

func TestDatagrams(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		sink := &datagramSink{}
		server.SetDatagramHandler(sink)
		if err := client.WaitMTU(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, want := client.MaxDatagramPayload(), 1472-(1+8+4+1+16); got != want {
			t.Errorf("MaxDatagramPayload = %d, want %d", got, want)
		}
		for range 10 {
			b := datagram(1, 1000)
			copy(b.Bytes(), bytes.Repeat([]byte{0xab}, 1000))
			client.SendDatagrams([]*PacketBuf{b})
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if sink.count != 10 || !bytes.Equal(sink.last, bytes.Repeat([]byte{0xab}, 1000)) {
			t.Errorf("%d datagrams arrived", sink.count)
		}
	})
}
