// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

// mtuTime bounds the wait for a client's path to show what it carries, which decides
// whether it is offered IPv6.
const mtuTime = 3 * time.Second

var (
	errNoKey    = errors.New("no key")
	errWrongKey = &masque.RefusedError{Status: 403}
	errGone     = errors.New("connection has ended")
	errNoPlace  = &masque.RefusedError{Status: 503}
)

// serverSession is one client.
type serverSession struct {
	identity
	lease  lease
	conn   *quic.Conn
	remote netip.AddrPort // at the start
	since  time.Time

	// Set when the tunnel is open, under server.mu:
	session *masque.Session
	outlet  *outlet
}

// handle answers one request; for a tunnel it returns when that has ended.
func (s *server) handle(req *http3.Request, st *http3.RequestStream) {
	var admitted *serverSession
	m := masque.Server{Authorize: func(_ *http3.Request, token string) (err error) {
		admitted, err = s.admit(token, st.Conn())
		return err
	}}
	session, err := m.Accept(req, st)
	if admitted != nil {
		defer s.remove(admitted)
	}
	if err == nil {
		s.serve(admitted, session)
	}
}

// admit gives the user with this key a place. A user has one session: the newest
// takes the place of an older one, which is most often the same device after it
// lost its connection. So does the newest on a connection. The shared key may be
// used by many at once: whether two of them are the same device is not known.
func (s *server) admit(token string, conn *quic.Conn) (*serverSession, error) {
	if token == "" {
		return nil, errNoKey // answered as a web server would
	}
	id, ok := s.auth.find(token)
	remote := remoteOf(conn)
	if !ok {
		s.countRefusal(remote)
		return nil, errWrongKey
	}
	n := &serverSession{identity: id, conn: conn, remote: remote, since: time.Now()}
	old, err := s.enter(n)
	for _, o := range old {
		s.log.Info("client replaced by a newer connection of the same user", "user", o.name, "old", o.remote, "new", remote)
		s.end(o, "replaced by a newer connection of the same user", conn)
	}
	if err != nil {
		s.log.Warn("client refused: no free address, see --subnet and --max-clients", "user", id.name, "remote", remote)
		return nil, errNoPlace
	}
	return n, nil
}

// enter gives n a place. It returns the sessions that had to leave.
func (s *server) enter(n *serverSession) (old []*serverSession, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[n.conn]
	if c == nil {
		return nil, errGone
	}
	for _, o := range []*serverSession{s.byUser[n.number], c.session} {
		if o != nil && !slices.Contains(old, o) {
			old = append(old, o)
			s.removeLocked(o)
		}
	}
	if n.lease, err = s.pool.acquire(n.number); err != nil {
		return old, err
	}
	s.sessions[n] = struct{}{}
	if n.number >= 0 {
		s.byUser[n.number] = n
	}
	c.session = n
	s.hasTunnelLocked(c)
	return old, nil
}

// countRefusal logs wrong keys, however many there are, once in a while.
func (s *server) countRefusal(remote netip.AddrPort) {
	s.mu.Lock()
	s.refusals++
	now, more := time.Now(), s.refusals-s.refusalsOld
	due := now.Sub(s.refusalLog) >= refusalLogInterval
	if due {
		s.refusalLog, s.refusalsOld = now, s.refusals
	}
	s.mu.Unlock()
	if due {
		s.log.Warn("client refused: wrong key", "remote", remote, "refused", more)
	}
}

// end closes a session whose place somebody else has taken over conn.
func (s *server) end(n *serverSession, reason string, conn *quic.Conn) {
	if n.conn != conn {
		n.conn.CloseWithError(uint64(http3.ErrNoError), reason)
		return
	}
	s.mu.Lock()
	session := n.session
	s.mu.Unlock()
	if session != nil {
		session.Close()
	}
}

// remove gives the place of a session back.
func (s *server) remove(n *serverSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(n)
}

func (s *server) removeLocked(n *serverSession) {
	if _, ok := s.sessions[n]; !ok {
		return // replaced before
	}
	delete(s.sessions, n)
	if s.byUser[n.number] == n {
		delete(s.byUser, n.number)
	}
	if n.outlet != nil {
		s.router.remove(n.outlet)
	}
	s.pool.release(n.lease)
	if c := s.conns[n.conn]; c != nil && c.session == n {
		c.session = nil
		s.makeGuestLocked(c)
	}
}

// serve gives a client its addresses and routes and waits for its end.
func (s *server) serve(n *serverSession, session *masque.Session) {
	defer session.Close()
	session.SetICMPWriter(s.writer.putPacket)
	session.SetHandler(&tunSink{w: s.writer, mtu: session.MTU})
	ctx, cancel := context.WithTimeout(context.Background(), mtuTime)
	err := n.conn.WaitMTU(ctx)
	cancel()
	if err != nil && n.conn.Err() != nil {
		return
	}
	addrs := []netip.Addr{n.lease.v4}
	if n.lease.v6.IsValid() {
		if mtu := session.MTU(); mtu >= minMTU {
			addrs = append(addrs, n.lease.v6)
		} else {
			s.log.Warn("no IPv6 for a client: its path carries less than that needs", "user", n.name, "remote", n.remote, "mtu", mtu)
		}
	}
	if !s.route(n, session, addrs) {
		return
	}
	log := s.log.With("user", n.name)
	n.conn.SetEventHandler(s.pathLogger(n))
	if err := errors.Join(assign(session, addrs), advertise(session, addrs)); err != nil {
		log.Debug("client gone while it was set up", "error", err)
		return
	}
	log.Info("client up", "remote", n.remote, "addresses", addrs, "mtu", session.MTU())
	select {
	case <-session.Done():
		err = session.Err()
	case <-n.conn.Done():
		err = n.conn.Err()
	}
	log.Info("client down", "remote", n.remote, "up_for", time.Since(n.since).Round(time.Second), "reason", err)
}

// route lets packets for the client in. It reports false if the session was
// replaced meanwhile.
func (s *server) route(n *serverSession, session *masque.Session, addrs []netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sessions[n]; !ok {
		return false
	}
	n.session, n.outlet = session, &outlet{session: session}
	s.router.add(n.outlet, addrs...)
	return true
}

func assign(session *masque.Session, addrs []netip.Addr) error {
	var prefixes []netip.Prefix
	for _, a := range addrs {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return session.AssignAddresses(prefixes)
}

// advertise offers a way to everywhere.
func advertise(session *masque.Session, addrs []netip.Addr) error {
	var routes []masque.Route
	for _, a := range addrs {
		everything := netip.PrefixFrom(a, 0).Masked()
		routes = append(routes, masque.PrefixRoute(everything))
	}
	return session.AdvertiseRoutes(routes)
}

// pathLogger logs the events of a client's paths. It is called on the connection's
// loop; slog's handlers write without waiting for anything but the log itself.
func (s *server) pathLogger(n *serverSession) func(quic.Event) {
	log := s.log.With("user", n.name)
	return func(ev quic.Event) {
		switch ev.Kind {
		case quic.PathUp:
			log.Info("client's path up", "id", ev.Path)
		case quic.PathLost:
			log.Info("client's path lost", "id", ev.Path, "reason", ev.Reason)
		case quic.PathBack:
			log.Info("client's path back", "id", ev.Path)
		}
	}
}
