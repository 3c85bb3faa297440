// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"
)

// R9000-17.1-1, R9000-17.1-2
func TestPacketNumberLen(t *testing.T) {
	for _, test := range []struct {
		next    uint64
		largest int64
		want    int
	}{
		{0xac5c02, 0xabe8b3, 2}, // RFC 9000 appendix A.2
		{0xace8fe, 0xabe8b3, 3}, // RFC 9000 appendix A.2
		{0, -1, 1},
		{127, -1, 1},
		{128, -1, 2}, // 255 would still be decoded, but only 128 is less than half the range
		{1<<15 - 1, -1, 2},
		{1 << 15, -1, 3},
		{1<<23 - 1, -1, 3},
		{1 << 23, -1, 4},
		{1<<31 - 1, -1, 4},
		{1 << 40, -1, 4}, // the longest there is
		{1000, 999, 1},
		{1000 + 128, 1000, 1},
		{1000 + 129, 1000, 2},
		{MaxVarint, MaxVarint - 1, 1},
	} {
		if got := PacketNumberLen(test.next, test.largest); got != test.want {
			t.Errorf("PacketNumberLen(%d, %d) = %d, want %d", test.next, test.largest, got, test.want)
		}
	}
}

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

// Whatever length PacketNumberLen chooses, every receiver that is not ahead of the
// sender decodes the number sent.
func TestPacketNumberRoundTrip(t *testing.T) {
	for _, acked := range []int64{-1, 0, 1000, 1 << 30, 1 << 50} {
		for _, gap := range []uint64{1, 2, 127, 128, 129, 255, 256, 1<<15 - 1, 1 << 15, 1<<23 + 1, 1<<31 - 1} {
			next := uint64(acked + int64(gap))
			pnLen := PacketNumberLen(next, acked)
			truncated := next & (1<<(8*pnLen) - 1)
			for _, largest := range []int64{acked, acked + int64(gap)/2, int64(next) - 1} {
				if got := DecodePacketNumber(largest, truncated, pnLen); got != next {
					t.Errorf("%d after %d was acknowledged, %d received: decoded %d", next, acked, largest, got)
				}
			}
		}
	}
}
