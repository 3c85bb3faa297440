// SPDX-License-Identifier: Apache-2.0

package wire

// Range is an inclusive range of packet numbers.
type Range struct{ Lo, Hi uint64 }

// ECNCounts are the totals of received packets by ECN mark, of one packet number space.
type ECNCounts struct{ ECT0, ECT1, CE uint64 }

// AckRanges iterates over the ranges of a parsed ACK or PATH_ACK frame, from the largest
// packet number down. It aliases the packet. Copy the value to iterate again.
type AckRanges struct {
	rest []byte // fields not read yet, of a frame that is known to be valid
	hi   uint64 // largest packet number of the next range
	left uint64 // ranges not returned yet
}

// Next returns the next lower range, lo ≤ hi; ok is false after the last one.
func (r *AckRanges) Next() (lo, hi uint64, ok bool) {
	if r.left == 0 {
		return 0, 0, false
	}
	length, n := ConsumeVarint(r.rest)
	r.rest = r.rest[n:]
	hi = r.hi
	lo = hi - length
	r.left--
	if r.left > 0 {
		gap, n := ConsumeVarint(r.rest)
		r.rest = r.rest[n:]
		r.hi = lo - gap - 2
	}
	return lo, hi, true
}

// parse takes the ranges of an ACK frame, from ACK Range Count on, off r, and verifies
// all of them: a frame is rejected before any of it takes effect.
func (a *AckRanges) parse(r *reader, largest uint64) ParseError {
	count := r.varint()
	*a = AckRanges{rest: r.b, hi: largest, left: count + 1}
	hi := largest
	for i := uint64(0); ; i++ {
		length := r.varint()
		if length > hi { // R9000-19.3.1-1
			return ErrAckRange
		}
		if i == count || r.failed {
			return ParseOK
		}
		lo, gap := hi-length, r.varint()
		if gap+2 > lo && !r.failed {
			return ErrAckRange
		}
		hi = lo - gap - 2
	}
}

// sizeAckRanges is the number of bytes from Largest Acknowledged to the last ACK Range,
// ACK Delay excluded. ranges is in ascending order.
func sizeAckRanges(ranges []Range) int {
	last := len(ranges) - 1
	n := SizeVarint(ranges[last].Hi) + SizeVarint(uint64(last)) + SizeVarint(ranges[last].Hi-ranges[last].Lo)
	for i := last - 1; i >= 0; i-- {
		n += SizeVarint(ranges[i+1].Lo-ranges[i].Hi-2) + SizeVarint(ranges[i].Hi-ranges[i].Lo)
	}
	return n
}

func sizeECN(ecn *ECNCounts) int {
	if ecn == nil {
		return 0
	}
	return SizeVarint(ecn.ECT0) + SizeVarint(ecn.ECT1) + SizeVarint(ecn.CE)
}

// appendAckFields appends an ACK frame from Largest Acknowledged on.
func appendAckFields(b []byte, delay uint64, ranges []Range, ecn *ECNCounts) []byte {
	last := len(ranges) - 1
	b = AppendVarint(b, ranges[last].Hi)
	b = AppendVarint(b, delay)
	b = AppendVarint(b, uint64(last))
	b = AppendVarint(b, ranges[last].Hi-ranges[last].Lo)
	for i := last - 1; i >= 0; i-- {
		b = AppendVarint(b, ranges[i+1].Lo-ranges[i].Hi-2)
		b = AppendVarint(b, ranges[i].Hi-ranges[i].Lo)
	}
	if ecn != nil {
		b = AppendVarint(b, ecn.ECT0)
		b = AppendVarint(b, ecn.ECT1)
		b = AppendVarint(b, ecn.CE)
	}
	return b
}
