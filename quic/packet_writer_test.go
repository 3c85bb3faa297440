// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// writerCases is every frame that a packetWriter appends whole or not at all.
var writerCases = []struct {
	name   string
	append func(w *packetWriter, v *sentVal) bool
	want   wire.FrameType
	rec    recordKind // 0: none
	plain  bool       // not ack-eliciting
}{
	{"ping", func(w *packetWriter, v *sentVal) bool { return w.appendPing() }, wire.FrameTypePing, 0, false},
	{"ack", func(w *packetWriter, v *sentVal) bool {
		return w.appendAck(1000, []wire.Range{{Lo: 100, Hi: 1e6}}, &wire.ECNCounts{ECT0: 1e6})
	}, wire.FrameTypeAck, recordAck, true},
	{"path ack", func(w *packetWriter, v *sentVal) bool {
		return w.appendPathAck(7, 1000, []wire.Range{{Lo: 100, Hi: 1e6}}, nil)
	}, wire.FrameTypePathAck, recordAck, true},
	{"reset stream", func(w *packetWriter, v *sentVal) bool { return w.appendResetStream(v, 4, 5, 1e6) }, wire.FrameTypeResetStream, recordResetStream, false},
	{"stop sending", func(w *packetWriter, v *sentVal) bool { return w.appendStopSending(v, 4, 5) }, wire.FrameTypeStopSending, recordStopSending, false},
	{"max data", func(w *packetWriter, v *sentVal) bool { return w.appendMaxData(v, 1e6) }, wire.FrameTypeMaxData, recordMaxData, false},
	{"max stream data", func(w *packetWriter, v *sentVal) bool { return w.appendMaxStreamData(v, 4, 1e6) }, wire.FrameTypeMaxStreamData, recordMaxStreamData, false},
	{"max streams", func(w *packetWriter, v *sentVal) bool { return w.appendMaxStreams(v, uniStream, 1e6) }, wire.FrameTypeMaxStreams, recordMaxStreams, false},
	{"data blocked", func(w *packetWriter, v *sentVal) bool { return w.appendDataBlocked(v, 1e6) }, wire.FrameTypeDataBlocked, recordDataBlocked, false},
	{"stream data blocked", func(w *packetWriter, v *sentVal) bool { return w.appendStreamDataBlocked(v, 4, 1e6) }, wire.FrameTypeStreamDataBlocked, recordStreamDataBlocked, false},
	{"streams blocked", func(w *packetWriter, v *sentVal) bool { return w.appendStreamsBlocked(v, bidiStream, 1e6) }, wire.FrameTypeStreamsBlocked, recordStreamsBlocked, false},
	{"datagram", func(w *packetWriter, v *sentVal) bool { return w.appendDatagram(make([]byte, 100), false) }, wire.FrameTypeDatagram, 0, false},
	{"last datagram", func(w *packetWriter, v *sentVal) bool { return w.appendDatagram(make([]byte, 100), true) }, wire.FrameTypeDatagram, 0, false},
	{"new token", func(w *packetWriter, v *sentVal) bool { return w.appendNewToken(v, make([]byte, 100)) }, wire.FrameTypeNewToken, recordNewToken, false},
	{"handshake done", func(w *packetWriter, v *sentVal) bool { return w.appendHandshakeDone(v) }, wire.FrameTypeHandshakeDone, recordHandshakeDone, false},
	{"new connection id", func(w *packetWriter, v *sentVal) bool {
		return w.appendNewConnectionID(v, 3, 1, make([]byte, 8), [16]byte{})
	}, wire.FrameTypeNewConnectionID, recordNewConnectionID, false},
	{"path new connection id", func(w *packetWriter, v *sentVal) bool {
		return w.appendPathNewConnectionID(v, math.MaxUint32, wire.MaxVarint, wire.MaxVarint, make([]byte, 20), [16]byte{})
	}, wire.FrameTypePathNewConnectionID, recordNewConnectionID, false},
	{"retire connection id", func(w *packetWriter, v *sentVal) bool { return w.appendRetireConnectionID(v, 3) }, wire.FrameTypeRetireConnectionID, recordRetireConnectionID, false},
	{"path retire connection id", func(w *packetWriter, v *sentVal) bool { return w.appendPathRetireConnectionID(v, 7, 3) }, wire.FrameTypePathRetireConnectionID, recordRetireConnectionID, false},
	{"path challenge", func(w *packetWriter, v *sentVal) bool { return w.appendPathChallenge([8]byte{1}) }, wire.FrameTypePathChallenge, 0, false},
	{"path response", func(w *packetWriter, v *sentVal) bool { return w.appendPathResponse([8]byte{1}) }, wire.FrameTypePathResponse, 0, false},
	{"connection close", func(w *packetWriter, v *sentVal) bool {
		return w.appendConnectionClose(ProtocolViolation, 0x3e75, "")
	}, wire.FrameTypeConnectionClose, 0, true},
	{"application close", func(w *packetWriter, v *sentVal) bool { return w.appendApplicationClose(0x100, "") }, wire.FrameTypeApplicationClose, 0, true},
	{"path abandon", func(w *packetWriter, v *sentVal) bool { return w.appendPathAbandon(v, 7, 0x3e75) }, wire.FrameTypePathAbandon, recordPathAbandon, false},
	{"path status backup", func(w *packetWriter, v *sentVal) bool { return w.appendPathStatus(v, 7, 3, true) }, wire.FrameTypePathStatusBackup, recordPathStatus, false},
	{"path status available", func(w *packetWriter, v *sentVal) bool { return w.appendPathStatus(v, 7, 3, false) }, wire.FrameTypePathStatusAvailable, recordPathStatus, false},
	{"max path id", func(w *packetWriter, v *sentVal) bool { return w.appendMaxPathID(v, 9) }, wire.FrameTypeMaxPathID, recordMaxPathID, false},
	{"paths blocked", func(w *packetWriter, v *sentVal) bool { return w.appendPathsBlocked(v, 9) }, wire.FrameTypePathsBlocked, recordPathsBlocked, false},
	{"path cids blocked", func(w *packetWriter, v *sentVal) bool { return w.appendPathCIDsBlocked(v, 7, 3) }, wire.FrameTypePathCIDsBlocked, recordPathCIDsBlocked, false},
}

