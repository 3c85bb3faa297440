// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
)

// maxPerServer bounds the tokens, and the sessions, kept for one server.
const maxPerServer = 4

// A SessionStore keeps what servers gave a client for later connections: address
// validation tokens (RFC 9000 section 8.1.3) and TLS sessions. Each is used once, so that
// connections cannot be linked by them. A store may be shared by all connections that
// present the same client certificate and trust the same authorities; its methods may be
// called by any goroutine.
type SessionStore struct {
	mu      sync.Mutex
	max     int
	servers []storedServer // the one that was heard of last at the end
}

// serverKey says which server a token or session is for: nobody else gets it.
// R9000-8.1.3-3
type serverKey struct {
	name string // as certified
	addr netip.AddrPort
}

type storedServer struct {
	key      serverKey
	tokens   [][]byte // newest last
	sessions []storedSession
}

// NewSessionStore makes a store for up to so many servers; those not heard of for the
// longest time are forgotten first. Of each it keeps 4 tokens and 4 sessions at most.
func NewSessionStore(servers int) *SessionStore {
	return &SessionStore{max: max(servers, 1)}
}

// of returns what is known of a server, nil for nothing. The caller holds s.mu.
func (s *SessionStore) of(key serverKey) *storedServer {
	i := slices.IndexFunc(s.servers, func(e storedServer) bool { return e.key == key })
	if i < 0 {
		return nil
	}
	return &s.servers[i]
}

// touch is of for a server that has sent something. The caller holds s.mu.
func (s *SessionStore) touch(key serverKey) *storedServer {
	e := storedServer{key: key}
	if old := s.of(key); old != nil {
		e = *old
		s.servers = slices.DeleteFunc(s.servers, func(e storedServer) bool { return e.key == key })
	} else if len(s.servers) == s.max {
		s.servers = slices.Delete(s.servers, 0, 1)
	}
	s.servers = append(s.servers, e)
	return &s.servers[len(s.servers)-1]
}

// pushNewest adds v to what is kept of one server.
func pushNewest[T any](kept []T, v T) []T {
	if len(kept) == maxPerServer {
		kept = slices.Delete(kept, 0, 1)
	}
	return append(kept, v)
}

// takeNewest removes the newest of what is kept of one server, the zero value for none.
func takeNewest[T any](kept *[]T) (v T) {
	n := len(*kept)
	if n == 0 {
		return v
	}
	v = (*kept)[n-1]
	*kept = slices.Delete(*kept, n-1, n)
	return v
}

// putToken keeps a token, which is copied.
func (s *SessionStore) putToken(key serverKey, token []byte) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.touch(key)
	e.tokens = pushNewest(e.tokens, bytes.Clone(token))
}

// takeToken returns the newest token, which nobody else gets: R9000-8.1.3-4.
func (s *SessionStore) takeToken(key serverKey) []byte {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.of(key); e != nil {
		return takeNewest(&e.tokens)
	}
	return nil
}

// serverKey is the server that c, a client's connection, was opened to.
func (c *Conn) serverKey() serverKey {
	return serverKey{name: c.cfg.TLS.ServerName, addr: c.handshakeRemote}
}
