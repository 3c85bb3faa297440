// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

func get(path string) *Request {
	return &Request{Method: "GET", Scheme: "https", Authority: "server.test", Path: path}
}

func connectIP() *Request {
	r, _ := parseRequest(connectIPFields())
	return r
}

func TestGet(t *testing.T) {
	withHTTP(t, nil, func(t *testing.T, c *ClientConn, _ *Server) {
		for _, method := range []string{"GET", "HEAD"} {
			req := get("/")
			req.Method = method
			resp, s, err := c.Do(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			want := notFoundPage
			if method == "HEAD" {
				want = ""
			}
			if n, err := s.Read(nil); n != 0 || err != nil {
				t.Errorf("reading nothing: %d, %v", n, err)
			}
			// The answer and the request end with FIN. // R9114-4.1-6
			body, err := io.ReadAll(s)
			if _, err := s.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("reading on: %v", err)
			}
			if err != nil || string(body) != want || resp.Status != 404 || resp.Header.Get("content-length") == "" {
				t.Errorf("%s: status %d, %q, %v", method, resp.Status, body, err)
			}
			s.Close()
		}
	})
}

// TestManyRequests: a hundred requests at a time are served.
func TestManyRequests(t *testing.T) { // R9114-6.1-2
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		release := make(chan struct{})
		go (&Server{Handler: func(req *Request, st *RequestStream) {
			<-release
			NotFound(req, st)
		}}).Serve(server)
		p := peer{t, client}
		var streams []*quic.Stream
		for range 100 {
			streams = append(streams, p.bidi(getHeaders))
		}
		p.wantOpen()
		close(release)
		for _, s := range streams {
			if types, _ := p.readFrames(s); len(types) != 2 {
				t.Fatalf("stream %d: frames %v", s.ID(), types)
			}
		}
	})
}

func TestUnknownProtocol(t *testing.T) { // R9220-3-2
	withHTTP(t, nil, func(t *testing.T, c *ClientConn, _ *Server) {
		resp, s, err := c.Do(t.Context(), connectIP())
		if err != nil || resp.Status != 501 {
			t.Fatalf("%+v, %v", resp, err)
		}
		s.Close()
	})
}

// TestLargeContent sends more than a flow control window both ways at once.
func TestLargeContent(t *testing.T) {
	const size = 3 << 20
	echo := func(_ *Request, st *RequestStream) {
		st.WriteResponse(&Response{Status: 200})
		io.Copy(st, st)
	}
	withHTTP(t, echo, func(t *testing.T, c *ClientConn, _ *Server) {
		_, s, err := c.Do(t.Context(), connectIP())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			io.Copy(s, io.LimitReader(pattern{}, size))
			s.CloseWrite()
		}()
		n, err := io.Copy(&pattern{}, s)
		if n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// pattern is an endless stream of one byte; as a writer it wants just that.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func (pattern) Write(p []byte) (int, error) {
	if strings.Trim(string(p), "x") != "" {
		return 0, errors.New("other bytes")
	}
	return len(p), nil
}

// TestSlowHeader: a request whose header does not come is given up, one whose
// content is slow is not.
func TestSlowHeader(t *testing.T) {
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		go (&Server{Handler: reading}).Serve(server)
		p := peer{t, client}
		content := p.bidi(getHeaders)
		header := p.bidi("010a 0000")
		time.Sleep(2 * headerTime)
		p.wantReset(header, ErrRequestCancelled)
		p.write(content, "000161")
		content.CloseWrite()
		if b, err := io.ReadAll(content); err != nil || len(b) == 0 {
			t.Errorf("slow content: %x, %v", b, err)
		}
		p.wantOpen()
	})
}

