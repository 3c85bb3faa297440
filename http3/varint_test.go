// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestVarint(t *testing.T) {
	// The examples of RFC 9000 appendix A.1 and the limits of each length.
	for _, c := range []struct {
		hex string
		v   uint64
	}{
		{"c2197c5eff14e88c", 151288809941952652},
		{"9d7f3e7d", 494878333},
		{"7bbd", 15293},
		{"25", 37},
		{"00", 0},
		{"3f", 63},
		{"4040", 64},
		{"7fff", 16383},
		{"80004000", 16384},
		{"bfffffff", 1<<30 - 1},
		{"c000000040000000", 1 << 30},
		{"ffffffffffffffff", MaxVarint},
	} {
		b, _ := hex.DecodeString(c.hex)
		if got := AppendVarint(nil, c.v); !bytes.Equal(got, b) {
			t.Errorf("AppendVarint(%d) = %x, want %s", c.v, got, c.hex)
		}
		if got := SizeVarint(c.v); got != len(b) {
			t.Errorf("SizeVarint(%d) = %d, want %d", c.v, got, len(b))
		}
		if v, n := ConsumeVarint(append(b, 1)); v != c.v || n != len(b) {
			t.Errorf("ConsumeVarint(%s) = %d, %d", c.hex, v, n)
		}
		for i := range b {
			if _, n := ConsumeVarint(b[:i]); n != -1 {
				t.Errorf("ConsumeVarint(%x) accepts a truncated integer", b[:i])
			}
		}
	}
	if v, n := ConsumeVarint([]byte{0x40, 0x25}); v != 37 || n != 2 {
		t.Errorf("the longer form of 37 = %d, %d", v, n)
	}
}
