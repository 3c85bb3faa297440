// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's structures for recvmmsg and sendmmsg. Addresses and control messages
// are read and written as bytes, so that nothing depends on their alignment.

// maxMessages is the largest number of messages in one system call.
const maxMessages = 32

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	n uint32 // bytes received or sent
}

// sockaddr is storage for struct sockaddr_in or sockaddr_in6.
type sockaddr [unix.SizeofSockaddrInet6]byte

const (
	in4PktinfoSize = unix.SizeofInet4Pktinfo // ifindex 4, spec_dst 4, addr 4
	in6PktinfoSize = unix.SizeofInet6Pktinfo // addr 16, ifindex 4
	// controlSize holds a segment size, an ECN field and a packet info.
	controlSize = 3*alignedHeader + 8 + 8 + (in6PktinfoSize+7)/8*8

	cmsgLenSize   = unix.SizeofCmsghdr - 8 // level and type take 4 each
	alignedHeader = (unix.SizeofCmsghdr + 7) / 8 * 8
)

// messages is a set of message headers with their storage, wired up once.
type messages struct {
	hdrs  [maxMessages]mmsghdr
	iovs  [maxMessages]unix.Iovec
	names [maxMessages]sockaddr
	ctrls [maxMessages][controlSize]byte
}

func (m *messages) init() {
	for i := range m.hdrs {
		h := &m.hdrs[i]
		h.Name = &m.names[i][0]
		h.Iov = &m.iovs[i]
		h.SetIovlen(1)
		h.Control = &m.ctrls[i][0]
	}
}

// forget drops the references to the first n buffers, so that they can be collected.
func (m *messages) forget(n int) {
	for i := range n {
		m.iovs[i].Base = nil
	}
}

// call runs recvmmsg or sendmmsg on the first n messages without blocking.
func (m *messages) call(trap, fd uintptr, n int) (int, unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&m.hdrs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// put stores addr and returns the size used.
func (s *sockaddr) put(addr netip.AddrPort) uint32 {
	binary.BigEndian.PutUint16(s[2:], addr.Port())
	if addr.Addr().Is4() {
		binary.NativeEndian.PutUint16(s[0:], unix.AF_INET)
		ip := addr.Addr().As4()
		copy(s[4:8], ip[:])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(s[0:], unix.AF_INET6)
	clear(s[4:8]) // flow label
	ip := addr.Addr().As16()
	copy(s[8:24], ip[:])
	clear(s[24:]) // scope
	return unix.SizeofSockaddrInet6
}

// addrPort returns the address stored by the kernel; invalid for an unknown family.
func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s[2:])
	switch binary.NativeEndian.Uint16(s[0:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// appendControl appends the header of a control message and room for n bytes of
// data, which it returns zeroed.
func appendControl(b []byte, level, typ int32, n int) (out, data []byte) {
	start := len(b)
	out = b[:start+unix.CmsgSpace(n)]
	clear(out[start:])
	if cmsgLenSize == 8 {
		binary.NativeEndian.PutUint64(out[start:], uint64(unix.CmsgLen(n)))
	} else {
		binary.NativeEndian.PutUint32(out[start:], uint32(unix.CmsgLen(n)))
	}
	binary.NativeEndian.PutUint32(out[start+cmsgLenSize:], uint32(level))
	binary.NativeEndian.PutUint32(out[start+cmsgLenSize+4:], uint32(typ))
	data = out[start+unix.CmsgLen(0):]
	return out, data[:n:n]
}

// appendSendControl appends what a message needs beyond its destination. segSize 0
// means one datagram, an invalid src lets the kernel choose.
func appendSendControl(b []byte, segSize int, v6 bool, ecn ECN, src netip.Addr) []byte {
	var data []byte
	if segSize > 0 {
		b, data = appendControl(b, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(segSize))
	}
	if ecn != NotECT {
		if v6 {
			b, data = appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4)
		} else {
			b, data = appendControl(b, unix.IPPROTO_IP, unix.IP_TOS, 4)
		}
		binary.NativeEndian.PutUint32(data, uint32(ecn))
	}
	switch {
	case !src.IsValid():
	case v6:
		b, data = appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, in6PktinfoSize)
		ip := src.As16()
		copy(data, ip[:])
	default:
		b, data = appendControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO, in4PktinfoSize)
		ip := src.As4()
		copy(data[4:], ip[:])
	}
	return b
}

// parseControl reads the control messages of a received message into m. Of what is
// malformed, which the kernel never sends, it ignores the rest.
func parseControl(b []byte, m *Received) {
	for len(b) >= unix.SizeofCmsghdr {
		var size uint64
		if cmsgLenSize == 8 {
			size = binary.NativeEndian.Uint64(b)
		} else {
			size = uint64(binary.NativeEndian.Uint32(b))
		}
		if size < uint64(unix.CmsgLen(0)) || size > uint64(len(b)) {
			return
		}
		level := int32(binary.NativeEndian.Uint32(b[cmsgLenSize:]))
		typ := int32(binary.NativeEndian.Uint32(b[cmsgLenSize+4:]))
		data := b[unix.CmsgLen(0):size]
		switch {
		case level == unix.IPPROTO_UDP && typ == unix.UDP_GRO && len(data) >= 4:
			if seg := int(int32(binary.NativeEndian.Uint32(data))); seg > 0 {
				m.SegSize = min(seg, m.N)
			}
		case level == unix.IPPROTO_IP && typ == unix.IP_TOS && len(data) >= 1:
			m.ECN = ECN(data[0] & 3) // a single byte, unlike the traffic class
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS && len(data) >= 4:
			m.ECN = ECN(binary.NativeEndian.Uint32(data) & 3)
		case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= in4PktinfoSize:
			// spec_dst rather than the destination in the header: it is an address
			// to answer from also after a broadcast.
			m.Dst = netip.AddrFrom4([4]byte(data[4:8]))
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= in6PktinfoSize:
			m.Dst = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
}
