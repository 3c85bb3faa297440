// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// clientCases are the values of TESTCASE that a client gets and we support, and how
// the files are fetched.
var clientCases = map[string]func(*client, context.Context) error{
	"handshake":    (*client).fetchOnce,
	"transfer":     (*client).fetchOnce,
	"chacha20":     (*client).fetchOnce,
	"retry":        (*client).fetchOnce,
	"http3":        (*client).fetchOnce,
	"ecn":          (*client).fetchWithECN,
	"multiconnect": (*client).fetchOneByOne,
	"resumption":   (*client).fetchResumed,
	"zerortt":      (*client).fetchResumed,
	"keyupdate":    (*client).fetchWithKeyUpdate,
}

type client struct {
	*Options
	cfg    *quic.Config
	e      *quic.Endpoint
	sock   quic.Socket
	remote netip.AddrPort
	urls   []*url.URL
}

func (o *Options) runClient(ctx context.Context, cfg *quic.Config) error {
	fetch := clientCases[o.TestCase]
	if fetch == nil {
		return errUnsupported
	}
	c := &client{Options: o, cfg: cfg, e: quic.NewEndpoint(nil)}
	defer c.e.Close()
	if err := c.parseRequests(ctx); err != nil {
		return err
	}
	o.HTTP3 = o.HTTP3 || o.TestCase == "http3"
	cfg.TLS.NextProtos = []string{alpnHQ}
	if o.HTTP3 {
		cfg.TLS.NextProtos = []string{http3.NextProto}
	}
	cfg.TLS.ServerName = c.urls[0].Hostname()
	cfg.TLS.InsecureSkipVerify = true // the runner makes a certificate for each run
	cfg.Sessions = quic.NewSessionStore(1)
	if o.TestCase == "transfer" {
		// The windows must be moved on while the files are on their way.
		cfg.StreamReceiveWindow, cfg.ConnReceiveWindow = 64<<10, 128<<10
	}
	any := netip.IPv6Unspecified()
	if c.remote.Addr().Is4() {
		any = netip.IPv4Unspecified()
	}
	var err error
	if c.sock, err = listen(netip.AddrPortFrom(any, 0)); err != nil {
		return err
	}
	c.e.AddSocket(c.sock)
	return fetch(c, ctx)
}

