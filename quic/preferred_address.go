// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"slices"
)

// maxPreferredTries bounds the challenges of one validation: with the back-off more do not
// fit into its time.
const maxPreferredTries = 6

// preferredMove is the move of path 0 to the address that the server prefers (RFC 9000
// section 9.6): a client's own, or that of the client as a server sees it. Owned by the
// loop.
type preferredMove struct {
	// to is where the path will be; its remote (client) or the whole (server) is valid
	// while it is tried, and once it is used.
	to         tuple
	former     tuple // of the path before, once to is used
	moved      bool
	seq        uint64 // sequence number of the connection id that belongs to to; 0: none yet
	challenges [maxPreferredTries][8]byte
	tries      int
	due        bool
	sent       instant // time of the newest challenge
	end        instant // of the validation; unset when there is none

	// Of a server.
	answered bool // to is validated
	arrived  bool // something came to to that does not only probe
	room     int  // bytes that may be sent to to, if its remote is not that of the path
}

// preferredCIDSeq is the sequence number of the connection id of preferred_address
// (RFC 9000 section 5.1.1).
const preferredCIDSeq = 1

// makePreferredAddress makes the transport parameter of a server, nil for none.
func (c *Conn) makePreferredAddress() *preferredAddress {
	if len(c.cfg.PreferredAddrs) == 0 {
		return nil
	}
	id := randomCID()
	for !c.e.table.add(id, c) {
		id = randomCID()
	}
	s := c.ids[0]
	s.local = append(s.local, localCID{id: id, seq: preferredCIDSeq})
	s.nextLocal = preferredCIDSeq + 1
	c.byCID[id] = s
	a := &preferredAddress{connID: id[:], resetToken: c.e.resetKey.token(id[:])}
	for _, addr := range c.cfg.PreferredAddrs {
		if addr.Addr().Unmap().Is4() {
			a.ipv4 = addr
		} else {
			a.ipv6 = addr
		}
	}
	return a
}

// keepPreferredCID keeps the connection id that comes with the preferred address.
func (c *Conn) keepPreferredCID(a *preferredAddress) {
	s := c.ids[0] // RMP21-2.2-3
	s.remote = append(s.remote, remoteCID{id: makeConnID(a.connID), seq: preferredCIDSeq, token: a.resetToken, hasToken: true})
	s.largestRemote = preferredCIDSeq + 1
}

// tryPreferredAddress begins to validate the server's preferred address, of the family
// that is in use. // R9000-9.6.1-1
func (c *Conn) tryPreferredAddress(now instant) {
	s := c.pathID(0)
	if !c.isClient || c.peerParams.preferredAddress == nil || s == nil || s.path == nil {
		return
	}
	p := s.path
	to := c.peerParams.preferredAddress.ipv4
	if p.remote.Addr().Is6() {
		to = c.peerParams.preferredAddress.ipv6
	}
	if to.Port() == 0 || to.Addr().IsUnspecified() || to == p.remote {
		return
	}
	c.preferred = preferredMove{to: tuple{remote: to}, seq: preferredCIDSeq}
	c.validatePreferred(now, p)
}

// validatePreferred begins the validation of c.preferred.to.
func (c *Conn) validatePreferred(now instant, p *pathState) {
	c.preferred.due = true
	c.preferred.end = now.add(3 * max(p.loss.ptoDuration(), initialPTO))
}

// preferredTimeout is when preferredTimer has something to do.
func (c *Conn) preferredTimeout() instant {
	m := &c.preferred
	if m.end == 0 || m.due || m.tries == 0 || m.tries == maxPreferredTries || len(c.paths) == 0 {
		return m.end
	}
	return earliest(m.end, m.sent.add(c.paths[0].loss.ptoDuration()<<(m.tries-1)))
}

// preferredTimer repeats the challenge, or gives up: the address in use stays in use.
// R9000-9.6.1-2
func (c *Conn) preferredTimer(now instant) {
	switch t := c.preferredTimeout(); {
	case t == 0 || now < t:
	case now >= c.preferred.end:
		c.preferred = preferredMove{}
	default:
		c.preferred.due = true
	}
}

// preferredCID returns the position of the connection id that belongs to the preferred
// address, -1 for none. A server takes any that is not in use.
func (c *Conn) preferredCID(p *pathState) int {
	m, r := &c.preferred, p.ids.remote
	i := slices.IndexFunc(r, func(r remoteCID) bool { return r.seq == m.seq })
	if !c.isClient && i <= 0 && len(r) > 1 {
		i, m.seq = 1, r[1].seq
	}
	return i
}

