// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Way is the direction of traffic as the client sees it.
type Way uint8

const (
	Down Way = iota // from the peer to the client
	Up              // from the client to the peer
)

func (w Way) String() string { return [...]string{"down", "up"}[w] }

// Peer is the far end of the traffic: a TCP and a UDP service in a host. All
// connections are opened by the client, so that it may be behind a NAT.
type Peer struct {
	addr netip.AddrPort // of both services
	tcp  net.Listener
	udp  *net.UDPConn
	run  sync.WaitGroup

	mu     sync.Mutex
	flows  map[uint64]chan<- net.Conn // connections awaited, by the number they start with
	probes map[uint64]*Probe
}

// NewPeer starts the services at an address of the host.
func NewPeer(h *Host, addr netip.AddrPort) (*Peer, error) {
	p := &Peer{addr: addr, flows: make(map[uint64]chan<- net.Conn), probes: make(map[uint64]*Probe)}
	var err error
	if p.tcp, err = h.Listen("tcp", addr.String()); err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	udp, err := h.ListenPacket("udp", addr.String())
	if err != nil {
		p.tcp.Close()
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	p.udp = udp.(*net.UDPConn)
	p.run.Go(p.accept)
	p.run.Go(p.receiveProbes)
	return p, nil
}

// Addr is where the services are.
func (p *Peer) Addr() netip.AddrPort { return p.addr }

// Close ends the services. Traffic that was started must have been closed.
func (p *Peer) Close() {
	p.tcp.Close()
	p.udp.Close()
	p.run.Wait()
}

// accept hands connections to those who wait for them.
func (p *Peer) accept() {
	for {
		c, err := p.tcp.Accept()
		if err != nil {
			return
		}
		p.run.Go(func() {
			var number [8]byte
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(c, number[:]); err != nil {
				c.Close()
				return
			}
			c.SetReadDeadline(time.Time{})
			p.mu.Lock()
			waiting := p.flows[binary.BigEndian.Uint64(number[:])]
			delete(p.flows, binary.BigEndian.Uint64(number[:]))
			p.mu.Unlock()
			if waiting == nil {
				c.Close()
				return
			}
			waiting <- c
		})
	}
}

// connect opens a TCP connection from a host to the peer and returns both ends.
func (p *Peer) connect(ctx context.Context, from *Host) (client, server net.Conn, err error) {
	number := rand.Uint64()
	accepted := make(chan net.Conn, 1)
	p.mu.Lock()
	p.flows[number] = accepted
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.flows, number)
		p.mu.Unlock()
	}()
	client, err = from.Dial(ctx, "tcp", p.addr.String())
	if err != nil {
		return nil, nil, err
	}
	if _, err := client.Write(binary.BigEndian.AppendUint64(nil, number)); err != nil {
		client.Close()
		return nil, nil, err
	}
	select {
	case server = <-accepted:
		return client, server, nil
	case <-ctx.Done():
		client.Close()
		return nil, nil, fmt.Errorf("TCP connection to %s: %w", p.addr, context.Cause(ctx))
	}
}

// Bulk is a number of TCP flows in one direction: without end, to measure
// goodput, or of a given size each, whose contents are compared.
type Bulk struct {
	way      Way
	size     int64 // of each flow; 0: without end
	received atomic.Int64
	conns    []net.Conn
	senders  []net.Conn
	arrivals []arrivals // of each flow
	run      sync.WaitGroup
	done     chan struct{} // closed when all flows have ended

	mu   sync.Mutex
	errs []error
}

// arrivals watches for how long nothing arrives of a flow.
type arrivals struct {
	mu    sync.Mutex
	last  time.Time
	stall time.Duration // longest since it was last taken
}

func (a *arrivals) arrived() {
	now := time.Now()
	a.mu.Lock()
	a.stall, a.last = max(a.stall, now.Sub(a.last)), now
	a.mu.Unlock()
}

// TakeStall returns the longest time, since the last call, in which nothing arrived of
// some flow. One that goes on counts with its length so far, now and in the next call.
func (b *Bulk) TakeStall() (longest time.Duration) {
	for i := range b.arrivals {
		a := &b.arrivals[i]
		a.mu.Lock()
		longest = max(longest, a.stall, time.Since(a.last))
		a.stall = 0
		a.mu.Unlock()
	}
	return longest
}

// OldestArrival is when the flow of which nothing has arrived for longest was heard last.
func (b *Bulk) OldestArrival() (oldest time.Time) {
	for i := range b.arrivals {
		a := &b.arrivals[i]
		a.mu.Lock()
		if oldest.IsZero() || a.last.Before(oldest) {
			oldest = a.last
		}
		a.mu.Unlock()
	}
	return oldest
}

// bulkChunk is what a flow reads and writes at once.
const bulkChunk = 64 << 10

// Flood starts flows that send as fast as they can until Close.
func (p *Peer) Flood(ctx context.Context, from *Host, way Way, flows int) (*Bulk, error) {
	return p.bulk(ctx, from, way, flows, 0, innerCongestionControl)
}

// FloodUsing is Flood with a TCP congestion control of the kernel, such as "bbr".
func (p *Peer) FloodUsing(ctx context.Context, from *Host, way Way, flows int, congestionControl string) (*Bulk, error) {
	return p.bulk(ctx, from, way, flows, 0, congestionControl)
}

// Transfer starts a transfer of size bytes in total over a number of flows. The
// bytes are random; each flow's SHA-256 is compared at its end.
func (p *Peer) Transfer(ctx context.Context, from *Host, way Way, flows int, size int64) (*Bulk, error) {
	return p.bulk(ctx, from, way, flows, max(1, size/int64(flows)), innerCongestionControl)
}