func TestPacketWriterFrames(t *testing.T) {
	const header = 13
	for _, cp := range []*wire.CodePoints{&wire.Draft21, &wire.Draft15} {
		for _, test := range writerCases {
			var w packetWriter
			var v sentVal
			w.cp = cp
			w.reset(make([]byte, header, 1500), 1500)
			v.set()
			if !test.append(&w, &v) {
				t.Errorf("%s: does not fit an empty packet", test.name)
				continue
			}
			var f wire.Frame
			n, err := f.Parse(w.buf[header:], cp)
			if err != wire.ParseOK || header+n != len(w.buf) || f.Type != test.want {
				t.Errorf("%s: parsed %v, %d of %d bytes, error %v", test.name, f.Type, n, len(w.buf)-header, err)
			}
			if w.ackEliciting == test.plain || w.inFlight == test.plain {
				t.Errorf("%s: ackEliciting %v, inFlight %v", test.name, w.ackEliciting, w.inFlight)
			}
			switch {
			case test.rec == 0 && len(w.recs) > 0:
				t.Errorf("%s: record %+v", test.name, w.recs[0])
			case test.rec != 0 && (len(w.recs) != 1 || w.recs[0].kind != test.rec):
				t.Errorf("%s: records %+v", test.name, w.recs)
			case test.rec != 0 && test.rec != recordAck && (v.due() || w.recs[0].generation != v.last):
				t.Errorf("%s: not marked as sent", test.name)
			}

			// It fits its own size, and one byte less is too few.
			for size, want := range map[int]bool{len(w.buf): true, len(w.buf) - 1: false} {
				v.set()
				var x packetWriter
				x.cp = cp
				x.reset(make([]byte, header, 1500), size)
				if got := test.append(&x, &v); got != want || len(x.buf) > size {
					t.Errorf("%s: fits %d of %d bytes: %v", test.name, size, len(w.buf), got)
				}
				if !want && (len(x.buf) != header || len(x.recs) > 0 || x.inFlight) {
					t.Errorf("%s: packet changed by a frame that does not fit", test.name)
				}
			}
		}
	}
}

func TestPacketWriterPadding(t *testing.T) {
	var w packetWriter
	w.reset(make([]byte, 20, 1500), 1200)
	if w.padTo(1201) {
		t.Error("padded beyond the limit")
	}
	if !w.padTo(1200) || len(w.buf) != 1200 {
		t.Errorf("packet of %d bytes", len(w.buf))
	}
	if w.ackEliciting || !w.inFlight {
		t.Error("a padded packet is in flight and not ack-eliciting")
	}
}

