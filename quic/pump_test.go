// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// A pump drives the two ends of a connection by hand: no goroutines, no sockets of
// the kernel, and a clock that moves one pumpTick at a time. What it measures is the
// work of the connections alone, and nothing in it allocates once it is warm.
type pump struct {
	now            instant
	client, server *pumpEnd
}

const (
	pumpTick  = time.Millisecond
	pumpSlots = 256 // runs under way in one direction of a path
)

// pumpEnd is one end: a connection without its loop, with a socket per path.
type pumpEnd struct {
	e       *Endpoint
	c       *Conn
	sockets []*endpointSocket
	ms      []udpio.Received // as of a socket's reader
	touched []*Conn
	sink    pumpSink
	load    *pumpLoad // sent at each tick; nil: nothing
	closes  bool      // the connection may end
	ended   bool
	busy    time.Duration // CPU time of all that follows from step
}

// pumpSink counts the datagrams that are received.
type pumpSink struct{ count, bytes, flushes int }

func (s *pumpSink) HandleDatagram(b []byte) { s.count++; s.bytes += len(b) }
func (s *pumpSink) FlushDatagrams()         { s.flushes++ }

// pumpSocket hands each run over as one message, as GSO and GRO do. What is sent
// arrives at the peer after delay.
type pumpSocket struct {
	p           *pump
	addr        netip.AddrPort
	peer        *pumpSocket
	delay       time.Duration
	slots       [pumpSlots]udpio.Received
	at          [pumpSlots]instant
	first, next int
}

// newPumpSocket returns a socket in which any slot has room for any run.
func newPumpSocket(p *pump, addr netip.AddrPort) *pumpSocket {
	s := &pumpSocket{p: p, addr: addr}
	room := make([]byte, pumpSlots*udpio.MaxRunBytes)
	for i := range s.slots {
		s.slots[i].Buf, room = room[:0:udpio.MaxRunBytes], room[udpio.MaxRunBytes:]
	}
	return s
}

func (s *pumpSocket) WriteBatch(runs []udpio.Run) (int, error) {
	for i := range runs {
		s.peer.push(s.p.now.add(s.delay), s.addr, &runs[i])
	}
	return len(runs), nil
}

func (s *pumpSocket) push(at instant, from netip.AddrPort, r *udpio.Run) {
	r.Check()
	if s.next-s.first == pumpSlots {
		panic("pump: more runs under way than there are slots")
	}
	i := s.next % pumpSlots
	m := &s.slots[i]
	m.Buf = append(m.Buf[:0], r.Data...)
	m.N, m.SegSize, m.Src, m.Dst, m.ECN = len(r.Data), r.SegSize, from, s.addr.Addr(), r.ECN
	s.at[i] = at
	s.next++
}

// ReadBatch does not wait: it returns what has arrived.
func (s *pumpSocket) ReadBatch(ms []udpio.Received) (n int, err error) {
	for ; n < len(ms) && s.first < s.next && s.at[s.first%pumpSlots] <= s.p.now; n++ {
		m := &s.slots[s.first%pumpSlots]
		buf := ms[n].Buf
		copy(buf, m.Buf)
		ms[n] = *m
		ms[n].Buf = buf
		s.first++
	}
	return n, nil
}

func (s *pumpSocket) WaitWritable() error       { return nil }
func (s *pumpSocket) LocalAddr() netip.AddrPort { return s.addr }
func (s *pumpSocket) Seed() [32]byte            { return testSeed(s.addr) }
func (s *pumpSocket) MTU() int                  { return 1500 }
func (s *pumpSocket) Close() error              { return nil }

func newPumpEnd(p *pump, cfg *Config) *pumpEnd {
	end := &pumpEnd{e: NewEndpoint(cfg), ms: make([]udpio.Received, readBatchSize)}
	for i := range end.ms {
		end.ms[i].Buf = make([]byte, rxChunkSize)
	}
	return end
}

// newPump returns a connection with the given number of paths, ready for datagrams
// of the size that they carry.
func newPump(t testing.TB, paths int) *pump { return newPumpWith(t, paths, nil) }

