// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFrameReader(t *testing.T) {
	in := unhex(t, "01 03 616263  4021 04 64656667  00 00  00 02 6869")
	for name, r := range map[string]io.Reader{
		"whole":       bytes.NewReader(in),
		"by one byte": iotest.OneByteReader(bytes.NewReader(in)),
		"early EOF":   iotest.DataErrReader(bytes.NewReader(in)),
	} {
		f := newFrameReader(r)
		if typ, err := f.next(); typ != 1 || f.left != 3 || err != nil {
			t.Fatalf("%s: %d, %d, %v", name, typ, f.left, err)
		}
		if b, err := f.value(3); string(b) != "abc" || err != nil {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
		if typ, err := f.next(); typ != 0x21 || err != nil {
			t.Fatalf("%s: %d, %v", name, typ, err)
		}
		// What is not read of a frame is skipped.
		p := make([]byte, 2)
		if n, err := f.read(p); n == 0 || err != nil {
			t.Fatalf("%s: %d, %v", name, n, err)
		}
		if typ, err := f.next(); typ != 0 || f.left != 0 || err != nil {
			t.Fatalf("%s: %d, %d, %v", name, typ, f.left, err)
		}
		if typ, err := f.next(); typ != 0 || f.left != 2 || err != nil {
			t.Fatalf("%s: %d, %d, %v", name, typ, f.left, err)
		}
		if _, err := f.next(); err != io.EOF {
			t.Fatalf("%s: %v, want EOF", name, err)
		}
	}
}

func TestFrameReaderTruncated(t *testing.T) { // R9114-7.1-2
	in := unhex(t, "4021 4002 6162")
	for n := 1; n < len(in); n++ {
		f := newFrameReader(bytes.NewReader(in[:n]))
		var err error
		for err == nil {
			_, err = f.next()
		}
		if e, ok := errors.AsType[*ConnError](err); !ok || e.Code != ErrFrame {
			t.Errorf("%x: %v", in[:n], err)
		}
	}
	// A reset is not taken for an end.
	reset := errors.New("reset")
	f := newFrameReader(io.MultiReader(bytes.NewReader(in[:5]), iotest.ErrReader(reset)))
	f.next()
	if _, err := f.value(10); err != reset {
		t.Error(err)
	}
}

func TestFrameValueLimit(t *testing.T) {
	f := newFrameReader(bytes.NewReader(unhex(t, "01 ffffffffffffffff 00")))
	if _, err := f.next(); err != nil {
		t.Fatal(err)
	}
	_, err := f.value(maxFieldSectionSize)
	if e, ok := errors.AsType[*StreamError](err); !ok || e.Code != ErrExcessiveLoad {
		t.Error(err)
	}
	if err := f.skip(); err == nil {
		t.Error("a truncated frame of 2^62-1 bytes is skipped")
	}
}
