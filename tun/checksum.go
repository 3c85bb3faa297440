// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"encoding/binary"
	"math/bits"
)

// The internet checksum (RFC 1071) does not depend on the byte order in which the
// words are added, if the result is swapped at the end. Sums here are of little
// endian words, eight bytes at a time; word and fold convert.

// word is the contribution of a 16-bit header field with value v to a sum.
func word(v uint16) uint64 { return uint64(bits.ReverseBytes16(v)) }

// sum adds the bytes of b, which starts at an even offset of what is summed up, to
// acc. The result is below 1<<33: words may be added to it and it may be passed on.
func sum(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 64 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[32:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[40:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[48:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[56:]), carry)
		acc += carry // cannot overflow: with a carry, acc is not all ones
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	acc = acc>>32 + acc&0xffffffff
	if len(b) >= 4 {
		acc += uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		acc += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		acc += uint64(b[0])
	}
	return acc>>32 + acc&0xffffffff
}

// fold turns a sum into the 16-bit value that a header field holds, not yet
// complemented. Zero stays zero only for a sum of zeros.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return bits.ReverseBytes16(uint16(acc))
}

// transportChecksum is the value for the checksum field of TCP and UDP. Zero is sent
// as its equal, all ones: in UDP zero means that there is no checksum.
func transportChecksum(acc uint64) uint16 {
	if c := ^fold(acc); c != 0 {
		return c
	}
	return 0xffff
}
