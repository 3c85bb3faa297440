// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"unicode/utf8"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// minStreamData is the least number of bytes of a longer range worth a STREAM
// frame of their own at the end of a packet.
const minStreamData = 32

// A packetWriter appends frames to ONE packet. It belongs to the token holder, who
// uses the same one for all packets, so that nothing is allocated per packet.
//
// Every append method reports whether the frame fitted; if not, the packet is
// unchanged. Frames that have to reach the peer take the sentVal that follows them,
// which is marked as sent.
type packetWriter struct {
	buf   []byte // packet so far: header, then frames
	limit int    // largest len(buf), without the AEAD tag
	recs  []frameRecord
	cp    *wire.CodePoints // of the multipath frames; nil without multipath

	ackEliciting bool
	inFlight     bool // counts against the congestion window: ack-eliciting or padded (RFC 9002 section 2)

	scratch [wire.MaxControlFrameSize]byte
}

// reset begins a packet. buf holds its header, and has room for limit bytes in all.
func (w *packetWriter) reset(buf []byte, limit int) {
	w.buf, w.limit = buf, limit
	w.recs = w.recs[:0]
	w.ackEliciting, w.inFlight = false, false
}

// avail is the number of bytes left for frames.
func (w *packetWriter) avail() int { return w.limit - len(w.buf) }

// elicit notes that the packet contains a frame that asks for an acknowledgment.
func (w *packetWriter) elicit() { w.ackEliciting, w.inFlight = true, true }

// control appends a small ack-eliciting frame, built in w.scratch: it is known only
// then whether it fits, and an append to w.buf might outgrow its array.
func (w *packetWriter) control(frame []byte) bool {
	if len(frame) > w.avail() {
		return false
	}
	w.buf = append(w.buf, frame...)
	w.elicit()
	return true
}

// recorded is control for a frame whose fate matters.
func (w *packetWriter) recorded(frame []byte, v *sentVal, rec frameRecord) bool {
	if !w.control(frame) {
		return false
	}
	rec.generation = v.sent()
	w.recs = append(w.recs, rec)
	return true
}

func (w *packetWriter) appendPing() bool { return w.control(wire.AppendPing(w.scratch[:0])) }

// padTo fills the packet with PADDING up to size bytes, header included.
func (w *packetWriter) padTo(size int) bool {
	if size > w.limit {
		return false
	}
	if n := size - len(w.buf); n > 0 {
		clear(w.extend(n)) // a PADDING frame is a zero byte
		w.inFlight = true
	}
	return true
}

// appendAck appends ACK for the packet number space that the packet is sent in.
// delay is scaled by our ack_delay_exponent; ranges ascend. The lowest ranges are
// left out when not all fit.
func (w *packetWriter) appendAck(delay uint64, ranges []wire.Range, ecn *wire.ECNCounts) bool {
	for ; len(ranges) > 0; ranges = ranges[1:] {
		if wire.SizeAck(delay, ranges, ecn) <= w.avail() {
			w.buf = wire.AppendAck(w.buf, delay, ranges, ecn)
			w.recordAck(0, ranges)
			return true
		}
	}
	return false
}

// appendPathAck appends PATH_ACK for the packet number space of pathID.
func (w *packetWriter) appendPathAck(pathID uint32, delay uint64, ranges []wire.Range, ecn *wire.ECNCounts) bool {
	id := uint64(pathID)
	for ; len(ranges) > 0; ranges = ranges[1:] {
		if wire.SizePathAck(w.cp, id, delay, ranges, ecn) <= w.avail() {
			w.buf = wire.AppendPathAck(w.buf, w.cp, id, delay, ranges, ecn)
			w.recordAck(id, ranges)
			return true
		}
	}
	return false
}

func (w *packetWriter) recordAck(pathID uint64, ranges []wire.Range) {
	w.recs = append(w.recs, frameRecord{kind: recordAck, id: pathID, a: ranges[len(ranges)-1].Hi})
}

// dataRoom is how many of n bytes fit behind a header of headerSize bytes, or -1
// when a frame is not worth it.
func (w *packetWriter) dataRoom(headerSize, n int) int {
	room := w.avail() - headerSize
	switch {
	case room >= n:
		return n
	case room < minStreamData:
		return -1
	}
	return room
}

// mostData is the most bytes of r that could fit. A header is sized for that many;
// for what does fit it is as large, rarely a byte smaller.
func (w *packetWriter) mostData(r numberRange[uint64]) int {
	return int(min(r.size(), uint64(max(w.avail(), 0))))
}

// extend adds n bytes to the packet, to be filled by the caller.
func (w *packetWriter) extend(n int) []byte {
	at := len(w.buf)
	w.buf = w.buf[:at+n]
	return w.buf[at:]
}

