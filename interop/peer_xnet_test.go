// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"crypto/tls"
	"net/url"
	"path/filepath"
	"time"

	xquic "golang.org/x/net/quic"

	"github.com/mqvpn/mqvpn/interop/endpoint"
)

// xnetCases are what golang.org/x/net/quic can do: it has neither resumption nor HTTP/3,
// and does not set ECN.
var xnetCases = map[string]bool{
	"handshake": true, "transfer": true, "multiconnect": true, "chacha20": true, "retry": true, "keyupdate": true,
}

// runXNet is golang.org/x/net/quic as the runner drives it.
func runXNet(ctx context.Context, o endpoint.Options) error {
	if !xnetCases[o.TestCase] {
		return errUnsupported
	}
	if o.TestCase == "chacha20" {
		endpoint.OnlyChaCha20()
	}
	conf := &xquic.Config{
		TLSConfig:        &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{alpnHQ}},
		HandshakeTimeout: time.Minute,
	}
	if o.Role == "server" {
		return xnetServer(ctx, o, conf)
	}
	u, err := url.Parse(o.Requests[0])
	if err != nil {
		return err
	}
	if o.TestCase == "transfer" {
		conf.MaxStreamReadBufferSize, conf.MaxConnReadBufferSize = 64<<10, 128<<10
	}
	e, err := xquic.Listen("udp", "", nil)
	if err != nil {
		return err
	}
	err = fetchHQ(ctx, o, func(bool) (*hqConn, error) {
		c, err := e.Dial(ctx, "udp", u.Host, conf)
		return xnetHQ(c), err
	}, nil)
	closing, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	e.Close(closing)
	return err
}

// xnetStream closes what is sent only.
type xnetStream struct{ *xquic.Stream }

func (s xnetStream) Close() error {
	s.CloseWrite()
	return nil
}

func xnetHQ(c *xquic.Conn) *hqConn {
	if c == nil {
		return nil
	}
	return &hqConn{
		open: func(ctx context.Context) (hqStream, error) {
			s, err := c.NewStream(ctx)
			return xnetStream{s}, err
		},
		accept: func(ctx context.Context) (hqStream, error) {
			return c.AcceptStream(ctx) // the stream counts until all of it is closed
		},
		close: func() { c.Abort(nil) },
	}
}

func xnetServer(ctx context.Context, o endpoint.Options, conf *xquic.Config) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(o.Certs, "cert.pem"), filepath.Join(o.Certs, "priv.key"))
	if err != nil {
		return err
	}
	conf.TLSConfig.Certificates = []tls.Certificate{cert}
	conf.RequireAddressValidation = o.TestCase == "retry"
	e, err := xquic.Listen("udp", o.Listen, conf)
	if err != nil {
		return err
	}
	listening(e.LocalAddr())
	for {
		c, err := e.Accept(ctx)
		if err != nil {
			return nil
		}
		go serveHQ(ctx, o, xnetHQ(c))
	}
}
