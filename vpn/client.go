// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/qlog"
	"github.com/mqvpn/mqvpn/quic/sched"
)

const (
	// watchInterval is how often a client looks whether its server still answers.
	watchInterval = time.Second
	// silenceLimit is how long a server may leave packets unanswered on all paths
	// before the client tries a new connection beside the old one. The old one
	// stays: whichever answers first is used.
	silenceLimit = 3 * time.Second
)

// client is a running client. It keeps TUN device, routes and inner addresses over
// reconnects; endpoint, sockets and connection are new with each attempt.
type client struct {
	cfg   *Config
	log   *slog.Logger
	sys   clientSystem
	roots *x509.CertPool // nil: those of the system
	qlog  *qlog.Dir      // nil: none

	dev    tunDevice
	writer *tunWriter
	reader *tunReader
	router *router

	started time.Time
	wasUp   bool           // there was a tunnel: errors are no reason to exit any more
	inner   []netip.Prefix // addresses of the TUN device
	mtu     int            // of the TUN device
	// routeErr is what was logged of the latest error of routes.
	routeErr string

	edited chan struct{} // holds one: interfaces or priorities were changed at the control socket

	mu          sync.Mutex
	ifaces      []string                  // in order of preference; replaced, not changed
	removed     map[string]bool           // at the control socket
	priorities  map[string]sched.Priority // set there
	names       map[string]*serverName
	lastGood    candidate
	lastAttempt time.Time // when the latest attempt to connect began
	current     *tunnel   // nil while there is none
	silent      bool      // current does not get answers
	lastErr     error     // why there is no tunnel, or why the latest attempt failed
}

// RunClient runs a client until ctx ends, which is no error, or it fails.
func RunClient(ctx context.Context, cfg *Config, log *slog.Logger) error {
	sys, err := openClientSystem(cfg, log)
	if err != nil {
		return err
	}
	return newClient(cfg, log, sys, nil).run(ctx)
}

func newClient(cfg *Config, log *slog.Logger, sys clientSystem, roots *x509.CertPool) *client {
	return &client{
		cfg: cfg, log: log, sys: sys, roots: roots,
		router:  newRouter(),
		names:   map[string]*serverName{},
		removed: map[string]bool{},
		edited:  make(chan struct{}, 1),

		priorities: map[string]sched.Priority{},
		started:    time.Now(),
	}
}

func (c *client) run(ctx context.Context) (err error) {
	defer func() {
		if cerr := c.sys.close(); cerr != nil {
			c.log.Error("cannot undo all changes of the system", "error", cerr)
			err = errors.Join(err, cerr)
		}
	}()
	c.qlog = openQlog(c.log)
	defer func() { closeQlog(c.log, c.qlog) }()
	if c.ifaces, err = c.sys.interfaces(c.cfg.Paths); err != nil {
		return err
	}
	if c.dev, err = c.sys.createTUN(); err != nil {
		return err
	}
	c.reader, c.writer = newTUNReader(c.dev, c.router), newTUNWriter(c.dev, c.log)
	var pumps sync.WaitGroup
	stop := make(chan struct{})
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		cancel(nil)
		close(stop)
		c.dev.Close()
		pumps.Wait()
	}()
	control, err := startControl(c.cfg, c.log, c.control)
	if err != nil {
		return err
	}
	defer control.Close()
	pumps.Go(func() {
		c.reader.run()
		cancel(c.reader.err)
	})
	pumps.Go(func() { c.writer.run(stop) })
	if err := c.keepUp(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("interface %s has failed or was deleted: %w", c.dev.Name(), err)
	}
	return nil
}

