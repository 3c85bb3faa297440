// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

const alpn = "interop"

// tlsConfigs returns the two sides' configurations for the name "localhost".
func tlsConfigs(protos ...string) (client, server *tls.Config) {
	cert, pool := quictest.Cert("localhost")
	server = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos, MinVersion: tls.VersionTLS13}
	client = &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: protos, MinVersion: tls.VersionTLS13}
	return client, server
}

func loopbackSocket(t *testing.T) quic.Socket {
	t.Helper()
	s, err := quic.ListenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// peerConn is what the tests need of a connection of either implementation.
type peerConn struct {
	open         func(context.Context) (io.ReadWriteCloser, error)
	accept       func(context.Context) (io.ReadWriteCloser, error)
	sendDatagram func([]byte)
	datagrams    chan []byte
	close        func()
	closedBy     func() (code uint64, remote bool) // waits for the end
}

// oursStream closes only the send side, as quic-go's streams do.
type oursStream struct{ *quic.Stream }

func (s oursStream) Close() error { return s.CloseWrite() }

type datagramChan chan []byte

func (c datagramChan) HandleDatagram(b []byte) { c <- bytes.Clone(b) }
func (c datagramChan) FlushDatagrams()         {}

func ours(c *quic.Conn) *peerConn {
	p := &peerConn{datagrams: make(chan []byte, 100)}
	c.SetDatagramHandler(datagramChan(p.datagrams))
	p.open = func(ctx context.Context) (io.ReadWriteCloser, error) {
		s, err := c.OpenStream(ctx)
		return oursStream{s}, err
	}
	p.accept = func(ctx context.Context) (io.ReadWriteCloser, error) {
		s, err := c.AcceptStream(ctx)
		return oursStream{s}, err
	}
	p.sendDatagram = func(b []byte) {
		buf := quic.NewPacketBuf()
		buf.SetLen(copy(buf.Space(), b))
		c.SendDatagrams([]*quic.PacketBuf{buf})
	}
	p.close = func() { c.CloseWithError(42, "done") }
	p.closedBy = func() (uint64, bool) {
		<-c.Done()
		e, ok := errors.AsType[*quic.ApplicationError](c.Err())
		if !ok {
			return 0, false
		}
		return e.Code, e.Remote
	}
	return p
}

func theirs(ctx context.Context, c *quicgo.Conn) *peerConn {
	p := &peerConn{datagrams: make(chan []byte, 100)}
	go func() {
		for {
			b, err := c.ReceiveDatagram(ctx)
			if err != nil {
				return
			}
			p.datagrams <- b
		}
	}()
	p.open = func(ctx context.Context) (io.ReadWriteCloser, error) { return c.OpenStreamSync(ctx) }
	p.accept = func(ctx context.Context) (io.ReadWriteCloser, error) { return c.AcceptStream(ctx) }
	p.sendDatagram = func(b []byte) { c.SendDatagram(b) }
	p.close = func() { c.CloseWithError(42, "done") }
	p.closedBy = func() (uint64, bool) {
		<-c.Context().Done()
		e, ok := errors.AsType[*quicgo.ApplicationError](context.Cause(c.Context()))
		if !ok {
			return 0, false
		}
		return uint64(e.ErrorCode), e.Remote
	}
	return p
}

// exchange echoes 10 MB over a stream opened by a, sends datagrams both ways, and
// closes at a.
func exchange(t *testing.T, a, b *peerConn) {
	t.Helper()
	ctx := testContext(t)
	data := make([]byte, 10<<20)
	rand.Read(data)

	echoed := make(chan error, 1)
	go func() {
		s, err := b.accept(ctx)
		if err == nil {
			_, err = io.Copy(s, s)
			s.Close()
		}
		echoed <- err
	}()
	s, err := a.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		s.Write(data)
		s.Close()
	}()
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatalf("reading the echo: %v", err)
	}
	if err := <-echoed; err != nil {
		t.Fatalf("echoing: %v", err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes came back, or other ones", len(got), len(data))
	}

	for _, d := range []struct{ from, to *peerConn }{{a, b}, {b, a}} {
		d.from.sendDatagram([]byte("datagram"))
		select {
		case m := <-d.to.datagrams:
			if string(m) != "datagram" {
				t.Errorf("datagram %q", m)
			}
		case <-ctx.Done():
			t.Fatal("no datagram")
		}
	}

	a.close()
	if code, remote := b.closedBy(); code != 42 || !remote {
		t.Errorf("closed with %d, by the peer: %v", code, remote)
	}
}

func TestQUICGoClient(t *testing.T) {
	clientTLS, serverTLS := tlsConfigs(alpn)
	e := quic.NewEndpoint(&quic.Config{TLS: serverTLS, Datagrams: true})
	defer e.Close()
	sock := loopbackSocket(t)
	e.AddSocket(sock)
	ctx := testContext(t)
	c, err := quicgo.DialAddr(ctx, sock.LocalAddr().String(), clientTLS, &quicgo.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checkStats(t, s, func() { exchange(t, theirs(ctx, c), ours(s)) })
}

func TestQUICGoServer(t *testing.T) {
	clientTLS, serverTLS := tlsConfigs(alpn)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := quicgo.Listen(udp, serverTLS, &quicgo.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e := quic.NewEndpoint(nil)
	defer e.Close()
	sock := loopbackSocket(t)
	e.AddSocket(sock)
	ctx := testContext(t)
	c, err := e.Dial(ctx, sock, udp.LocalAddr().(*net.UDPAddr).AddrPort(), &quic.Config{TLS: clientTLS, Datagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checkStats(t, c, func() { exchange(t, ours(c), theirs(ctx, s)) })
}

// checkStats runs f, during which the peer must have updated its keys, and nothing
// of multipath was used.
func checkStats(t *testing.T, c *quic.Conn, f func()) {
	t.Helper()
	updates := make(chan int)
	go func() {
		n := 0
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-c.Done():
				updates <- n
				return
			case <-tick.C:
				st := c.Stats()
				n = max(n, st.KeyUpdates)
				if st.Multipath {
					t.Error("multipath with a peer that does not offer it")
				}
			}
		}
	}()
	f()
	if n := <-updates; n == 0 {
		t.Error("the peer did not update its keys")
	}
}
