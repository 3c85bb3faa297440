// SPDX-License-Identifier: Apache-2.0

package tun

import "encoding/binary"

// splitter turns what the kernel hands over in one read, a packet or a super-packet,
// into packets as they go on a wire. It works on one at a time, and the caller takes
// the packets when it has room for them.
type splitter struct {
	pkt  []byte // headers and what the packets share of them, payload of all
	next int    // where in pkt the payload of the next packet begins

	gsoType   uint8 // gsoNone: pkt is one packet, and complete
	v6        bool
	hdrLen    int // of all headers
	transport int // offset of the TCP or UDP header
	segSize   int // payload of each packet, the last one excepted

	id    uint16 // of the next packet's IPv4 header
	seq   uint32 // of the next packet's TCP header
	ipSum uint64 // sum of the IPv4 header without length and id
	l4Sum uint64 // sum of the pseudo-header without the length
}

// start takes over b: a vnet header and a packet. It reports false when b is not
// well-formed; then there is nothing to take.
func (s *splitter) start(b []byte) bool {
	s.pkt, s.next = nil, 0
	if len(b) <= vnetHeaderLen {
		return false
	}
	var h vnetHeader
	h.parse(b)
	pkt := b[vnetHeaderLen:]
	var ok bool
	if h.gsoType == gsoNone {
		s.gsoType, s.hdrLen, s.segSize = gsoNone, 0, len(pkt)
		ok = h.flags&vnetNeedsChecksum == 0 || completeChecksum(pkt, int(h.csumStart), int(h.csumOffset))
	} else {
		ok = s.startSuper(&h, pkt)
	}
	if ok {
		s.pkt, s.next = pkt, s.hdrLen
	}
	return ok
}

// completeChecksum sums up what the kernel left to the device. The field holds the
// sum of the pseudo-header already.
func completeChecksum(pkt []byte, start, offset int) bool {
	if start+offset+2 > len(pkt) {
		return false
	}
	binary.BigEndian.PutUint16(pkt[start+offset:], transportChecksum(sum(0, pkt[start:])))
	return true
}

// startSuper reads the headers of a super-packet. hdrLen of the vnet header is not
// used: for forwarded packets the kernel sets it to what happens to be contiguous.
func (s *splitter) startSuper(h *vnetHeader, pkt []byte) bool {
	if h.flags&vnetNeedsChecksum == 0 || h.gsoSize == 0 || !s.startIP(h.gsoType, pkt) {
		return false
	}
	s.gsoType, s.segSize, s.transport = h.gsoType, int(h.gsoSize), int(h.csumStart)
	if s.transport < s.hdrLen { // of IP so far; extension headers may lie between
		return false
	}
	l4 := pkt[min(s.transport, len(pkt)):]
	var check int
	if h.gsoType == gsoUDP {
		if len(l4) < udpHeaderLen {
			return false
		}
		check, s.hdrLen = udpChecksum, s.transport+udpHeaderLen
	} else {
		if len(l4) < tcpHeaderLen {
			return false
		}
		length := int(l4[tcpDataOffset]>>4) * 4
		if length < tcpHeaderLen {
			return false
		}
		check, s.hdrLen = tcpChecksum, s.transport+length
		s.seq = binary.BigEndian.Uint32(l4[tcpSeq:])
	}
	if int(h.csumOffset) != check || s.hdrLen >= len(pkt) {
		return false
	}
	// The field holds the sum of the pseudo-header, with the length of the whole: minus
	// that it is what the packets share. (The addresses of the IP header are not always
	// those of the pseudo-header: a routing header changes the destination.)
	s.l4Sum = word(binary.BigEndian.Uint16(l4[check:])) + word(^uint16(len(l4)))
	clear(l4[check : check+2])
	return true
}

// startIP reads the IP header and sets hdrLen to its length.
func (s *splitter) startIP(gsoType uint8, pkt []byte) bool {
	switch pkt[0] >> 4 {
	case 4:
		if gsoType != gsoTCPv4 && gsoType != gsoUDP || len(pkt) < ipv4HeaderLen {
			return false
		}
		s.v6, s.hdrLen = false, int(pkt[0]&0x0f)*4
		if s.hdrLen < ipv4HeaderLen || s.hdrLen > len(pkt) ||
			int(binary.BigEndian.Uint16(pkt[ipv4TotalLen:])) != len(pkt) {
			return false
		}
		s.id = binary.BigEndian.Uint16(pkt[ipv4ID:])
		clear(pkt[ipv4TotalLen : ipv4ID+2])
		clear(pkt[ipv4Checksum : ipv4Checksum+2])
		s.ipSum = sum(0, pkt[:s.hdrLen])
		return true
	case 6:
		if gsoType != gsoTCPv6 && gsoType != gsoUDP || len(pkt) < ipv6HeaderLen {
			return false
		}
		s.v6, s.hdrLen = true, ipv6HeaderLen
		return int(binary.BigEndian.Uint16(pkt[ipv6PayloadLen:])) == len(pkt)-ipv6HeaderLen
	}
	return false
}

// more reports whether there is a packet to take.
func (s *splitter) more() bool { return s.next < len(s.pkt) }

// take writes the next packet to dst and returns its length. It returns 0 when dst is
// too short; the packet is lost then.
func (s *splitter) take(dst []byte) int {
	payload := s.pkt[s.next:min(s.next+s.segSize, len(s.pkt))]
	size := s.hdrLen + len(payload)
	fits := size <= len(dst)
	if fits {
		copy(dst, s.pkt[:s.hdrLen])
		copy(dst[s.hdrLen:], payload)
		if s.gsoType != gsoNone {
			s.finish(dst[:size], s.next+len(payload) == len(s.pkt))
		}
	}
	s.next += len(payload)
	s.id++
	s.seq += uint32(len(payload))
	if !fits {
		return 0
	}
	return size
}

// finish sets the fields in which the packets of a super-packet differ.
func (s *splitter) finish(pkt []byte, last bool) {
	if s.v6 {
		binary.BigEndian.PutUint16(pkt[ipv6PayloadLen:], uint16(len(pkt)-ipv6HeaderLen))
	} else {
		binary.BigEndian.PutUint16(pkt[ipv4TotalLen:], uint16(len(pkt)))
		binary.BigEndian.PutUint16(pkt[ipv4ID:], s.id)
		binary.BigEndian.PutUint16(pkt[ipv4Checksum:], ^fold(s.ipSum+word(uint16(len(pkt)))+word(s.id)))
	}
	l4 := pkt[s.transport:]
	acc := s.l4Sum + word(uint16(len(l4)))
	if s.gsoType == gsoUDP {
		binary.BigEndian.PutUint16(l4[udpLen:], uint16(len(l4)))
		binary.BigEndian.PutUint16(l4[udpChecksum:], transportChecksum(sum(acc, l4)))
		return
	}
	binary.BigEndian.PutUint32(l4[tcpSeq:], s.seq)
	if !last {
		l4[tcpFlags] &^= tcpFIN | tcpPSH
	}
	binary.BigEndian.PutUint16(l4[tcpChecksum:], transportChecksum(sum(acc, l4)))
}
