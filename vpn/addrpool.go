// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"encoding/binary"
	"errors"
	"math/big"
	"net/netip"
	"sync"
)

var errPoolFull = errors.New("no free address inside the tunnel")

// addrPool hands out the addresses inside the tunnel. An IPv4 and an IPv6 address
// go together: they are at the same place in their prefixes. Place 1 is the
// server's. The n-th configured user owns place n+1, so that a user has the same
// addresses after a restart of the server too, without a file that could get lost.
// Others get the lowest place that no user owns, and only when there is none left,
// that of a user who is away.
type addrPool struct {
	v4, v6 netip.Prefix // v6 may be zero
	last   uint32       // highest place
	owned  uint32       // places 2 to 1+owned belong to users
	limit  int          // leases at the same time

	mu    sync.Mutex
	taken map[uint32]bool
}

// lease is the pair of addresses of one session.
type lease struct {
	place  uint32
	v4, v6 netip.Addr // v6 may be zero
}

// newAddrPool makes a pool; maxClients 0 means no limit of its own.
func newAddrPool(v4, v6 netip.Prefix, users, maxClients int) *addrPool {
	// The IPv4 network and broadcast addresses stay unused.
	p := &addrPool{v4: v4, v6: v6, last: 1<<(32-v4.Bits()) - 2, taken: map[uint32]bool{}}
	if v6.IsValid() && v6.Bits() > 96 {
		p.last = min(p.last, 1<<(128-v6.Bits())-1)
	}
	p.owned = min(uint32(users), p.last-1)
	p.limit = int(p.last - 1)
	if maxClients > 0 {
		p.limit = min(p.limit, maxClients)
	}
	return p
}

// server returns the server's own addresses with the length of the prefixes.
func (p *addrPool) server() (v4, v6 netip.Prefix) {
	v4 = netip.PrefixFrom(nthAddr(p.v4, 1), p.v4.Bits())
	if p.v6.IsValid() {
		v6 = netip.PrefixFrom(nthAddr(p.v6, 1), p.v6.Bits())
	}
	return v4, v6
}

// acquire leases a pair of addresses. user is the number of the configured user,
// -1 for one without a name.
func (p *addrPool) acquire(user int) (lease, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) >= p.limit {
		return lease{}, errPoolFull
	}
	place := p.choose(user)
	p.taken[place] = true
	l := lease{place: place, v4: nthAddr(p.v4, place)}
	if p.v6.IsValid() {
		l.v6 = nthAddr(p.v6, place)
	}
	return l, nil
}

// choose finds a free place; there is one.
func (p *addrPool) choose(user int) uint32 {
	if own := uint32(user) + 2; user >= 0 && own <= 1+p.owned && !p.taken[own] {
		return own
	}
	for place := p.owned + 2; place <= p.last; place++ {
		if !p.taken[place] {
			return place
		}
	}
	for place := p.owned + 1; place >= 2; place-- {
		if !p.taken[place] {
			return place
		}
	}
	panic("BUG: address pool has no free place below its limit")
}

// release gives a lease back.
func (p *addrPool) release(l lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken[l.place] {
		panic("BUG: lease released twice")
	}
	delete(p.taken, l.place)
}

// nthAddr is the n-th address of a prefix; the 0th is the network itself.
func nthAddr(p netip.Prefix, n uint32) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	sum := new(big.Int).Add(new(big.Int).SetBytes(b[:]), big.NewInt(int64(n)))
	sum.FillBytes(b[:])
	return netip.AddrFrom16(b)
}
