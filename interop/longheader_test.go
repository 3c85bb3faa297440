// SPDX-License-Identifier: Apache-2.0

package interop

// What a relay can see of QUIC: the long headers of version 1 (RFC 9000 section 17.2).

const (
	longInitial   = 0
	longZeroRTT   = 1
	longHandshake = 2
	longRetry     = 3
)

// longPacket is a packet with a long header.
type longPacket struct {
	typ   byte
	token bool // Initial: it has a token
}

// longPackets lists the packets with long headers at the front of a datagram.
func longPackets(d []byte) (packets []longPacket) {
	for len(d) >= 7 && d[0]&0x80 != 0 && string(d[1:5]) == "\x00\x00\x00\x01" {
		p := longPacket{typ: d[0] >> 4 & 3}
		rest, ok := d[5:], true
		for range 2 { // connection ids
			if len(rest) == 0 || len(rest) <= int(rest[0]) {
				return packets
			}
			rest = rest[1+int(rest[0]):]
		}
		if p.typ == longRetry {
			return append(packets, p)
		}
		var n uint64
		if p.typ == longInitial {
			if n, rest, ok = varint(rest); !ok || n > uint64(len(rest)) {
				return packets
			}
			p.token, rest = n > 0, rest[n:]
		}
		if n, rest, ok = varint(rest); !ok || n > uint64(len(rest)) {
			return packets
		}
		packets = append(packets, p)
		d = rest[n:]
	}
	return packets
}

func varint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1<<(b[0]>>6) {
		return 0, nil, false
	}
	n := 1 << (b[0] >> 6)
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, b[n:], true
}