func TestPacketWriterAckDropsLowestRanges(t *testing.T) {
	var ranges []wire.Range
	for pn := uint64(0); pn < 100; pn += 2 {
		ranges = append(ranges, wire.Range{Lo: pn, Hi: pn})
	}
	var w packetWriter
	w.reset(make([]byte, 0, 1500), 30)
	if !w.appendAck(0, ranges, nil) {
		t.Fatal("does not fit")
	}
	f := parseFrames(t, w.buf)[0]
	if lo, hi, _ := f.Ranges.Next(); lo != 98 || hi != 98 || w.recs[0].a != 98 {
		t.Errorf("first range %d to %d, record %+v", lo, hi, w.recs[0])
	}
	w.reset(w.buf[:0], 3)
	if w.appendAck(0, ranges, nil) {
		t.Error("fits three bytes")
	}
}

func TestPacketWriterStream(t *testing.T) {
	for limit := range 200 {
		for _, size := range []uint64{0, 1, 20, 31, 32, 33, 62, 63, 64, 65, 66, 100, 1000, 100_000} {
			var w packetWriter
			var fin sentVal
			fin.set()
			w.reset(make([]byte, 0, 300), limit)
			data, added := w.appendStream(9, numberRange[uint64]{500, 500 + size}, &fin)
			if len(w.buf) > limit {
				t.Fatalf("limit %d, %d bytes of data: packet of %d", limit, size, len(w.buf))
			}
			if !added {
				if len(w.buf) > 0 || len(w.recs) > 0 || !fin.due() {
					t.Fatalf("packet changed by a frame that does not fit")
				}
				continue
			}
			if n := uint64(len(data)); n < size && (n < minStreamData || len(w.buf) < limit-1) {
				t.Errorf("limit %d: only %d of %d bytes, packet of %d", limit, n, size, len(w.buf))
			}
			copy(data, patternBytes(9, 500, len(data)))
			f := parseFrames(t, w.buf)[0]
			checkPattern(t, 9, 500, f.Data)
			whole := uint64(len(data)) == size
			if f.Fin != whole || fin.due() == whole {
				t.Errorf("FIN bit %v with %d of %d bytes", f.Fin, len(data), size)
			}
			want := frameRecord{kind: recordStream, fin: whole, generation: fin.last, id: 9, a: 500, b: uint64(len(data))}
			if len(w.recs) != 1 || w.recs[0] != want {
				t.Errorf("records %+v", w.recs)
			}
		}
	}
}

func TestPacketWriterCloseReason(t *testing.T) {
	reason := strings.Repeat("é", 100)
	for limit := range 250 {
		var w packetWriter
		w.reset(make([]byte, 0, 300), limit)
		if !w.appendApplicationClose(5, reason) {
			if limit >= 3 {
				t.Errorf("does not fit %d bytes", limit)
			}
			continue
		}
		got := string(parseFrames(t, w.buf)[0].Data)
		if len(w.buf) > limit || !strings.HasPrefix(reason, got) || len(got)%2 != 0 {
			t.Errorf("limit %d: reason %q, packet of %d bytes", limit, got, len(w.buf))
		}
		if len(got) < min(len(reason), limit-5) {
			t.Errorf("limit %d: reason cut to %d bytes", limit, len(got))
		}
	}
}

func TestPacketWriterDoesNotAllocate(t *testing.T) {
	var w packetWriter
	var v sentVal
	w.cp = &wire.Draft21
	buf := make([]byte, 0, 3000)
	ranges := []wire.Range{{Lo: 1, Hi: 2}, {Lo: 4, Hi: 5}}
	data := make([]byte, 100)
	n := testing.AllocsPerRun(100, func() {
		w.reset(buf, 300)
		w.appendAck(0, ranges, nil)
		w.appendPathAck(3, 0, ranges, nil)
		v.set()
		for w.appendMaxStreamData(&v, 4, 1<<30) {
		}
		w.reset(buf, 1200)
		w.appendStream(4, numberRange[uint64]{0, 100}, &v)
		w.appendCrypto(numberRange[uint64]{0, 100})
		w.appendDatagram(data, true)
		w.padTo(1200)
	})
	if n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
