// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// MaxVarint is the largest value of a variable-length integer.
const MaxVarint = 1<<62 - 1

// SizeVarint returns the length in bytes of the shortest encoding of v: 1, 2, 4 or 8.
func SizeVarint(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	case v <= MaxVarint:
		return 8
	}
	panic("BUG: value does not fit a variable-length integer")
}

// AppendVarint appends the shortest encoding of v, which is at most MaxVarint.
func AppendVarint(b []byte, v uint64) []byte {
	if v < 1<<6 {
		return append(b, byte(v))
	}
	return AppendVarintN(b, v, SizeVarint(v))
}

// AppendVarintN appends v in size bytes: 1, 2, 4 or 8, at least SizeVarint(v).
func AppendVarintN(b []byte, v uint64, size int) []byte {
	if size < SizeVarint(v) {
		panic("BUG: value does not fit the size of its variable-length integer")
	}
	switch size {
	case 1:
		return append(b, byte(v))
	case 2:
		return binary.BigEndian.AppendUint16(b, 0x4000|uint16(v))
	case 4:
		return binary.BigEndian.AppendUint32(b, 0x8000_0000|uint32(v))
	case 8:
		return binary.BigEndian.AppendUint64(b, 0xc000_0000_0000_0000|v)
	}
	panic("BUG: a variable-length integer has 1, 2, 4 or 8 bytes")
}

// ConsumeVarint reads the integer at the start of b, in whichever length it is encoded,
// and returns it with that length; n is -1 when b is cut short.
func ConsumeVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, -1
	}
	switch b[0] >> 6 { // R9000-16-1
	case 0:
		return uint64(b[0]), 1
	case 1:
		if len(b) >= 2 {
			return uint64(binary.BigEndian.Uint16(b)) & (1<<14 - 1), 2
		}
	case 2:
		if len(b) >= 4 {
			return uint64(binary.BigEndian.Uint32(b)) & (1<<30 - 1), 4
		}
	default:
		if len(b) >= 8 {
			return binary.BigEndian.Uint64(b) & MaxVarint, 8
		}
	}
	return 0, -1
}

// reader takes fields from the front of b. After the first field that is cut short it
// has failed, and every further field reads as zero: callers check once, at the end.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) varint() uint64 {
	v, n := ConsumeVarint(r.b)
	if n < 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// bytes takes n bytes. Their capacity ends with them, so that appending to a field
// cannot overwrite the rest of the packet.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) rest() []byte {
	return r.bytes(uint64(len(r.b)))
}

func (r *reader) fail() {
	r.b, r.failed = nil, true
}
