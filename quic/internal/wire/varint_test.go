// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"
)

// The examples of RFC 9000 appendix A.1 and the ends of each length.
func TestVarint(t *testing.T) { // R9000-16-1
	for _, test := range []struct {
		bytes   string
		v       uint64
		minimal bool
	}{
		{"c2197c5eff14e88c", 151288809941952652, true},
		{"9d7f3e7d", 494878333, true},
		{"7bbd", 15293, true},
		{"25", 37, true},
		{"4025", 37, false},
		{"80000025", 37, false},
		{"c000000000000025", 37, false},
		{"00", 0, true},
		{"3f", 63, true},
		{"4040", 64, true},
		{"7fff", 16383, true},
		{"80004000", 16384, true},
		{"bfffffff", 1<<30 - 1, true},
		{"c000000040000000", 1 << 30, true},
		{"ffffffffffffffff", MaxVarint, true},
	} {
		b := unhex(t, test.bytes)
		if v, n := ConsumeVarint(append(b, 0xff)); v != test.v || n != len(b) {
			t.Errorf("ConsumeVarint(%x) = %d, %d, want %d, %d", b, v, n, test.v, len(b))
		}
		for cut := range b {
			if v, n := ConsumeVarint(b[:cut]); v != 0 || n != -1 {
				t.Errorf("ConsumeVarint(%x) = %d, %d, want 0, -1", b[:cut], v, n)
			}
		}
		if got := AppendVarintN(nil, test.v, len(b)); !bytes.Equal(got, b) {
			t.Errorf("AppendVarintN(%d, %d) = %x, want %x", test.v, len(b), got, b)
		}
		if got := AppendVarint(nil, test.v); test.minimal && !bytes.Equal(got, b) {
			t.Errorf("AppendVarint(%d) = %x, want %x", test.v, got, b)
		}
		if got := SizeVarint(test.v); (got == len(b)) != test.minimal {
			t.Errorf("SizeVarint(%d) = %d", test.v, got)
		}
	}
}

func TestVarintBugs(t *testing.T) {
	for name, f := range map[string]func(){
		"2^62":             func() { AppendVarint(nil, MaxVarint+1) },
		"64 in one byte":   func() { AppendVarintN(nil, 64, 1) },
		"three bytes":      func() { AppendVarintN(nil, 1, 3) },
		"size of 2^64 - 1": func() { SizeVarint(1<<64 - 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
