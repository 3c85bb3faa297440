// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// allOffloads is what Create asks for, best first. Super-packets of UDP exist since
// Linux 6.2.
var allOffloads = []Offloads{{TCP: true, UDP: true}, {TCP: true}}

// errNoOffload: the kernel does not grant a set of offloads.
var errNoOffload = errors.New("offloads not supported")

func (o Offloads) any() bool { return o.TCP || o.UDP }

// flags is the argument of TUNSETOFFLOAD. TUN_F_TSO_ECN is not among it: the kernel
// cuts the rare super-packets with CWR itself.
func (o Offloads) flags() int {
	f := unix.TUN_F_CSUM
	if o.TCP {
		f |= unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	}
	if o.UDP {
		f |= unix.TUN_F_USO4 | unix.TUN_F_USO6
	}
	return f
}

// offload is what a device with offloads has in addition.
type offload struct {
	granted Offloads

	// Of the goroutine that calls Read. What does not fit its batch stays in splitter,
	// and so in in, until the next Read.
	in       []byte
	splitter splitter
	dropped  atomic.Uint64

	coalescer *coalescer // of the goroutine that calls Write
}

func newOffload(o Offloads) *offload {
	return &offload{
		granted:   o,
		in:        make([]byte, vnetHeaderLen+ipv6HeaderLen+maxPacketLen),
		coalescer: newCoalescer(o.TCP, o.UDP),
	}
}

// Offloads is what the kernel has granted.
func (d *Device) Offloads() Offloads {
	if d.off == nil {
		return Offloads{}
	}
	return d.off.granted
}

// Dropped is the number of packets that the kernel handed over and Read could not
// return: longer than the buffer, or not well-formed. Any goroutine may call it.
func (d *Device) Dropped() uint64 {
	if d.off == nil {
		return 0
	}
	return d.off.dropped.Load()
}

func (d *Device) readOffload(fd uintptr) bool {
	s, o := &d.rd, d.off
	for s.n < len(s.bufs) {
		if o.splitter.more() {
			if size := o.splitter.take(s.bufs[s.n][s.offset:]); size > 0 {
				s.sizes[s.n] = size
				s.n++
			} else {
				o.dropped.Add(1)
			}
			continue
		}
		n, err := readNow(fd, o.in)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return s.n > 0 // false: wait until there is something
		case err != nil:
			if s.n == 0 {
				s.err = os.NewSyscallError("read", err)
			}
			return true
		case !o.splitter.start(o.in[:n]):
			o.dropped.Add(1)
		}
	}
	return true
}

func (d *Device) writeOffload(fd uintptr) bool {
	s, c := &d.wr, d.off.coalescer
	for s.next < len(c.runs) {
		_, err := writeNow(fd, c.build(s.next))
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err == nil:
			s.n += c.runs[s.next].count
		case s.err == nil:
			s.err = os.NewSyscallError("write", err)
		}
		s.next++
	}
	return true
}