// appendCrypto appends CRYPTO with as much of [r.start, r.end) as fits, and returns
// the place for these bytes.
func (w *packetWriter) appendCrypto(r numberRange[uint64]) (data []byte, added bool) {
	most := w.mostData(r)
	n := w.dataRoom(wire.SizeCryptoHeader(r.start, most), most)
	if n <= 0 {
		return nil, false
	}
	w.buf = wire.AppendCryptoHeader(w.buf, r.start, n)
	w.recs = append(w.recs, frameRecord{kind: recordCrypto, a: r.start, b: uint64(n)})
	w.elicit()
	return w.extend(n), true
}

// appendStream appends STREAM with as much of [r.start, r.end) as fits, and returns
// the place for these bytes. fin is not nil when r.end is the end of the stream; the
// frame has the FIN bit if it gets there. The length is always given: other frames
// may follow.
func (w *packetWriter) appendStream(id uint64, r numberRange[uint64], fin *sentVal) (data []byte, added bool) {
	most := w.mostData(r)
	n := w.dataRoom(wire.SizeStreamHeader(id, r.start, most), most)
	if n < 0 {
		return nil, false
	}
	rec := frameRecord{kind: recordStream, id: id, a: r.start, b: uint64(n)}
	if fin != nil && uint64(n) == r.size() {
		rec.fin, rec.generation = true, fin.sent()
	}
	w.buf = wire.AppendStreamHeader(w.buf, id, r.start, n, rec.fin)
	w.recs = append(w.recs, rec)
	w.elicit()
	return w.extend(n), true
}

func (w *packetWriter) appendResetStream(v *sentVal, id, code, finalSize uint64) bool {
	return w.recorded(wire.AppendResetStream(w.scratch[:0], id, code, finalSize), v,
		frameRecord{kind: recordResetStream, id: id})
}

func (w *packetWriter) appendStopSending(v *sentVal, id, code uint64) bool {
	return w.recorded(wire.AppendStopSending(w.scratch[:0], id, code), v,
		frameRecord{kind: recordStopSending, id: id})
}

func (w *packetWriter) appendMaxData(v *sentVal, limit uint64) bool {
	return w.recorded(wire.AppendMaxData(w.scratch[:0], limit), v, frameRecord{kind: recordMaxData})
}

func (w *packetWriter) appendMaxStreamData(v *sentVal, id, limit uint64) bool {
	return w.recorded(wire.AppendMaxStreamData(w.scratch[:0], id, limit), v,
		frameRecord{kind: recordMaxStreamData, id: id})
}

func (w *packetWriter) appendMaxStreams(v *sentVal, t streamType, limit uint64) bool {
	return w.recorded(wire.AppendMaxStreams(w.scratch[:0], t == uniStream, limit), v,
		frameRecord{kind: recordMaxStreams, a: uint64(t)})
}

func (w *packetWriter) appendDataBlocked(v *sentVal, limit uint64) bool {
	return w.recorded(wire.AppendDataBlocked(w.scratch[:0], limit), v, frameRecord{kind: recordDataBlocked})
}

func (w *packetWriter) appendStreamDataBlocked(v *sentVal, id, limit uint64) bool {
	return w.recorded(wire.AppendStreamDataBlocked(w.scratch[:0], id, limit), v,
		frameRecord{kind: recordStreamDataBlocked, id: id})
}

func (w *packetWriter) appendStreamsBlocked(v *sentVal, t streamType, limit uint64) bool {
	return w.recorded(wire.AppendStreamsBlocked(w.scratch[:0], t == uniStream, limit), v,
		frameRecord{kind: recordStreamsBlocked, a: uint64(t)})
}

// appendDatagram appends DATAGRAM. With last set it has no length, and must be the
// last frame of the packet, not even followed by PADDING.
func (w *packetWriter) appendDatagram(data []byte, last bool) bool {
	length := len(data)
	if last {
		length = -1
	}
	if wire.SizeDatagramHeader(length)+len(data) > w.avail() {
		return false
	}
	w.buf = wire.AppendDatagramHeader(w.buf, length)
	w.buf = append(w.buf, data...)
	w.elicit()
	return true
}

// loneDatagram makes of b the only frame of the packet, for which there is room, in
// the headroom of b. The frame is not copied: it is to be sealed from there.
func (w *packetWriter) loneDatagram(b *PacketBuf) (frame []byte) {
	w.elicit()
	frame = b.Prepend(wire.SizeDatagramHeader(-1))
	wire.AppendDatagramHeader(frame[:0], -1)
	return frame
}

func (w *packetWriter) appendNewToken(v *sentVal, token []byte) bool {
	if 1+wire.SizeVarint(uint64(len(token)))+len(token) > w.avail() {
		return false
	}
	w.buf = wire.AppendNewToken(w.buf, token)
	w.recs = append(w.recs, frameRecord{kind: recordNewToken, generation: v.sent()})
	w.elicit()
	return true
}

func (w *packetWriter) appendHandshakeDone(v *sentVal) bool {
	return w.recorded(wire.AppendHandshakeDone(w.scratch[:0]), v, frameRecord{kind: recordHandshakeDone})
}

