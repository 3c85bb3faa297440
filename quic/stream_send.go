// SPDX-License-Identifier: Apache-2.0

package quic

import "errors"

// maxStreamWriteBuffer is how many bytes a stream takes from the application
// before they are acknowledged; then Write blocks.
const maxStreamWriteBuffer = 1 << 20

var errWriteClosed = errors.New("quic: write on a stream closed for writing")

// A sendPart is the sending part of a stream, RFC 9000 section 3.1: Ready and Send
// while open, Data Sent when fin was sent, Reset Sent when reset is set; done tells
// the two terminal states. It is guarded by the stream's mutex.
type sendPart struct {
	buf   sendBuffer
	limit uint64 // MAX_STREAM_DATA of the peer

	closed    bool    // no more data will be written
	fin       sentVal // FIN bit
	reset     sentVal // RESET_STREAM
	resetCode uint64
	finalSize uint64  // told by RESET_STREAM: what the peer may have seen
	blocked   sentVal // STREAM_DATA_BLOCKED

	err error // why the application cannot write any more
}

// room is how many bytes the application may write.
func (p *sendPart) room() int { return maxStreamWriteBuffer - int(p.buf.buffered()) }

// closeWrite ends the stream after what was written.
func (p *sendPart) closeWrite() {
	if !p.closed {
		p.closed = true
		p.err = errWriteClosed
		p.fin.set()
	}
}

// abort abandons what is not acknowledged: RESET_STREAM takes its place, in Data
// Sent state too, so nothing is retransmitted any more. It has no effect after an
// earlier abort or when the peer has everything. R9000-3.3-1 R9000-3.5-4
func (p *sendPart) abort(code uint64, err error) {
	if p.reset.isSet() || p.done() {
		return
	}
	p.closed = true
	p.err = err
	p.reset.set()
	p.resetCode = code
	p.finalSize = p.buf.sent // R9000-13.3-1
	p.blocked.clear()
	p.buf.discard()
}

// raiseLimit takes MAX_STREAM_DATA. One that does not raise the limit is ignored.
func (p *sendPart) raiseLimit(limit uint64) {
	p.limit = max(p.limit, limit) // R9000-4.1-4
}

// hasLost reports whether there is something to send that needs no credit: lost
// data, or a FIN bit behind data that was sent.
func (p *sendPart) hasLost() bool {
	return !p.reset.isSet() && (len(p.buf.lost) > 0 || p.fin.due() && p.buf.sent == p.buf.end())
}

// hasFresh reports whether there is data never sent that the peer's limit for the
// stream permits.
func (p *sendPart) hasFresh() bool {
	return !p.reset.isSet() && p.buf.sent < min(p.buf.end(), p.limit)
}

// updateBlocked makes STREAM_DATA_BLOCKED due, once until the limit is raised, while
// data waits for stream credit.
func (p *sendPart) updateBlocked() {
	if p.reset.isSet() || p.buf.sent < p.limit || p.buf.sent == p.buf.end() {
		p.blocked.clear()
		return
	}
	if !p.blocked.isSet() { // R9000-4.1-5
		p.blocked.set()
	}
}

// done reports whether the peer has acknowledged the end: Data Recvd or Reset Recvd.
func (p *sendPart) done() bool {
	if p.reset.isSet() { // the buffer is empty now, which says nothing of what the peer has
		return p.reset.isReceived()
	}
	return p.fin.isReceived() && p.buf.allAcked()
}

// appendData appends one STREAM frame: lost data first, then new data, of which the
// connection permits credit bytes. fresh is the number of bytes sent for the first
// time.
func (p *sendPart) appendData(w *packetWriter, id, credit uint64) (fresh uint64, added bool) {
	if p.reset.isSet() { // R9000-3.3-1
		return 0, false
	}
	r := p.buf.next(min(p.limit, p.buf.sent+credit)) // R9000-4.1-1 R9000-2.2-3
	var fin *sentVal
	if p.closed && r.end == p.buf.end() && !p.fin.isReceived() {
		fin = &p.fin
	}
	if r.size() == 0 && (fin == nil || !fin.due()) {
		return 0, false
	}
	data, added := w.appendStream(id, r, fin)
	if !added {
		return 0, false
	}
	p.buf.pipe.readAt(data, r.start)
	before := p.buf.sent
	p.buf.markSent(r.start, r.start+uint64(len(data)))
	return p.buf.sent - before, true
}

// appendControl appends the control frames that are due; false if one does not fit.
func (p *sendPart) appendControl(w *packetWriter, id uint64) bool {
	if p.reset.due() && !w.appendResetStream(&p.reset, id, p.resetCode, p.finalSize) {
		return false
	}
	return !p.blocked.due() || w.appendStreamDataBlocked(&p.blocked, id, p.limit)
}

// handleDataFate takes the fate of a STREAM frame.
func (p *sendPart) handleDataFate(r frameRecord, f fate) {
	if p.reset.isSet() {
		return
	}
	p.buf.handleFate(r.a, r.a+r.b, f)
	if r.fin {
		p.fin.handleFate(r.generation, f)
	}
}
