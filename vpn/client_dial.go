// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/sched"
)

const (
	// raceDelay is how long an interface may take to answer before the next one is tried
	// too: one that answers in this time costs no second handshake, a dead one no more.
	raceDelay = 30 * time.Millisecond
	// serverDelay is how long a server may take before the next of the list is tried too.
	serverDelay = time.Second
	// The time for a handshake is the reconnect interval, within these bounds: an
	// Initial packet is repeated after 1 s and 3 s, and a new attempt sends at once.
	minHandshakeTime, maxHandshakeTime = 3 * time.Second, 10 * time.Second
	// requestTime is the time for what follows the handshake.
	requestTime = 10 * time.Second
	// askTime is how long a server may take to assign an address before it is asked to.
	askTime = time.Second
	// A silent path gets a PING in each reconnect interval, so that a server that was
	// replaced is noticed in that time, within these bounds; the upper one keeps NAT
	// bindings alive.
	minKeepAlive, maxKeepAlive = time.Second, 15 * time.Second
	// eventQueue bounds the events of paths that wait to be logged.
	eventQueue = 64
	// h3FrameError closes the connection when the C implementation's server refuses.
	h3FrameError = 0x106
)

// tunnel is a connection to a server with an IP tunnel in it.
type tunnel struct {
	ep      *quic.Endpoint
	conn    *quic.Conn
	session *masque.Session
	outlet  *outlet
	iface   string // of the first path
	server  ServerAddr
	remote  netip.AddrPort
	since   time.Time
	events  chan quic.Event
	// mtuChanged holds one: unlike a line in the log it must not be lost.
	mtuChanged chan struct{}
	paths      map[string]*clientPath // by interface; changed with client.mu held
	noIPv6     bool                   // it was logged that there is no IPv6 inside
}

// candidate is one way to reach a server.
type candidate struct {
	server ServerAddr
	remote netip.AddrPort
	iface  string
}

// connect makes one attempt to open a tunnel.
func (c *client) connect(ctx context.Context) (*tunnel, error) {
	c.findInterfaces()
	candidates, err := c.candidates(ctx)
	if err != nil {
		return nil, err
	}
	handshake := min(max(c.cfg.ReconnectInterval, minHandshakeTime), maxHandshakeTime)
	ctx, cancel := context.WithTimeout(ctx, handshake+requestTime)
	defer cancel()
	ep := quic.NewEndpoint(nil)
	t, err := c.race(ctx, handshake, ep, candidates)
	if err == nil {
		err = c.openSession(ctx, t)
	}
	if err != nil {
		ep.Close()
		c.namesFailed()
		return nil, explain(err)
	}
	c.mu.Lock()
	c.lastGood = candidate{t.server, t.remote, t.iface}
	c.mu.Unlock()
	return t, nil
}

// dialed is the result of one candidate.
type dialed struct {
	candidate
	conn *quic.Conn
	clientPath
}

// race tries the candidates one after the other, without waiting for the end of
// one before the next begins, and keeps the first that completes the handshake.
func (c *client) race(ctx context.Context, limit time.Duration, ep *quic.Endpoint, candidates []candidate) (*tunnel, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	results := make(chan dialed)
	start := time.NewTimer(0)
	defer start.Stop()
	var winner dialed
	var errs []error
	next, running := 0, 0
	for next < len(candidates) && winner.conn == nil || running > 0 {
		select {
		case <-start.C:
			if next == len(candidates) || winner.conn != nil {
				continue
			}
			cand := candidates[next]
			next, running = next+1, running+1
			if next < len(candidates) && candidates[next].server != cand.server {
				start.Reset(serverDelay)
			} else {
				start.Reset(raceDelay)
			}
			go func() { results <- c.dial(ctx, ep, cand) }()
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
				start.Reset(0)
			case winner.conn == nil:
				winner = r
				cancel() // the others
			default:
				r.conn.CloseWithError(uint64(http3.ErrNoError), "")
				ep.RemoveSocket(r.socket)
			}
		}
	}
	if winner.conn == nil {
		return nil, worst(errs)
	}
	t := &tunnel{
		ep:     ep,
		conn:   winner.conn,
		iface:  winner.iface,
		server: winner.server,
		remote: winner.remote,
		events: make(chan quic.Event, eventQueue),

		mtuChanged: make(chan struct{}, 1),
		paths:      map[string]*clientPath{winner.iface: &winner.clientPath},
	}
	t.conn.LabelPath(0, t.iface)
	t.conn.SetEventHandler(func(ev quic.Event) {
		if ev.Kind == quic.MTUChanged {
			notify(t.mtuChanged)
			return
		}
		select {
		case t.events <- ev:
		default:
		}
	})
	return t, nil
}

// worst picks the error that the user must know: a refusal rather than silence.
func worst(errs []error) error {
	for _, err := range errs {
		if code := exitCode(err); code != ExitFailure && code != ExitUnreachable {
			return err
		}
	}
	return errs[0]
}

