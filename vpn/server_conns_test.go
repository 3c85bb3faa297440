// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// rawConn connects to the server by hand. It is closed at the end of the test.
func (s *sim) rawConn(t *testing.T, number int, keepAlive time.Duration) *quic.Conn {
	t.Helper()
	h, _ := s.newClientHost(number)
	ep := quic.NewEndpoint(nil)
	socket, err := h.listen(netip.MustParseAddrPort("0.0.0.0:0"), "if0")
	must(t, err)
	ep.AddSocket(socket)
	conn, err := ep.Dial(t.Context(), socket, simServerAddr, &quic.Config{
		TLS: clientTLS(&Config{Insecure: true}, "x", nil), Datagrams: true, KeepAlive: keepAlive})
	must(t, err)
	t.Cleanup(func() { ep.Close() })
	return conn
}

// tunnelRequest asks for a tunnel with a key.
func tunnelRequest(key string) *http3.Request {
	return &http3.Request{
		Method: "CONNECT", Protocol: "connect-ip", Scheme: "https", Authority: "x", Path: "/.well-known/masque/ip/*/*/",
		Header: http3.Header{http3.CapsuleProtocol, {Name: "authorization", Value: "Bearer " + key}},
	}
}

// wantEnd waits for the end of conn and returns the reason.
func wantEnd(t *testing.T, conn *quic.Conn, limit time.Duration) *quic.ApplicationError {
	t.Helper()
	select {
	case <-conn.Done():
	case <-time.After(limit):
		t.Fatalf("connection is open after %v", limit)
	}
	e, _ := errors.AsType[*quic.ApplicationError](conn.Err())
	if e == nil || !e.Remote {
		t.Fatalf("connection ended with %v", conn.Err())
	}
	return e
}

// TestGuests: a connection without a tunnel is closed, whatever it does meanwhile;
// one with a tunnel stays, and is a guest again when that has ended.
func TestGuests(t *testing.T) {
	simulate(t, 4, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		defer server.end()
		start := time.Now()
		idle := s.rawConn(t, 0, time.Second)
		browser := s.rawConn(t, 1, time.Second)
		web, err := http3.NewClientConn(t.Context(), browser)
		must(t, err)
		for range 5 {
			time.Sleep(time.Second)
			resp, st, err := web.Do(t.Context(), &http3.Request{Method: "GET", Scheme: "https", Authority: "x", Path: "/"})
			if err != nil || resp.Status != 404 {
				t.Fatalf("GET: %+v, %v", resp, err)
			}
			st.Close()
		}
		ep, stream := s.rawClient(t, 2)
		defer ep.Close()
		for _, c := range []*quic.Conn{idle, browser} {
			if e := wantEnd(t, c, guestTime); e.Code != uint64(http3.ErrNoError) {
				t.Errorf("closed with %v", e)
			}
		}
		if took := time.Since(start); took < guestTime || took > guestTime+time.Second {
			t.Errorf("closed after %v", took)
		}
		time.Sleep(5 * time.Minute)
		if err := stream.Conn().Err(); err != nil {
			t.Fatalf("connection with a tunnel: %v", err)
		}
		stream.Close()
		wantEnd(t, stream.Conn(), guestTime+time.Second)
	})
}

// TestTooManyGuests: with too many connections without a tunnel the newest is
// refused; those that leave or get a tunnel make room.
func TestTooManyGuests(t *testing.T) {
	simulate(t, 4, func(t *testing.T, s *sim) {
		h := s.newHost("server")
		srv := newServer(s.serverConfig(), s.logger("server"), h)
		server := s.start(h, srv.run)
		defer server.end()
		srv.mu.Lock()
		srv.guests = maxGuests - 1
		srv.mu.Unlock()
		last := s.rawConn(t, 0, 0)
		refused := s.rawConn(t, 1, 0)
		if e := wantEnd(t, refused, time.Second); e.Code != uint64(http3.ErrExcessiveLoad) {
			t.Errorf("closed with %v", e)
		}
		last.CloseWithError(0, "")
		time.Sleep(time.Second)
		client := s.startClient(2, nil)
		client.waitUp(time.Second)
		next := s.rawConn(t, 3, 0)
		time.Sleep(time.Second)
		if next.Err() != nil {
			t.Errorf("there is room again: %v", next.Err())
		}
		client.end()
		next.CloseWithError(0, "")
		time.Sleep(time.Second)
		srv.mu.Lock()
		defer srv.mu.Unlock()
		if srv.guests != maxGuests-1 || len(srv.conns) != 0 {
			t.Errorf("%d guests, %d connections are counted in the end", srv.guests, len(srv.conns))
		}
	})
}

// TestOneTunnelPerConnection: a second request takes the place of the first, also
// with the key that many may share.
func TestOneTunnelPerConnection(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		s.users[0].Key = "shared"
		h := s.newHost("server")
		cfg := s.serverConfig()
		cfg.Users, cfg.AuthKey = nil, "shared"
		srv := newServer(cfg, s.logger("server"), h)
		server := s.start(h, srv.run)
		defer server.end()
		web, err := http3.NewClientConn(t.Context(), s.rawConn(t, 0, 0))
		must(t, err)
		var streams []*http3.RequestStream
		for range 20 {
			resp, st, err := web.Do(t.Context(), tunnelRequest("shared"))
			if err != nil || resp.Status != 200 {
				t.Fatalf("CONNECT: %+v, %v", resp, err)
			}
			streams = append(streams, st)
			time.Sleep(time.Second)
		}
		if open := srv.open(); len(open) != 1 || open[0].lease.place != 2 {
			t.Errorf("%d tunnels on one connection", len(open))
		}
		ended := make(chan struct{})
		go func() {
			io.Copy(io.Discard, streams[0])
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(time.Second):
			t.Error("the first tunnel is still open")
			streams[0].Cancel(http3.ErrNoError)
		}
	})
}

// stallingLog is a log whose reader stops reading.
type stallingLog struct{ stalled chan struct{} }

func (l *stallingLog) Write(b []byte) (int, error) {
	<-l.stalled
	return len(b), nil
}

// TestStalledLog: packets pass and clients come and go while nobody reads the log.
func TestStalledLog(t *testing.T) {
	simulate(t, 3, func(t *testing.T, s *sim) {
		log := &stallingLog{make(chan struct{})}
		normal := s.log
		s.log = log
		server := s.startServer(nil)
		s.log = normal
		first := s.startClient(0, nil)
		first.waitUp(time.Second)
		time.Sleep(time.Second) // its second path comes up
		wantPassed(t, first.simHost, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "x")))
		second := s.startClient(1, nil)
		second.waitUp(time.Second)
		first.end()
		again := s.startClient(2, func(c *Config) { c.AuthKey = s.users[1].Key })
		again.waitUp(time.Second)
		second.end()
		again.end()
		server.stop()
		select {
		case <-server.done:
		case <-time.After(5 * time.Second):
			t.Error("the server does not end")
		}
		close(log.stalled)
		<-server.done
	})
}
