// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// serverCases are the values of TESTCASE that a server gets and we support.
var serverCases = map[string]bool{
	"handshake": true, "transfer": true, "multiconnect": true, "chacha20": true, "retry": true,
	"resumption": true, "zerortt": true, "http3": true, "keyupdate": true, "ecn": true,
	"connectionmigration": true,
}

type server struct {
	*Options
	root *os.Root
	h3   *http3.Server
}

func (o *Options) runServer(ctx context.Context, cfg *quic.Config) error {
	if !serverCases[o.TestCase] {
		return errUnsupported
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(o.Certs, "cert.pem"), filepath.Join(o.Certs, "priv.key"))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(o.WWW)
	if err != nil {
		return err
	}
	defer root.Close()
	cfg.TLS.Certificates = []tls.Certificate{cert}
	cfg.TLS.NextProtos = []string{alpnHQ, http3.NextProto}
	cfg.RequireToken = o.TestCase == "retry"
	cfg.AllowEarlyData = o.TestCase == "zerortt"

	sockets, err := listenAll(o.Listen)
	if err != nil {
		return err
	}
	if o.TestCase == "connectionmigration" {
		preferred, err := listenPreferred(sockets)
		if err != nil {
			return err
		}
		for _, s := range preferred {
			cfg.PreferredAddrs = append(cfg.PreferredAddrs, s.LocalAddr())
		}
		sockets = append(sockets, preferred...)
	}
	e := quic.NewEndpoint(cfg)
	defer e.Close()
	for _, s := range sockets {
		e.AddSocket(s)
		o.logf("listening on %v", s.LocalAddr())
	}
	s := &server{Options: o, root: root}
	s.h3 = &http3.Server{Handler: s.handleHTTP3}
	for {
		c, err := e.Accept(ctx)
		if err != nil {
			return nil
		}
		go s.serve(ctx, c)
	}
}

// listenPreferred opens a second socket at another port for each of sockets, at an address
// that clients can use.
func listenPreferred(sockets []quic.Socket) (preferred []quic.Socket, err error) {
	for _, s := range sockets {
		a := s.LocalAddr().Addr()
		if a.IsUnspecified() {
			if a, err = ownAddress(a.Is4()); err != nil {
				return nil, err
			}
		}
		if !a.IsValid() {
			continue
		}
		p, err := listen(netip.AddrPortFrom(a, 0))
		if err != nil {
			return nil, err
		}
		preferred = append(preferred, p)
	}
	return preferred, nil
}

// ownAddress finds an address of this host that others can reach, invalid for none.
func ownAddress(v4 bool) (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() && prefix.Addr().Is4() == v4 {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, nil
}

// serve answers the requests of a connection. Those of 0-RTT wait for the handshake: only
// then is the protocol known, and the client who it says it is.
func (s *server) serve(ctx context.Context, c *quic.Conn) {
	select {
	case <-c.HandshakeComplete():
	case <-c.Done():
		s.logf("no connection: %v", c.Err())
		return
	}
	go s.logKeyUpdates(c)
	st := c.ConnectionState()
	s.logf("connection: %s, %s, resumed %v, 0-RTT %v", st.NegotiatedProtocol, tls.CipherSuiteName(st.CipherSuite), st.DidResume, c.Used0RTT())
	if st.NegotiatedProtocol == http3.NextProto {
		s.logf("connection ended: %v", s.h3.Serve(c))
		return
	}
	for {
		st, err := c.AcceptStream(ctx)
		if err != nil {
			s.logf("connection ended: %v", err)
			return
		}
		go s.handleHQ(st)
	}
}

// logKeyUpdates tells of the key updates of a connection while it lasts.
func (s *server) logKeyUpdates(c *quic.Conn) {
	for last := 0; ; {
		select {
		case <-c.Done():
			return
		case <-time.After(50 * time.Millisecond):
			if n := c.Stats().KeyUpdates; n > last {
				s.logf("%d key updates", n)
				last = n
			}
		}
	}
}

// handleHQ answers a request of HTTP/0.9: "GET /name" and the end of a line, or of the
// stream.
func (s *server) handleHQ(st *quic.Stream) {
	err := func() error {
		line, err := bufio.NewReader(io.LimitReader(st, 4096)).ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		path, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "GET ")
		if !ok {
			return fmt.Errorf("request %q", line)
		}
		f, err := s.open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(st, f)
		return err
	}()
	if err != nil {
		s.logf("stream %d: %v", st.ID(), err)
		st.Reset(1)
		st.StopSending(1)
		return
	}
	st.CloseWrite()
}

func (s *server) handleHTTP3(req *http3.Request, rs *http3.RequestStream) {
	if req.Method != "GET" {
		rs.Respond(405, "text/plain", nil)
		return
	}
	u, err := url.ParseRequestURI(req.Path)
	if err != nil {
		rs.Respond(400, "text/plain", nil)
		return
	}
	f, err := s.open(u.Path)
	if err != nil {
		s.logf("%s: %v", req.Path, err)
		http3.NotFound(req, rs)
		return
	}
	defer f.Close()
	header := http3.Header{}
	if strings.HasSuffix(u.Path, ".html") {
		header = append(header, http3.Field{Name: "content-type", Value: "text/html"})
	}
	if err = rs.WriteResponse(&http3.Response{Status: 200, Header: header}); err == nil {
		_, err = io.Copy(rs, f)
	}
	if err != nil {
		s.logf("%s: %v", req.Path, err)
		rs.Cancel(http3.ErrInternal)
		return
	}
}

// open opens a file below /www.
func (s *server) open(path string) (fs.File, error) {
	name, err := localFile(path)
	if err != nil {
		return nil, err
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.New("no file")
	}
	return f, nil
}
