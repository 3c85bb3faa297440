// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// unhex decodes hexadecimal digits, ignoring spaces.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frameVector is a frame with its bytes, which were worked out by hand from the figures
// of the specifications.
type frameVector struct {
	name   string
	cp     *CodePoints
	bytes  string
	toEnd  bool // the frame has no length
	want   Frame
	ranges []Range // ascending
	append func(b []byte) []byte
}

var (
	testConnID    = []byte{1, 2, 3, 4, 5, 6, 7, 8}
	testToken     = [16]byte{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f}
	testChallenge = [8]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77}
	testRanges    = []Range{{837, 900}, {987, 987}, {990, 1000}}
)

const testConnIDFields = "08 0102030405060708 101112131415161718191a1b1c1d1e1f"

var frameVectors = []frameVector{
	{name: "PADDING", bytes: "00 00 00", want: Frame{Type: FrameTypePadding, Value: 3},
		append: func(b []byte) []byte { return AppendPadding(b, 3) }},
	{name: "PING", bytes: "01", want: Frame{Type: FrameTypePing}, append: AppendPing},
	{name: "ACK", bytes: "02 43e8 4064 02 0a 01 00 4055 3f",
		want: Frame{Type: FrameTypeAck, LargestAcked: 1000, AckDelay: 100}, ranges: testRanges,
		append: func(b []byte) []byte { return AppendAck(b, 100, testRanges, nil) }},
	{name: "ACK with ECN", bytes: "03 00 05 00 00 01 4040 80004000",
		want:   Frame{Type: FrameTypeAck, AckDelay: 5, HasECN: true, ECN: ECNCounts{1, 64, 16384}},
		ranges: []Range{{0, 0}},
		append: func(b []byte) []byte { return AppendAck(b, 5, []Range{{0, 0}}, &ECNCounts{1, 64, 16384}) }},
	{name: "RESET_STREAM", bytes: "04 04 410c 800186a0",
		want:   Frame{Type: FrameTypeResetStream, StreamID: 4, ErrorCode: 0x10c, Value: 100000},
		append: func(b []byte) []byte { return AppendResetStream(b, 4, 0x10c, 100000) }},
	{name: "STOP_SENDING", bytes: "05 0b 410c",
		want:   Frame{Type: FrameTypeStopSending, StreamID: 11, ErrorCode: 0x10c},
		append: func(b []byte) []byte { return AppendStopSending(b, 11, 0x10c) }},
	{name: "CRYPTO", bytes: "06 4100 03 616263",
		want:   Frame{Type: FrameTypeCrypto, Offset: 256, Data: []byte("abc")},
		append: func(b []byte) []byte { return AppendCrypto(b, 256, []byte("abc")) }},
	{name: "NEW_TOKEN", bytes: "07 04 deadbeef",
		want:   Frame{Type: FrameTypeNewToken, Data: []byte{0xde, 0xad, 0xbe, 0xef}},
		append: func(b []byte) []byte { return AppendNewToken(b, []byte{0xde, 0xad, 0xbe, 0xef}) }},
	{name: "STREAM", bytes: "08 04 6869", toEnd: true,
		want: Frame{Type: FrameTypeStream, StreamID: 4, Data: []byte("hi")},
		append: func(b []byte) []byte {
			return append(AppendStreamHeader(b, 4, 0, -1, false), "hi"...)
		}},
	{name: "STREAM FIN", bytes: "09 04 6869", toEnd: true,
		want: Frame{Type: FrameTypeStream, StreamID: 4, Data: []byte("hi"), Fin: true},
		append: func(b []byte) []byte {
			return append(AppendStreamHeader(b, 4, 0, -1, true), "hi"...)
		}},
	{name: "STREAM LEN", bytes: "0a 04 02 6869",
		want:   Frame{Type: FrameTypeStream, StreamID: 4, Data: []byte("hi")},
		append: func(b []byte) []byte { return AppendStream(b, 4, 0, []byte("hi"), false) }},
	{name: "STREAM LEN FIN", bytes: "0b 04 02 6869",
		want:   Frame{Type: FrameTypeStream, StreamID: 4, Data: []byte("hi"), Fin: true},
		append: func(b []byte) []byte { return AppendStream(b, 4, 0, []byte("hi"), true) }},
	{name: "STREAM OFF", bytes: "0c 04 4400 6869", toEnd: true,
		want: Frame{Type: FrameTypeStream, StreamID: 4, Offset: 1024, Data: []byte("hi")},
		append: func(b []byte) []byte {
			return append(AppendStreamHeader(b, 4, 1024, -1, false), "hi"...)
		}},
	{name: "STREAM OFF FIN", bytes: "0d 04 4400 6869", toEnd: true,
		want: Frame{Type: FrameTypeStream, StreamID: 4, Offset: 1024, Data: []byte("hi"), Fin: true},
		append: func(b []byte) []byte {
			return append(AppendStreamHeader(b, 4, 1024, -1, true), "hi"...)
		}},
	{name: "STREAM OFF LEN", bytes: "0e 04 4400 02 6869",
		want:   Frame{Type: FrameTypeStream, StreamID: 4, Offset: 1024, Data: []byte("hi")},
		append: func(b []byte) []byte { return AppendStream(b, 4, 1024, []byte("hi"), false) }},
	{name: "STREAM OFF LEN FIN, empty", bytes: "0f 04 4400 00",
		want:   Frame{Type: FrameTypeStream, StreamID: 4, Offset: 1024, Data: []byte{}, Fin: true},
		append: func(b []byte) []byte { return AppendStream(b, 4, 1024, nil, true) }},
	{name: "STREAM up to the last offset", bytes: "0e 04 fffffffffffffffd 02 6869",
		want:   Frame{Type: FrameTypeStream, StreamID: 4, Offset: 1<<62 - 3, Data: []byte("hi")},
		append: func(b []byte) []byte { return AppendStream(b, 4, 1<<62-3, []byte("hi"), false) }},
	{name: "MAX_DATA", bytes: "10 c000000100000000", want: Frame{Type: FrameTypeMaxData, Value: 1 << 32},
		append: func(b []byte) []byte { return AppendMaxData(b, 1<<32) }},
	{name: "MAX_STREAM_DATA", bytes: "11 08 80100000",
		want:   Frame{Type: FrameTypeMaxStreamData, StreamID: 8, Value: 1 << 20},
		append: func(b []byte) []byte { return AppendMaxStreamData(b, 8, 1<<20) }},
	{name: "MAX_STREAMS", bytes: "12 4064", want: Frame{Type: FrameTypeMaxStreams, Value: 100},
		append: func(b []byte) []byte { return AppendMaxStreams(b, false, 100) }},
	{name: "MAX_STREAMS uni, largest", bytes: "13 d000000000000000",
		want:   Frame{Type: FrameTypeMaxStreams, Uni: true, Value: 1 << 60},
		append: func(b []byte) []byte { return AppendMaxStreams(b, true, 1<<60) }},
	{name: "DATA_BLOCKED", bytes: "14 80100000", want: Frame{Type: FrameTypeDataBlocked, Value: 1 << 20},
		append: func(b []byte) []byte { return AppendDataBlocked(b, 1<<20) }},
	{name: "STREAM_DATA_BLOCKED", bytes: "15 08 4fff",
		want:   Frame{Type: FrameTypeStreamDataBlocked, StreamID: 8, Value: 4095},
		append: func(b []byte) []byte { return AppendStreamDataBlocked(b, 8, 4095) }},
	{name: "STREAMS_BLOCKED", bytes: "16 4064", want: Frame{Type: FrameTypeStreamsBlocked, Value: 100},
		append: func(b []byte) []byte { return AppendStreamsBlocked(b, false, 100) }},
	{name: "STREAMS_BLOCKED uni", bytes: "17 03", want: Frame{Type: FrameTypeStreamsBlocked, Uni: true, Value: 3},
		append: func(b []byte) []byte { return AppendStreamsBlocked(b, true, 3) }},
	{name: "NEW_CONNECTION_ID", bytes: "18 02 01 " + testConnIDFields,
		want: Frame{Type: FrameTypeNewConnectionID, Sequence: 2, RetirePriorTo: 1,
			ConnID: testConnID, ResetToken: testToken},
		append: func(b []byte) []byte { return AppendNewConnectionID(b, 2, 1, testConnID, testToken) }},
	{name: "RETIRE_CONNECTION_ID", bytes: "19 4100", want: Frame{Type: FrameTypeRetireConnectionID, Sequence: 256},
		append: func(b []byte) []byte { return AppendRetireConnectionID(b, 256) }},
	{name: "PATH_CHALLENGE", bytes: "1a 0011223344556677",
		want:   Frame{Type: FrameTypePathChallenge, Challenge: testChallenge},
		append: func(b []byte) []byte { return AppendPathChallenge(b, testChallenge) }},
	{name: "PATH_RESPONSE", bytes: "1b 0011223344556677",
		want:   Frame{Type: FrameTypePathResponse, Challenge: testChallenge},
		append: func(b []byte) []byte { return AppendPathResponse(b, testChallenge) }},
	{name: "CONNECTION_CLOSE", bytes: "1c 0a 7e75 03 626164",
		want:   Frame{Type: FrameTypeConnectionClose, ErrorCode: 0xa, TriggerType: 0x3e75, Data: []byte("bad")},
		append: func(b []byte) []byte { return AppendConnectionClose(b, 0xa, 0x3e75, "bad") }},
	{name: "CONNECTION_CLOSE of the application", bytes: "1d 4106 00",
		want:   Frame{Type: FrameTypeApplicationClose, ErrorCode: 0x106, Data: []byte{}},
		append: func(b []byte) []byte { return AppendApplicationClose(b, 0x106, "") }},
	{name: "HANDSHAKE_DONE", bytes: "1e", want: Frame{Type: FrameTypeHandshakeDone}, append: AppendHandshakeDone},
	{name: "DATAGRAM", bytes: "30 0045", toEnd: true, want: Frame{Type: FrameTypeDatagram, Data: []byte{0x00, 0x45}},
		append: func(b []byte) []byte { return append(AppendDatagramHeader(b, -1), 0x00, 0x45) }},
	{name: "DATAGRAM LEN", bytes: "31 02 0045", want: Frame{Type: FrameTypeDatagram, Data: []byte{0x00, 0x45}},
		append: func(b []byte) []byte { return append(AppendDatagramHeader(b, 2), 0x00, 0x45) }},
	{name: "DATAGRAM LEN, empty", bytes: "31 00", want: Frame{Type: FrameTypeDatagram, Data: []byte{}},
		append: func(b []byte) []byte { return AppendDatagramHeader(b, 0) }},
}

