// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// acceptBacklog bounds connections whose handshake is done and that Accept has not taken.
	acceptBacklog = maxHandshakes // those that end at once fit
	// maxHandshakes bounds connections of clients that have not completed the handshake.
	maxHandshakes = 1024
)

var errTooManyHandshakes = errors.New("quic: too many handshakes")

// ErrEndpointClosed is returned by calls on a closed Endpoint.
var ErrEndpointClosed = errors.New("quic: endpoint closed")

// Endpoint owns UDP sockets and the connections that use them. Its methods may be
// called by any goroutine.
type Endpoint struct {
	cfg      *Config // of accepted connections; nil: none are accepted
	epoch    time.Time
	resetKey statelessResetKey
	tokens   addressTokens
	table    connTable
	acceptc  chan *Conn
	closec   chan struct{}

	mu          sync.Mutex
	sockets     []*endpointSocket
	conns       map[*Conn]struct{}
	handshakes  int // server connections before completion
	closed      bool
	limits      rateLimits
	usedTokens  replayFilter   // of NEW_TOKEN
	usedTickets replayFilter   // for 0-RTT
	wg          sync.WaitGroup // readers and loops
}

// NewEndpoint makes an endpoint without sockets. cfg is the configuration of
// connections from clients; with nil there are none.
func NewEndpoint(cfg *Config) *Endpoint {
	e := &Endpoint{
		epoch:   time.Now(),
		acceptc: make(chan *Conn, acceptBacklog),
		closec:  make(chan struct{}),
		conns:   make(map[*Conn]struct{}),
		limits:  newRateLimits(),
	}
	if cfg != nil {
		e.cfg = cfg.withDefaults()
	}
	if cfg != nil && cfg.StatelessResetKey != nil {
		e.resetKey = *cfg.StatelessResetKey
	} else {
		e.resetKey = newStatelessResetKey()
	}
	e.tokens = newAddressTokens(&e.resetKey)
	e.table.init()
	return e
}

// firstInstant is the epoch of an endpoint: not zero, which means "unset".
const firstInstant = instant(time.Second)

func (e *Endpoint) now() instant { return firstInstant.add(time.Since(e.epoch)) }

// timeAt is the time of day of an instant.
func (e *Endpoint) timeAt(t instant) time.Time { return e.epoch.Add(t.sub(firstInstant)) }

// AddSocket starts reading from s. The endpoint closes s when it is removed or
// the endpoint is closed.
func (e *Endpoint) AddSocket(s Socket) {
	es := &endpointSocket{Socket: s, e: e}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		s.Close()
		return
	}
	e.sockets = append(e.sockets, es)
	e.wg.Go(es.readLoop)
}

// RemoveSocket closes s. Paths that use it die.
func (e *Endpoint) RemoveSocket(s Socket) {
	e.mu.Lock()
	e.sockets = slices.DeleteFunc(e.sockets, func(es *endpointSocket) bool { return es.Socket == s })
	e.mu.Unlock()
	s.Close()
}

// has says that es has not been removed.
func (e *Endpoint) has(es *endpointSocket) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.sockets, es)
}

// socket finds the endpointSocket of s, or nil.
func (e *Endpoint) socket(s Socket) *endpointSocket {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, es := range e.sockets {
		if es.Socket == s {
			return es
		}
	}
	return nil
}

// Accept waits for the next connection of a client; its handshake is complete, unless
// it uses 0-RTT, which Config must allow.
func (e *Endpoint) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-e.acceptc:
		return c, nil
	case <-e.closec:
		return nil, ErrEndpointClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dial opens a connection to remote over s, which must have been added, and waits
// for the end of the handshake.
func (e *Endpoint) Dial(ctx context.Context, s Socket, remote netip.AddrPort, cfg *Config) (*Conn, error) {
	return e.dial(ctx, s, remote, cfg, false)
}

// DialEarly is Dial for 0-RTT: if Config.Sessions has a session with which the server
// takes it, DialEarly returns at once, and what is sent before Conn.HandshakeComplete can
// be replayed by an attacker. If the server then rejects it, all streams fail with
// Err0RTTRejected and can be opened anew; Conn.Used0RTT tells. Without such a session
// DialEarly is Dial.
func (e *Endpoint) DialEarly(ctx context.Context, s Socket, remote netip.AddrPort, cfg *Config) (*Conn, error) {
	return e.dial(ctx, s, remote, cfg, true)
}

func (e *Endpoint) dial(ctx context.Context, s Socket, remote netip.AddrPort, cfg *Config, early bool) (*Conn, error) {
	es := e.socket(s)
	if es == nil {
		return nil, net.ErrClosed
	}
	c := newClientConn(e, cfg.withDefaults(), es, netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()))
	c.zeroRTT.wanted = early
	if err := e.start(c); err != nil {
		return nil, err
	}
	select {
	case <-c.earlyC:
		return c, nil
	case <-c.handshakeDone:
		return c, nil
	case <-c.doneC:
		return nil, c.Err()
	case <-ctx.Done():
		c.abort(&ApplicationError{Reason: "cancelled"})
		return nil, ctx.Err()
	}
}

// start registers c and runs its loop.
func (e *Endpoint) start(c *Conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrEndpointClosed
	}
	if !c.isClient {
		if e.handshakes >= maxHandshakes {
			return errTooManyHandshakes
		}
	}
	if !e.table.add(c.ids[0].local[0].id, c) {
		return errors.New("quic: connection id collision")
	}
	if !c.isClient {
		e.handshakes++
		e.table.addInitial(c.initialDCID, c)
	}
	e.conns[c] = struct{}{}
	e.wg.Go(c.loop)
	return nil
}

func (e *Endpoint) pendingHandshakes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.handshakes
}

// handshakeEnded is called once on the loop of each server connection: when its
// handshake is complete (ok), or else when the loop ends.
func (e *Endpoint) handshakeEnded(c *Conn, ok bool) {
	e.mu.Lock()
	e.handshakes--
	e.mu.Unlock()
	if !ok {
		return
	}
	e.handOver(c)
}

// handOver has Accept return c, once. It is called on the loop of c.
func (e *Endpoint) handOver(c *Conn) {
	if c.handed {
		return
	}
	c.handed = true
	select {
	case e.acceptc <- c:
	default:
		c.startClose(c.turnTime, &TransportError{Code: ConnectionRefused, Reason: "accept backlog full"})
	}
}

func (e *Endpoint) forget(c *Conn) {
	e.mu.Lock()
	delete(e.conns, c)
	e.mu.Unlock()
}

// Close closes all connections with NO_ERROR and then the sockets. It does not
// wait for peers.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	var conns []*Conn
	for c := range e.conns {
		conns = append(conns, c)
	}
	sockets := e.sockets
	e.mu.Unlock()
	close(e.closec)
	for _, c := range conns {
		c.shutdown(&TransportError{Code: NoError, Reason: "endpoint closed"})
	}
	for _, c := range conns {
		<-c.loopDone
	}
	for _, es := range sockets {
		es.Close()
	}
	e.wg.Wait()
	return nil
}
