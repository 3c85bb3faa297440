// SPDX-License-Identifier: Apache-2.0

package wire

// AppendPacketNumber appends the low pnLen bytes, 1 to 4, of pn. Four bytes do whenever
// less than 2^31 packets are in flight, so that a sender need not compute the shortest
// length.
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