// multipathVectors makes the vectors of the multipath frames from the bytes of their
// types in one draft; the fields behind the type are the same in all drafts.
func multipathVectors(cp *CodePoints, types map[FrameType]string, ackECN string) []frameVector {
	ranges := []Range{{0, 5}}
	ecn := &ECNCounts{7, 0, 2}
	vectors := []frameVector{
		{bytes: "03 05 00 00 05", want: Frame{Type: FrameTypePathAck, PathID: 3, LargestAcked: 5}, ranges: ranges,
			append: func(b []byte) []byte { return AppendPathAck(b, cp, 3, 0, ranges, nil) }},
		{bytes: "01 43e8 4064 02 0a 01 00 4055 3f",
			want:   Frame{Type: FrameTypePathAck, PathID: 1, LargestAcked: 1000, AckDelay: 100},
			ranges: testRanges,
			append: func(b []byte) []byte { return AppendPathAck(b, cp, 1, 100, testRanges, nil) }},
		{bytes: "01 40c8", want: Frame{Type: FrameTypePathAbandon, PathID: 1, ErrorCode: 200},
			append: func(b []byte) []byte { return AppendPathAbandon(b, cp, 1, 200) }},
		{bytes: "02 05", want: Frame{Type: FrameTypePathStatusBackup, PathID: 2, Sequence: 5},
			append: func(b []byte) []byte { return AppendPathStatusBackup(b, cp, 2, 5) }},
		{bytes: "80010000 06", want: Frame{Type: FrameTypePathStatusAvailable, PathID: 65536, Sequence: 6},
			append: func(b []byte) []byte { return AppendPathStatusAvailable(b, cp, 65536, 6) }},
		{bytes: "04 4100 01 " + testConnIDFields,
			want: Frame{Type: FrameTypePathNewConnectionID, PathID: 4, Sequence: 256, RetirePriorTo: 1,
				ConnID: testConnID, ResetToken: testToken},
			append: func(b []byte) []byte { return AppendPathNewConnectionID(b, cp, 4, 256, 1, testConnID, testToken) }},
		{bytes: "04 09", want: Frame{Type: FrameTypePathRetireConnectionID, PathID: 4, Sequence: 9},
			append: func(b []byte) []byte { return AppendPathRetireConnectionID(b, cp, 4, 9) }},
		{bytes: "08", want: Frame{Type: FrameTypeMaxPathID, Value: 8},
			append: func(b []byte) []byte { return AppendMaxPathID(b, cp, 8) }},
		{bytes: "c0000000ffffffff", want: Frame{Type: FrameTypeMaxPathID, Value: 1<<32 - 1},
			append: func(b []byte) []byte { return AppendMaxPathID(b, cp, 1<<32-1) }},
		{bytes: "07", want: Frame{Type: FrameTypePathsBlocked, Value: 7},
			append: func(b []byte) []byte { return AppendPathsBlocked(b, cp, 7) }},
		{bytes: "02 03", want: Frame{Type: FrameTypePathCIDsBlocked, PathID: 2, Sequence: 3},
			append: func(b []byte) []byte { return AppendPathCIDsBlocked(b, cp, 2, 3) }},
	}
	for i := range vectors {
		vectors[i].bytes = types[vectors[i].want.Type] + vectors[i].bytes
	}
	vectors = append(vectors, frameVector{bytes: ackECN + "03 05 00 00 05 07 00 02", ranges: ranges,
		want:   Frame{Type: FrameTypePathAck, PathID: 3, LargestAcked: 5, HasECN: true, ECN: *ecn},
		append: func(b []byte) []byte { return AppendPathAck(b, cp, 3, 0, ranges, ecn) }})
	for i := range vectors {
		vectors[i].cp = cp
		vectors[i].name = vectors[i].want.Type.String()
	}
	return vectors
}

