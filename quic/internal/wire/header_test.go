// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var (
	testDst = []byte{0xd1, 0xd2, 0xd3, 0xd4}
	testSrc = []byte{0x51, 0x52}
)

// Packets of each type, worked out from the figures of RFC 9000 section 17.2. Fields
// behind the header are two bytes of packet number and two of payload.
func TestLongHeaders(t *testing.T) {
	for _, test := range []struct {
		bytes string
		want  LongHeader
		token []byte
	}{
		{bytes: "c1 00000001 04 d1d2d3d4 02 5152 00 4004 0102 aabb",
			want: LongHeader{Type: Initial, Token: []byte{}, PNOffset: 16, Length: 4}},
		{bytes: "c1 00000001 04 d1d2d3d4 02 5152 03 746f6b 4004 0102 aabb",
			want: LongHeader{Type: Initial, Token: []byte("tok"), PNOffset: 19, Length: 4}},
		{bytes: "d1 00000001 04 d1d2d3d4 02 5152 4004 0102 aabb",
			want: LongHeader{Type: ZeroRTT, PNOffset: 15, Length: 4}},
		{bytes: "e1 00000001 04 d1d2d3d4 02 5152 4004 0102 aabb",
			want: LongHeader{Type: Handshake, PNOffset: 15, Length: 4}},
	} {
		b := unhex(t, test.bytes)
		want := test.want
		want.FirstByte, want.Version, want.DstConnID, want.SrcConnID = b[0], Version1, testDst, testSrc

		out, lengthOffset := AppendLongHeader([]byte("prefix"), want.Type, Version1, testDst, testSrc, want.Token, 2)
		out = append(AppendPacketNumber(out, 0x0102, 2), 0xaa, 0xbb)
		SetLength(out, lengthOffset, 4)
		if out = out[len("prefix"):]; !bytes.Equal(out, b) {
			t.Errorf("%s: encoded as %x, want %x", want.Type, out, b)
		}

		for _, rest := range []string{"", "c0ffee"} { // alone, and with another packet behind it
			got, n, ok := ParseLongHeader(append(slices.Clone(b), rest...))
			if !ok || n != len(b) || !reflect.DeepEqual(got, want) {
				t.Errorf("ParseLongHeader(%x) = %+v, %d, %v, want %+v, %d", b, got, n, ok, want, len(b))
			}
		}
		for n := range b {
			if _, _, ok := ParseLongHeader(b[:n]); ok {
				t.Errorf("%s cut to %d bytes is accepted", want.Type, n)
			}
		}
	}
}

func TestShortHeader(t *testing.T) {
	if got, want := AppendShortHeader(nil, testDst, false, 4), unhex(t, "43 d1d2d3d4"); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got, want := AppendShortHeader(nil, testDst, true, 1), unhex(t, "44 d1d2d3d4"); !bytes.Equal(got, want) {
		t.Errorf("with key phase 1: %x, want %x", got, want)
	}
}

func TestLongHeaderErrors(t *testing.T) {
	long := strings.Repeat("aa", 21)
	for name, s := range map[string]string{
		"empty":                            "",
		"short header":                     "41 00000001 04 d1d2d3d4 02 5152 00 4004 0102 aabb",
		"destination id of 21":             "c1 00000001 15 " + long + " 00 00 02 0102", // R9000-17.2-2
		"source id of 21":                  "c1 00000001 00 15 " + long + " 00 02 0102", // R9000-17.2-2
		"token past the end":               "c1 00000001 00 00 4fff 02 0102",
		"length past the end":              "e1 00000001 00 00 03 0102",
		"largest length":                   "e1 00000001 00 00 ffffffffffffffff 0102",
		"Retry shorter than its tag":       "f0 00000001 00 00 " + strings.Repeat("aa", 15),
		"no versions":                      "80 00000000 00 00",               // R8999-6-2
		"version cut short":                "80 00000000 00 00 00000001 0000", // R8999-6-2
		"unknown version, id past the end": "80 0a0a0a0a ff 00",
	} {
		if h, n, ok := ParseLongHeader(unhex(t, s)); ok {
			t.Errorf("%s: accepted with length %d as %+v", name, n, h)
		}
	}
}

// R9000-17.2-4
func TestUnknownVersion(t *testing.T) {
	dst, src := bytes.Repeat([]byte{0xdd}, 30), bytes.Repeat([]byte{0x55}, 255)
	b := slices.Concat(unhex(t, "80 0a1a2a3a 1e"), dst, []byte{255}, src, []byte("anything"))
	h, n, ok := ParseLongHeader(b)
	if !ok || n != len(b) || h.Type != UnknownVersion || h.Version != 0x0a1a2a3a ||
		!bytes.Equal(h.DstConnID, dst) || !bytes.Equal(h.SrcConnID, src) {
		t.Errorf("%+v, %d, %v", h, n, ok)
	}
}

