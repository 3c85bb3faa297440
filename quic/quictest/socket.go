// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

// Socket is a socket of a simulated network. It implements the socket interface of
// package quic. Waiting in it is durably blocking in the sense of testing/synctest.
type Socket struct {
	net  *Net
	addr netip.AddrPort

	arrived chan struct{} // one slot: the next arrival has changed
	closed  chan struct{}
	timer   *time.Timer // of the reader: fires at the next arrival

	// guarded by net.mu
	inbox    Arrivals[packet]
	mtu      int
	full     chan struct{} // not nil while writes are refused; closed at the end
	refusal  error         // of writes
	isClosed bool
	seeds    int // given out
}

var _ udpio.Seeded = (*Socket)(nil)

func newSocket(n *Net, addr netip.AddrPort, mtu int) *Socket {
	s := &Socket{
		net:     n,
		addr:    addr,
		mtu:     mtu,
		arrived: make(chan struct{}, 1),
		closed:  make(chan struct{}),
		timer:   time.NewTimer(0),
	}
	s.timer.Stop()
	return s
}

// deliver adds a packet that arrives at the given time. net.mu is held.
func (s *Socket) deliver(at time.Duration, p packet) {
	if s.inbox.Push(at, p) {
		select {
		case s.arrived <- struct{}{}:
		default:
		}
	}
}

// ReadBatch implements udpio.Socket. Each message is one datagram.
func (s *Socket) ReadBatch(ms []udpio.Received) (int, error) {
	for {
		n, wait, err := s.take(ms)
		if n > 0 || err != nil {
			return n, err
		}
		var due <-chan time.Time
		if wait >= 0 {
			s.timer.Reset(wait)
			due = s.timer.C
		}
		select {
		case <-s.arrived:
		case <-due:
		case <-s.closed:
		}
	}
}

// take fills ms with the packets that have arrived. Without any it returns how long
// it is until the next one, negative when none is on its way: a timer then would keep
// a synctest bubble from noticing that all its goroutines are stuck.
func (s *Socket) take(ms []udpio.Received) (n int, wait time.Duration, err error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.isClosed {
		return 0, 0, net.ErrClosed
	}
	now := s.net.now()
	for n < len(ms) {
		p, ok := s.inbox.Pop(now)
		if !ok {
			break
		}
		m := &ms[n]
		m.N = copy(m.Buf, p.data)
		m.SegSize, m.Src, m.Dst, m.ECN = m.N, p.src, p.dst.Addr(), p.ecn
		s.net.free = append(s.net.free, p.data)
		n++
	}
	s.net.stats.Delivered += uint64(n)
	if at, ok := s.inbox.Next(); ok {
		return n, at - now, nil
	}
	return n, -1, nil
}

// WriteBatch implements udpio.Socket. A destination without a link gives ENETUNREACH.
func (s *Socket) WriteBatch(runs []udpio.Run) (int, error) {
	for i := range runs {
		if err := s.write(&runs[i]); err != nil {
			return i, err
		}
	}
	return len(runs), nil
}

func (s *Socket) write(r *udpio.Run) error {
	r.Check()
	s.net.mu.Lock()
	isClosed, full, refusal, mtu := s.isClosed, s.full != nil, s.refusal, s.mtu
	s.net.mu.Unlock()
	dst := netip.AddrPortFrom(r.Dst.Addr().Unmap(), r.Dst.Port())
	switch {
	case isClosed:
		return net.ErrClosed
	case refusal != nil:
		return refusal
	case full:
		return udpio.ErrWouldBlock
	case dst.Addr().Is4() != s.addr.Addr().Is4():
		return syscall.EAFNOSUPPORT
	case mtu > 0 && min(r.SegSize, len(r.Data))+ipOverhead(dst.Addr()) > mtu:
		return udpio.ErrMessageTooLong
	}
	src := r.Src.Unmap()
	if !src.IsValid() {
		src = s.addr.Addr()
	}
	if src.IsUnspecified() {
		var ok bool
		if src, ok = s.net.sourceFor(dst); !ok {
			return syscall.ENETUNREACH
		}
	}
	from := netip.AddrPortFrom(src, s.addr.Port())
	for data := r.Data; len(data) > 0; {
		segment := data[:min(r.SegSize, len(data))]
		data = data[len(segment):]
		if err := s.net.send(from, dst, segment, r.ECN); err != nil {
			return err
		}
	}
	return nil
}

// SetWritable makes WriteBatch return ErrWouldBlock (false), or ends that.
func (s *Socket) SetWritable(on bool) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	switch {
	case on && s.full != nil:
		close(s.full)
		s.full = nil
	case !on && s.full == nil:
		s.full = make(chan struct{})
	}
}

// Refuse makes WriteBatch fail with err, as the kernel does where there is no route, or ends
// that (nil).
func (s *Socket) Refuse(err error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.refusal = err
}

// WaitWritable implements udpio.Socket.
func (s *Socket) WaitWritable() error {
	s.net.mu.Lock()
	full, isClosed := s.full, s.isClosed
	s.net.mu.Unlock()
	if isClosed {
		return net.ErrClosed
	}
	if full == nil {
		return nil
	}
	select {
	case <-full:
		return nil
	case <-s.closed:
		return net.ErrClosed
	}
}

// LocalAddr implements udpio.Socket.
func (s *Socket) LocalAddr() netip.AddrPort { return s.addr }

// MTU implements udpio.Socket.
func (s *Socket) MTU() int {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return s.mtu
}

// SetMTU changes the MTU of the socket's interface; 0: unlimited.
func (s *Socket) SetMTU(mtu int) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.mtu = mtu
}

// Seed implements udpio.Seeded: seeds follow from that of the network.
func (s *Socket) Seed() [32]byte {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.seeds++
	return sha256.Sum256(fmt.Appendf(nil, "%d %v %d", s.net.seed, s.addr, s.seeds))
}

// Close implements udpio.Socket. The address becomes free.
func (s *Socket) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.closeLocked()
	return nil
}

// closeLocked is Close for a holder of net.mu.
func (s *Socket) closeLocked() {
	if s.isClosed {
		return
	}
	s.isClosed = true
	close(s.closed)
	s.timer.Stop()
	delete(s.net.sockets, s.addr)
}