// RMP21-4.1-1, RMP21-4.2-1, RMP21-4.3-1, RMP21-4.4-1, RMP21-4.5-1, RMP21-4.6-1, RMP21-4.7-1
var draft21Vectors = multipathVectors(&Draft21, map[FrameType]string{
	FrameTypePathAck:                "3e",
	FrameTypePathAbandon:            "7e75",
	FrameTypePathStatusBackup:       "7e76",
	FrameTypePathStatusAvailable:    "7e77",
	FrameTypePathNewConnectionID:    "7e78",
	FrameTypePathRetireConnectionID: "7e79",
	FrameTypeMaxPathID:              "7e7a",
	FrameTypePathsBlocked:           "7e7b",
	FrameTypePathCIDsBlocked:        "7e7c",
}, "3f")

var draft15Vectors = multipathVectors(&Draft15, map[FrameType]string{
	FrameTypePathAck:                "95228c00",
	FrameTypePathAbandon:            "95228c05",
	FrameTypePathStatusBackup:       "95228c07",
	FrameTypePathStatusAvailable:    "95228c08",
	FrameTypePathNewConnectionID:    "95228c09",
	FrameTypePathRetireConnectionID: "95228c0a",
	FrameTypeMaxPathID:              "95228c0c",
	FrameTypePathsBlocked:           "95228c0d",
	FrameTypePathCIDsBlocked:        "95228c0e",
}, "95228c01")

