// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"errors"
	"io"
	"testing"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

var errNoSuchKey = errors.New("no such key")

// withServer runs f with a client of a server that knows one key, reports on
// another that there is no room, and has a web site.
func withServer(t *testing.T, f func(t *testing.T, h *http3.ClientConn, accepted <-chan error)) {
	t.Helper()
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		accepted := make(chan error, 10)
		m := &Server{
			Authorize: func(_ *http3.Request, token string) error {
				switch token {
				case "secret":
					return nil
				case "late":
					return &RefusedError{Status: 503}
				}
				return errNoSuchKey
			},
			Site: func(_ *http3.Request, st *http3.RequestStream) {
				st.Respond(418, "text/plain", []byte("teapot"))
			},
		}
		go (&http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
			s, err := m.Accept(req, st)
			accepted <- err
			if err == nil {
				<-s.Done()
			}
		}}).Serve(sc)
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		f(t, h, accepted)
	})
}

func TestAccept(t *testing.T) {
	const path = "/.well-known/masque/ip/*/*/"
	key := http3.Field{Name: "authorization", Value: "Bearer secret"}
	get := &http3.Request{Method: "GET", Scheme: "https", Authority: "server.test", Path: path}
	connect := &http3.Request{Method: "CONNECT", Authority: "server.test:80"}
	udp := tunnelRequest(path, key)
	udp.Protocol = "connect-udp"
	coap := tunnelRequest(path, key)
	coap.Scheme = "coap"
	for _, c := range []struct {
		name   string
		req    *http3.Request
		status int
		err    error // nil for a tunnel, errAny for some error
	}{
		{"tunnel", tunnelRequest(path, key), 200, nil}, // R9484-4.5-1
		{"escaped asterisks", tunnelRequest("/.well-known/masque/ip/%2A/%2a/", key), 200, nil},
		{"scheme without case", tunnelRequest(path, http3.Field{Name: "authorization", Value: "bearer  secret"}), 200, nil},
		{"wrong key", tunnelRequest(path, http3.Field{Name: "authorization", Value: "Bearer x"}), 418, errNoSuchKey}, // R9484-11-2
		{"no key", tunnelRequest(path), 418, errNoSuchKey},                                                           // R9484-11-2
		{"other scheme", tunnelRequest(path, http3.Field{Name: "authorization", Value: "Basic secret"}), 418, errNoSuchKey},
		{"refused with a status", tunnelRequest(path, http3.Field{Name: "authorization", Value: "Bearer late"}), 503, errAny},
		{"GET", get, 418, ErrNotTunnel},
		{"CONNECT", connect, 418, ErrNotTunnel},
		{"other protocol", udp, 418, ErrNotTunnel},
		{"other path", tunnelRequest("/other/*/*/", key), 418, ErrNotTunnel},
		{"malformed target", tunnelRequest("/.well-known/masque/ip/10.0.0.1%2F8/*/", key), 400, errAny}, // R9484-4.1-1 R9484-4.4-2
		{"malformed protocol", tunnelRequest("/.well-known/masque/ip/*/256/", key), 400, errAny},        // R9484-4.1-1
		{"no variables", tunnelRequest("/.well-known/masque/ip/", key), 400, errAny},
		{"other URI scheme", coap, 400, errAny},
		{"one target", tunnelRequest("/.well-known/masque/ip/10.0.0.0%2F8/*/", key), 501, errAny},
		{"one host", tunnelRequest("/.well-known/masque/ip/vpn.example/*/", key), 501, errAny},
		{"one protocol", tunnelRequest("/.well-known/masque/ip/*/17/", key), 501, errAny},
	} {
		t.Run(c.name, func(t *testing.T) {
			withServer(t, func(t *testing.T, h *http3.ClientConn, accepted <-chan error) {
				resp, st, err := h.Do(t.Context(), c.req)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Status != c.status || http3.UsesCapsuleProtocol(resp.Header) != (c.err == nil) {
					t.Errorf("%+v, want %d", resp, c.status)
				}
				if err := <-accepted; c.err == errAny && err == nil || c.err != errAny && err != c.err {
					t.Errorf("Accept: %v, want %v", err, c.err)
				}
				if body, err := io.ReadAll(io.LimitReader(st, 6)); c.status == 418 && (string(body) != "teapot" || err != nil) {
					t.Errorf("%q, %v", body, err)
				}
			})
		})
	}
}

var errAny = errors.New("any error")

