// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"
)

func TestAppendPacketNumber(t *testing.T) {
	for pnLen, want := range map[int]string{1: "02", 2: "5c02", 3: "ac5c02", 4: "01ac5c02"} {
		if got := AppendPacketNumber(nil, 0xff01ac5c02, pnLen); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("in %d bytes: %x, want %s", pnLen, got, want)
		}
	}
}

// R9000-17.1-3
func TestDecodePacketNumber(t *testing.T) {
	for _, test := range []struct {
		largest   int64
		truncated uint64
		pnLen     int
		want      uint64
	}{
		{0xa82f30ea, 0x9b32, 2, 0xa82f9b32}, // RFC 9000 appendix A.3
		{0xac4c02, 0x5c02, 2, 0xac5c02},
		{-1, 0, 1, 0},
		{-1, 128, 1, 128}, // the tie goes up
		{-1, 255, 1, 255}, // not below 0
		{255, 0, 1, 256},  // expected 256
		{254, 0, 1, 256},
		{300, 255, 1, 255},
		{300, 46, 1, 302},
		{300, 172, 1, 428},                     // expected 301, half a window of 128 further is 429
		{300, 173, 1, 429},                     // the tie goes up
		{300, 174, 1, 174},                     // one more goes down
		{126, 255, 1, 255},                     // expected 127, 255 is 128 further
		{125, 255, 1, 255},                     // 129 further, but there is nothing below
		{MaxVarint - 1, 0, 1, MaxVarint - 255}, // not above 2^62-1
		{MaxVarint - 1, 0xff, 1, MaxVarint},
		{1 << 40, 1, 4, 1<<40 + 1},
	} {
		if got := DecodePacketNumber(test.largest, test.truncated, test.pnLen); got != test.want {
			t.Errorf("DecodePacketNumber(%d, %d, %d) = %d, want %d",
				test.largest, test.truncated, test.pnLen, got, test.want)
		}
	}
}

// A receiver decodes the number sent as long as the numbers it has not seen are less than
// half of those that the length tells apart, also when it has seen later ones.
func TestPacketNumberRoundTrip(t *testing.T) {
	for pnLen := 1; pnLen <= 4; pnLen++ {
		half := int64(1) << (8*pnLen - 1)
		for _, pn := range []int64{0, 1, half - 1, half, half + 1, 2*half - 1, 2 * half, 1 << 50} {
			truncated := uint64(pn) & uint64(2*half-1)
			for _, ahead := range []int64{1, 2, half / 2, half, 0, -1, 2 - half} {
				largest := pn - ahead
				if largest < -1 {
					continue
				}
				if got := DecodePacketNumber(largest, truncated, pnLen); got != uint64(pn) {
					t.Errorf("%d in %d bytes after %d: decoded %d", pn, pnLen, largest, got)
				}
			}
		}
	}
}