func TestVersionNegotiation(t *testing.T) {
	// R9000-17.2.1-1, R8999-6-3: the ids change places.
	want := unhex(t, "c0 00000000 02 5152 04 d1d2d3d4 00000001 0a1a2a3a")
	if got := AppendVersionNegotiation(nil, testDst, testSrc, []uint32{Version1, 0x0a1a2a3a}); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	longID := bytes.Repeat([]byte{7}, 255)
	if got := AppendVersionNegotiation(nil, testDst, longID, nil); !bytes.Equal(got[6:6+255], longID) {
		t.Errorf("id of 255 bytes became %x", got)
	}
	for _, first := range []byte{0x80, 0xff} { // R8999-6-1, R9000-17.2.1-2
		want[0] = first
		h, n, ok := ParseLongHeader(want)
		if !ok || n != len(want) || h.Type != VersionNegotiation ||
			!bytes.Equal(h.DstConnID, testSrc) || !bytes.Equal(h.SrcConnID, testDst) {
			t.Errorf("first byte %x: %+v, %d, %v", first, h, n, ok)
		}
		if v := h.SupportedVersions(); !slices.Equal(v, []uint32{Version1, 0x0a1a2a3a}) {
			t.Errorf("first byte %x: versions %x", first, v)
		}
	}
}

func TestDstConnID(t *testing.T) {
	for _, test := range []struct {
		bytes    string
		shortLen int
		want     string
		long, ok bool
	}{
		{"", 8, "", false, false},
		{"40 d1d2d3d4", 4, "d1d2d3d4", false, true},
		{"00 d1d2d3d4 ff", 4, "d1d2d3d4", false, true}, // the fixed bit is not an invariant
		{"40 d1d2d3", 4, "", false, false},
		{"40", 0, "", false, true},
		{"c0 00000001 04 d1d2d3d4", 8, "d1d2d3d4", true, true},
		{"80 ffffffff 00", 8, "", true, true},
		{"c0 00000001 04 d1d2d3", 8, "", true, false},
		{"c0 00000001", 8, "", true, false},
		{"c0 00000001 ff" + strings.Repeat("ab", 255), 8, strings.Repeat("ab", 255), true, true},
	} {
		id, long, ok := DstConnID(unhex(t, test.bytes), test.shortLen)
		if !bytes.Equal(id, unhex(t, test.want)) || long != test.long || ok != test.ok {
			t.Errorf("DstConnID(%s, %d) = %x, %v, %v", test.bytes, test.shortLen, id, long, ok)
		}
	}
}

func TestHeaderAllocs(t *testing.T) {
	initial := unhex(t, "c1 00000001 04 d1d2d3d4 02 5152 00 4004 0102 aabb")
	buf := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, ok := ParseLongHeader(initial); !ok {
			t.Fatal("not parsed")
		}
		if _, _, ok := DstConnID(initial, 8); !ok {
			t.Fatal("no connection id")
		}
		b, lengthOffset := AppendLongHeader(buf, Handshake, Version1, testDst, testSrc, nil, 4)
		SetLength(b, lengthOffset, 100)
		AppendPacketNumber(AppendShortHeader(buf, testDst, true, 4), 7, 4)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzParseLongHeader(f *testing.F) {
	for _, s := range []string{
		"c1 00000001 04 d1d2d3d4 02 5152 03 746f6b 4004 0102 aabb",
		"e1 00000001 04 d1d2d3d4 02 5152 4004 0102 aabb c0ffee",
		"c0 00000000 02 5152 04 d1d2d3d4 00000001 0a1a2a3a",
		"80 0a1a2a3a 04 d1d2d3d4 02 5152 00",
		retryExample,
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, ok := ParseLongHeader(b)
		id, long, idOK := DstConnID(b, 8)
		if !ok {
			return
		}
		if !idOK || !long || !bytes.Equal(id, h.DstConnID) {
			t.Fatalf("DstConnID is %x, %v, %v, header has %x", id, long, idOK, h.DstConnID)
		}
		var again []byte
		switch h.Type {
		case Initial, ZeroRTT, Handshake:
			if n != h.PNOffset+h.Length || n > len(b) {
				t.Fatalf("length %d of %d, packet number at %d, then %d", n, len(b), h.PNOffset, h.Length)
			}
			if h.Length >= 1<<14 {
				return // the Length field that AppendLongHeader writes has two bytes
			}
			var lengthOffset int
			again, lengthOffset = AppendLongHeader(nil, h.Type, h.Version, h.DstConnID, h.SrcConnID, h.Token, 1)
			again = append(again, b[h.PNOffset:n]...)
			SetLength(again, lengthOffset, h.Length)
		case Retry:
			again = AppendRetry(nil, h.DstConnID, h.SrcConnID, h.Token, []byte("original"))
			if !VerifyRetry(again, []byte("original")) {
				t.Fatalf("tag of %x is wrong", again)
			}
		case VersionNegotiation:
			again = AppendVersionNegotiation(nil, h.SrcConnID, h.DstConnID, h.SupportedVersions())
		default:
			return
		}
		h2, _, ok := ParseLongHeader(again)
		// The first byte and the length of the fields before the packet number may differ.
		h2.FirstByte, h2.PNOffset = h.FirstByte, h.PNOffset
		if !ok || !reflect.DeepEqual(h, h2) {
			t.Fatalf("%+v became %+v, %v", h, h2, ok)
		}
	})
}
