// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"runtime/debug"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

const (
	// guestTime is how long a connection may stay without a tunnel, from the end of
	// its handshake or of its last tunnel: a web client that looks around, or somebody
	// who holds connections to use the server up.
	guestTime = 10 * time.Second
	// maxGuests bounds such connections.
	maxGuests = 1024

	// What one client may make the server hold. Packets travel in datagrams; streams
	// carry requests and a few capsules.
	serverUniStreams   = 8
	serverStreamWindow = 64 << 10
	serverConnWindow   = 256 << 10

	// When tidyChanges connections have begun or ended, and for tidyAfter no other has,
	// the memory that handshakes, or a flood, needed for a moment goes back to the host:
	// the garbage collector would keep about as much as is in use.
	tidyChanges = 32
	tidyAfter   = 5 * time.Second
)

// serverConn is a connection of a client: a guest until it has a tunnel.
type serverConn struct {
	*quic.Conn
	guest   *time.Timer    // closes it; nil while it has a tunnel
	session *serverSession // its tunnel; a connection has one at a time
}

// welcome takes a new connection in as a guest. It reports false, and closes it,
// when there are too many.
func (s *server) welcome(conn *quic.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &serverConn{Conn: conn}
	if !s.makeGuestLocked(c) {
		return false
	}
	s.conns[conn] = c
	s.connsChangedLocked()
	return true
}

// connsChangedLocked is called when a connection begins or ends.
func (s *server) connsChangedLocked() {
	if s.changes++; s.changes < tidyChanges {
		return
	}
	if s.tidy == nil {
		s.tidy = time.AfterFunc(tidyAfter, s.tidyUp)
	} else {
		s.tidy.Reset(tidyAfter)
	}
}

func (s *server) tidyUp() {
	s.mu.Lock()
	s.changes = 0
	s.mu.Unlock()
	debug.FreeOSMemory()
}

// makeGuestLocked starts the time that a connection may stay without a tunnel.
func (s *server) makeGuestLocked(c *serverConn) bool {
	if s.guests >= maxGuests {
		c.CloseWithError(uint64(http3.ErrExcessiveLoad), "too many connections")
		return false
	}
	s.guests++
	c.SetKeepAlive(0)
	c.guest = time.AfterFunc(guestTime, func() {
		s.mu.Lock()
		idle := c.guest != nil
		s.mu.Unlock()
		if idle {
			c.CloseWithError(uint64(http3.ErrNoError), "no tunnel in use")
		}
	})
	return true
}

// hasTunnelLocked ends the time of a guest.
func (s *server) hasTunnelLocked(c *serverConn) {
	if c.guest != nil {
		c.guest.Stop()
		c.guest = nil
		s.guests--
	}
	c.SetKeepAlive(maxKeepAlive)
}

// farewell forgets a connection that has ended.
func (s *server) farewell(conn *quic.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[conn]
	delete(s.conns, conn)
	s.connsChangedLocked()
	if c.guest != nil {
		c.guest.Stop()
		c.guest = nil
		s.guests--
	}
}
