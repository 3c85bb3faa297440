// SPDX-License-Identifier: Apache-2.0

package vpn

import "encoding/binary"

// The two bits of ECN in the traffic class: RFC 3168 section 5.
const (
	ecnMask = 3 // also CE: congestion experienced
	notECT  = 0
)

// ecnMarker returns what sets CE in an IP packet, nil if the packet's transport does not
// understand it.
func ecnMarker(pkt []byte) func([]byte) {
	if len(pkt) < 20 {
		return nil
	}
	switch pkt[0] >> 4 {
	case 4:
		if pkt[1]&ecnMask != notECT {
			return markIPv4
		}
	case 6:
		if pkt[1]>>4&ecnMask != notECT {
			return markIPv6
		}
	}
	return nil
}

// markIPv4 sets CE, and updates the header checksum as RFC 1624 says.
func markIPv4(pkt []byte) {
	const checksum = 10
	before := binary.BigEndian.Uint16(pkt)
	pkt[1] |= ecnMask
	sum := uint32(^binary.BigEndian.Uint16(pkt[checksum:])) + uint32(^before) + uint32(binary.BigEndian.Uint16(pkt))
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(pkt[checksum:], ^uint16(sum))
}

func markIPv6(pkt []byte) { pkt[1] |= ecnMask << 4 }