// newPumpWith is newPump with another configuration of both ends.
func newPumpWith(t testing.TB, paths int, change func(*Config)) *pump {
	t.Helper()
	cert, pool := quictest.Cert("server.test")
	cfg := &Config{Datagrams: true, TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: "server.test",
		NextProtos: []string{"test"}, MinVersion: tls.VersionTLS13,
	}}
	if change != nil {
		change(cfg)
	}
	p := &pump{}
	p.client, p.server = newPumpEnd(p, nil), newPumpEnd(p, cfg)
	for i := range paths {
		up := newPumpSocket(p, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 2}), 1000))
		down := newPumpSocket(p, serverAddr)
		down.peer = up
		up.peer = down
		up.delay = time.Duration(i+1) * time.Millisecond
		down.delay = up.delay
		p.client.sockets = append(p.client.sockets, &endpointSocket{Socket: up, e: p.client.e})
		p.server.sockets = append(p.server.sockets, &endpointSocket{Socket: down, e: p.server.e})
		p.client.e.sockets = p.client.sockets
	}
	p.now = p.client.e.now()
	p.dial(t, cfg)
	t.Cleanup(p.end)
	ready := func(c *Conn) bool {
		for _, q := range c.paths {
			if q.phase != pathActive || !q.mtu.settled() || q.mtu.size != q.mtu.max {
				return false
			}
		}
		return c.confirmed && len(c.paths) == paths
	}
	for i := 0; !ready(p.client.c) || !ready(p.server.c); i++ {
		if i == 1000 {
			t.Fatalf("not ready: client %+v, server %+v", p.client.c.paths, p.server.c.paths)
		}
		if i == 50 { // the first path is up, and there are connection ids for others
			c := p.client.c
			for _, es := range p.client.sockets[1:] {
				c.wishes = append(c.wishes, pathWish{sock: es, remote: serverAddr})
			}
			c.pathsWanted = true
		}
		p.step()
	}
	return p
}

// end ends both connections as their loops do.
func (p *pump) end() {
	for _, end := range []*pumpEnd{p.client, p.server} {
		if !end.ended {
			end.ended = true
			end.c.end()
		}
	}
}

// dial makes both connections, as Endpoint.Dial and the reader of the server do.
func (p *pump) dial(t testing.TB, cfg *Config) {
	t.Helper()
	begin := func(end *pumpEnd, c *Conn) {
		end.c, c.handler = c, &end.sink
		c.turnTime, c.lastReceived, c.idleFrom, c.handshakeEnd = p.now, p.now, p.now, p.now.add(time.Hour)
		end.e.table.add(c.ids[0].local[0].id, c)
		c.startTLS(p.now)
	}
	begin(p.client, newClientConn(p.client.e, cfg.withDefaults(), p.client.sockets[0], serverAddr))
	p.client.c.turn(p.now)

	first := &p.server.sockets[0].Socket.(*pumpSocket).slots[0]
	h, _, ok := wire.ParseLongHeader(first.Buf[:first.N])
	if !ok {
		t.Fatal("no Initial packet")
	}
	c := newServerConn(p.server.e, p.server.e.cfg, p.server.sockets[0], first.Src, first.Dst, firstInitial{dcid: h.DstConnID, scid: h.SrcConnID, originalDCID: h.DstConnID})
	begin(p.server, c)
	p.server.e.table.addInitial(c.originalDCID, c)
	p.server.e.handshakes++
}

// step lets one tick pass at both ends.
func (p *pump) step() {
	p.now = p.now.add(pumpTick)
	p.server.step(p.now)
	p.client.step(p.now)
}

// step does what the readers and the loop do.
func (end *pumpEnd) step(now instant) {
	start := cpuTime()
	if end.load != nil {
		end.load.send(end.c)
	}
	for _, es := range end.sockets {
		for {
			n, _ := es.ReadBatch(end.ms)
			if n == 0 {
				break
			}
			end.touched = end.touched[:0]
			for i := range end.ms[:n] {
				end.touched = end.e.deliver(es, &end.ms[i], now, end.touched)
			}
		}
	}
	for {
		wake := end.c.turn(now)
		if end.c.closing.phase != notClosing && !end.closes {
			panic(end.c.Err())
		}
		if wake == 0 || wake > now {
			break
		}
	}
	end.busy += cpuTime() - start
}

// pumpLoad is what an application sends in one tick.
type pumpLoad struct {
	payload []byte
	bufs    []*PacketBuf
}

const pumpFlows = 8

func newPumpLoad(packets, size int) *pumpLoad {
	return &pumpLoad{payload: make([]byte, size), bufs: make([]*PacketBuf, packets)}
}

// send gives the load to c, as flows of TCP and UDP in turn.
func (l *pumpLoad) send(c *Conn) {
	FillPacketBufs(l.bufs)
	for i, b := range l.bufs {
		b.SetLen(copy(b.Space(), l.payload))
		flow := i * pumpFlows / len(l.bufs)
		b.Flow, b.Class = uint64(flow+1), sched.ClassTCP+sched.Class(flow%2)
	}
	c.SendDatagrams(l.bufs)
	clear(l.bufs)
}
