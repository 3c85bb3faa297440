// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// relayConfig is what happens to the datagrams between a client and a server.
type relayConfig struct {
	delay     time.Duration // one way; default 15 ms
	drop      float64       // fraction lost in each direction, never more than maxBurst in a row
	corrupt   float64       // fraction of which a bit is flipped, likewise
	dropFirst []int         // numbers of the client's datagrams, from 1, that are lost

	blackholeEvery, blackholeFor time.Duration // nothing passes at the end of each period

	rebindEvery time.Duration // the client's packets come from another port from then on,
	rebindAddr  bool          // and from another address
}

const (
	// The runner's links: 10 Mbit/s, a queue of 25 packets.
	relayRate  = 10e6
	relayQueue = 25 * 1500
	// maxBurst is how many datagrams in a row the runner's links drop or damage.
	maxBurst = 3
)

const up, down = 0, 1 // directions: to the server, to the client

const ect1, ect0 = 1, 2 // of the ECN field

// observed is what a relay has seen.
type observed struct {
	datagrams, bytes [2]int
	dropped          [2]int
	corrupted        int
	blackholed       int
	rebound          int // new client addresses from which the server was reached, and which it answered
	retries          int // Retry packets of the server
	withToken        int // Initial packets of the client with a token
	zeroRTT          int // 0-RTT packets of the client
	ecn              [2][4]int

	handshakeByClient bool // a Handshake packet of the client got through: its address is valid
	tooMuch           int  // bytes of the server beyond three times the client's before that
}

// relay passes datagrams between clients and a server over emulated links.
type relay struct {
	relayConfig
	server  netip.AddrPort
	front   *ecnConn // that the clients talk to
	links   [2]*quictest.Link
	started time.Time
	out     [2]chan relayed
	done    chan struct{}
	wg      sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	rng      *rand.Rand
	bursts   [2]int
	seen     observed
	bindings map[netip.AddrPort]*binding
	hosts    byte // of rebound addresses
}

// binding is what a NAT knows of a client.
type binding struct {
	client   netip.AddrPort
	conn     *ecnConn // that the server sees
	since    time.Time
	fresh    bool // rebound, and not answered yet
	previous []*ecnConn
}

// relayed is a datagram on its way.
type relayed struct {
	at   time.Time
	data []byte
	ecn  byte
	via  *ecnConn
	to   netip.AddrPort
}