// sendBeside sends a packet of 1200 bytes, without what build does not put into it, from
// and to the addresses of c.preferred. // R9000-9.5-1
func (c *Conn) sendBeside(now instant, p *pathState, build func()) bool {
	r, i := p.ids.remote, c.preferredCID(p)
	if i < 0 || !c.isClient && (i == 0 || !c.mayAnswerBeside(p)) {
		return false
	}
	to := c.preferred.to
	if c.isClient {
		to.sock, to.local = p.sock, p.local
	}
	// The packet takes the place of those that the path sends, for a moment.
	batch, blocked := p.batch, p.sockBlocked
	p.batch, p.sockBlocked = txBatch{}, false
	r[0], r[i] = r[i], r[0]
	ok := c.beginPacket(p, minInitialSize)
	r[0], r[i] = r[i], r[0]
	if ok {
		build()
		c.w.padTo(c.w.limit)
		c.endPacket(now, p, to, 0)
		to.sock.WriteBatch(p.batch.runs) // what the socket does not take is lost
	}
	p.batch.release()
	p.batch, p.sockBlocked = batch, blocked
	return ok
}

// sendPreferredChallenge sends only what probes, with the connection id that belongs to
// the preferred address. // R9000-9.6.2-1 R9000-9.6.2-2
func (c *Conn) sendPreferredChallenge(now instant, p *pathState) {
	m := &c.preferred
	if c.isClient && c.preferredCID(p) < 0 { // the server had it retired
		*m = preferredMove{}
		return
	}
	if m.tries == maxPreferredTries {
		m.due = false
		return
	}
	data := [8]byte(randomCID())
	if c.sendBeside(now, p, func() { c.w.appendPathChallenge(data) }) {
		m.challenges[m.tries] = data
		m.tries++
		m.due, m.sent = false, now
	}
}

// mayAnswerBeside says whether a server may send 1200 bytes to c.preferred.to, and counts
// them. // R9000-8-1
func (c *Conn) mayAnswerBeside(p *pathState) bool {
	m := &c.preferred
	if m.answered || m.to.remote == p.remote && p.validated {
		return true
	}
	if m.room < minInitialSize {
		return false
	}
	m.room -= minInitialSize
	return true
}

// sendPreferredResponse answers a client's PATH_CHALLENGE to our preferred address, once
// there is a connection id for it.
func (c *Conn) sendPreferredResponse(now instant, p *pathState) {
	p.responseDue = !c.sendBeside(now, p, func() { c.w.appendPathResponse(p.response) })
}

// preferredAnswered notes that data answers a challenge that went to c.preferred.to: a
// client moves path 0 there, a server if the client has.
func (c *Conn) preferredAnswered(now instant, data [8]byte) bool {
	m := &c.preferred
	s := c.pathID(0)
	if m.end == 0 || s == nil || s.path == nil || !slices.Contains(m.challenges[:m.tries], data) {
		return false
	}
	m.end, m.due, m.answered = 0, false, true
	if c.isClient { // R9000-9.6.1-3
		m.to.sock, m.to.local = s.path.sock, s.path.local
		c.movePreferred(now, s.path)
		s.path.probePings++ // the server moves when something arrives that does not only probe
	} else if m.arrived {
		c.movePreferred(now, s.path)
	}
	return true
}

// movePreferred moves path 0 to c.preferred.to, which is validated.
func (c *Conn) movePreferred(now instant, p *pathState) {
	m := &c.preferred
	m.former, m.moved = p.tuple, true
	if i := c.preferredCID(p); i > 0 {
		r := p.ids.remote
		r[1], r[i] = r[i], r[1]
		c.rotateRemoteCID(p.ids)
	}
	c.setTuple(p, m.to)
	p.loss.resetForNewAddress()
	p.mtu.init(p.sock.MTU(), p.remote.Addr().Is6())
	p.loss.setMaxDatagram(p.mtu.size)
	c.setPhase(now, p, evAddressChange, "preferred address of the server")
	c.validate(now, p)
}

// isServer says that the server of a client's connection may send on p from src: the
// address of p or, while path 0 moves, the other one.
func (c *Conn) isServer(p *pathState, src netip.AddrPort) bool {
	return src == p.remote || p.id == 0 && src.IsValid() && (src == c.preferred.to.remote || src == c.preferred.former.remote)
}

// sameEnd says that t and u have the same address of ours.
func (t *tuple) sameEnd(u *tuple) bool { return t.sock == u.sock && t.local == u.local }

// heardAtPreferred notes an authentic packet of size bytes on p that came over at, if at
// is the server's preferred address and p is not there yet, or the one that it has left.
// moves says that the packet does not only probe, and is the latest one. The path moves
// once something like that has come and the client has answered there. // R9000-9.6.2-2
func (c *Conn) heardAtPreferred(now instant, p *pathState, at tuple, size int, moves bool) bool {
	m := &c.preferred
	if p.id != 0 || c.localParams.preferredAddress == nil || at.sameEnd(&p.tuple) {
		return false
	}
	if m.moved {
		return at.sameEnd(&m.former)
	}
	if m.to != at || m.end == 0 && !m.answered {
		*m = preferredMove{to: at}
		c.validatePreferred(now, p)
	}
	m.room += 3 * size
	m.arrived = m.arrived || moves
	if m.arrived && m.answered {
		c.movePreferred(now, p)
	}
	return true
}
