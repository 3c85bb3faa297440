// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// ipSum is the sum of the 16-bit words of an IPv4 header: 0xffff with a right checksum.
func ipSum(header []byte) uint32 {
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

func TestECNMarkIPv4(t *testing.T) {
	for tos := range 256 {
		for id := range 2000 { // so that checksums of all kinds occur
			pkt := []byte{0x45, byte(tos), 0, 24, byte(id >> 8), byte(id), 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, byte(id * 7), 2, 1, 2, 3, 4}
			binary.BigEndian.PutUint16(pkt[10:], ^uint16(ipSum(pkt)))
			mark := ecnMarker(pkt)
			if (mark != nil) != (tos&3 != 0) {
				t.Fatalf("TOS %#x: can be marked %v", tos, mark != nil)
			}
			if mark == nil {
				continue
			}
			want := bytes.Clone(pkt)
			want[1] |= 3
			mark(pkt)
			if ipSum(pkt) != 0xffff {
				t.Fatalf("TOS %#x, id %d: wrong checksum", tos, id)
			}
			want[10], want[11] = pkt[10], pkt[11]
			if !bytes.Equal(pkt, want) {
				t.Fatalf("TOS %#x: % x, want % x", tos, pkt, want)
			}
		}
	}
}

func TestECNMarkIPv6(t *testing.T) {
	for class := range 256 {
		pkt := make([]byte, 48)
		pkt[0], pkt[1], pkt[2] = 0x60|byte(class>>4), byte(class)<<4|0x0a, 0xbc
		mark := ecnMarker(pkt)
		if (mark != nil) != (class&3 != 0) {
			t.Fatalf("traffic class %#x: can be marked %v", class, mark != nil)
		}
		if mark != nil {
			mark(pkt)
			if got := int(pkt[0]&0x0f)<<4 | int(pkt[1]>>4); got != class|3 || pkt[1]&0x0f != 0x0a || pkt[2] != 0xbc {
				t.Fatalf("traffic class %#x, marked %#x: % x", class, got, pkt[:4])
			}
		}
	}
}

func TestECNMarkNothing(t *testing.T) {
	for _, pkt := range [][]byte{nil, {0x45, 3}, make([]byte, 40), bytes.Repeat([]byte{0x5f}, 40)} {
		if ecnMarker(pkt) != nil {
			t.Errorf("% x can be marked", pkt)
		}
	}
}