func allFrameVectors() []frameVector {
	return slices.Concat(frameVectors, draft21Vectors, draft15Vectors)
}

// ascending collects the ranges of a parsed ACK frame.
func ascending(r AckRanges) (ranges []Range) {
	for lo, hi, ok := r.Next(); ok; lo, hi, ok = r.Next() {
		ranges = append(ranges, Range{lo, hi})
	}
	slices.Reverse(ranges)
	return ranges
}

// Every frame type in both directions.
// R9000-12.4-4, R9000-19.3-1, R9221-4-1
func TestFrames(t *testing.T) {
	for _, v := range allFrameVectors() {
		t.Run(v.name, func(t *testing.T) {
			b := unhex(t, v.bytes)
			if got := v.append(nil); !bytes.Equal(got, b) {
				t.Errorf("encoded as %x, want %x", got, b)
			}

			packet := slices.Clone(b)
			if !v.toEnd {
				packet = append(packet, byte(FrameTypePing))
			}
			var got Frame
			n, err := got.Parse(packet, v.cp)
			if err != ParseOK || n != len(b) {
				t.Fatalf("Parse(%x) = %d, %v, want %d", packet, n, err, len(b))
			}
			want := v.want
			want.WireType, _ = ConsumeVarint(b)
			if got.Type == FrameTypeAck || got.Type == FrameTypePathAck {
				if r := ascending(got.Ranges); !slices.Equal(r, v.ranges) {
					t.Errorf("ranges %v, want %v", r, v.ranges)
				}
				got.Ranges = AckRanges{}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("parsed as %+v, want %+v", got, want)
			}
		})
	}
}

