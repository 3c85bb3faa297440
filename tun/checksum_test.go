// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		random := make([]byte, n)
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		for _, b := range [][]byte{random, make([]byte, n), bytes.Repeat([]byte{0xff}, n)} {
			v := uint16(r.Uint32())
			want := naiveSum([]byte{byte(v >> 8), byte(v)}, b)
			if got := fold(sum(word(v), b)); got != want {
				t.Fatalf("sum of %#x and % x: %#x, want %#x", v, b, got, want)
			}
			if got := sum(^uint64(0), b); got >= 1<<33 {
				t.Fatalf("sum of the largest and % x: %#x", b, got)
			}
			even := n / 2 &^ 1
			if got, want := fold(sum(sum(0, b[:even]), b[even:])), naiveSum(b); got != want {
				t.Fatalf("sum in two parts of % x: %#x, want %#x", b, got, want)
			}
		}
	}
}

// UDP has no checksum of zero.
func TestTransportChecksumIsNotZero(t *testing.T) {
	if c := transportChecksum(word(0xffff)); c != 0xffff {
		t.Errorf("checksum of all ones: %#x, want 0xffff", c)
	}
	if c := transportChecksum(word(0x1234)); c != ^uint16(0x1234) {
		t.Errorf("checksum of 0x1234: %#x", c)
	}
}

func BenchmarkSum(b *testing.B) {
	pkt := make([]byte, 1400)
	b.SetBytes(int64(len(pkt)))
	for b.Loop() {
		sum(0, pkt)
	}
}
