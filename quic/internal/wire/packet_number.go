// SPDX-License-Identifier: Apache-2.0

package wire

import "math/bits"

// PacketNumberLen returns in how many bytes, 1 to 4, packet number next must be encoded
// while largestAcked is the largest one that the peer acknowledged, -1 for none: so many
// that they tell apart twice as many numbers as may be missing.
//
// R9000-17.1-1, R9000-17.1-2
func PacketNumberLen(next uint64, largestAcked int64) int {
	unacked := next - uint64(largestAcked) // next + 1 if none is acknowledged
	return min((bits.Len64(unacked-1)+1+7)/8, 4)
}

// AppendPacketNumber appends the low pnLen bytes, 1 to 4, of pn.
func AppendPacketNumber(b []byte, pn uint64, pnLen int) []byte {
	for i := pnLen - 1; i >= 0; i-- {
		b = append(b, byte(pn>>(8*i)))
	}
	return b
}

// DecodePacketNumber returns the packet number whose low pnLen bytes are truncated and
// that is closest to the one after largest, the largest one received, -1 for none.
// Ties go upwards as in RFC 9000 appendix A.3.
//
// R9000-17.1-3
func DecodePacketNumber(largest int64, truncated uint64, pnLen int) uint64 {
	expected := uint64(largest + 1)
	window := uint64(1) << (8 * pnLen)
	half := window / 2
	candidate := expected&^(window-1) | truncated
	switch {
	case candidate+half <= expected && candidate < MaxVarint+1-window:
		return candidate + window
	case candidate > expected+half && candidate >= window:
		return candidate - window
	}
	return candidate
}
