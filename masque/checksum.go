// SPDX-License-Identifier: Apache-2.0

package masque

import "encoding/binary"

// sum adds the 16-bit words of b to a running one's complement sum (RFC 1071).
// Only the last piece of a packet may have an odd length.
func sum(b []byte, acc uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return fold(acc)
}

// fold brings a sum back to 16 bits.
func fold(acc uint32) uint32 {
	acc = acc&0xffff + acc>>16
	return acc&0xffff + acc>>16
}

// checksum is the Internet checksum over b, starting from a sum.
func checksum(b []byte, acc uint32) uint16 { return ^uint16(sum(b, acc)) }

// pseudoHeader6 is the sum of the IPv6 pseudo-header (RFC 8200 section 8.1);
// addresses holds source and destination.
func pseudoHeader6(addresses []byte, length int, protocol uint8) uint32 {
	return fold(sum(addresses, 0) + uint32(length) + uint32(protocol))
}

// updateChecksum is the checksum after the word old has become new (RFC 1624).
func updateChecksum(check, old, new uint16) uint16 {
	return ^uint16(fold(uint32(^check) + uint32(^old) + uint32(new)))
}
