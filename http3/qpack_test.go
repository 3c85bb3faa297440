// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// testdata/qpack_static_table.tsv is the table of RFC 9204 appendix A: index, name, value.
func TestQPACKStaticTable(t *testing.T) { // R9204-A-1
	b, err := os.ReadFile("testdata/qpack_static_table.tsv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) != 99 || len(staticTable) != 99 {
		t.Fatalf("%d lines, %d entries, want 99", len(lines), len(staticTable))
	}
	for i, line := range lines {
		col := strings.Split(line, "\t")
		if want := (Field{col[1], col[2]}); col[0] != strconv.Itoa(i) || staticTable[i] != want {
			t.Errorf("entry %d is %q, want %q", i, staticTable[i], want)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQPACKEncode(t *testing.T) {
	for _, c := range []struct {
		field Field
		hex   string // without the field section prefix
	}{
		{Field{":method", "CONNECT"}, "cf"},
		{Field{":path", "/"}, "c1"},
		{Field{":status", "103"}, "d8"},
		{Field{"x-frame-options", "sameorigin"}, "ff23"}, // index 98
		// Name reference, value shorter without Huffman coding.
		{Field{":path", "/*"}, "51 02 2f2a"},
		{Field{"server", "<>"}, "5f4d 02 3c3e"}, // index 92
		// Huffman coded value.
		{Field{":authority", "www.example.com"}, "50 8c f1e3c2e5f23a6ba0ab90f4ff"},
		// The credential is never indexed.
		{Field{"authorization", "a"}, "7f45 01 61"},
		// Literal names: plain and Huffman coded, short and long length.
		{Field{"~", "x"}, "21 7e 01 78"},
		{Field{"custom-key", "custom-value"}, "2f 01 25a849e95ba97d7f 89 25a849e95bb8e8b4bf"},
		{Field{"a", ""}, "21 61 00"},
	} {
		got := appendFieldSection(nil, []Field{c.field})
		// R9204-3.2.3-1: Required Insert Count and Base are 0, nothing is inserted.
		if want := unhex(t, "0000"+c.hex); !bytes.Equal(got, want) {
			t.Errorf("%q = %x, want %x", c.field, got, want)
		}
		fields, err := decodeFieldSection(got, 1000)
		if err != nil || len(fields) != 1 || fields[0] != c.field {
			t.Errorf("%x decodes to %q, %v; want %q", got, fields, err, c.field)
		}
	}
}

func TestQPACKDecode(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      []Field
	}{
		{"RFC 9204 B.1", "0000 510b 2f69 6e64 6578 2e68 746d 6c", []Field{{":path", "/index.html"}}},
		{"empty section", "0000", nil},
		{"Delta Base without meaning", "0005 c1", []Field{{":path", "/"}}},
		{"never indexed literal name", "0000 31 61 01 62", []Field{{"a", "b"}}},
		{"two fields", "0000 c1 d7", []Field{{":path", "/"}, {":scheme", "https"}}},
		{"padded integer", "0000 ffa0808000", []Field{staticTable[63+32]}},
	} {
		got, err := decodeFieldSection(unhex(t, c.hex), 1000)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestQPACKDecodeErrors(t *testing.T) {
	connErr := func(code ErrorCode) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*ConnError](err)
			return ok && e.Code == code
		}
	}
	streamErr := func(code ErrorCode) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*StreamError](err)
			return ok && e.Code == code
		}
	}
	failed := connErr(ErrQPACKDecompression)
	for _, c := range []struct {
		name, hex string
		want      func(error) bool
	}{
		{"empty", "", failed},
		{"only Required Insert Count", "00", failed},
		{"Required Insert Count 1", "0200", failed},                 // R9204-4.5.1.1-1 R9204-2.1.2-1
		{"negative Base", "0080", failed},                           // R9204-4.5.1.2-1
		{"indexed, dynamic", "0000 80", failed},                     // R9204-2.2.3-1
		{"indexed, dynamic, after Base", "0000 10", failed},         // R9204-2.2.3-1
		{"named, dynamic", "0000 40 00", failed},                    // R9204-2.2.3-1
		{"named, dynamic, after Base", "0000 00 00", failed},        // R9204-2.2.3-1
		{"static index 99", "0000 ff24", failed},                    // R9204-3.1-1
		{"static name index 99", "0000 5f54 00", failed},            // R9204-3.1-1
		{"static index huge", "0000 ff ffffffffffffffff3e", failed}, // R9204-3.1-1
		{"truncated index", "0000 ff80", failed},
		{"truncated name", "0000 23 61", failed},
		{"no value", "0000 51", failed},
		{"truncated value", "0000 51 02 61", failed},
		{"bad Huffman padding", "0000 51 81 1e", failed},
		{"Huffman EOS", "0000 51 84 ffffffff", failed},
		// R9204-7.4-1: too large to decode ends only the request.
		{"63-bit integer", "0000 ff ffffffffffffffff7f", streamErr(ErrQPACKDecompression)},
		{"endless integer", "0000 ff 8080808080808080808080808080", streamErr(ErrQPACKDecompression)},
		{"70-bit integer", "0000 ff ffffffffffffffffff01", streamErr(ErrQPACKDecompression)},
		{"section too large", "0000 " + strings.Repeat("c1", 29), streamErr(ErrExcessiveLoad)},
	} {
		if fields, err := decodeFieldSection(unhex(t, c.hex), 28*38); !c.want(err) {
			t.Errorf("%s: %q, %v", c.name, fields, err)
		}
	}
}

func TestQPACKPrefixInt(t *testing.T) { // R9204-4.1.1-1
	// The first three are the examples of RFC 7541 appendix C.1.
	for _, c := range []struct {
		n   uint
		v   uint64
		hex string
	}{
		{5, 10, "0a"},
		{5, 1337, "1f9a0a"},
		{8, 42, "2a"},
		{3, 7, "0700"},
		{7, 127, "7f00"},
		{7, 128, "7f01"},
		{3, MaxVarint, "07f8ffffffffffffff3f"},
		{8, MaxVarint, "ff80feffffffffffff3f"},
	} {
		b := unhex(t, c.hex)
		if got := appendPrefixInt(nil, 0, c.n, c.v); !bytes.Equal(got, b) {
			t.Errorf("appendPrefixInt(%d, %d) = %x, want %s", c.n, c.v, got, c.hex)
		}
		if v, rest, err := consumePrefixInt(append(b, 9), c.n); v != c.v || len(rest) != 1 || err != nil {
			t.Errorf("consumePrefixInt(%s, %d) = %d, %x, %v", c.hex, c.n, v, rest, err)
		}
	}
}

func FuzzQPACK(f *testing.F) {
	f.Add([]byte("\x00\x00\x51\x0b/index.html"))
	f.Add(appendFieldSection(nil, []Field{{":method", "CONNECT"}, {"authorization", "Bearer x"}, {"x", "y"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := decodeFieldSection(b, maxFieldSectionSize)
		if err != nil {
			return
		}
		again, err := decodeFieldSection(appendFieldSection(nil, fields), maxFieldSectionSize)
		if err != nil || !slices.Equal(again, fields) {
			t.Fatalf("%q became %q, %v", fields, again, err)
		}
		parseRequest(fields)
		parseResponse(fields)
		checkTrailers(fields)
	})
}

func BenchmarkQPACKDecode(b *testing.B) {
	section := appendFieldSection(nil, connectIPFields())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeFieldSection(section, maxFieldSectionSize); err != nil {
			b.Fatal(err)
		}
	}
}