// appendNewConnectionID appends NEW_CONNECTION_ID, for path 0.
func (w *packetWriter) appendNewConnectionID(v *sentVal, seq, retirePriorTo uint64, connID []byte, token [wire.ResetTokenLen]byte) bool {
	return w.recorded(wire.AppendNewConnectionID(w.scratch[:0], seq, retirePriorTo, connID, token), v,
		frameRecord{kind: recordNewConnectionID, a: seq})
}

func (w *packetWriter) appendPathNewConnectionID(v *sentVal, pathID uint32, seq, retirePriorTo uint64, connID []byte, token [wire.ResetTokenLen]byte) bool {
	id := uint64(pathID)
	return w.recorded(wire.AppendPathNewConnectionID(w.scratch[:0], w.cp, id, seq, retirePriorTo, connID, token), v,
		frameRecord{kind: recordNewConnectionID, id: id, a: seq})
}

// appendRetireConnectionID appends RETIRE_CONNECTION_ID, for path 0.
func (w *packetWriter) appendRetireConnectionID(v *sentVal, seq uint64) bool {
	return w.recorded(wire.AppendRetireConnectionID(w.scratch[:0], seq), v,
		frameRecord{kind: recordRetireConnectionID, a: seq})
}

func (w *packetWriter) appendPathRetireConnectionID(v *sentVal, pathID uint32, seq uint64) bool {
	id := uint64(pathID)
	return w.recorded(wire.AppendPathRetireConnectionID(w.scratch[:0], w.cp, id, seq), v,
		frameRecord{kind: recordRetireConnectionID, id: id, a: seq})
}

func (w *packetWriter) appendPathChallenge(data [8]byte) bool {
	return w.control(wire.AppendPathChallenge(w.scratch[:0], data))
}

func (w *packetWriter) appendPathResponse(data [8]byte) bool {
	return w.control(wire.AppendPathResponse(w.scratch[:0], data))
}

// appendConnectionClose appends CONNECTION_CLOSE with a transport error. The reason
// is cut to what fits.
func (w *packetWriter) appendConnectionClose(code TransportErrorCode, frameType uint64, reason string) bool {
	reason, ok := w.closeReason(1+wire.SizeVarint(uint64(code))+wire.SizeVarint(frameType), reason)
	if ok {
		w.buf = wire.AppendConnectionClose(w.buf, uint64(code), frameType, reason)
	}
	return ok
}

// appendApplicationClose appends CONNECTION_CLOSE with an error of the application.
// The reason is cut to what fits.
func (w *packetWriter) appendApplicationClose(code uint64, reason string) bool {
	reason, ok := w.closeReason(1+wire.SizeVarint(code), reason)
	if ok {
		w.buf = wire.AppendApplicationClose(w.buf, code, reason)
	}
	return ok
}

// closeReason cuts reason, at the end of a character, to what fits behind fields
// of size bytes and its length.
func (w *packetWriter) closeReason(size int, reason string) (string, bool) {
	room := w.avail() - size - wire.SizeVarint(uint64(len(reason)))
	if room >= len(reason) {
		return reason, true
	}
	for room > 0 && !utf8.RuneStart(reason[room]) {
		room--
	}
	if room < 0 {
		return "", w.avail() > size
	}
	return reason[:room], true
}

func (w *packetWriter) appendPathAbandon(v *sentVal, pathID uint32, code uint64) bool {
	id := uint64(pathID)
	return w.recorded(wire.AppendPathAbandon(w.scratch[:0], w.cp, id, code), v,
		frameRecord{kind: recordPathAbandon, id: id})
}

// appendPathStatus appends PATH_STATUS_BACKUP or PATH_STATUS_AVAILABLE.
func (w *packetWriter) appendPathStatus(v *sentVal, pathID uint32, seq uint64, backup bool) bool {
	id := uint64(pathID)
	frame := w.scratch[:0]
	if backup {
		frame = wire.AppendPathStatusBackup(frame, w.cp, id, seq)
	} else {
		frame = wire.AppendPathStatusAvailable(frame, w.cp, id, seq)
	}
	return w.recorded(frame, v, frameRecord{kind: recordPathStatus, id: id, a: seq})
}

func (w *packetWriter) appendMaxPathID(v *sentVal, limit uint32) bool {
	return w.recorded(wire.AppendMaxPathID(w.scratch[:0], w.cp, uint64(limit)), v,
		frameRecord{kind: recordMaxPathID, a: uint64(limit)})
}

func (w *packetWriter) appendPathsBlocked(v *sentVal, limit uint32) bool {
	return w.recorded(wire.AppendPathsBlocked(w.scratch[:0], w.cp, uint64(limit)), v,
		frameRecord{kind: recordPathsBlocked, a: uint64(limit)})
}

func (w *packetWriter) appendPathCIDsBlocked(v *sentVal, pathID uint32, nextSeq uint64) bool {
	id := uint64(pathID)
	return w.recorded(wire.AppendPathCIDsBlocked(w.scratch[:0], w.cp, id, nextSeq), v,
		frameRecord{kind: recordPathCIDsBlocked, id: id, a: nextSeq})
}
