// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"time"
)

// What a TLS session carries for us, in the Extra field of tls.SessionState: the
// transport parameters that 0-RTT is sent by, and what makes a ticket good for 0-RTT once.

// ticketMark begins our entry, and names its version.
var ticketMark = []byte("mqvpn quic 1 ")

type ticketInfo struct {
	id     replayID
	issued time.Time
	params transportParams // remembered ones, of the server
}

// newTicketInfo describes a session that begins now.
func newTicketInfo(server *transportParams) ticketInfo {
	return ticketInfo{id: replayID(randomCID()), issued: time.Now(), params: server.remembered()}
}

func (t *ticketInfo) encode() []byte {
	b := append(bytes.Clone(ticketMark), t.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.issued.UnixNano()))
	return t.params.append(b)
}

// findTicketInfo reads our entry of Extra.
func findTicketInfo(extra [][]byte) (t ticketInfo, ok bool) {
	for _, b := range extra {
		b, ours := bytes.CutPrefix(b, ticketMark)
		if !ours || len(b) < len(t.id)+8 {
			continue
		}
		t.id = replayID(b)
		t.issued = issuedAt(b[len(t.id):])
		var err error
		t.params, err = parseTransportParams(b[len(t.id)+8:], true)
		return t, err == nil
	}
	return t, false
}

// useTicket says that a ticket may be used for 0-RTT: it was not before, by this endpoint.
func (e *Endpoint) useTicket(t ticketInfo) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.usedTickets.use(t.id, t.issued)
}

// storeSession keeps a session that the server offers for later connections.
func (c *Conn) storeSession(s *tls.SessionState) error {
	t := newTicketInfo(c.peerParams)
	s.Extra = append(s.Extra, t.encode())
	if c.ConnectionState().HelloRetryRequest {
		// The server will ask for another ClientHello again, and so reject 0-RTT. After
		// that crypto/tls of Go 1.26 sends PSK binders that do not hold.
		s.EarlyData = false
	}
	return c.tls.StoreSession(s)
}

// sendTicket offers the client a session for later connections.
func (c *Conn) sendTicket() error {
	t := newTicketInfo(&c.localParams)
	return c.tls.SendSessionTicket(tls.QUICSessionTicketOptions{EarlyData: c.cfg.AllowEarlyData, Extra: [][]byte{t.encode()}})
}

// tlsConfig is the configuration of crypto/tls, with our store of sessions.
func (c *Conn) tlsConfig() *tls.Config {
	if !c.isClient || c.cfg.Sessions == nil || c.cfg.TLS.ClientSessionCache != nil {
		return c.cfg.TLS
	}
	t := c.cfg.TLS.Clone()
	cache := &sessionCache{store: c.cfg.Sessions, key: c.serverKey(), now: t.Time}
	if cache.now == nil {
		cache.now = time.Now
	}
	t.ClientSessionCache = cache
	t.Time = func() time.Time {
		if c.complete {
			return cache.now()
		}
		return cache.now().Add(-cache.late)
	}
	return t
}

// sessionCache is the part of a SessionStore that crypto/tls sees: one server.
type sessionCache struct {
	store *SessionStore
	key   serverKey
	now   func() time.Time
	// late is how much older than it is crypto/tls would make the ticket that was taken:
	// it remembers the second in which a ticket came. Its clock is late by that until the
	// handshake is complete, because servers refuse 0-RTT with a ticket that is older at
	// the client than at the server (RFC 8446 section 8.3).
	late time.Duration
}

// storedSession is a TLS session, and when in its second it came.
type storedSession struct {
	*tls.ClientSessionState
	late time.Duration
}

func (s *sessionCache) Get(string) (*tls.ClientSessionState, bool) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	e := s.store.of(s.key)
	if e == nil {
		return nil, false
	}
	session := takeNewest(&e.sessions)
	s.late = session.late
	return session.ClientSessionState, session.ClientSessionState != nil
}

func (s *sessionCache) Put(_ string, cs *tls.ClientSessionState) {
	if cs == nil {
		return // what Get has returned is not there any more
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	e := s.store.touch(s.key)
	late := time.Duration(s.now().Nanosecond())
	e.sessions = pushNewest(e.sessions, storedSession{cs, late})
}
