// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"net/netip"
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
// lost its connection. The shared key may be used by many at once.
func (s *server) admit(token string, conn *quic.Conn) (*serverSession, error) {
	if token == "" {
		return nil, errNoKey // answered as a web server would
	}
	id, ok := s.auth.find(token)
	remote := remoteOf(conn)
	if !ok {
		s.logRefusal(remote)
		return nil, errWrongKey
	}
	n := &serverSession{identity: id, conn: conn, remote: remote, since: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byUser[id.number]; old != nil {
		s.log.Info("client replaced by a newer connection of the same user", "user", id.name, "old", old.remote, "new", remote)
		s.removeLocked(old)
		old.end("replaced by a newer connection of the same user", conn)
	}
	var err error
	if n.lease, err = s.pool.acquire(id.number); err != nil {
		s.log.Warn("client refused: no free address, see --subnet and --max-clients", "user", id.name, "remote", remote)
		return nil, errNoPlace
	}
	s.sessions[n] = struct{}{}
	if id.number >= 0 {
		s.byUser[id.number] = n
	}
	return n, nil
}

// logRefusal logs wrong keys, however many there are, once in a while.
func (s *server) logRefusal(remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals++
	if now := time.Now(); now.Sub(s.refusalLog) >= refusalLogInterval {
		s.log.Warn("client refused: wrong key", "remote", remote, "refused", s.refusals-s.refusalsOld)
		s.refusalLog, s.refusalsOld = now, s.refusals
	}
}

// end closes a session whose place somebody else has taken over conn.
func (n *serverSession) end(reason string, conn *quic.Conn) {
	if n.conn != conn {
		n.conn.CloseWithError(uint64(http3.ErrNoError), reason)
	} else if n.session != nil {
		n.session.Close()
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