// TestRapidReset: requests that are cancelled at once, which frees their streams, run a
// bounded number of handlers; the others are rejected until some have ended.
func TestRapidReset(t *testing.T) {
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		var running, most atomic.Int64
		release := make(chan struct{})
		go (&Server{Handler: func(_ *Request, st *RequestStream) {
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			running.Add(-1)
			st.Respond(200, "text/plain", nil)
		}}).Serve(server)
		p := peer{t, client}
		for range 1000 {
			s := p.bidi(getHeaders)
			time.Sleep(time.Millisecond) // so that the request arrives before its end
			s.Reset(uint64(ErrRequestCancelled))
			s.StopSending(uint64(ErrRequestCancelled))
		}
		time.Sleep(time.Second)
		if n := most.Load(); n != maxRunning {
			t.Errorf("%d handlers at once", n)
		}
		p.wantReset(p.bidi(getHeaders), ErrRequestRejected) // R9114-4.1.1-1
		close(release)
		time.Sleep(time.Second)
		if n := running.Load(); n != 0 {
			t.Errorf("%d handlers are left", n)
		}
		if types, _ := p.readFrames(p.bidi(getHeaders)); len(types) == 0 {
			t.Error("no answer when the handlers have ended")
		}
		p.wantOpen()
	})
}

// TestServerResetsStream: malformed requests end only their stream.
func TestServerResetsStream(t *testing.T) {
	// GET with content-length 2
	getLength2 := "010b 0000 d1 d7 c1 500161 54 0132"
	for _, c := range []struct {
		name, hex string
		want      ErrorCode
	}{
		{"no request", "", ErrRequestIncomplete},                                                                                 // R9114-4.1-7
		{"only unknown frames", "2100 2100", ErrRequestIncomplete},                                                               // R9114-4.1-7
		{"no :method", "0107 0000 d7 c1 500161", ErrMessage},                                                                     // R9114-4.3.1-1 R9114-4.1.2-1
		{"capital letter", "010c 0000 d1 d7 c1 500161 21 58 01 79", ErrMessage},                                                  // R9114-4.2-2
		{"connection field", "0115 0000 d1 d7 c1 500161 2703 636f6e6e656374696f6e 00", ErrMessage},                               // R9114-4.2-3
		{"pseudo-header field in trailers", getHeaders + "0103 0000 c1", ErrMessage},                                             // R9114-4.3-1
		{"second request", getHeaders + getHeaders, ErrMessage},                                                                  // R9114-4.1-2
		{"content too short", getLength2 + "000161", ErrMessage},                                                                 // R9114-4.1.2-2
		{"content too long", getLength2 + "0003616263", ErrMessage},                                                              // R9114-4.1.2-2
		{"content too long in two frames", getLength2 + "00026162 000163", ErrMessage},                                           // R9114-4.1.2-2
		{"extended CONNECT without :path", "011d 0000 cf d7 500161 2702 3a70726f746f636f6c 0a 636f6e6e6563742d6970", ErrMessage}, // R8441-4-1
		{"integer too large", "010d 0000 ff ffffffffffffffffff7f", ErrQPACKDecompression},                                        // R9204-7.4-1
		{"field section too large", "0180004001", ErrExcessiveLoad},
	} {
		t.Run(c.name, func(t *testing.T) {
			withConns(t, func(t *testing.T, client, server *quic.Conn) {
				go (&Server{Handler: reading}).Serve(server)
				p := peer{t, client}
				s := p.bidi(c.hex)
				if c.want != ErrExcessiveLoad {
					s.CloseWrite()
				}
				p.wantReset(s, c.want)
				p.wantOpen()
			})
		})
	}
}

