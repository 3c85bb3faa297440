// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// The network of the random operations: a link for each interface of the client, with
// everything that happens to packets on the way, and a translation of addresses.

// randomLink is the way between an interface of the client and the server.
type randomLink struct {
	label      string
	up, down   *quictest.Link // from and to the client
	dup, flip  float64        // fractions of the packets that are doubled and corrupted
	socket     *randomSocket  // of the client, closed while the interface is away
	hole       bool
	interfaces int // that there were
}

// randomSocket is a socket of either end. WriteBatch is called by the one goroutine
// that runs everything.
type randomSocket struct {
	n      *randomNet
	link   *randomLink    // nil: the server's
	addr   netip.AddrPort // as bound
	public netip.AddrPort // as the server sees it
	mtu    int
	refuse error // of the next WriteBatch
	closed bool

	mu       sync.Mutex
	writable chan struct{} // closed when a full socket can be written again; nil: it is not full
}

// randomPacket is a datagram on its way.
type randomPacket struct {
	to   *randomSocket
	from netip.AddrPort
	data []byte
	ecn  udpio.ECN
}

type randomNet struct {
	rng      *rand.Rand
	now      func() instant
	logf     func(format string, args ...any)
	links    []*randomLink
	server   *randomSocket
	byPublic map[netip.AddrPort]*randomSocket
	nextAddr uint16
	flying   quictest.Arrivals[randomPacket]
	first    []byte // the first datagram of the client
	sent     int    // datagrams, by both ends
	faults   bool   // packets may have been lost, or have gone to a wrong address
	trace    uint64 // of all datagrams: equal seeds give equal ones
}

func newRandomNet(rng *rand.Rand, now func() instant, logf func(string, ...any)) *randomNet {
	n := &randomNet{rng: rng, now: now, logf: logf, byPublic: make(map[netip.AddrPort]*randomSocket)}
	n.server = &randomSocket{n: n, addr: serverAddr, public: serverAddr, mtu: 1500}
	return n
}

// addLink adds an interface of the client.
func (n *randomNet) addLink(label string) *randomLink {
	seed := 16 * uint64(len(n.links)+1) // distinct offsets on the grid of delivery times
	cfg := quictest.LinkConfig{Delay: time.Duration(1+n.rng.IntN(60)) * time.Millisecond, Seed: seed}
	if n.rng.IntN(2) == 0 {
		cfg.Rate = 1e6 << n.rng.IntN(8)
		cfg.QueueBytes = 20_000 << n.rng.IntN(4)
	}
	l := &randomLink{label: label, up: quictest.NewLink(cfg)}
	cfg.Seed += 8
	l.down = quictest.NewLink(cfg)
	n.links = append(n.links, l)
	n.newSocket(l)
	return l
}

// newSocket gives l another address.
func (n *randomNet) newSocket(l *randomLink) *randomSocket {
	l.interfaces++
	s := &randomSocket{n: n, link: l, mtu: 1500}
	s.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(len(n.links)), byte(l.interfaces), 2}), 1000)
	l.socket = s
	n.rebind(s, true)
	return s
}

// rebind gives s another public address, of which address or only the port differs.
func (n *randomNet) rebind(s *randomSocket, address bool) {
	n.nextAddr++
	host := s.public.Addr()
	if address || !host.IsValid() {
		host = netip.AddrFrom4([4]byte{198, 18, byte(n.nextAddr >> 8), byte(n.nextAddr)})
	}
	delete(n.byPublic, s.public)
	s.public = netip.AddrPortFrom(host, 2000+n.nextAddr)
	n.byPublic[s.public] = s
}

// close ends s: nobody sends from it, and nothing gets there any more.
func (n *randomNet) close(s *randomSocket) {
	s.Close()
	delete(n.byPublic, s.public)
}

// change applies f to both directions of l.
func (l *randomLink) change(f func(cfg *quictest.LinkConfig)) {
	for _, d := range []*quictest.Link{l.up, l.down} {
		cfg := d.Config()
		f(&cfg)
		d.SetConfig(cfg)
	}
}