func TestFramesCutShort(t *testing.T) {
	for _, v := range allFrameVectors() {
		if v.toEnd || v.want.Type == FrameTypePadding {
			continue // a shorter one is valid
		}
		b := unhex(t, v.bytes)
		for n := range b {
			var f Frame
			if got, err := f.Parse(b[:n], v.cp); got != 0 || err != ErrTruncated {
				t.Errorf("%s cut to %x: %d, %v, want truncated", v.name, b[:n], got, err)
			}
		}
	}
}

// A Frame is used for one frame after the other; nothing of the one before may shine through.
func TestFrameReuse(t *testing.T) {
	vectors := allFrameVectors()
	for _, first := range vectors {
		for _, second := range vectors {
			var reused, fresh Frame
			if _, err := reused.Parse(unhex(t, first.bytes), first.cp); err != ParseOK {
				t.Fatal(err)
			}
			b := unhex(t, second.bytes)
			reused.Parse(b, second.cp)
			fresh.Parse(b, second.cp)
			if got, want := appendFrame(nil, &reused, second.cp), appendFrame(nil, &fresh, second.cp); !bytes.Equal(got, want) {
				t.Errorf("%s after %s is %x, want %x", second.name, first.name, got, want)
			}
		}
	}
}

func TestFrameErrors(t *testing.T) {
	const (
		frameEncodingError = 0x7
		protocolViolation  = 0xa
		token              = "101112131415161718191a1b1c1d1e1f"
	)
	tests := []struct {
		name  string
		cp    *CodePoints
		bytes string
		err   ParseError
		code  uint64
	}{
		// R9000-12.4-3
		{"unknown type", &Draft21, "1f", ErrUnknownType, frameEncodingError},
		{"unknown type", &Draft21, "21", ErrUnknownType, frameEncodingError},
		{"unknown type", &Draft21, "32", ErrUnknownType, frameEncodingError},
		{"unknown type of eight bytes", &Draft21, "ffffffffffffffff 00", ErrUnknownType, frameEncodingError},
		// RMP21-2-1
		{"multipath not negotiated", nil, "3e 03 05 00 00 05", ErrUnknownType, frameEncodingError},
		{"multipath not negotiated", nil, "7e75 01 00", ErrUnknownType, frameEncodingError},
		{"other draft", &Draft15, "7e75 01 00", ErrUnknownType, frameEncodingError},
		{"other draft", &Draft21, "95228c05 01 00", ErrUnknownType, frameEncodingError},
		{"PING in two bytes", nil, "4001", ErrTypeNotMinimal, protocolViolation},
		{"PATH_ABANDON in four bytes", &Draft21, "80003e75 01 00", ErrTypeNotMinimal, protocolViolation},
		// R9000-19.3.1-1
		{"first range below 0", nil, "02 05 00 00 06", ErrAckRange, frameEncodingError},
		{"second range below 0", nil, "02 05 00 01 01 01 02", ErrAckRange, frameEncodingError},
		{"gap below 0", nil, "02 05 00 01 01 03 00", ErrAckRange, frameEncodingError},
		{"largest gap", nil, "02 05 00 01 01 ffffffffffffffff 00", ErrAckRange, frameEncodingError},
		{"first range of PATH_ACK below 0", &Draft21, "3e 01 05 00 00 06", ErrAckRange, frameEncodingError},
		{"more ranges than bytes", nil, "02 05 00 ffffffffffffffff 00 00 00", ErrTruncated, frameEncodingError},
		// R9000-19.6-1
		{"CRYPTO beyond 2^62-1", nil, "06 fffffffffffffffe 02 6162", ErrOffset, frameEncodingError},
		// R9000-19.7-1
		{"empty NEW_TOKEN", nil, "07 00", ErrEmptyToken, frameEncodingError},
		// R9000-19.8-2
		{"STREAM beyond 2^62-1", nil, "0e 04 fffffffffffffffe 02 6162", ErrOffset, frameEncodingError},
		{"STREAM without length beyond 2^62-1", nil, "0c 04 fffffffffffffffe 6162", ErrOffset, frameEncodingError},
		// R9000-19.11-1
		{"MAX_STREAMS", nil, "12 d000000000000001", ErrStreamCount, frameEncodingError},
		{"MAX_STREAMS uni", nil, "13 d000000000000001", ErrStreamCount, frameEncodingError},
		// R9000-19.14-1
		{"STREAMS_BLOCKED", nil, "16 d000000000000001", ErrStreamCount, frameEncodingError},
		{"STREAMS_BLOCKED uni", nil, "17 d000000000000001", ErrStreamCount, frameEncodingError},
		// R9000-19.15-1
		{"connection id of 0 bytes", nil, "18 02 01 00 " + token, ErrConnIDLength, frameEncodingError},
		{"connection id of 21 bytes", nil, "18 02 01 15 " + strings.Repeat("aa", 21) + token, ErrConnIDLength, frameEncodingError},
		// R9000-19.15-3
		{"Retire Prior To above sequence", nil, "18 02 03 01 aa " + token, ErrRetirePriorTo, frameEncodingError},
		// RMP21-4.4-3
		{"path's connection id of 0 bytes", &Draft21, "7e78 01 02 01 00 " + token, ErrConnIDLength, frameEncodingError},
		{"path's connection id of 21 bytes", &Draft21, "7e78 01 02 01 15 " + strings.Repeat("aa", 21) + token, ErrConnIDLength, frameEncodingError},
		{"path's Retire Prior To above sequence", &Draft21, "7e78 01 02 03 01 aa " + token, ErrRetirePriorTo, frameEncodingError},
		// RMP21-4.6-3
		{"MAX_PATH_ID of 2^32", &Draft21, "7e7a c000000100000000", ErrPathID, protocolViolation},
		{"PATHS_BLOCKED of 2^32", &Draft21, "7e7b c000000100000000", ErrPathID, protocolViolation},
		{"PATH_ABANDON of path 2^32", &Draft21, "7e75 c000000100000000 00", ErrPathID, protocolViolation},
		{"PATH_ACK of path 2^32", &Draft21, "3e c000000100000000 05 00 00 05", ErrPathID, protocolViolation},
	}
	for _, test := range tests {
		b := unhex(t, test.bytes)
		var f Frame
		n, err := f.Parse(b, test.cp)
		if n != 0 || err != test.err || err.TransportCode() != test.code {
			t.Errorf("%s: Parse(%x) = %d, %v with code 0x%x, want %v with 0x%x",
				test.name, b, n, err, err.TransportCode(), test.err, test.code)
		}
		if want, _ := ConsumeVarint(b); f.WireType != want {
			t.Errorf("%s: WireType 0x%x, want 0x%x", test.name, f.WireType, want)
		}
	}
}

