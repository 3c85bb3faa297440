// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

// Net is a simulated network: sockets joined by links. A packet takes the first
// link, in the order of AddLink, whose ends contain its source and its destination.
// There are no goroutines: a socket's reader sleeps until the next packet arrives.
// All methods are safe for concurrent use.
//
// In a synctest bubble, make the Net and its sockets inside the bubble. A simulation
// is repeatable, packet by packet, as long as no two goroutines send into one
// direction of a link at the same instant: give each host a link of its own.
type Net struct {
	epoch time.Time
	seed  uint64

	mu       sync.Mutex
	links    []*duplex
	sockets  map[netip.AddrPort]*Socket
	nextPort uint16
	nat      map[netip.AddrPort]netip.AddrPort // inside to outside
	unnat    map[netip.AddrPort]netip.AddrPort // outside to inside
	taps     []Tap
	free     [][]byte // storage of packets
	stats    NetStats
}

// duplex is a link in both directions.
type duplex struct {
	a, b   netip.Prefix // as given: the address part is that of the end itself
	ab, ba *Link
}

// Tap sees each packet that is sent, before its link, and may drop it. The
// addresses are those outside of NAT. It may change data, which is a copy, but not
// keep it. It runs on the sender's goroutine and may call the methods of the Net,
// except that sending in it must not go on forever.
type Tap func(from, to netip.AddrPort, data []byte) (drop bool)

// NetStats counts packets. Those lost in links are counted there.
type NetStats struct {
	Sent      uint64 // accepted from sockets and by Inject
	Tapped    uint64 // dropped by a tap
	Unwanted  uint64 // nobody listens at the destination, or NAT hides it
	Delivered uint64 // read from sockets
}

// NewNet returns a network without links. Networks of equal seed behave equally.
func NewNet(seed uint64) *Net {
	return &Net{
		epoch:    time.Now(),
		seed:     seed,
		sockets:  make(map[netip.AddrPort]*Socket),
		nextPort: 49152,
		nat:      make(map[netip.AddrPort]netip.AddrPort),
		unnat:    make(map[netip.AddrPort]netip.AddrPort),
	}
}

// AddLink joins a and b, each an address ("10.0.1.2") or a prefix, written with the
// address of the end itself ("10.0.1.2/24"): that is where a socket bound to the
// unspecified address sends from. Both directions get cfg, and seeds of their own.
// It panics when the text is malformed.
func (n *Net) AddLink(a, b string, cfg LinkConfig) (ab, ba *Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// The offsets of the links on the grid must differ.
	if 2*len(n.links)+2 > int(LinkTick) {
		panic("quictest: too many links")
	}
	link := func(direction int) *Link {
		cfg.Seed = n.seed*uint64(LinkTick) + uint64(2*len(n.links)+direction)
		return NewLink(cfg)
	}
	d := &duplex{a: mustParsePrefix(a), b: mustParsePrefix(b), ab: link(0), ba: link(1)}
	n.links = append(n.links, d)
	return d.ab, d.ba
}

func mustParsePrefix(s string) netip.Prefix {
	if strings.Contains(s, "/") {
		return netip.MustParsePrefix(s)
	}
	addr := netip.MustParseAddr(s)
	return netip.PrefixFrom(addr, addr.BitLen())
}

// Socket binds a socket. An unspecified address receives what no other socket at
// that port wants, and knows which address it came to; port 0 picks a free one. mtu
// is the largest IP packet of its interface, 0 for unlimited. It panics when the
// address is taken.
func (n *Net) Socket(addr netip.AddrPort, mtu int) *Socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	for addr.Port() == 0 {
		if free := netip.AddrPortFrom(addr.Addr(), n.nextPort); n.sockets[free] == nil {
			addr = free
		}
		n.nextPort++
	}
	if n.sockets[addr] != nil {
		panic(fmt.Sprintf("quictest: %v is taken", addr))
	}
	s := newSocket(n, addr, mtu)
	n.sockets[addr] = s
	return s
}

// Rebind puts inside behind a NAT that shows it as outside: packets from inside get
// outside as their source, and packets to outside reach inside. Former addresses of
// inside lead nowhere. Links are chosen by the address of inside.
func (n *Net) Rebind(inside, outside netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.unnat, n.nat[inside])
	n.nat[inside] = outside
	n.unnat[outside] = inside
}