func (l *randomLink) setHole(on bool) {
	l.hole = on
	l.up.SetBlackhole(on)
	l.down.SetBlackhole(on)
}

// heal makes l work, except for what its application does.
func (l *randomLink) heal() {
	l.setHole(false)
	l.dup, l.flip = 0, 0
	l.change(func(cfg *quictest.LinkConfig) {
		cfg.Loss, cfg.LossBurst, cfg.Jitter, cfg.Reorder, cfg.MTU = 0, 0, 0, false, 0
		cfg.Rate = max(cfg.Rate, 4e6)
		if cfg.Rate == 4e6 {
			cfg.QueueBytes = 100_000
		}
	})
	l.socket.refuse = nil
	l.socket.setFull(false)
}

func (s *randomSocket) WriteBatch(runs []udpio.Run) (int, error) {
	for i := range runs {
		r := &runs[i]
		r.Check()
		switch {
		case s.closed:
			return i, net.ErrClosed
		case s.isFull():
			return i, udpio.ErrWouldBlock
		case s.refuse != nil:
			return i, s.refuse
		case r.SegSize+28 > s.mtu:
			return i, udpio.ErrMessageTooLong
		}
		for data := r.Data; len(data) > 0; {
			d := data[:min(r.SegSize, len(data))]
			data = data[len(d):]
			s.n.send(s, r.Dst, d, r.ECN)
		}
	}
	return len(runs), nil
}

// send puts a datagram on its way.
func (n *randomNet) send(from *randomSocket, to netip.AddrPort, d []byte, ecn udpio.ECN) {
	n.sent++
	if n.first == nil {
		n.first = bytes.Clone(d)
	}
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64(nil, n.trace^uint64(n.now())))
	h.Write(d)
	n.trace = h.Sum64()

	dst, link := n.server, from.link
	if link == nil {
		if dst = n.byPublic[to]; dst == nil {
			n.logf("  %d bytes to %v, which is nobody's", len(d), to)
			return // an address that nobody has any more
		}
		link = dst.link
	} else if to != n.server.public {
		return
	}
	dir := link.up
	if dst != n.server {
		dir = link.down
	}
	copies := 1
	if n.rng.Float64() < link.dup {
		copies += 1 + n.rng.IntN(2)
	}
	for range copies {
		at, ecn, drop := dir.AdmitECN(n.now().since(), len(d)+28, uint8(ecn))
		n.logf("  %d bytes from %v to %v: %v", len(d), from.public, to, drop)
		if drop != quictest.NotDropped {
			continue
		}
		b := bytes.Clone(d)
		if n.rng.Float64() < link.flip {
			b[n.rng.IntN(len(b))] ^= 1 << n.rng.IntN(8)
		}
		if copies > 1 && n.rng.IntN(4) == 0 { // a copy that comes much later
			at += time.Duration(n.rng.IntN(3000)) * time.Millisecond
		}
		n.flying.Push(at, randomPacket{to: dst, from: from.public, data: b, ecn: udpio.ECN(ecn)})
	}
}

func (s *randomSocket) isFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writable != nil
}

func (s *randomSocket) setFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case full == (s.writable != nil):
	case full:
		s.writable = make(chan struct{})
	default:
		close(s.writable)
		s.writable = nil
	}
}

func (s *randomSocket) WaitWritable() error {
	s.mu.Lock()
	wait := s.writable
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return nil
}

func (s *randomSocket) Close() error {
	s.closed = true
	s.setFull(false)
	return nil
}

func (s *randomSocket) LocalAddr() netip.AddrPort { return s.addr }
func (s *randomSocket) Seed() [32]byte            { return testSeed(s.addr) }
func (s *randomSocket) MTU() int                  { return s.mtu }

// ReadBatch is not used: packets are delivered when they arrive.
func (s *randomSocket) ReadBatch([]udpio.Received) (int, error) { return 0, net.ErrClosed }