// Integers other than frame types may be longer than necessary.
func TestFrameLongIntegers(t *testing.T) { // R9000-16-1
	var f Frame
	n, err := f.Parse(unhex(t, "11 c000000000000008 80000009"), nil)
	if n != 13 || err != ParseOK || f.StreamID != 8 || f.Value != 9 {
		t.Errorf("Parse = %d, %v, stream %d, limit %d", n, err, f.StreamID, f.Value)
	}
}

// Data of a frame must not lead to the frames behind it.
func TestFrameDataCapacity(t *testing.T) {
	var f Frame
	if _, err := f.Parse(unhex(t, "31 02 0045 01 01 01"), nil); err != ParseOK || cap(f.Data) != 2 {
		t.Errorf("%v, capacity %d, want 2", err, cap(f.Data))
	}
}

func TestFrameSizes(t *testing.T) {
	ecn := &ECNCounts{1, 64, 16384}
	data := make([]byte, 100)
	for _, test := range []struct {
		name      string
		got, want int
	}{
		{"ACK", SizeAck(100, testRanges, nil), len(AppendAck(nil, 100, testRanges, nil))},
		{"ACK with ECN", SizeAck(100, testRanges, ecn), len(AppendAck(nil, 100, testRanges, ecn))},
		{"PATH_ACK", SizePathAck(&Draft15, 300, 9, testRanges, ecn), len(AppendPathAck(nil, &Draft15, 300, 9, testRanges, ecn))},
		{"CRYPTO", SizeCryptoHeader(70, 100), len(AppendCrypto(nil, 70, data)) - 100},
		{"STREAM", SizeStreamHeader(70, 0, -1), len(AppendStreamHeader(nil, 70, 0, -1, true))},
		{"STREAM OFF LEN", SizeStreamHeader(70, 1<<20, 100), len(AppendStream(nil, 70, 1<<20, data, false)) - 100},
		{"DATAGRAM", SizeDatagramHeader(-1), len(AppendDatagramHeader(nil, -1))},
		{"DATAGRAM LEN", SizeDatagramHeader(1000), len(AppendDatagramHeader(nil, 1000))},
		{"largest control frame", MaxControlFrameSize, len(AppendPathNewConnectionID(nil, &Draft15, MaxPathID, MaxVarint, MaxVarint, make([]byte, MaxConnIDLen), testToken))},
	} {
		if test.got != test.want {
			t.Errorf("size of %s is %d, want %d", test.name, test.got, test.want)
		}
	}
}

