// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// gsoGiveUp is the number of refusals in a row after which a socket sends without
// GSO.
const gsoGiveUp = 3

// sender is the state of one WriteBatch. A socket has as many as goroutines have
// been sending at once.
type sender struct {
	messages
	sizes     [maxMessages]int  // bytes of each message
	segmented [maxMessages]bool // with UDP_SEGMENT
	send      func(fd uintptr)  // made once: a closure for each call would allocate
	want      int
	sent      int
	errno     unix.Errno // why message 0 was not sent
}

func newSender() *sender {
	t := new(sender)
	t.messages.init()
	t.send = t.sendmmsg
	return t
}

func (t *sender) sendmmsg(fd uintptr) {
	t.sent, t.errno = t.call(unix.SYS_SENDMMSG, fd, t.want)
}

func (s *UDPSocket) getSender() *sender {
	s.senders.Lock()
	defer s.senders.Unlock()
	last := len(s.senders.free) - 1
	if last < 0 {
		return newSender()
	}
	t := s.senders.free[last]
	s.senders.free = s.senders.free[:last]
	return t
}

func (s *UDPSocket) putSender(t *sender) {
	s.senders.Lock()
	defer s.senders.Unlock()
	s.senders.free = append(s.senders.free, t)
}

// WriteBatch implements Socket.
//
// Control instead of Write gives the descriptor without the lock that a goroutine
// in WaitWritable holds.
func (s *UDPSocket) WriteBatch(runs []Run) (done int, err error) {
	t := s.getSender()
	defer s.putSender(t)
	off := 0         // bytes of runs[done] that are sent
	refused := false // the kernel refused to segment runs[done]
	for done < len(runs) && err == nil {
		if err = t.fill(runs[done:], off, s.v6(), s.gso.Load() && !refused, s.noEqualTail); err != nil {
			break
		}
		err = closedError(s.raw.Control(t.send))
		t.forget(t.want)
		if err != nil {
			break
		}
		for i := range t.sent {
			if t.segmented[i] && s.gsoRow.Load() != 0 {
				s.gsoRow.Store(0)
			}
			if off += t.sizes[i]; off < len(runs[done].Data) {
				continue
			}
			if refused {
				// Now it is known that segmentation was the only trouble.
				s.countRefusal()
				refused = false
			}
			done++
			off = 0
		}
		// A short count does not tell why; the next call fails at once and does.
		switch {
		case t.errno == 0:
		case (t.errno == unix.EIO || t.errno == unix.EINVAL) && t.segmented[0]:
			// Old kernels say EINVAL also for segments above the MTU. Sending
			// without GSO tells what it is.
			refused = true
		case t.errno == unix.EAGAIN:
			err = ErrWouldBlock
		case t.errno == unix.EMSGSIZE:
			err = ErrMessageTooLong
		default:
			err = t.errno
		}
	}
	if off > 0 {
		runs[done].Data = runs[done].Data[off:]
	}
	return done, err
}

func (s *UDPSocket) v6() bool { return s.local.Addr().Is6() }

func (s *UDPSocket) countRefusal() {
	s.gsoRefused.Add(1)
	if s.gsoRow.Add(1) >= gsoGiveUp {
		s.gso.Store(false)
	}
}

// fill makes messages of runs, of which the first off bytes are sent. Without gso,
// each datagram is a message. It fails only if runs[0] cannot be sent.
func (t *sender) fill(runs []Run, off int, v6, gso, noEqualTail bool) error {
	t.want = 0
	for i := range runs {
		r := &runs[i]
		r.Check()
		dst := netip.AddrPortFrom(r.Dst.Addr().Unmap(), r.Dst.Port())
		src := r.Src.Unmap()
		if dst.Addr().Is6() != v6 || src.IsValid() && src.Is6() != v6 {
			if i == 0 {
				return unix.EAFNOSUPPORT
			}
			return nil
		}
		for data := r.Data[off:]; len(data) > 0; {
			if t.want == maxMessages {
				return nil
			}
			n := min(r.SegSize, len(data))
			if gso {
				n = len(data)
				if noEqualTail && n > r.SegSize && n%r.SegSize == 0 {
					n -= r.SegSize
				}
			}
			t.add(data[:n], r.SegSize, dst, v6, r.ECN, src)
			data = data[n:]
		}
		off = 0
	}
	return nil
}

// add makes one message, segmented if it is longer than segSize.
func (t *sender) add(data []byte, segSize int, dst netip.AddrPort, v6 bool, ecn ECN, src netip.Addr) {
	i := t.want
	t.want++
	t.sizes[i] = len(data)
	t.segmented[i] = len(data) > segSize
	if !t.segmented[i] {
		segSize = 0
	}
	t.iovs[i].Base = &data[0]
	t.iovs[i].SetLen(len(data))
	h := &t.hdrs[i]
	h.Namelen = t.names[i].put(dst)
	h.SetControllen(len(appendSendControl(t.ctrls[i][:0], segSize, v6, ecn, src)))
}