// parseRequests finds the one server that all URLs name.
func (c *client) parseRequests(ctx context.Context) error {
	for _, r := range c.Requests {
		u, err := url.Parse(r)
		if err != nil {
			return err
		}
		if _, err := localFile(u.Path); err != nil {
			return err
		}
		if c.urls = append(c.urls, u); u.Host != c.urls[0].Host {
			return errors.New("the requests are for several servers")
		}
	}
	if len(c.urls) == 0 {
		return errors.New("no requests")
	}
	port := c.urls[0].Port()
	if port == "" {
		port = "443"
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", c.urls[0].Hostname())
	if err != nil {
		return err
	}
	c.remote = netip.AddrPortFrom(addrs[0].Unmap(), uint16(n))
	return nil
}

// fetchOnce fetches all files over one connection.
func (c *client) fetchOnce(ctx context.Context) error {
	return c.connect(ctx, c.e.Dial, func(s *session) error { return s.fetch(ctx, c.urls) })
}

// fetchOneByOne fetches each file over a connection of its own.
func (c *client) fetchOneByOne(ctx context.Context) error {
	for i := range c.urls {
		err := c.connect(ctx, c.e.Dial, func(s *session) error { return s.fetch(ctx, c.urls[i:i+1]) })
		if err != nil {
			return err
		}
	}
	return nil
}

// fetchResumed fetches the first file, and the others over a second connection that
// resumes the session of the first one, with 0-RTT if the test case says so.
func (c *client) fetchResumed(ctx context.Context) error {
	if len(c.urls) < 2 {
		return errors.New("resumption takes two files")
	}
	err := c.connect(ctx, c.e.Dial, func(s *session) error { return s.fetch(ctx, c.urls[:1]) })
	if err != nil {
		return err
	}
	dial, early := c.e.Dial, c.TestCase == "zerortt"
	if early {
		dial = c.e.DialEarly
	}
	return c.connect(ctx, dial, func(s *session) error {
		err := s.fetch(ctx, c.urls[1:])
		if errors.Is(err, quic.Err0RTTRejected) {
			c.logf("0-RTT was rejected")
			err = s.fetch(ctx, c.urls[1:])
		}
		switch {
		case err != nil:
			return err
		case !s.conn.ConnectionState().DidResume:
			return errors.New("the session was not resumed")
		case s.conn.Used0RTT() != early:
			return fmt.Errorf("0-RTT used: %v", s.conn.Used0RTT())
		}
		return nil
	})
}

// fetchWithKeyUpdate updates the keys while the files are on their way.
func (c *client) fetchWithKeyUpdate(ctx context.Context) error {
	return c.connect(ctx, c.e.Dial, func(s *session) error {
		s.conn.UpdateKeys()
		if err := s.fetch(ctx, c.urls); err != nil {
			return err
		}
		if s.conn.Stats().KeyUpdates == 0 {
			return errors.New("the keys were not updated")
		}
		return nil
	})
}

// fetchWithECN wants the server to have confirmed our marks.
func (c *client) fetchWithECN(ctx context.Context) error {
	return c.connect(ctx, c.e.Dial, func(s *session) error {
		if err := s.fetch(ctx, c.urls); err != nil {
			return err
		}
		if st := s.conn.Stats(); len(st.Paths) == 0 || st.Paths[0].ECN != "capable" {
			return fmt.Errorf("ECN is not confirmed: %+v", st.Paths)
		}
		return nil
	})
}

type dialFunc func(context.Context, quic.Socket, netip.AddrPort, *quic.Config) (*quic.Conn, error)

// session is a connection with its HTTP.
type session struct {
	*client
	conn *quic.Conn
	h3   *http3.ClientConn // nil: HTTP/0.9
}

// connect opens a connection, calls use and closes it.
func (c *client) connect(ctx context.Context, dial dialFunc, use func(*session) error) error {
	start := time.Now()
	conn, err := dial(ctx, c.sock, c.remote, c.cfg)
	if err != nil {
		return fmt.Errorf("no connection to %v: %w", c.remote, err)
	}
	defer conn.CloseWithError(0, "")
	s := &session{client: c, conn: conn}
	if c.HTTP3 {
		if s.h3, err = http3.NewClientConn(ctx, conn); err != nil {
			return err
		}
		defer s.h3.Close()
	}
	err = use(s)
	st := conn.ConnectionState()
	c.logf("connection of %v: %s, resumed %v, 0-RTT %v, %d key updates", time.Since(start).Round(time.Millisecond),
		tls.CipherSuiteName(st.CipherSuite), st.DidResume, conn.Used0RTT(), conn.Stats().KeyUpdates)
	return err
}

// fetch fetches files side by side. It returns the first error after all have ended.
func (s *session) fetch(ctx context.Context, urls []*url.URL) error {
	results := make(chan error)
	for _, u := range urls {
		go func() {
			err := s.fetchFile(ctx, u)
			if err != nil {
				err = fmt.Errorf("%v: %w", u, err)
			}
			results <- err
		}()
	}
	var first error
	for range urls {
		if err := <-results; first == nil {
			first = err
		}
	}
	return first
}

func (s *session) fetchFile(ctx context.Context, u *url.URL) error {
	content, err := s.get(ctx, u)
	if err != nil {
		return err
	}
	name, err := localFile(u.Path)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(s.Downloads, name))
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// get asks for a file.
func (s *session) get(ctx context.Context, u *url.URL) (io.Reader, error) {
	if s.h3 != nil {
		req := &http3.Request{Method: "GET", Scheme: "https", Authority: u.Host, Path: u.RequestURI()}
		rsp, rs, err := s.h3.Do(ctx, req)
		if err != nil {
			return nil, err
		}
		if rsp.Status != 200 {
			rs.Cancel(http3.ErrRequestCancelled)
			return nil, fmt.Errorf("status %d", rsp.Status)
		}
		return rs, nil
	}
	st, err := s.conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(st, "GET %s\r\n", u.Path); err != nil {
		return nil, err
	}
	return st, st.CloseWrite()
}