// dial performs a handshake over one interface.
func (c *client) dial(ctx context.Context, ep *quic.Endpoint, cand candidate) dialed {
	d := dialed{candidate: cand}
	d.link = c.sys.link(cand.iface, cand.remote.Addr().Is6())
	if d.socket, d.err = c.openSocket(cand.iface, cand.remote.Addr()); d.err != nil {
		return d
	}
	ep.AddSocket(d.socket)
	d.conn, d.err = ep.Dial(ctx, d.socket, cand.remote, c.quicConfig(cand.server.Host))
	if d.err != nil {
		ep.RemoveSocket(d.socket)
		if ctx.Err() != nil || isTimeout(d.err) {
			d.err = failf(ExitUnreachable, "no answer from %s over %s: is the server running, and UDP port %d open?", cand.remote, cand.iface, cand.remote.Port())
		}
	}
	return d
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// openSocket prepares an interface as a path to remote and binds a socket to it.
func (c *client) openSocket(iface string, remote netip.Addr) (quic.Socket, error) {
	if c.cfg.ManageRoutes {
		if err := c.sys.routePath(iface); err != nil {
			return nil, err
		}
	}
	any := netip.IPv4Unspecified()
	if remote.Is6() {
		any = netip.IPv6Unspecified()
	}
	return c.sys.listen(netip.AddrPortFrom(any, 0), iface)
}

func (c *client) quicConfig(host string) *quic.Config {
	return &quic.Config{
		TLS:               clientTLS(c.cfg, host, c.roots),
		CongestionControl: c.cfg.CongestionControl,
		HandshakeTimeout:  maxHandshakeTime,
		KeepAlive:         min(max(c.cfg.ReconnectInterval, minKeepAlive), maxKeepAlive),
		Datagrams:         true,
		NewScheduler:      schedulerMaker(c.cfg.Scheduler),
		Logger:            c.log,
		Qlog:              c.qlog.Open,
	}
}

func schedulerMaker(name string) func() sched.Scheduler {
	switch name {
	case "minrtt":
		return sched.NewMinRTT
	case "wlb_udp_pin":
		return sched.NewWLBUDPPin
	case "backup":
		return sched.NewBackup
	}
	return sched.NewWLB
}

// openSession asks the server for a tunnel and waits until it can carry packets.
func (c *client) openSession(ctx context.Context, t *tunnel) error {
	if c.cfg.Insecure {
		c.log.Warn("INSECURE: the server's certificate was not checked; anyone on the way could be in between", "server", t.remote)
	}
	h3, err := http3.NewClientConn(ctx, t.conn)
	if err != nil {
		return err
	}
	authority := net.JoinHostPort(t.server.Host, strconv.Itoa(int(t.server.Port)))
	t.session, _, err = masque.Dial(ctx, h3, masque.Request{Authority: authority, Token: c.cfg.AuthKey})
	if err != nil {
		return err
	}
	t.outlet = &outlet{session: t.session}
	t.session.SetICMPWriter(c.writer.putPacket)
	t.session.SetHandler(&tunSink{w: c.writer, mtu: t.session.MTU})
	ask := time.NewTimer(askTime)
	defer ask.Stop()
	for len(t.session.Assigned()) == 0 || len(t.session.Routes()) == 0 {
		select {
		case <-ask.C:
			if len(t.session.Assigned()) > 0 {
				continue
			}
			err := t.session.RequestAddresses([]netip.Prefix{
				netip.PrefixFrom(netip.IPv4Unspecified(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128),
			})
			if err != nil {
				return err
			}
		case <-t.session.Changed():
		case <-t.session.Done():
			return t.endReason()
		case <-ctx.Done():
			return failf(ExitRefused, "the server gave no address within %v", requestTime)
		}
	}
	if err := t.conn.WaitMTU(ctx); err != nil {
		return err
	}
	t.since = time.Now()
	return nil
}

// close ends the connection in order.
func (t *tunnel) close() {
	t.session.Close()
	t.conn.CloseWithError(uint64(http3.ErrNoError), "")
	t.ep.Close()
}

// endReason says why the tunnel has ended.
func (t *tunnel) endReason() error {
	err := t.session.Err()
	select {
	case <-t.conn.Done():
		err = t.conn.Err()
	default:
	}
	return explain(err)
}

// explain turns an error of the layers below into one line with an exit code.
func explain(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e // without the words of the layers in between
	}
	if exitCode(err) != ExitFailure {
		return err
	}
	if e, ok := errors.AsType[*masque.RefusedError](err); ok {
		switch {
		case e.Status == 401, e.Status == 403, e.Status == 0 && e.Code == h3FrameError:
			return failf(ExitWrongKey, "the server does not accept the key: check --auth-key, and --user on the server")
		case e.Status == 503:
			return failf(ExitRefused, "the server is full: it has no free address")
		}
		return failf(ExitRefused, "the server refuses the tunnel: %w", err)
	}
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote {
		if e.Reason != "" {
			return failf(ExitRefused, "the server closed the connection: %s", e.Reason)
		}
		return failf(ExitRefused, "the server closed the connection")
	}
	if e, ok := errors.AsType[*quic.TransportError](err); ok && e.Remote {
		switch {
		case e.Code == quic.NoError:
			return failf(ExitUnreachable, "the server was stopped")
		case e.Code >= quic.CryptoErrorBase:
			return failf(ExitRefused, "the server refuses the handshake: %w", err)
		}
	}
	return failf(ExitUnreachable, "%w", err)
}
