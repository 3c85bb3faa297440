// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"slices"
)

// maxPreferredTries bounds the challenges to the preferred address: with the back-off more
// do not fit into the time for its validation.
const maxPreferredTries = 6

// preferredMove is a client's move of path 0 to the address that its server prefers
// (RFC 9000 section 9.6). Owned by the loop.
type preferredMove struct {
	remote     netip.AddrPort // valid while it is tried, and once it is used
	former     netip.AddrPort // the server's address before, once remote is used
	challenges [maxPreferredTries][8]byte
	tries      int
	due        bool
	sent       instant // time of the newest challenge
	end        instant // of the validation; unset when there is none
}

// preferredCIDSeq is the sequence number of the connection id of preferred_address
// (RFC 9000 section 5.1.1).
const preferredCIDSeq = 1

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
	c.preferred = preferredMove{remote: to, due: true, end: now.add(3 * max(p.loss.ptoDuration(), initialPTO))}
}

// preferredTimeout is when tryPreferredAddress has something to do.
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

// sendPreferredChallenge sends only what probes, with the connection id that belongs to
// the preferred address. // R9000-9.6.2-1
func (c *Conn) sendPreferredChallenge(now instant, p *pathState) {
	m := &c.preferred
	r := p.ids.remote
	i := slices.IndexFunc(r, func(r remoteCID) bool { return r.seq == preferredCIDSeq })
	if i < 0 { // the server had it retired
		*m = preferredMove{}
		return
	}
	r[0], r[i] = r[i], r[0]
	ok := c.beginPacket(p, minInitialSize)
	r[0], r[i] = r[i], r[0]
	if !ok {
		return
	}
	data := [8]byte(randomCID())
	m.challenges[m.tries] = data
	m.tries++
	m.due, m.sent = false, now
	c.w.appendPathChallenge(data)
	c.w.padTo(c.w.limit)
	c.endPacket(now, p, tuple{sock: p.sock, remote: m.remote, local: p.local}, 0)
}

// preferredAnswered moves path 0 to the preferred address if data answers a challenge that
// went there. // R9000-9.6.1-3
func (c *Conn) preferredAnswered(now instant, data [8]byte) bool {
	m := &c.preferred
	s := c.pathID(0)
	if m.end == 0 || s == nil || s.path == nil || !slices.Contains(m.challenges[:m.tries], data) {
		return false
	}
	p := s.path
	m.end, m.due, m.former = 0, false, p.remote
	if i := slices.IndexFunc(s.remote, func(r remoteCID) bool { return r.seq == preferredCIDSeq }); i > 0 {
		s.remote[1], s.remote[i] = s.remote[i], s.remote[1]
		c.rotateRemoteCID(s)
	}
	c.setTuple(p, tuple{sock: p.sock, remote: m.remote, local: p.local})
	p.loss.resetForNewAddress()
	p.mtu.init(p.sock.MTU(), p.remote.Addr().Is6())
	p.loss.setMaxDatagram(p.mtu.size)
	c.setPhase(now, p, evAddressChange, "preferred address of the server")
	c.validate(now, p)
	p.probePings++ // the server moves when something arrives that does not only probe
	return true
}

// isServer says that the server of a client's connection may send on p from src: the
// address of p or, while path 0 moves, the other one.
func (c *Conn) isServer(p *pathState, src netip.AddrPort) bool {
	return src == p.remote || p.id == 0 && src.IsValid() && (src == c.preferred.remote || src == c.preferred.former)
}