// TestMalformedResponse: the client does not accept malformed responses.
func TestMalformedResponse(t *testing.T) { // R9114-4.1.2-3
	for _, c := range []struct {
		name, hex string
		want      ErrorCode
	}{
		{"no :status", "0102 0000", ErrMessage}, // R9114-4.3.2-1
		{"request field", "0104 0000 d9 c1", ErrMessage},
		{"no response", "", ErrMessage},
		{"content too short", "0106 0000 d9 54 0132 000161", ErrMessage},    // R9114-4.1.2-2
		{"content too long", "0106 0000 d9 54 0132 0003616263", ErrMessage}, // R9114-4.1.2-2
		{"second response", okHeaders + "000161" + okHeaders, ErrMessage},   // R9114-4.1-2
	} {
		t.Run(c.name, func(t *testing.T) {
			withConns(t, func(t *testing.T, client, server *quic.Conn) {
				cc, err := NewClientConn(t.Context(), client)
				if err != nil {
					t.Fatal(err)
				}
				p := peer{t, server}
				failed := make(chan error)
				go func() {
					_, s, err := cc.Do(t.Context(), get("/"))
					if err == nil {
						_, err = io.Copy(io.Discard, s)
					}
					failed <- err
				}()
				s := p.acceptBidi()
				io.Copy(io.Discard, s) // the request ends // R9114-4.1-5
				p.write(s, c.hex)
				if c.hex == "" || strings.Contains(c.name, "short") {
					s.CloseWrite()
				} else {
					p.wantStopped(s, c.want)
				}
				if e, ok := errors.AsType[*StreamError](<-failed); !ok || e.Code != c.want {
					t.Errorf("request ends with %v", e)
				}
				p.wantOpen()
			})
		})
	}
}

// TestInterimResponse: 1xx responses are passed over; trailers are.
func TestInterimResponse(t *testing.T) {
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		cc, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		p := peer{t, server}
		go func() {
			s := p.acceptBidi()
			p.write(s, "0103 0000 d8"+"2100"+okHeaders+"00026162"+trailers)
			s.CloseWrite()
		}()
		resp, s, err := cc.Do(t.Context(), get("/"))
		if err != nil || resp.Status != 200 {
			t.Fatalf("%+v, %v", resp, err)
		}
		if b, err := io.ReadAll(s); string(b) != "ab" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestResponseBeforeRequestIsRead: a server may answer without reading.
func TestResponseBeforeRequestIsRead(t *testing.T) { // R9114-4.1-8
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		cc, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		p := peer{t, server}
		p.uni("00 0402 0801")
		go func() {
			s := p.acceptBidi()
			s.StopSending(uint64(ErrNoError))
			p.write(s, okHeaders+"00026162")
			s.CloseWrite()
		}()
		_, s, err := cc.Do(t.Context(), connectIP())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("Write succeeds")
		}
		if b, err := io.ReadAll(s); string(b) != "ab" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

func TestCancelledRequest(t *testing.T) { // R9114-4.1.1-3
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		cc, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := cc.Do(ctx, get("/")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do: %v", err)
		}
		p := peer{t, server}
		p.wantStopped(p.acceptBidi(), ErrRequestCancelled)
		p.wantOpen()
	})
}

// TestTunnelEnd: a tunnel ends in order or by a reset, seen as such.
func TestTunnelEnd(t *testing.T) { // R9220-3-3
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		ends := make(chan error, 1)
		go (&Server{Handler: func(_ *Request, st *RequestStream) {
			st.WriteResponse(&Response{Status: 200})
			_, err := io.Copy(io.Discard, st)
			ends <- err
		}}).Serve(server)
		c, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		for _, reset := range []bool{false, true} {
			_, s, err := c.Do(t.Context(), connectIP())
			if err != nil {
				t.Fatal(err)
			}
			if reset {
				s.Cancel(ErrRequestCancelled)
			} else {
				s.Close()
			}
			err = <-ends
			e, ok := errors.AsType[*quic.StreamError](err)
			if ok != reset || ok && ErrorCode(e.Code) != ErrRequestCancelled || !ok && err != nil {
				t.Errorf("reset %v: %v", reset, err)
			}
		}
	})
}

