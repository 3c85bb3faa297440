// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func onlyType1(typ uint64) bool { return typ == 1 }

func readAllCapsules(b []byte) (values, datagrams []string, err error) {
	r := newCapsuleReader(bytes.NewReader(b))
	for {
		c, err := readCapsule(r, onlyType1, func(b []byte) { datagrams = append(datagrams, string(b)) })
		if err != nil {
			return values, datagrams, err
		}
		values = append(values, string(c.Value))
	}
}

func TestReadCapsule(t *testing.T) {
	var b []byte
	b = AppendCapsule(b, 1, []byte("first"))
	b = AppendCapsule(b, 0x1234, []byte("unknown"))                              // R9297-3.2-1
	b = AppendCapsule(b, 0, []byte("datagram"))                                  // R9297-3.5-1
	b = AppendCapsule(b, 0, bytes.Repeat([]byte{1}, maxDatagramCapsule+1))       // R9297-3.5-2
	b = AppendCapsule(b, 0x1f*5+0x17, bytes.Repeat([]byte{1}, 3*maxCapsuleSize)) // not stored
	b = AppendCapsule(b, 1, nil)
	b = AppendCapsule(b, 1, bytes.Repeat([]byte{'x'}, maxCapsuleSize))
	values, datagrams, err := readAllCapsules(b)
	if err != io.EOF {
		t.Fatal(err)
	}
	if len(values) != 3 || values[0] != "first" || values[1] != "" || values[2] != strings.Repeat("x", maxCapsuleSize) {
		t.Errorf("%d capsules", len(values))
	}
	if len(datagrams) != 1 || datagrams[0] != "datagram" {
		t.Errorf("datagrams %q", datagrams)
	}
}

func TestReadCapsuleErrors(t *testing.T) {
	b := AppendCapsule(nil, 1, []byte("x"))
	for n := 1; n < len(b); n++ { // R9297-3.3-2
		if _, _, err := readAllCapsules(b[:n]); !isMalformed(err) {
			t.Errorf("%x: %v", b[:n], err)
		}
	}
	if _, _, err := readAllCapsules(unhex(t, "07 05 01")); !isMalformed(err) { // R9297-3.3-2
		t.Errorf("truncated unknown capsule: %v", err)
	}
	_, _, err := readAllCapsules(AppendCapsule(nil, 1, make([]byte, maxCapsuleSize+1)))
	if e, ok := errors.AsType[*StreamError](err); !ok || e.Code != ErrExcessiveLoad {
		t.Errorf("large capsule: %v", err)
	}
}

func FuzzCapsules(f *testing.F) {
	f.Add(unhex(f, "010700040a63000220 030a0400000000ffffffff00 0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, _, err := readAllCapsules(b)
		if err == nil {
			t.Fatal("no end")
		}
		for _, v := range values {
			if len(v) > len(b) {
				t.Fatal("capsule larger than its input")
			}
		}
	})
}
