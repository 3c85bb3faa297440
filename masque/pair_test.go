// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"crypto/tls"
	"errors"
	"io"
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

// withRawServer runs f with a client session whose peer is a bare request stream
// that has been answered with 200.
func withRawServer(t *testing.T, f func(t *testing.T, st *http3.RequestStream, client *Session, got *packets)) {
	t.Helper()
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		streams := make(chan *http3.RequestStream, 1)
		go (&http3.Server{Handler: func(_ *http3.Request, st *http3.RequestStream) {
			st.WriteResponse(&http3.Response{Status: 200, Header: http3.Header{http3.CapsuleProtocol}})
			streams <- st
			<-sc.Done()
		}}).Serve(sc)
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := Dial(t.Context(), h, Request{Authority: "server.test"})
		if err != nil {
			t.Fatal(err)
		}
		got := new(packets)
		s.SetHandler(got)
		f(t, <-streams, s, got)
	})
}

// withRawClient runs f with a server session whose peer is a bare request stream.
func withRawClient(t *testing.T, f func(t *testing.T, st *http3.RequestStream, server *Session, got *packets)) {
	t.Helper()
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		sessions := make(chan *Session, 1)
		m := &Server{Authorize: func(*http3.Request, string) error { return nil }}
		go (&http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
			if s, err := m.Accept(req, st); err == nil {
				sessions <- s
				<-s.Done()
			}
		}}).Serve(sc)
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		_, st, err := h.Do(t.Context(), tunnelRequest("/.well-known/masque/ip/*/*/"))
		if err != nil {
			t.Fatal(err)
		}
		s := <-sessions
		got := new(packets)
		s.SetHandler(got)
		f(t, st, s, got)
	})
}

func tunnelRequest(path string, h ...http3.Field) *http3.Request {
	return &http3.Request{
		Method: "CONNECT", Protocol: "connect-ip", Scheme: "https", Authority: "server.test", Path: path,
		Header: append(http3.Header{http3.CapsuleProtocol}, h...),
	}
}

// capsule writes a capsule of literal bytes.
func capsule(t *testing.T, st *http3.RequestStream, typ uint64, hex string) {
	t.Helper()
	if err := st.WriteCapsule(typ, unhex(t, hex)); err != nil {
		t.Fatal(err)
	}
}

// wantCapsule reads the next capsule and compares it with literal bytes.
func wantCapsule(t *testing.T, st *http3.RequestStream, typ uint64, hex string) {
	t.Helper()
	c, err := st.ReadCapsule(knownCapsule)
	if err != nil || c.Type != typ || string(c.Value) != string(unhex(t, hex)) {
		t.Fatalf("capsule %d %x, %v; want %d %s", c.Type, c.Value, err, typ, hex)
	}
}

// wantReset reads until the peer resets the stream.
func wantReset(t *testing.T, st *http3.RequestStream, code http3.ErrorCode) {
	t.Helper()
	_, err := io.Copy(io.Discard, st)
	if e, ok := errors.AsType[*quic.StreamError](err); !ok || !e.Remote || http3.ErrorCode(e.Code) != code {
		t.Fatalf("stream ended with %v, want %v", err, code)
	}
}

// sendDatagram sends an HTTP Datagram: a context id and a packet.
func sendDatagram(st *http3.RequestStream, contextID string, pkt []byte) {
	st.SendDatagrams([]*quic.PacketBuf{buf(append([]byte(contextID), pkt...))})
}