// appendFrame encodes a parsed frame again.
func appendFrame(b []byte, f *Frame, cp *CodePoints) []byte {
	var ecn *ECNCounts
	if f.HasECN {
		ecn = &f.ECN
	}
	switch f.Type {
	case FrameTypePadding:
		return AppendPadding(b, int(f.Value))
	case FrameTypePing:
		return AppendPing(b)
	case FrameTypeAck:
		return AppendAck(b, f.AckDelay, ascending(f.Ranges), ecn)
	case FrameTypeResetStream:
		return AppendResetStream(b, f.StreamID, f.ErrorCode, f.Value)
	case FrameTypeStopSending:
		return AppendStopSending(b, f.StreamID, f.ErrorCode)
	case FrameTypeCrypto:
		return AppendCrypto(b, f.Offset, f.Data)
	case FrameTypeNewToken:
		return AppendNewToken(b, f.Data)
	case FrameTypeStream:
		return AppendStream(b, f.StreamID, f.Offset, f.Data, f.Fin)
	case FrameTypeMaxData:
		return AppendMaxData(b, f.Value)
	case FrameTypeMaxStreamData:
		return AppendMaxStreamData(b, f.StreamID, f.Value)
	case FrameTypeMaxStreams:
		return AppendMaxStreams(b, f.Uni, f.Value)
	case FrameTypeDataBlocked:
		return AppendDataBlocked(b, f.Value)
	case FrameTypeStreamDataBlocked:
		return AppendStreamDataBlocked(b, f.StreamID, f.Value)
	case FrameTypeStreamsBlocked:
		return AppendStreamsBlocked(b, f.Uni, f.Value)
	case FrameTypeNewConnectionID:
		return AppendNewConnectionID(b, f.Sequence, f.RetirePriorTo, f.ConnID, f.ResetToken)
	case FrameTypeRetireConnectionID:
		return AppendRetireConnectionID(b, f.Sequence)
	case FrameTypePathChallenge:
		return AppendPathChallenge(b, f.Challenge)
	case FrameTypePathResponse:
		return AppendPathResponse(b, f.Challenge)
	case FrameTypeConnectionClose:
		return AppendConnectionClose(b, f.ErrorCode, f.TriggerType, string(f.Data))
	case FrameTypeApplicationClose:
		return AppendApplicationClose(b, f.ErrorCode, string(f.Data))
	case FrameTypeHandshakeDone:
		return AppendHandshakeDone(b)
	case FrameTypeDatagram:
		return append(AppendDatagramHeader(b, len(f.Data)), f.Data...)
	case FrameTypePathAck:
		return AppendPathAck(b, cp, f.PathID, f.AckDelay, ascending(f.Ranges), ecn)
	case FrameTypePathAbandon:
		return AppendPathAbandon(b, cp, f.PathID, f.ErrorCode)
	case FrameTypePathStatusBackup:
		return AppendPathStatusBackup(b, cp, f.PathID, f.Sequence)
	case FrameTypePathStatusAvailable:
		return AppendPathStatusAvailable(b, cp, f.PathID, f.Sequence)
	case FrameTypePathNewConnectionID:
		return AppendPathNewConnectionID(b, cp, f.PathID, f.Sequence, f.RetirePriorTo, f.ConnID, f.ResetToken)
	case FrameTypePathRetireConnectionID:
		return AppendPathRetireConnectionID(b, cp, f.PathID, f.Sequence)
	case FrameTypeMaxPathID:
		return AppendMaxPathID(b, cp, f.Value)
	case FrameTypePathsBlocked:
		return AppendPathsBlocked(b, cp, f.Value)
	case FrameTypePathCIDsBlocked:
		return AppendPathCIDsBlocked(b, cp, f.PathID, f.Sequence)
	}
	panic("no encoding of " + f.Type.String())
}