// newRelay starts a relay to server.
func newRelay(t *testing.T, server netip.AddrPort, cfg relayConfig, seed uint64) *relay {
	t.Helper()
	if cfg.delay == 0 {
		cfg.delay = 15 * time.Millisecond
	}
	link := quictest.LinkConfig{Rate: relayRate, Delay: cfg.delay, QueueBytes: relayQueue}
	r := &relay{
		relayConfig: cfg, server: server, started: time.Now(), done: make(chan struct{}),
		rng:      rand.New(rand.NewPCG(seed, 0)),
		bindings: make(map[netip.AddrPort]*binding),
	}
	front, err := listenECN(netip.AddrPortFrom(server.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	r.front = front
	for d := range 2 {
		r.links[d] = quictest.NewLink(link)
		r.out[d] = make(chan relayed, 4096)
		r.wg.Go(func() { r.deliver(d) })
	}
	r.wg.Go(r.readClients)
	return r
}

func (r *relay) addr() netip.AddrPort { return r.front.LocalAddr().(*net.UDPAddr).AddrPort() }

// close ends the relay and returns what it has seen.
func (r *relay) close() observed {
	r.mu.Lock()
	r.closed = true
	r.front.Close()
	for _, b := range r.bindings {
		b.conn.Close()
		for _, c := range b.previous {
			c.Close()
		}
	}
	r.mu.Unlock()
	close(r.done)
	r.wg.Wait()
	return r.seen
}

func (r *relay) readClients() {
	buf := make([]byte, 1<<16)
	for {
		n, ecn, from, err := r.front.read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		if b := r.bindingOf(from); b != nil {
			r.pass(up, buf[:n], ecn, b.conn, r.server)
		}
		r.mu.Unlock()
	}
}

// bindingOf returns the binding of a client, a new one if it is time for that; nil after
// close.
func (r *relay) bindingOf(client netip.AddrPort) *binding {
	b := r.bindings[client]
	switch {
	case r.closed:
		return nil
	case b == nil:
		b = &binding{client: client}
		r.bindings[client] = b
	case r.rebindEvery == 0 || time.Since(b.since) < r.rebindEvery:
		return b
	default:
		b.previous = append(b.previous, b.conn)
		b.fresh = true
	}
	host := r.server.Addr()
	if b.fresh && r.rebindAddr {
		r.hosts++
		host = netip.AddrFrom4([4]byte{127, 0, 1, r.hosts})
	}
	conn, err := listenECN(netip.AddrPortFrom(host, 0))
	if err != nil {
		panic(err)
	}
	b.conn, b.since = conn, time.Now()
	r.wg.Go(func() { r.readServer(b, conn) })
	return b
}

// readServer takes what the server sends to a binding. What comes for an earlier one is lost.
func (r *relay) readServer(b *binding, conn *ecnConn) {
	buf := make([]byte, 1<<16)
	for {
		n, ecn, _, err := conn.read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		if b.conn == conn {
			if b.fresh {
				b.fresh = false
				r.seen.rebound++
			}
			r.pass(down, buf[:n], ecn, r.front, b.client)
		}
		r.mu.Unlock()
	}
}

// pass puts a datagram on the link of its direction. r.mu is held.
func (r *relay) pass(d int, data []byte, ecn byte, via *ecnConn, to netip.AddrPort) {
	s := &r.seen
	s.datagrams[d]++
	if d == down && !s.handshakeByClient {
		s.tooMuch = max(s.tooMuch, s.bytes[down]+len(data)-3*s.bytes[up])
	}
	s.ecn[d][ecn]++
	if d == down {
		s.bytes[d] += len(data)
		for _, p := range longPackets(data) {
			if p.typ == longRetry {
				s.retries++
			}
		}
	}
	now := time.Since(r.started)
	if r.blackholeEvery > 0 && now%r.blackholeEvery >= r.blackholeEvery-r.blackholeFor {
		s.blackholed++
		return
	}
	for _, n := range r.dropFirst {
		if d == up && n == s.datagrams[up] {
			s.dropped[d]++
			return
		}
	}
	hit := r.rng.Float64() < r.drop+r.corrupt && r.bursts[d] < maxBurst
	if !hit {
		r.bursts[d] = 0
	} else if r.bursts[d]++; r.drop > 0 {
		s.dropped[d]++
		return
	}
	at, drop := r.links[d].Admit(now, len(data)+28)
	if !drop {
		s.dropped[d]++
		return
	}
	if d == up {
		s.bytes[up] += len(data)
		r.noteClient(data)
	}
	m := relayed{at: r.started.Add(at), data: append([]byte(nil), data...), ecn: ecn, via: via, to: to}
	if hit {
		s.corrupted++
		m.data[r.rng.IntN(len(data))] ^= 1 << r.rng.IntN(8)
	}
	select {
	case r.out[d] <- m:
	default:
		s.dropped[d]++
	}
}

// noteClient notes what a datagram shows that gets to the server.
func (r *relay) noteClient(data []byte) {
	for _, p := range longPackets(data) {
		switch {
		case p.typ == longInitial && p.token:
			r.seen.withToken++
		case p.typ == longZeroRTT:
			r.seen.zeroRTT++
		case p.typ == longHandshake:
			r.seen.handshakeByClient = true
		}
	}
}

func (r *relay) deliver(d int) {
	for {
		select {
		case <-r.done:
			return
		case m := <-r.out[d]:
			select {
			case <-time.After(time.Until(m.at)):
			case <-r.done:
				return
			}
			m.via.write(m.data, m.ecn, m.to)
		}
	}
}
