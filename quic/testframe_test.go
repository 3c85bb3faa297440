// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// The scripted peer's own encoding. It is written from the figures of the
// specifications and shares nothing with package wire, so that a mistake there
// cannot cancel itself out between the two directions.

// appendInt appends a variable-length integer: RFC 9000 section 16.
func appendInt(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, 0x40|byte(v>>8), byte(v))
	case v < 1<<30:
		return append(b, 0x80|byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return append(b, 0xc0|byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// testReader reads what the connection under test has sent; it panics, and so fails
// the test, when something is cut short.
type testReader []byte

func (r *testReader) bytes(n uint64) []byte {
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b
}

func (r *testReader) byte() byte { return r.bytes(1)[0] }

func (r *testReader) int() uint64 {
	first := r.byte()
	v := uint64(first & 0x3f)
	for range 1<<(first>>6) - 1 {
		v = v<<8 | uint64(r.byte())
	}
	return v
}

// A testFrame is a frame as its figure shows it: the integers in their order, and
// the fields that are bytes. STREAM always has the type 0x08 and the integers
// stream id, offset and FIN bit, whichever optional fields are on the wire. raw, if
// not nil, is sent instead.
type testFrame struct {
	typ   uint64
	ints  []uint64
	blobs [][]byte
	raw   []byte
}

const (
	tPadding            = 0x00
	tPing               = 0x01
	tAck                = 0x02
	tAckECN             = 0x03
	tResetStream        = 0x04
	tStopSending        = 0x05
	tCrypto             = 0x06
	tNewToken           = 0x07
	tStream             = 0x08
	tMaxData            = 0x10
	tMaxStreamData      = 0x11
	tMaxStreamsBidi     = 0x12
	tMaxStreamsUni      = 0x13
	tDataBlocked        = 0x14
	tStreamDataBlocked  = 0x15
	tStreamsBlockedBidi = 0x16
	tStreamsBlockedUni  = 0x17
	tNewConnectionID    = 0x18
	tRetireConnectionID = 0x19
	tPathChallenge      = 0x1a
	tPathResponse       = 0x1b
	tConnectionClose    = 0x1c
	tApplicationClose   = 0x1d
	tHandshakeDone      = 0x1e
	tDatagram           = 0x30
	tDatagramLen        = 0x31

	tPathAck                = 0x3e
	tPathAckECN             = 0x3f
	tPathAbandon            = 0x3e75
	tPathStatusBackup       = 0x3e76
	tPathStatusAvailable    = 0x3e77
	tPathNewConnectionID    = 0x3e78
	tPathRetireConnectionID = 0x3e79
	tMaxPathID              = 0x3e7a
	tPathsBlocked           = 0x3e7b
	tPathCIDsBlocked        = 0x3e7c
)

// frameLayouts gives each type its fields: i is an integer, a the ranges of an
// acknowledgment with their count, l bytes behind their length, c a connection id
// behind its length of one byte, t a reset token, 8 eight bytes, r the rest.
var frameLayouts = map[uint64]struct{ name, fields string }{
	tPing:               {"PING", ""},
	tAck:                {"ACK", "iia"},
	tAckECN:             {"ACK_ECN", "iiaiii"},
	tResetStream:        {"RESET_STREAM", "iii"},
	tStopSending:        {"STOP_SENDING", "ii"},
	tCrypto:             {"CRYPTO", "il"},
	tNewToken:           {"NEW_TOKEN", "l"},
	tStream:             {"STREAM", ""},
	tMaxData:            {"MAX_DATA", "i"},
	tMaxStreamData:      {"MAX_STREAM_DATA", "ii"},
	tMaxStreamsBidi:     {"MAX_STREAMS(bidi)", "i"},
	tMaxStreamsUni:      {"MAX_STREAMS(uni)", "i"},
	tDataBlocked:        {"DATA_BLOCKED", "i"},
	tStreamDataBlocked:  {"STREAM_DATA_BLOCKED", "ii"},
	tStreamsBlockedBidi: {"STREAMS_BLOCKED(bidi)", "i"},
	tStreamsBlockedUni:  {"STREAMS_BLOCKED(uni)", "i"},
	tNewConnectionID:    {"NEW_CONNECTION_ID", "iict"},
	tRetireConnectionID: {"RETIRE_CONNECTION_ID", "i"},
	tPathChallenge:      {"PATH_CHALLENGE", "8"},
	tPathResponse:       {"PATH_RESPONSE", "8"},
	tConnectionClose:    {"CONNECTION_CLOSE", "iil"},
	tApplicationClose:   {"CONNECTION_CLOSE(app)", "il"},
	tHandshakeDone:      {"HANDSHAKE_DONE", ""},
	tDatagram:           {"DATAGRAM", "r"},
	tDatagramLen:        {"DATAGRAM(len)", "l"},

	tPathAck:                {"PATH_ACK", "iiia"},
	tPathAckECN:             {"PATH_ACK_ECN", "iiiaiii"},
	tPathAbandon:            {"PATH_ABANDON", "ii"},
	tPathStatusBackup:       {"PATH_STATUS_BACKUP", "ii"},
	tPathStatusAvailable:    {"PATH_STATUS_AVAILABLE", "ii"},
	tPathNewConnectionID:    {"PATH_NEW_CONNECTION_ID", "iiict"},
	tPathRetireConnectionID: {"PATH_RETIRE_CONNECTION_ID", "ii"},
	tMaxPathID:              {"MAX_PATH_ID", "i"},
	tPathsBlocked:           {"PATHS_BLOCKED", "i"},
	tPathCIDsBlocked:        {"PATH_CIDS_BLOCKED", "ii"},
}

// draft15Types are the code points of draft-ietf-quic-multipath-15 section 4.
var draft15Types = map[uint64]uint64{
	tPathAck: 0x15228c00, tPathAckECN: 0x15228c01, tPathAbandon: 0x15228c05,
	tPathStatusBackup: 0x15228c07, tPathStatusAvailable: 0x15228c08,
	tPathNewConnectionID: 0x15228c09, tPathRetireConnectionID: 0x15228c0a,
	tMaxPathID: 0x15228c0c, tPathsBlocked: 0x15228c0d, tPathCIDsBlocked: 0x15228c0e,
}

func (f testFrame) String() string {
	var s strings.Builder
	s.WriteString(frameLayouts[f.typ].name)
	for _, v := range f.ints {
		fmt.Fprintf(&s, " %d", v)
	}
	for _, b := range f.blobs {
		if len(b) <= 20 {
			fmt.Fprintf(&s, " %x", b)
		} else {
			fmt.Fprintf(&s, " %x…(%d bytes)", b[:8], len(b))
		}
	}
	return s.String()
}

func (f testFrame) equal(g testFrame) bool {
	return f.typ == g.typ && slices.Equal(f.ints, g.ints) && slices.EqualFunc(f.blobs, g.blobs, bytes.Equal)
}

// append appends the encoding of f; types maps multipath types to those in use.
func (f testFrame) append(b []byte, types map[uint64]uint64) []byte {
	if f.raw != nil {
		return append(b, f.raw...)
	}
	switch f.typ {
	case tPadding:
		return append(b, make([]byte, f.ints[0])...)
	case tStream: // with offset and length
		b = append(b, 0x0e|byte(f.ints[2]))
		b = appendInt(appendInt(b, f.ints[0]), f.ints[1])
		return append(appendInt(b, uint64(len(f.blobs[0]))), f.blobs[0]...)
	}
	if t, ok := types[f.typ]; ok {
		b = appendInt(b, t)
	} else {
		b = appendInt(b, f.typ)
	}
	ints, blobs := f.ints, f.blobs
	for _, field := range frameLayouts[f.typ].fields {
		switch field {
		case 'i':
			b, ints = appendInt(b, ints[0]), ints[1:]
		case 'a':
			for range 2 + 2*ints[0] { // count, first range, then gap and length of each
				b, ints = appendInt(b, ints[0]), ints[1:]
			}
		default:
			switch field {
			case 'l':
				b = appendInt(b, uint64(len(blobs[0])))
			case 'c':
				b = append(b, byte(len(blobs[0])))
			}
			b, blobs = append(b, blobs[0]...), blobs[1:]
		}
	}
	return b
}

// parseTestFrame reads the frame at the start of r.
func parseTestFrame(r *testReader, types map[uint64]uint64) (f testFrame) {
	start := *r
	f.typ = r.int()
	if n := len(start) - len(*r); n != len(appendInt(nil, f.typ)) {
		panic(fmt.Sprintf("frame type 0x%x in %d bytes", f.typ, n)) // R9000-12.4-4
	}
	for canonical, t := range types {
		if t == f.typ {
			f.typ = canonical
		}
	}
	switch {
	case f.typ == tPadding:
		n := 1
		for len(*r) > 0 && (*r)[0] == 0 {
			r.byte()
			n++
		}
		f.ints = []uint64{uint64(n)}
		return f
	case f.typ&^7 == tStream:
		flags := f.typ
		f.typ = tStream
		id, off, n := r.int(), uint64(0), uint64(0)
		if flags&4 != 0 {
			off = r.int()
		}
		if n = uint64(len(*r)); flags&2 != 0 {
			n = r.int()
		}
		f.ints, f.blobs = []uint64{id, off, flags & 1}, [][]byte{r.bytes(n)}
		return f
	}
	layout, ok := frameLayouts[f.typ]
	if !ok {
		panic(fmt.Sprintf("frame of unknown type 0x%x: %s", f.typ, hex.EncodeToString(start)))
	}
	for _, field := range layout.fields {
		switch field {
		case 'i':
			f.ints = append(f.ints, r.int())
		case 'a':
			count := r.int()
			f.ints = append(f.ints, count)
			for range 1 + 2*count {
				f.ints = append(f.ints, r.int())
			}
		case 'l':
			f.blobs = append(f.blobs, r.bytes(r.int()))
		case 'c':
			f.blobs = append(f.blobs, r.bytes(uint64(r.byte())))
		case 't':
			f.blobs = append(f.blobs, r.bytes(16))
		case '8':
			f.blobs = append(f.blobs, r.bytes(8))
		case 'r':
			f.blobs = append(f.blobs, r.bytes(uint64(len(*r))))
		}
	}
	return f
}

func frInts(typ uint64, ints ...uint64) testFrame { return testFrame{typ: typ, ints: ints} }

func frRaw(b ...byte) testFrame        { return testFrame{raw: b} }
func frPadding(n int) testFrame        { return frInts(tPadding, uint64(n)) }
func frPing() testFrame                { return frInts(tPing) }
func frHandshakeDone() testFrame       { return frInts(tHandshakeDone) }
func frMaxData(limit uint64) testFrame { return frInts(tMaxData, limit) }

func frCrypto(off uint64, data []byte) testFrame {
	return testFrame{typ: tCrypto, ints: []uint64{off}, blobs: [][]byte{data}}
}

func frNewToken(token string) testFrame {
	return testFrame{typ: tNewToken, blobs: [][]byte{[]byte(token)}}
}

func frStream(id, off uint64, data string) testFrame {
	return testFrame{typ: tStream, ints: []uint64{id, off, 0}, blobs: [][]byte{[]byte(data)}}
}

func frStreamFin(id, off uint64, data string) testFrame {
	f := frStream(id, off, data)
	f.ints[2] = 1
	return f
}

func frDatagram(data string) testFrame {
	return testFrame{typ: tDatagramLen, blobs: [][]byte{[]byte(data)}}
}

func frNewConnectionID(seq, retirePriorTo uint64, cid []byte, token [16]byte) testFrame {
	return testFrame{typ: tNewConnectionID, ints: []uint64{seq, retirePriorTo}, blobs: [][]byte{cid, token[:]}}
}

func frPathNewConnectionID(path, seq, retirePriorTo uint64, cid []byte, token [16]byte) testFrame {
	return testFrame{typ: tPathNewConnectionID, ints: []uint64{path, seq, retirePriorTo}, blobs: [][]byte{cid, token[:]}}
}

func frPathChallenge(data string) testFrame {
	return testFrame{typ: tPathChallenge, blobs: [][]byte{[]byte(data)}}
}

func frPathResponse(data []byte) testFrame {
	return testFrame{typ: tPathResponse, blobs: [][]byte{data}}
}

func frConnectionClose(code, frameType uint64, reason string) testFrame {
	return testFrame{typ: tConnectionClose, ints: []uint64{code, frameType}, blobs: [][]byte{[]byte(reason)}}
}

func frApplicationClose(code uint64, reason string) testFrame {
	return testFrame{typ: tApplicationClose, ints: []uint64{code}, blobs: [][]byte{[]byte(reason)}}
}

// ackRanges encodes the packet numbers of an acknowledgment, which ascend, as the
// fields from Largest Acknowledged on: RFC 9000 section 19.3.
func ackFields(nums []uint64) []uint64 {
	type span struct{ lo, hi uint64 }
	var spans []span // descending
	for _, n := range slices.Backward(nums) {
		if k := len(spans); k > 0 && spans[k-1].lo == n+1 {
			spans[k-1].lo = n
		} else {
			spans = append(spans, span{n, n})
		}
	}
	out := []uint64{spans[0].hi, 0, uint64(len(spans) - 1), spans[0].hi - spans[0].lo}
	for i := 1; i < len(spans); i++ {
		out = append(out, spans[i-1].lo-spans[i].hi-2, spans[i].hi-spans[i].lo)
	}
	return out
}

func frAck(nums ...uint64) testFrame { return frInts(tAck, ackFields(nums)...) }

func frPathAck(path uint64, nums ...uint64) testFrame {
	return frInts(tPathAck, append([]uint64{path}, ackFields(nums)...)...)
}

// acked returns the path and the packet numbers, ascending, that f acknowledges.
func (f testFrame) acked() (path uint64, nums []uint64) {
	v := f.ints
	if f.typ == tPathAck || f.typ == tPathAckECN {
		path, v = v[0], v[1:]
	}
	hi, count, v := v[0], v[2], v[3:]
	for i := range 1 + count {
		if i > 0 {
			hi -= v[0] + 2
			v = v[1:]
		}
		for n := range v[0] + 1 {
			nums = append(nums, hi-n)
		}
		hi -= v[0]
		v = v[1:]
	}
	slices.Sort(nums)
	return path, nums
}
