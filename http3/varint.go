// SPDX-License-Identifier: Apache-2.0

package http3

import "math/bits"

// MaxVarint is the largest value of a variable-length integer (RFC 9000 section 16).
const MaxVarint = 1<<62 - 1

// AppendVarint appends v in its shortest form. v is at most MaxVarint.
func AppendVarint(b []byte, v uint64) []byte {
	switch SizeVarint(v) {
	case 1:
		return append(b, byte(v))
	case 2:
		return append(b, 0x40|byte(v>>8), byte(v))
	case 4:
		return append(b, 0x80|byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return append(b, 0xc0|byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32),
		byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// SizeVarint is the length in bytes of v's shortest form: 1, 2, 4 or 8.
func SizeVarint(v uint64) int {
	switch n := bits.Len64(v); {
	case n <= 6:
		return 1
	case n <= 14:
		return 2
	case n <= 30:
		return 4
	case n <= 62:
		return 8
	}
	panic("BUG: variable-length integer above 2^62-1")
}

// ConsumeVarint reads an integer from the front of b and returns its length in
// bytes, -1 when b is too short.
func ConsumeVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, -1
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, -1
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}
