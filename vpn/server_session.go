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
	offered []netip.Addr // replaced as a whole
	limit   int          // largest packet that the host was told of, in bytes; 0: none
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
	s.limitLocked(n, 0)
	s.pool.release(n.lease)
	if c := s.conns[n.conn]; c != nil && c.session == n {
		c.session = nil
		s.makeGuestLocked(c)
	}
}

// serve gives a client its addresses and routes, as its paths permit, until its end.
func (s *server) serve(n *serverSession, session *masque.Session) {
	defer session.Close()
	session.SetICMPWriter(s.writer.putPacket)
	session.SetHandler(&tunSink{w: s.writer, mtu: session.MTU})
	mtuChanged := make(chan struct{}, 1)
	n.conn.SetEventHandler(s.eventHandler(n, mtuChanged))
	ctx, cancel := context.WithTimeout(context.Background(), mtuTime)
	err := n.conn.WaitMTU(ctx)
	cancel()
	if err != nil && n.conn.Err() != nil {
		return
	}
	log := s.log.With("user", n.name)
	if err := s.offer(n, session); err != nil {
		log.Debug("client gone while it was set up", "error", err)
		return
	}
	log.Info("client up", "remote", n.remote, "addresses", n.offered, "mtu", session.MTU())
	for err = nil; err == nil; {
		select {
		case <-session.Done():
			err = session.Err()
		case <-n.conn.Done():
			err = n.conn.Err()
		case <-mtuChanged:
			err = s.offer(n, session)
		}
	}
	log.Info("client down", "remote", n.remote, "up_for", time.Since(n.since).Round(time.Second), "reason", err)
}

// offer gives a client the addresses and routes that its paths can carry now, and
// tells the host how large packets for it may be.
func (s *server) offer(n *serverSession, session *masque.Session) error {
	mtu := session.MTU()
	if mtu == 0 && n.offered != nil {
		return nil // no path carries anything just now: nothing to go by
	}
	addrs := []netip.Addr{n.lease.v4}
	if n.lease.v6.IsValid() && mtu >= minMTU {
		addrs = append(addrs, n.lease.v6)
	}
	before := n.offered
	if err := s.route(n, session, addrs, mtu); err != nil || slices.Equal(addrs, before) {
		return err
	}
	switch {
	case n.lease.v6.IsValid() && len(addrs) == 1:
		s.log.Warn("no IPv6 for a client: its paths carry less than that needs", "user", n.name, "remote", n.remote, "mtu", mtu)
	case before != nil:
		s.log.Info("IPv6 for a client again", "user", n.name, "remote", n.remote, "mtu", mtu)
	}
	return errors.Join(assign(session, addrs), advertise(session, addrs))
}

// route lets packets for the client in. It fails if the session was replaced
// meanwhile.
func (s *server) route(n *serverSession, session *masque.Session, addrs []netip.Addr, mtu int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sessions[n]; !ok {
		return errGone
	}
	if n.outlet == nil {
		n.session, n.outlet = session, &outlet{session: session}
	}
	if !slices.Equal(addrs, n.offered) {
		s.router.remove(n.outlet)
		s.router.add(n.outlet, addrs...)
		n.offered = addrs
	}
	if mtu >= s.mtu {
		mtu = 0
	}
	s.limitLocked(n, mtu)
	return nil
}

// limitLocked tells the host the largest packet for a client; 0: no limit.
func (s *server) limitLocked(n *serverSession, mtu int) {
	if mtu == n.limit {
		return
	}
	n.limit = mtu
	addrs := []netip.Addr{n.lease.v4}
	if n.lease.v6.IsValid() {
		addrs = append(addrs, n.lease.v6)
	}
	for _, a := range addrs {
		size := mtu
		if a.Is6() && size < minMTU {
			size = 0 // no such route, and no IPv6 for the client either
		}
		if err := s.sys.limitPackets(a, size); err != nil {
			s.log.Warn("cannot tell the host how large packets for a client may be", "user", n.name, "address", a, "mtu", mtu, "error", err)
		}
	}
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

// eventHandler logs the events of a client's paths, and tells of changes of the MTU.
// It is called on the connection's loop.
func (s *server) eventHandler(n *serverSession, mtuChanged chan<- struct{}) func(quic.Event) {
	log := s.log.With("user", n.name)
	return func(ev quic.Event) {
		switch ev.Kind {
		case quic.PathUp:
			log.Info("client's path up", "id", ev.Path)
		case quic.PathLost:
			log.Info("client's path lost", "id", ev.Path, "reason", ev.Reason)
		case quic.PathBack:
			log.Info("client's path back", "id", ev.Path)
		case quic.MTUChanged:
			select {
			case mtuChanged <- struct{}{}:
			default:
			}
		}
	}
}
