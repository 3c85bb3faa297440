// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	quicgo "github.com/quic-go/quic-go"
	quicgohttp3 "github.com/quic-go/quic-go/http3"

	"github.com/mqvpn/mqvpn/interop/endpoint"
)

const alpnHQ = "hq-interop"

// runQUICGo is quic-go as the runner drives it.
func runQUICGo(ctx context.Context, o endpoint.Options) error {
	if o.TestCase == "chacha20" {
		endpoint.OnlyChaCha20()
	}
	if o.Role == "server" {
		return quicGoServer(ctx, o)
	}
	return quicGoClient(ctx, o)
}

var quicGoCases = map[string]bool{
	"handshake": true, "transfer": true, "multiconnect": true, "chacha20": true, "retry": true,
	"resumption": true, "zerortt": true, "http3": true, "keyupdate": true, "ecn": true,
}

// ticketCache tells when a ticket has come.
type ticketCache struct {
	tls.ClientSessionCache
	put chan struct{}
}

func (c *ticketCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	select {
	case c.put <- struct{}{}:
	default:
	}
}

func quicGoClient(ctx context.Context, o endpoint.Options) error {
	if !quicGoCases[o.TestCase] {
		return errUnsupported
	}
	u, err := url.Parse(o.Requests[0])
	if err != nil {
		return err
	}
	tickets := &ticketCache{ClientSessionCache: tls.NewLRUClientSessionCache(1), put: make(chan struct{}, 1)}
	tlsConf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpnHQ}, ClientSessionCache: tickets}
	conf := &quicgo.Config{HandshakeIdleTimeout: time.Minute}
	if o.TestCase == "http3" {
		return quicGoHTTP3(o, tlsConf, conf)
	}
	if o.TestCase == "transfer" {
		conf.InitialStreamReceiveWindow, conf.InitialConnectionReceiveWindow = 64<<10, 128<<10
	}
	dial := func(early bool) (*hqConn, error) {
		if early {
			c, err := quicgo.DialAddrEarly(ctx, u.Host, tlsConf, conf)
			return quicGoHQ(c), err
		}
		c, err := quicgo.DialAddr(ctx, u.Host, tlsConf, conf)
		return quicGoHQ(c), err
	}
	return fetchHQ(ctx, o, dial, func() error {
		select {
		case <-tickets.put:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("no ticket")
		}
	})
}

func quicGoHQ(c *quicgo.Conn) *hqConn {
	if c == nil {
		return nil
	}
	return &hqConn{
		open:    func(ctx context.Context) (hqStream, error) { return c.OpenStreamSync(ctx) },
		accept:  func(ctx context.Context) (hqStream, error) { return c.AcceptStream(ctx) },
		close:   func() { c.CloseWithError(0, "") },
		resumed: func() bool { return c.ConnectionState().TLS.DidResume },
		early:   func() bool { return c.ConnectionState().Used0RTT },
	}
}

// quicGoHTTP3 fetches all files side by side over HTTP/3.
func quicGoHTTP3(o endpoint.Options, tlsConf *tls.Config, conf *quicgo.Config) error {
	tlsConf.NextProtos = []string{quicgohttp3.NextProtoH3}
	tr := &quicgohttp3.Transport{TLSClientConfig: tlsConf, QUICConfig: conf}
	defer tr.Close()
	results := make(chan error)
	for _, u := range o.Requests {
		go func() {
			rsp, err := (&http.Client{Transport: tr}).Get(u)
			if err == nil && rsp.StatusCode != 200 {
				err = errors.New(rsp.Status)
			}
			if err == nil {
				err = saveFile(o.Downloads, u, rsp.Body)
				rsp.Body.Close()
			}
			results <- err
		}()
	}
	var err error
	for range o.Requests {
		err = errors.Join(err, <-results)
	}
	return err
}

func quicGoServer(ctx context.Context, o endpoint.Options) error {
	if !quicGoCases[o.TestCase] {
		return errUnsupported
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(o.Certs, "cert.pem"), filepath.Join(o.Certs, "priv.key"))
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(o.Listen)
	if err != nil {
		return err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	tlsConf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpnHQ}}
	if o.TestCase == "http3" {
		tlsConf.NextProtos = []string{quicgohttp3.NextProtoH3}
	}
	tr := &quicgo.Transport{Conn: udp, VerifySourceAddress: func(net.Addr) bool { return o.TestCase == "retry" }}
	ln, err := tr.ListenEarly(tlsConf, &quicgo.Config{
		HandshakeIdleTimeout: time.Minute,
		Allow0RTT:            o.TestCase == "zerortt",
	})
	if err != nil {
		return err
	}
	defer tr.Close()
	listening(udp.LocalAddr().(*net.UDPAddr).AddrPort())
	if o.TestCase == "http3" {
		s := &quicgohttp3.Server{Handler: http.FileServer(http.Dir(o.WWW))}
		go func() { fmt.Fprintln(os.Stderr, s.ServeListener(ln)) }()
		<-ctx.Done()
		return nil
	}
	for {
		c, err := ln.Accept(ctx)
		if err != nil {
			return nil
		}
		go serveHQ(ctx, o, quicGoHQ(c))
	}
}