// TestAcceptMalformed: fields that the Capsule Protocol forbids.
func TestAcceptMalformed(t *testing.T) { // R9297-3.2-2
	withServer(t, func(t *testing.T, h *http3.ClientConn, accepted <-chan error) {
		req := tunnelRequest("/.well-known/masque/ip/*/*/", http3.Field{Name: "content-type", Value: "text/plain"})
		_, _, err := h.Do(t.Context(), req)
		if e, ok := errors.AsType[*quic.StreamError](err); !ok || http3.ErrorCode(e.Code) != http3.ErrMessage {
			t.Errorf("Do: %v", err)
		}
		if err := <-accepted; !isMalformed(err) {
			t.Errorf("Accept: %v", err)
		}
	})
}

// TestDefaultSite: without a site the answer is that of http3.NotFound.
func TestDefaultSite(t *testing.T) {
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		m := &Server{Authorize: func(*http3.Request, string) error { return errNoSuchKey }}
		go (&http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) { m.Accept(req, st) }}).Serve(sc)
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		resp, _, err := h.Do(t.Context(), &http3.Request{Method: "GET", Scheme: "https", Authority: "a", Path: "/"})
		if err != nil || resp.Status != 404 {
			t.Errorf("%+v, %v", resp, err)
		}
	})
}

// TestRequestFields: what a client sends.
func TestRequestFields(t *testing.T) { // R9484-4.4-1 R9484-3-2
	tmpl, err := ParseTemplate("https://proxy.test:4443/x{?target,ipproto}")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r               Request
		authority, path string
		token           string
	}{
		{Request{Authority: "server.test:443", Token: "k e"}, "server.test:443", "/.well-known/masque/ip/*/*/", "Bearer k e"},
		{Request{Template: tmpl, Header: http3.Header{{Name: "x", Value: "y"}}}, "proxy.test:4443", "/x?target=*&ipproto=*", ""},
	} {
		req, err := c.r.httpRequest()
		if err != nil {
			t.Fatal(err)
		}
		if req.Method != "CONNECT" || req.Protocol != "connect-ip" || req.Scheme != "https" || req.Authority != c.authority ||
			req.Path != c.path || !http3.UsesCapsuleProtocol(req.Header) || req.Header.Get("authorization") != c.token {
			t.Errorf("%+v", req)
		}
		if len(c.r.Header) > 0 && req.Header.Get("x") != "y" {
			t.Errorf("%+v", req)
		}
	}
	if _, err := (&Request{Authority: "a b"}).httpRequest(); err == nil { // R9484-3-1
		t.Error("an invalid authority is accepted")
	}
}

// TestDialRefused: what counts as a refusal, and what as a broken answer.
func TestDialRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		resp    http3.Response
		refused bool
	}{
		{"403", http3.Response{Status: 403}, true},  // R9484-4.1-5
		{"302", http3.Response{Status: 302}, true},  // R9484-4.1-5
		{"204", http3.Response{Status: 204}, false}, // R9484-4.5-2
		{"206", http3.Response{Status: 206}, false}, // R9484-4.5-2
		{"content-length", http3.Response{Status: 200, Header: http3.Header{{Name: "content-length", Value: "0"}}}, false}, // R9484-4.5-2
		{"content-type", http3.Response{Status: 200, Header: http3.Header{{Name: "content-type", Value: "x"}}}, false},     // R9484-4.5-2
	} {
		t.Run(c.name, func(t *testing.T) {
			withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
				ended := make(chan error, 1)
				go (&http3.Server{Handler: func(_ *http3.Request, st *http3.RequestStream) {
					st.WriteResponse(&c.resp)
					_, err := io.Copy(io.Discard, st)
					ended <- err
				}}).Serve(sc)
				h, err := http3.NewClientConn(t.Context(), cc)
				if err != nil {
					t.Fatal(err)
				}
				_, resp, err := Dial(t.Context(), h, Request{Authority: "server.test"})
				e, ok := errors.AsType[*RefusedError](err)
				if ok != c.refused || ok && e.Status != c.resp.Status || !ok && !isMalformed(err) {
					t.Errorf("Dial: %v", err)
				}
				if resp == nil || resp.Status != c.resp.Status {
					t.Errorf("response %+v", resp)
				}
				if _, ok := errors.AsType[*quic.StreamError](<-ended); !ok { // the request is aborted
					t.Error("the stream is not reset")
				}
			})
		})
	}
}