// What parses must come out the same after encoding it again.
func FuzzParseFrame(f *testing.F) {
	for _, v := range allFrameVectors() {
		f.Add(unhex(f, v.bytes), v.cp == &Draft15)
	}
	f.Fuzz(func(t *testing.T, data []byte, draft15 bool) {
		cp := &Draft21
		if draft15 {
			cp = &Draft15
		}
		var frame, again Frame
		n, err := frame.Parse(data, cp)
		if err != ParseOK {
			if n != 0 || err.TransportCode() == 0 || err.String() == "" {
				t.Fatalf("error %d with length %d", err, n)
			}
			return
		}
		if n < 1 || n > len(data) {
			t.Fatalf("length %d of %d", n, len(data))
		}
		encoded := appendFrame(nil, &frame, cp)
		if n2, err := again.Parse(encoded, cp); err != ParseOK || n2 != len(encoded) {
			t.Fatalf("%x: %d, %v after encoding again", encoded, n2, err)
		}
		if !bytes.Equal(appendFrame(nil, &again, cp), encoded) {
			t.Fatalf("%+v became %+v", frame, again)
		}
	})
}

func TestParseFrameAllocs(t *testing.T) {
	packet, frames := benchmarkPacket()
	var f Frame
	if n := testing.AllocsPerRun(100, func() {
		if parsePacket(t, &f, packet) != frames {
			t.Fatal("frames lost")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// benchmarkPacket is the payload of a packet as a tunnel receives it: acknowledgments of
// two paths and a datagram.
func benchmarkPacket() (packet []byte, frames int) {
	packet = AppendPathAck(packet, &Draft21, 0, 40, testRanges, nil)
	packet = AppendPathAck(packet, &Draft21, 1, 40, []Range{{1000000, 1000044}}, nil)
	packet = AppendDatagramHeader(packet, -1)
	return append(packet, make([]byte, 1350)...), 3
}

func parsePacket(t testing.TB, f *Frame, packet []byte) (frames int) {
	for len(packet) > 0 {
		n, err := f.Parse(packet, &Draft21)
		if err != ParseOK {
			t.Fatal(err)
		}
		if f.Type == FrameTypePathAck {
			for _, _, ok := f.Ranges.Next(); ok; _, _, ok = f.Ranges.Next() {
			}
		}
		packet = packet[n:]
		frames++
	}
	return frames
}

func BenchmarkParseFrame(b *testing.B) {
	acksAndDatagram, _ := benchmarkPacket()
	for _, bench := range []struct {
		name   string
		packet []byte
	}{
		{"datagram", append(AppendDatagramHeader(nil, -1), make([]byte, 1350)...)},
		{"stream", AppendStream(nil, 4, 1<<20, make([]byte, 1350), false)},
		{"two acks and datagram", acksAndDatagram},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var f Frame
			b.ReportAllocs()
			for b.Loop() {
				parsePacket(b, &f, bench.packet)
			}
		})
	}
}
