// SPDX-License-Identifier: Apache-2.0

package quic

import "sync"

// localCIDLen is the length in bytes of every connection id that we issue.
const localCIDLen = 8

type localCIDKey [localCIDLen]byte

// connTable maps connection ids and stateless reset tokens to connections. It is
// shared by the socket readers and the connections.
type connTable struct {
	mu      sync.RWMutex
	byCID   map[localCIDKey]*Conn
	initial map[string]*Conn // by the Destination Connection ID that a client chose
	byToken map[[16]byte]*Conn
}

func (t *connTable) init() {
	t.byCID = make(map[localCIDKey]*Conn)
	t.initial = make(map[string]*Conn)
	t.byToken = make(map[[16]byte]*Conn)
}

// lookup finds the connection of a Destination Connection ID, or nil.
func (t *connTable) lookup(cid []byte, long bool) *Conn {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(cid) == localCIDLen {
		if c := t.byCID[localCIDKey(cid)]; c != nil {
			return c
		}
	}
	if long {
		return t.initial[string(cid)]
	}
	return nil
}

// lookupToken finds the connection whose peer announced the stateless reset token
// in the last 16 bytes of datagram, or nil. The map compares hashes first, so the
// time does not tell how much of a token was guessed right.
func (t *connTable) lookupToken(datagram []byte) *Conn {
	if len(datagram) < minStatelessResetLen {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byToken[[16]byte(datagram[len(datagram)-16:])]
}

// add registers a connection id of c. It returns false if the id is taken.
func (t *connTable) add(id localCIDKey, c *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byCID[id] != nil {
		return false
	}
	t.byCID[id] = c
	return true
}

func (t *connTable) addInitial(id []byte, c *Conn) {
	t.mu.Lock()
	t.initial[string(id)] = c
	t.mu.Unlock()
}

func (t *connTable) remove(id localCIDKey, c *Conn) {
	t.mu.Lock()
	if t.byCID[id] == c {
		delete(t.byCID, id)
	}
	t.mu.Unlock()
}

func (t *connTable) removeInitial(id []byte, c *Conn) {
	t.mu.Lock()
	if t.initial[string(id)] == c {
		delete(t.initial, string(id))
	}
	t.mu.Unlock()
}

func (t *connTable) addToken(token [16]byte, c *Conn) {
	t.mu.Lock()
	t.byToken[token] = c
	t.mu.Unlock()
}

func (t *connTable) removeToken(token [16]byte, c *Conn) {
	t.mu.Lock()
	if t.byToken[token] == c {
		delete(t.byToken, token)
	}
	t.mu.Unlock()
}
