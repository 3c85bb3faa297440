// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

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
			TLS:       &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{NextProto}, MinVersion: tls.VersionTLS13},
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
			TLS:       &tls.Config{RootCAs: pool, ServerName: "server.test", NextProtos: []string{NextProto}, MinVersion: tls.VersionTLS13},
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

// withHTTP runs f with a client of a server.
func withHTTP(t *testing.T, handler func(*Request, *RequestStream), f func(t *testing.T, c *ClientConn, s *Server)) {
	t.Helper()
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		s := &Server{Handler: handler}
		go s.Serve(server)
		c, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		f(t, c, s)
	})
}

// peer is the scripted end of a connection: it writes bytes that the tests spell
// out, and knows of HTTP/3 only how to find the frames in what it reads.
type peer struct {
	t  *testing.T
	qc *quic.Conn
}

// uni opens a unidirectional stream that starts with the given bytes.
func (p peer) uni(hex string) *quic.Stream {
	p.t.Helper()
	s, err := p.qc.OpenUniStream(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(s, hex)
	return s
}

// bidi opens a request stream that starts with the given bytes.
func (p peer) bidi(hex string) *quic.Stream {
	p.t.Helper()
	s, err := p.qc.OpenStream(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(s, hex)
	return s
}

func (p peer) write(s *quic.Stream, hex string) {
	p.t.Helper()
	if b := unhex(p.t, hex); len(b) > 0 {
		if _, err := s.Write(b); err != nil {
			p.t.Fatal(err)
		}
	}
}

// acceptBidi waits for the next request stream of the other end.
func (p peer) acceptBidi() *quic.Stream {
	p.t.Helper()
	for {
		s, err := p.qc.AcceptStream(context.Background())
		if err != nil {
			p.t.Fatal(err)
		}
		if !s.IsUni() {
			return s
		}
	}
}

// datagram sends a DATAGRAM frame with the given payload.
func (p peer) datagram(hex string) {
	b := quic.NewPacketBuf()
	b.SetLen(copy(b.Space(), unhex(p.t, hex)))
	p.qc.SendDatagrams([]*quic.PacketBuf{b})
}

// settings opens a control stream with an empty SETTINGS frame.
func (p peer) settings() *quic.Stream { return p.uni("00 0400") }

// wantClose waits for the end of the connection by the other end.
func (p peer) wantClose(code ErrorCode) {
	p.t.Helper()
	select {
	case <-p.qc.Done():
	case <-time.After(5 * time.Second):
		p.t.Fatalf("connection is not closed, want %v", code)
	}
	e, ok := errors.AsType[*quic.ApplicationError](p.qc.Err())
	if !ok || !e.Remote || ErrorCode(e.Code) != code {
		p.t.Fatalf("connection ended with %v, want %v", p.qc.Err(), code)
	}
}

// wantOpen checks that the connection is still there after a while.
func (p peer) wantOpen() {
	p.t.Helper()
	time.Sleep(time.Second)
	select {
	case <-p.qc.Done():
		p.t.Fatalf("connection ended with %v", p.qc.Err())
	default:
	}
}

// wantReset reads until the stream is reset by the other end.
func (p peer) wantReset(s *quic.Stream, code ErrorCode) {
	p.t.Helper()
	s.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := io.Copy(io.Discard, s)
	e, ok := errors.AsType[*quic.StreamError](err)
	if !ok || !e.Remote || ErrorCode(e.Code) != code {
		p.t.Fatalf("stream ended with %v, want %v", err, code)
	}
}

// wantStopped writes until the other end has asked to stop.
func (p peer) wantStopped(s *quic.Stream, code ErrorCode) {
	p.t.Helper()
	for range 50 {
		_, err := s.Write([]byte{0x21, 0}) // an empty frame of a reserved type
		if e, ok := errors.AsType[*quic.StreamError](err); ok {
			if !e.Remote || ErrorCode(e.Code) != code {
				p.t.Fatalf("stream stopped with %v, want %v", err, code)
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.t.Fatalf("stream is not stopped, want %v", code)
}

// readFrames reads frames until the end of the stream.
func (p peer) readFrames(s *quic.Stream) (types []uint64, payloads [][]byte) {
	p.t.Helper()
	b, err := io.ReadAll(s)
	if err != nil {
		p.t.Fatal(err)
	}
	for len(b) > 0 {
		typ, n := ConsumeVarint(b)
		size, m := ConsumeVarint(b[n:])
		b = b[n+m:]
		types, payloads = append(types, typ), append(payloads, b[:size])
		b = b[size:]
	}
	return types, payloads
}
