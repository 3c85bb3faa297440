// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// receiver is the state of a socket's reader, which is one goroutine.
type receiver struct {
	messages
	recv func(fd uintptr) bool // made once: a closure for each call would allocate
	want int
	got  int
	err  error
}

func (r *receiver) init() {
	r.messages.init()
	r.recv = r.recvmmsg
}

// recvmmsg returns false when there is nothing to receive.
func (r *receiver) recvmmsg(fd uintptr) bool {
	n, errno := r.call(unix.SYS_RECVMMSG, fd, r.want)
	r.got, r.err = n, nil
	switch errno {
	case 0:
	case unix.EAGAIN:
		return false
	default:
		r.err = errno
	}
	return true
}

// ReadBatch implements Socket.
func (s *UDPSocket) ReadBatch(ms []Received) (int, error) {
	r := &s.rx
	r.want = min(len(ms), maxMessages)
	for i := range r.want {
		r.iovs[i].Base = &ms[i].Buf[0]
		r.iovs[i].SetLen(len(ms[i].Buf))
		r.hdrs[i].Namelen = uint32(len(r.names[i]))
		r.hdrs[i].SetControllen(controlSize)
	}
	err := s.raw.Read(r.recv)
	r.forget(r.want)
	if err != nil {
		return 0, closedError(err)
	}
	if r.err != nil {
		return 0, r.err
	}
	for i := range r.got {
		m, h := &ms[i], &r.hdrs[i]
		m.N = int(h.n)
		m.SegSize = m.N
		m.Src = r.names[i].addrPort()
		m.Dst, m.ECN = netip.Addr{}, NotECT
		parseControl(r.ctrls[i][:h.Controllen], m)
	}
	return r.got, nil
}
