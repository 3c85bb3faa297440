// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/qlog"
)

const (
	// serverMTU is the MTU of a server's TUN device unless --mtu says otherwise: what
	// a path over Ethernet carries. The host has a route of its own to a client with less.
	serverMTU = 1440
	// refusalLogInterval is the least time between two log lines about wrong keys.
	refusalLogInterval = time.Second
)

// server is a running server.
type server struct {
	cfg  *Config
	log  *slog.Logger
	sys  serverSystem
	auth *authenticator
	pool *addrPool
	qlog *qlog.Dir // nil: none

	dev    tunDevice
	mtu    int
	writer *tunWriter
	reader *tunReader
	router *router

	ep      *quic.Endpoint
	http    http3.Server
	started time.Time

	mu          sync.Mutex
	conns       map[*quic.Conn]*serverConn
	guests      int // of them, without a tunnel
	changes     int // connections that began or ended since tidyUp
	tidy        *time.Timer
	sessions    map[*serverSession]struct{}
	byUser      map[int]*serverSession // of users with a name
	refusals    uint64                 // wrong keys
	refusalsOld uint64                 // of them, told in the log
	refusalLog  time.Time
}

// RunServer runs a server until ctx ends, which is no error, or it fails.
func RunServer(ctx context.Context, cfg *Config, log *slog.Logger) error {
	sys, err := openServerSystem(cfg, log)
	if err != nil {
		return err
	}
	return newServer(cfg, log, sys).run(ctx)
}

func newServer(cfg *Config, log *slog.Logger, sys serverSystem) *server {
	s := &server{
		cfg: cfg, log: log, sys: sys,
		auth:     newAuthenticator(cfg.Users, cfg.AuthKey),
		pool:     newAddrPool(cfg.Subnet, cfg.Subnet6, len(cfg.Users), cfg.MaxClients),
		router:   newRouter(),
		mtu:      cfg.MTU,
		started:  time.Now(),
		conns:    map[*quic.Conn]*serverConn{},
		sessions: map[*serverSession]struct{}{},
		byUser:   map[int]*serverSession{},
	}
	if s.mtu == 0 {
		s.mtu = serverMTU
	}
	s.http.Handler = s.handle
	return s
}

func (s *server) run(ctx context.Context) (err error) {
	var flush func()
	s.log, flush = queueLog(s.log)
	defer flush()
	defer func() {
		if cerr := s.sys.close(); cerr != nil {
			s.log.Error("cannot undo all changes of the system", "error", cerr)
			err = errors.Join(err, cerr)
		}
	}()
	s.qlog = openQlog(s.log)
	defer func() { closeQlog(s.log, s.qlog) }()
	if s.ep, err = s.listen(); err != nil {
		return err
	}
	defer s.ep.Close()
	if err := s.openTUN(); err != nil {
		return err
	}
	s.reader, s.writer = newTUNReader(s.dev, s.router), newTUNWriter(s.dev, s.log)
	var pumps sync.WaitGroup
	stop := make(chan struct{})
	defer func() {
		close(stop)
		s.dev.Close()
		pumps.Wait()
	}()
	control, err := startControl(s.cfg, s.log, s.control)
	if err != nil {
		return err
	}
	defer control.Close()
	pumps.Go(s.reader.run)
	pumps.Go(func() { s.writer.run(stop) })
	v4, v6 := s.pool.server()
	s.log.Info("up", "interface", s.dev.Name(), "address", v4, "address6", prefixOrNone(v6), "mtu", s.mtu,
		"listen", s.cfg.Listen, "users", len(s.cfg.Users), "nat", s.cfg.NAT)
	s.accept(ctx)
	s.log.Info("down", "up_for", time.Since(s.started).Round(time.Second))
	return nil
}

func prefixOrNone(p netip.Prefix) string {
	if !p.IsValid() {
		return "none"
	}
	return p.String()
}

// listen makes the endpoint with all sockets.
func (s *server) listen() (*quic.Endpoint, error) {
	cert, err := loadCertificate(s.cfg)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); now.After(cert.Leaf.NotAfter) || now.Before(cert.Leaf.NotBefore) {
		s.log.Warn("the certificate is not valid now: clients without --pin will refuse it", "file", s.cfg.CertFile,
			"from", cert.Leaf.NotBefore, "to", cert.Leaf.NotAfter)
	}
	resetKey, err := statelessResetKey(cert)
	if err != nil {
		return nil, failf(ExitCertificate, "--key %s: %w", s.cfg.KeyFile, err)
	}
	ep := quic.NewEndpoint(&quic.Config{
		TLS:                   serverTLS(cert),
		MaxIncomingUniStreams: serverUniStreams,
		StreamReceiveWindow:   serverStreamWindow,
		ConnReceiveWindow:     serverConnWindow,
		Datagrams:             true,
		NewScheduler:          schedulerMaker(s.cfg.Scheduler),
		CongestionControl:     s.cfg.CongestionControl,
		StatelessResetKey:     resetKey,
		Logger:                s.log,
		Qlog:                  s.qlog.Open,
	})
	for _, addr := range s.cfg.Listen {
		socket, err := s.sys.listen(addr, "")
		if err != nil && s.cfg.listenIsDefault && addr.Addr().Is6() && noFamily(err) {
			s.log.Info("this host has no IPv6; listening on IPv4 only")
			continue
		}
		if err != nil {
			ep.Close()
			return nil, err
		}
		ep.AddSocket(socket)
	}
	return ep, nil
}

// noFamily reports whether the host lacks an address family altogether.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func (s *server) openTUN() (err error) {
	v4, v6 := s.pool.server()
	pools := []netip.Prefix{s.cfg.Subnet}
	if v6.IsValid() {
		pools = append(pools, s.cfg.Subnet6)
	}
	if err := s.sys.checkPools(pools); err != nil {
		return err
	}
	if s.dev, err = s.sys.createTUN(); err != nil {
		return err
	}
	err = errors.Join(s.dev.SetMTU(s.mtu), s.dev.AddAddress(v4))
	if err == nil && v6.IsValid() {
		if err = s.dev.AddAddress(v6); err != nil {
			err = fmt.Errorf("--subnet6: %w; is IPv6 switched off on this host?", err)
		}
	}
	if err == nil {
		err = s.dev.Up()
	}
	if err == nil && s.cfg.NAT {
		if err = s.sys.enableForwarding(pools); err == nil {
			err = s.sys.enableNAT(pools)
		}
	}
	if err != nil {
		s.dev.Close()
	}
	return err
}

// accept serves connections until ctx ends.
func (s *server) accept(ctx context.Context) {
	for {
		conn, err := s.ep.Accept(ctx)
		if err != nil {
			return
		}
		if !s.welcome(conn) {
			continue
		}
		go func() {
			defer s.farewell(conn)
			if err := s.http.Serve(conn); err != nil {
				s.log.Debug("connection ended", "remote", remoteOf(conn), "error", err)
			}
		}()
	}
}

// remoteOf is the address of the peer on the first path that is left.
func remoteOf(conn *quic.Conn) netip.AddrPort {
	if paths := conn.Stats().Paths; len(paths) > 0 {
		return paths[0].Remote
	}
	return netip.AddrPort{}
}