// TestExtendedConnectNeedsSetting: no extended CONNECT before the server's SETTINGS
// allow it.
func TestExtendedConnectNeedsSetting(t *testing.T) { // R8441-3-2
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		cc, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		p := peer{t, server}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := cc.Do(ctx, connectIP()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before SETTINGS: %v", err)
		}
		p.settings()
		if _, _, err := cc.Do(t.Context(), connectIP()); err != ErrNoConnectSupport {
			t.Errorf("after SETTINGS: %v", err)
		}
		for range 3 { // control and QPACK streams, and nothing else
			if s, err := server.AcceptStream(t.Context()); err != nil || !s.IsUni() {
				t.Fatalf("%v, %v", s.ID(), err)
			}
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if s, err := server.AcceptStream(ctx); err == nil {
			t.Errorf("stream %d is opened", s.ID())
		}
	})
}

func TestFieldSectionLimitOfPeer(t *testing.T) { // R9114-4.2.2-1
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		cc, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		peer{t, server}.uni("00 0403 064064") // 100 bytes
		if _, err := cc.ReceivedSettings(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := cc.Do(t.Context(), get("/")); err == nil {
			t.Error("a larger request is sent")
		}
	})
}

func TestGoAwayFromServer(t *testing.T) { // R9114-5.2-1
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		cc, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		p := peer{t, server}
		p.uni("000400 070108 070100")
		p.wantOpen()
		if _, _, err := cc.Do(t.Context(), get("/")); err != ErrGoingAway {
			t.Error(err)
		}
	})
}

// TestShutdown: running requests are finished, new ones rejected.
func TestShutdown(t *testing.T) {
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		release := make(chan struct{})
		finish := sync.OnceFunc(func() { close(release) })
		defer finish()
		s := &Server{Handler: func(_ *Request, st *RequestStream) {
			<-release
			st.Respond(200, "text/plain", []byte("late"))
		}}
		served := make(chan error, 1)
		go func() { served <- s.Serve(server) }()
		p := peer{t, client}
		control, err := client.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		running := p.bidi(getHeaders)
		p.wantOpen()
		go s.Shutdown(t.Context())
		p.wantOpen()
		p.wantReset(p.bidi(getHeaders), ErrRequestRejected) // R9114-4.1.1-1
		go s.Shutdown(t.Context())
		p.wantOpen()
		finish()
		if types, payloads := p.readFrames(running); len(types) != 2 || string(payloads[1]) != "late" {
			t.Errorf("frames %v", types)
		}
		p.wantClose(ErrNoError) // R9114-5.2-4
		b, _ := io.ReadAll(control)
		if want := appendSettings([]byte{0}); string(b) != string(want)+"\x07\x01\x04" { // R9114-5.2-4 R9114-5.2-2
			t.Errorf("control stream %x", b)
		}
		<-served
		if err := s.Serve(server); err == nil {
			t.Error("Serve works after Shutdown")
		}
	})
}

// TestHandlerWithoutResponse: a handler that gives up shows as a reset.
func TestHandlerWithoutResponse(t *testing.T) { // R9114-4.1.1-2
	withHTTP(t, func(*Request, *RequestStream) {}, func(t *testing.T, c *ClientConn, _ *Server) {
		_, _, err := c.Do(t.Context(), get("/"))
		if e, ok := errors.AsType[*quic.StreamError](err); !ok || !e.Remote || ErrorCode(e.Code) != ErrInternal {
			t.Error(err)
		}
	})
}

func TestSecondResponse(t *testing.T) {
	handler := func(_ *Request, st *RequestStream) {
		st.WriteResponse(&Response{Status: 200})
		if err := st.WriteResponse(&Response{Status: 200}); err == nil {
			t.Error("second response is sent")
		}
	}
	withHTTP(t, handler, func(t *testing.T, c *ClientConn, _ *Server) {
		_, s, err := c.Do(t.Context(), get("/"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); len(b) > 0 || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

func TestClientClose(t *testing.T) { // R9114-5.2-4
	withHTTP(t, nil, func(t *testing.T, c *ClientConn, _ *Server) {
		c.Close()
		<-c.Conn().Done()
		if _, _, err := c.Do(t.Context(), get("/")); err == nil {
			t.Error("Do works on a closed connection")
		}
		if _, err := c.ReceivedSettings(t.Context()); err == nil {
			t.Error("no error without SETTINGS")
		}
	})
}