func (p *Peer) bulk(ctx context.Context, from *Host, way Way, flows int, size int64, congestionControl string) (*Bulk, error) {
	b := &Bulk{way: way, size: size, done: make(chan struct{})}
	type pair struct{ sender, receiver net.Conn }
	var pairs []pair
	for range flows {
		client, server, err := p.connect(ctx, from)
		if err != nil {
			b.closeConns()
			return nil, err
		}
		b.conns = append(b.conns, client, server)
		if congestionControl != innerCongestionControl {
			if err := errors.Join(useCongestionControl(client, congestionControl), useCongestionControl(server, congestionControl)); err != nil {
				b.closeConns()
				return nil, err
			}
		}
		if way == Down {
			client, server = server, client
		}
		pairs = append(pairs, pair{client, server})
	}
	b.arrivals = make([]arrivals, len(pairs))
	for i, c := range pairs {
		sum := make(chan [sha256.Size]byte, 1)
		b.senders = append(b.senders, c.sender)
		b.arrivals[i].last = time.Now()
		b.run.Go(func() { b.send(c.sender, sum) })
		b.run.Go(func() { b.receive(c.receiver, &b.arrivals[i], sum) })
	}
	go func() {
		b.run.Wait()
		close(b.done)
	}()
	return b, nil
}

// send is the sender of one flow. It tells the receiver the hash of what it sent.
func (b *Bulk) send(c net.Conn, sum chan<- [sha256.Size]byte) {
	seed := [32]byte{}
	binary.BigEndian.PutUint64(seed[:], rand.Uint64())
	random := rand.NewChaCha8(seed)
	hash := sha256.New()
	chunk := make([]byte, bulkChunk)
	random.Read(chunk)
	for left := b.size; b.size == 0 || left > 0; left -= int64(len(chunk)) {
		if b.size > 0 {
			chunk = chunk[:min(left, bulkChunk)]
			random.Read(chunk)
			hash.Write(chunk)
		}
		if _, err := c.Write(chunk); err != nil {
			b.fail(fmt.Errorf("sending: %w", err))
			return
		}
	}
	sum <- [sha256.Size]byte(hash.Sum(nil))
	c.(*net.TCPConn).CloseWrite()
}

// receive is the receiver of one flow.
func (b *Bulk) receive(c net.Conn, a *arrivals, sum <-chan [sha256.Size]byte) {
	hash := sha256.New()
	chunk := make([]byte, 4*bulkChunk)
	var received int64
	for {
		n, err := c.Read(chunk)
		b.received.Add(int64(n))
		a.arrived()
		received += int64(n)
		if b.size > 0 {
			hash.Write(chunk[:n])
		}
		if err == io.EOF && b.size > 0 {
			break
		}
		if err != nil {
			b.fail(fmt.Errorf("receiving: %w", err))
			return
		}
	}
	if received != b.size {
		b.fail(fmt.Errorf("a flow ended after %d of %d bytes", received, b.size))
		return
	}
	if sent := <-sum; sent != [sha256.Size]byte(hash.Sum(nil)) {
		b.fail(fmt.Errorf("a flow's SHA-256 differs: sent %x, received %x", sent, hash.Sum(nil)))
	}
}

func (b *Bulk) fail(err error) {
	b.mu.Lock()
	b.errs = append(b.errs, err)
	b.mu.Unlock()
}

// Received is the number of bytes that have arrived at the receivers.
func (b *Bulk) Received() int64 { return b.received.Load() }

// Received returns a function that adds up what has arrived of several bulks.
func Received(bulks ...*Bulk) func() int64 {
	return func() (sum int64) {
		for _, b := range bulks {
			sum += b.Received()
		}
		return sum
	}
}

// Size is the number of bytes of the whole transfer, 0 for a flood.
func (b *Bulk) Size() int64 { return b.size * int64(len(b.conns)/2) }

// Congestion is what the senders of flows know of it.
type Congestion struct {
	Retransmitted uint64 // segments
	Marked        uint64 // segments that arrived with CE
}

// Congestion adds up what the kernel has counted for all flows so far.
func (b *Bulk) Congestion() (c Congestion, err error) {
	for _, s := range b.senders {
		raw, err := s.(*net.TCPConn).SyscallConn()
		if err != nil {
			return c, err
		}
		var info *unix.TCPInfo
		var errno error
		if err := raw.Control(func(fd uintptr) { info, errno = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
			return c, err
		}
		if errno != nil {
			return c, os.NewSyscallError("TCP_INFO", errno)
		}
		c.Retransmitted += uint64(info.Total_retrans)
		c.Marked += uint64(info.Delivered_ce)
	}
	return c, nil
}

// Done is closed when all flows have ended.
func (b *Bulk) Done() <-chan struct{} { return b.done }

// Err returns what was wrong with the first flow that failed; for a transfer,
// nil after Done means that every byte arrived intact.
func (b *Bulk) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errs) == 0 {
		return nil
	}
	return b.errs[0]
}

// Goodput measures the bits per second that arrive over a time, after a warm-up.
func (b *Bulk) Goodput(ctx context.Context, warmUp, measure time.Duration) (bitsPerSecond float64, err error) {
	if err := Sleep(ctx, warmUp); err != nil {
		return 0, err
	}
	start, before := time.Now(), b.Received()
	if err := Sleep(ctx, measure); err != nil {
		return 0, err
	}
	if err := b.Err(); err != nil {
		return 0, err
	}
	return float64(b.Received()-before) * 8 / time.Since(start).Seconds(), nil
}

// Close ends the flows at once.
func (b *Bulk) Close() {
	b.closeConns()
	<-b.done
}

// closeConns resets the connections, so that nothing of them stays in queues.
func (b *Bulk) closeConns() {
	for _, c := range b.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
