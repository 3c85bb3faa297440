// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"encoding/binary"
)

// The errors that a tunnel reports to the sender of an inner packet. Types and
// codes are those of RFC 792, RFC 1122, RFC 1812 and RFC 4443.
type icmpError uint8

const (
	icmpTooBig           icmpError = iota // fragmentation needed, packet too big
	icmpNoRoute                           // network unreachable, no route to destination
	icmpSourceProhibited                  // communication prohibited, source address failed policy
)

var icmpTypes = [...]struct{ type4, code4, type6, code6 byte }{
	icmpTooBig:           {3, 4, 2, 0},
	icmpNoRoute:          {3, 0, 1, 0},
	icmpSourceProhibited: {3, 13, 1, 5},
}

const (
	icmpHeaderLen = 8
	// An error quotes as much of the packet as keeps it at the size that every
	// host must take: 576 bytes (RFC 1812 section 4.3.2.3), 1280 (RFC 4443).
	icmpMaxLen4 = 576
	icmpMaxLen6 = 1280
	icmpHops    = 64
)

// appendICMPError appends an ICMP error about pkt, which has passed parsePacket.
// mtu is that of the tunnel and counts only for icmpTooBig. The error appears to
// come from the destination of pkt: the tunnel has no address of its own that is
// known at both ends, and an address behind the tunnel passes reverse path filters.
// It appends nothing when pkt may not be answered.
func appendICMPError(b, pkt []byte, kind icmpError, mtu int) []byte { // R9484-7.2.1-1
	if !mayAnswer(pkt) {
		return b
	}
	t := icmpTypes[kind]
	if pkt[0]>>4 == 4 {
		return appendICMPv4(b, pkt, t.type4, t.code4, kind, mtu)
	}
	return appendICMPv6(b, pkt, t.type6, t.code6, kind, mtu)
}

func appendICMPv4(b, pkt []byte, typ, code byte, kind icmpError, mtu int) []byte {
	quoted := pkt[:min(len(pkt), icmpMaxLen4-headerLen4-icmpHeaderLen)]
	start := len(b)
	b = append(b, make([]byte, headerLen4+icmpHeaderLen)...)
	b = append(b, quoted...)
	p := b[start:]
	p[0] = 0x45
	p[1] = 0xc0 // network control, RFC 1812 section 4.3.2.5
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[8] = icmpHops
	p[9] = protocolICMP
	copy(p[12:16], pkt[16:20])
	copy(p[16:20], pkt[12:16])
	binary.BigEndian.PutUint16(p[10:], checksum(p[:headerLen4], 0))
	m := p[headerLen4:]
	m[0], m[1] = typ, code
	if kind == icmpTooBig {
		binary.BigEndian.PutUint16(m[6:], uint16(mtu)) // RFC 1191
	}
	binary.BigEndian.PutUint16(m[2:], checksum(m, 0))
	return b
}

func appendICMPv6(b, pkt []byte, typ, code byte, kind icmpError, mtu int) []byte {
	quoted := pkt[:min(len(pkt), icmpMaxLen6-headerLen6-icmpHeaderLen)]
	start := len(b)
	b = append(b, make([]byte, headerLen6+icmpHeaderLen)...)
	b = append(b, quoted...)
	p := b[start:]
	p[0] = 0x60
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-headerLen6))
	p[6] = protocolICMPv6
	p[7] = icmpHops
	copy(p[8:24], pkt[24:40])
	copy(p[24:40], pkt[8:24])
	m := p[headerLen6:]
	m[0], m[1] = typ, code
	if kind == icmpTooBig {
		binary.BigEndian.PutUint32(m[4:], uint32(mtu))
	}
	binary.BigEndian.PutUint16(m[2:], checksum(m, pseudoHeader6(p[8:40], len(m), protocolICMPv6)))
	return b
}

// mayAnswer: no error is sent about an ICMP error, about a fragment other than
// the first, or to and from addresses that are not one host's (RFC 1812 section
// 4.3.2.7, RFC 4443 section 2.4).
func mayAnswer(pkt []byte) bool {
	var h ipHeader
	if parsePacket(pkt, &h) != notDropped {
		return false
	}
	if h.src.IsUnspecified() || h.src.IsMulticast() || h.src.IsLoopback() || h.dst.IsMulticast() {
		return false
	}
	if !h.v6 && (h.src.As4() == [4]byte{255, 255, 255, 255} || h.dst.As4() == [4]byte{255, 255, 255, 255}) {
		return false
	}
	protocol, offset := upperHeader(pkt)
	if offset < 0 {
		return false
	}
	switch {
	case protocol == protocolICMP && !h.v6:
		// Echo and timestamp messages are the queries.
		return len(pkt) > offset && (pkt[offset] == 0 || pkt[offset] == 8 || pkt[offset] == 13 || pkt[offset] == 14)
	case protocol == protocolICMPv6 && h.v6:
		return len(pkt) > offset && pkt[offset]&0x80 != 0 && pkt[offset] != 137 // not an error, not a redirect
	}
	return true
}