// keepUp connects, serves, and connects again.
func (c *client) keepUp(ctx context.Context) error {
	defer func() {
		if c.wasUp {
			c.log.Info("down", "up_for", time.Since(c.started).Round(time.Second))
		}
	}()
	for {
		t, err := c.connectRepeatedly(ctx)
		for t != nil {
			var next *tunnel
			if err = c.setUp(t); err == nil {
				next, err = c.serve(ctx, t)
			}
			c.router.setDefault(nil)
			c.setCurrent(nil)
			t.close()
			t = next
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !c.cfg.Reconnect || !c.wasUp:
			return err
		}
		wait := c.retryIn(err)
		c.log.Warn("connection lost", "error", err, "retry_in", wait.Round(time.Millisecond))
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// retryIn is the time to wait after the loss of a tunnel: there is one attempt in each
// reconnect interval, so after a tunnel that lived longer the next one begins at once.
// When the server has closed the connection it knows why: two clients with one key
// would push each other out all the time.
func (c *client) retryIn(err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
	if exitCode(err) != ExitUnreachable {
		return c.cfg.ReconnectInterval
	}
	return max(0, c.cfg.ReconnectInterval-time.Since(c.lastAttempt))
}

// sleep reports false when ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// connectRepeatedly tries to connect, once in each reconnect interval. It returns
// an error when it is of no use to try again, and when ctx ends.
func (c *client) connectRepeatedly(ctx context.Context) (*tunnel, error) {
	for {
		start := time.Now()
		c.mu.Lock()
		c.lastAttempt = start
		c.mu.Unlock()
		t, err := c.connect(ctx)
		c.mu.Lock()
		c.lastErr = err
		c.mu.Unlock()
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !c.cfg.Reconnect || !c.wasUp && !isPassing(err) {
			return nil, err
		}
		wait := max(0, c.cfg.ReconnectInterval-time.Since(start))
		c.log.Warn("cannot connect", "error", err, "retry_in", wait.Round(time.Millisecond))
		if !sleep(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// isPassing reports whether another attempt may succeed by itself.
func isPassing(err error) bool {
	code := exitCode(err)
	return code == ExitUnreachable || code == ExitRefused
}

// setUp puts a new tunnel into service: addresses, routes, the other paths, packets.
func (c *client) setUp(t *tunnel) error {
	c.setCurrent(t) // before packets pass: who sees them finds the tunnel in the status
	c.router.setDefault(t.outlet)
	// Only now: a packet that follows the routes finds the way open.
	if err := c.configure(t); err != nil {
		return err
	}
	c.updatePaths(t)
	c.wasUp = true
	c.log.Info("up", "server", t.remote, "interface", c.dev.Name(), "addresses", c.inner, "mtu", c.mtu, "path", t.iface)
	return nil
}

func (c *client) setCurrent(t *tunnel) {
	c.mu.Lock()
	c.current, c.silent = t, false
	c.mu.Unlock()
}

func (c *client) setSilent(silent bool) {
	c.mu.Lock()
	c.silent = silent
	c.mu.Unlock()
}

// serve keeps a tunnel in service until it ends, with an error, or is replaced by
// next. While the server is silent a second connection is attempted.
func (c *client) serve(ctx context.Context, t *tunnel) (next *tunnel, err error) {
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	var quiet silence
	var attempt *rescue
	defer func() { attempt.stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.session.Done():
			return attempt.takeOver(ctx), t.endReason()
		case <-t.conn.Done():
			return attempt.takeOver(ctx), t.endReason()
		case next := <-attempt.result():
			attempt = nil
			if next != nil {
				return next, nil
			}
		case <-t.session.Changed():
			err = c.configure(t)
		case <-t.mtuChanged:
			err = c.configure(t)
		case ev := <-t.events:
			c.handleEvent(t, ev)
		case <-c.sys.changed():
			c.updatePaths(t)
			err = c.configure(t)
		case <-c.edited:
			c.updatePaths(t)
			err = c.configure(t)
		case <-watch.C:
			silent := quiet.update(time.Now(), t.conn.Stats().Paths)
			c.setSilent(silent)
			switch {
			case silent && attempt == nil && c.cfg.Reconnect:
				c.log.Warn("the server does not answer on any path; connecting anew", "server", t.remote)
				attempt = startRescue(ctx, c.connectRepeatedly)
			case !silent && attempt != nil:
				c.log.Info("the server answers again", "server", t.remote)
				attempt.stop()
				attempt = nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// silence notices that a server leaves packets unanswered.
type silence struct {
	since time.Time // when all paths began to wait; zero while they do not
}

// update is called every watchInterval and reports whether the server is silent: all
// paths have waited for an answer for silenceLimit. A path that has nothing in
// flight waits for nothing; one that never answered may be the path's fault.
func (s *silence) update(now time.Time, paths []quic.PathStats) bool {
	waiting := false
	for _, p := range paths {
		switch {
		case p.LastReceived == 0:
			continue
		case p.LastReceived < watchInterval, p.InFlight == 0 && p.Reason == "":
			s.since = time.Time{}
			return false
		}
		waiting = true
	}
	if waiting && s.since.IsZero() {
		s.since = now
	}
	return waiting && now.Sub(s.since) >= silenceLimit
}

// rescue is an attempt to connect beside a connection that is silent.
type rescue struct {
	cancel context.CancelFunc
	c      chan *tunnel
}

func startRescue(ctx context.Context, connect func(context.Context) (*tunnel, error)) *rescue {
	ctx, cancel := context.WithCancel(ctx)
	r := &rescue{cancel: cancel, c: make(chan *tunnel, 1)}
	go func() {
		t, _ := connect(ctx) // it has logged why it failed
		r.c <- t
	}()
	return r
}

// result receives the tunnel, or nil if there will be none. Without a rescue it
// blocks for ever.
func (r *rescue) result() <-chan *tunnel {
	if r == nil {
		return nil
	}
	return r.c
}

// takeOver waits for the tunnel when the old connection has ended: most likely
// because the server has replaced it by the new one.
func (r *rescue) takeOver(ctx context.Context) *tunnel {
	if r == nil {
		return nil
	}
	select {
	case t := <-r.c:
		r.c <- nil // for stop
		return t
	case <-ctx.Done():
		return nil
	}
}

// stop ends the attempt and waits for that.
func (r *rescue) stop() {
	if r == nil {
		return
	}
	r.cancel()
	if t := <-r.c; t != nil {
		t.close()
	}
}

// handleEvent logs what happened to a path, and gives up those that it replaces.
func (c *client) handleEvent(t *tunnel, ev quic.Event) {
	switch ev.Kind {
	case quic.PathUp:
		if ev.Path != 0 { // "up" says it
			c.log.Info("path up", "path", ev.Label, "id", ev.Path)
		}
		t.abandonOlder(ev)
		c.removeUnwanted(t) // which the last path that works could not be
	case quic.PathLost:
		c.log.Warn("path lost", "path", ev.Label, "id", ev.Path, "reason", ev.Reason)
	case quic.PathBack:
		c.log.Info("path back", "path", ev.Label, "id", ev.Path)
		c.removeUnwanted(t)
	}
}
