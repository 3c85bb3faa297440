// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"encoding/binary"
	"slices"
	"testing"
)

// spec describes a packet of TCP or UDP; the zero value is one of IPv4 TCP with ids
// that may not matter, and no payload.
type spec struct {
	v6, udp      bool
	flow         uint8 // chooses addresses and ports
	tos, ttl     uint8
	id           uint16
	fragmentable bool // without "don't fragment"
	fragment     uint16
	ipOptions    []byte
	extension    []byte // IPv6 extension headers, a multiple of 8; the first is destination options
	label        uint16 // of the IPv6 flow

	seq, ack    uint32
	flags       uint8
	window, urg uint16
	options     []byte

	payload    int   // length
	fill       uint8 // what the payload is made of
	noChecksum bool  // of UDP
	badIP, bad bool  // wrong checksums
}

// bytes is the packet.
func (s spec) bytes() []byte {
	var l4 []byte
	proto := byte(protoTCP)
	check := tcpChecksum
	ports := []byte{0x9c, 0x40 + s.flow, 0, 80}
	if s.udp {
		proto, check = protoUDP, udpChecksum
		l4 = append(ports, 0, 0, 0, 0)
		binary.BigEndian.PutUint16(l4[4:], uint16(8+s.payload))
	} else {
		l4 = binary.BigEndian.AppendUint32(ports, s.seq)
		l4 = binary.BigEndian.AppendUint32(l4, s.ack)
		l4 = append(l4, byte(20+len(s.options))/4<<4, s.flags)
		l4 = binary.BigEndian.AppendUint16(l4, s.window)
		l4 = binary.BigEndian.AppendUint16(l4, 0)
		l4 = binary.BigEndian.AppendUint16(l4, s.urg)
		l4 = append(l4, s.options...)
	}
	for i := range s.payload {
		l4 = append(l4, s.fill+byte(i*7))
	}
	var ip, addresses []byte
	if s.v6 {
		addresses = append(addresses, 0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
		addresses = append(addresses, 0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, s.flow, 2)
		next := proto
		if len(s.extension) > 0 {
			next = 60
		}
		ip = append(ip, 0x60|s.tos>>4, s.tos<<4, byte(s.label>>8), byte(s.label), 0, 0, next, s.ttl)
		binary.BigEndian.PutUint16(ip[4:], uint16(len(s.extension)+len(l4)))
		ip = append(append(ip, addresses...), s.extension...)
	} else {
		addresses = []byte{10, 9, 0, 1, 10, 9, s.flow, 2}
		ip = append(ip, 0x45+byte(len(s.ipOptions)/4), s.tos, 0, 0, byte(s.id>>8), byte(s.id), byte(s.fragment>>8), byte(s.fragment), s.ttl, proto, 0, 0)
		ip = append(append(ip, addresses...), s.ipOptions...)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(l4)))
		if !s.fragmentable {
			ip[6] |= 0x40
		}
		binary.BigEndian.PutUint16(ip[10:], ^naiveSum(ip))
		if s.badIP {
			ip[10] ^= 1
		}
	}
	if !s.noChecksum {
		c := ^naiveSum(addresses, []byte{0, proto}, binary.BigEndian.AppendUint16(nil, uint16(len(l4))), l4)
		if c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(l4[check:], c)
	}
	if s.bad {
		l4[len(l4)-1] ^= 1
	}
	return append(ip, l4...)
}

// naiveSum is the sum of RFC 1071, as it is written there.
func naiveSum(parts ...[]byte) uint16 {
	var acc uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			acc += uint32(b[i]) << 8
			if i+1 < len(b) {
				acc += uint32(b[i+1])
			}
			acc = acc>>16 + acc&0xffff
		}
	}
	return uint16(acc)
}

// super is the packet that s describes as the kernel would hand it over, to be cut
// into payloads of segSize.
func (s spec) super(segSize int) []byte {
	pkt := s.bytes()
	h := vnetHeader{flags: vnetNeedsChecksum, gsoSize: uint16(segSize)}
	h.csumStart = uint16(len(pkt) - s.payload - 8)
	h.gsoType, h.csumOffset = gsoUDP, udpChecksum
	proto := byte(protoUDP)
	if !s.udp {
		h.csumStart = uint16(len(pkt) - s.payload - 20 - len(s.options))
		h.gsoType, h.csumOffset, proto = gsoTCPv4, tcpChecksum, protoTCP
		if s.v6 {
			h.gsoType = gsoTCPv6
		}
	}
	addresses := pkt[12:20]
	if s.v6 {
		addresses = pkt[8:40]
	}
	l4 := pkt[h.csumStart:]
	binary.BigEndian.PutUint16(l4[h.csumOffset:],
		naiveSum(addresses, []byte{0, proto}, binary.BigEndian.AppendUint16(nil, uint16(len(l4)))))
	out := make([]byte, vnetHeaderLen, vnetHeaderLen+len(pkt))
	h.put(out)
	return append(out, pkt...)
}

// segments are the packets that s.super(segSize) stands for.
func (s spec) segments(segSize int) (packets [][]byte) {
	for left := s.payload; left > 0; left -= segSize {
		p := s
		p.payload = min(left, segSize)
		if left > segSize {
			p.flags &^= tcpFIN | tcpPSH
		}
		packets = append(packets, p.bytes())
		s.id++
		s.seq += uint32(segSize)
		s.fill += byte(segSize * 7)
	}
	return packets
}

// splitAll is what the reader makes of one read; nil: nothing.
func splitAll(b []byte) (packets [][]byte) {
	var s splitter
	if !s.start(slices.Clone(b)) {
		return nil
	}
	dst := make([]byte, len(b))
	for s.more() {
		packets = append(packets, slices.Clone(dst[:s.take(dst)]))
	}
	return packets
}

// wantSame compares lists of packets.
func wantSame(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", what, len(got), len(want))
	}
	for i := range got {
		if string(got[i]) != string(want[i]) {
			t.Fatalf("%s: packet %d of %d:\n% .80x (%d bytes)\nwant\n% .80x (%d bytes)",
				what, i, len(got), got[i], len(got[i]), want[i], len(want[i]))
		}
	}
}