// AddTap adds a tap behind those there are; the first that drops a packet decides.
func (n *Net) AddTap(t Tap) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(slices.Clip(n.taps), t)
}

// Inject sends a packet as if from had sent it; no socket is needed there, and no
// NAT or tap is passed. ecn is the ECN field.
func (n *Net) Inject(from, to netip.AddrPort, data []byte, ecn uint8) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	n.carry(from, from, to, n.copyOf(data), udpio.ECN(ecn))
}

// Stats returns the counters.
func (n *Net) Stats() NetStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Close closes all sockets.
func (n *Net) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sockets {
		s.closeLocked()
	}
}

// now is the time on the clock of the links.
func (n *Net) now() time.Duration { return time.Since(n.epoch) }

// packet is a UDP datagram on its way to a socket.
type packet struct {
	src, dst netip.AddrPort
	ecn      udpio.ECN
	data     []byte
}

// send takes a datagram from a socket.
func (n *Net) send(from, to netip.AddrPort, data []byte, ecn udpio.ECN) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := from
	if outside, ok := n.nat[from]; ok {
		seen = outside
	}
	inside, ok := n.inside(to)
	if !ok {
		n.stats.Sent++
		n.stats.Unwanted++
		return nil
	}
	if n.linkBetween(from.Addr(), inside.Addr()) == nil {
		return syscall.ENETUNREACH
	}
	n.stats.Sent++
	buf := n.copyOf(data)
	taps := n.taps
	if len(taps) > 0 {
		n.mu.Unlock()
		drop := slices.ContainsFunc(taps, func(t Tap) bool { return t(seen, to, buf) })
		n.mu.Lock()
		if drop {
			n.stats.Tapped++
			n.free = append(n.free, buf)
			return nil
		}
	}
	n.carry(from, seen, to, buf, ecn)
	return nil
}

// inside translates a destination; ok is false where NAT lets nothing through.
func (n *Net) inside(to netip.AddrPort) (_ netip.AddrPort, ok bool) {
	if inside, ok := n.unnat[to]; ok {
		return inside, true
	}
	_, hidden := n.nat[to]
	return to, !hidden
}

// carry puts a packet on the link between from and to. The receiver sees it come
// from seen. It takes buf.
func (n *Net) carry(from, seen, to netip.AddrPort, buf []byte, ecn udpio.ECN) {
	dst, ok := n.inside(to)
	link := n.linkBetween(from.Addr(), dst.Addr())
	if !ok || link == nil {
		n.stats.Unwanted++
		n.free = append(n.free, buf)
		return
	}
	at, ecnOut, drop := link.AdmitECN(n.now(), len(buf)+ipOverhead(dst.Addr()), uint8(ecn))
	if drop != NotDropped {
		n.free = append(n.free, buf)
		return
	}
	s := n.sockets[dst]
	if s == nil {
		s = n.sockets[netip.AddrPortFrom(unspecified(dst.Addr()), dst.Port())]
	}
	if s == nil {
		n.stats.Unwanted++
		n.free = append(n.free, buf)
		return
	}
	s.deliver(at, packet{src: seen, dst: dst, ecn: udpio.ECN(ecnOut), data: buf})
}

// linkBetween returns the direction of the first link that leads from src to dst.
func (n *Net) linkBetween(src, dst netip.Addr) *Link {
	for _, d := range n.links {
		switch {
		case d.a.Contains(src) && d.b.Contains(dst):
			return d.ab
		case d.b.Contains(src) && d.a.Contains(dst):
			return d.ba
		}
	}
	return nil
}

// sourceFor returns the near end of the first link that leads to dst.
func (n *Net) sourceFor(dst netip.AddrPort) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	inside, _ := n.inside(dst)
	for _, d := range n.links {
		switch {
		case d.b.Contains(inside.Addr()):
			return d.a.Addr(), true
		case d.a.Contains(inside.Addr()):
			return d.b.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func (n *Net) copyOf(data []byte) []byte {
	var buf []byte
	if last := len(n.free) - 1; last >= 0 {
		buf, n.free = n.free[last][:0], n.free[:last]
	}
	return append(buf, data...)
}

// ipOverhead is the size of the IP and UDP headers.
func ipOverhead(dst netip.Addr) int {
	if dst.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
