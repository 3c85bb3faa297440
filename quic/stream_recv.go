// SPDX-License-Identifier: Apache-2.0

package quic

// A recvPart is the receiving part of a stream, RFC 9000 section 3.2: Recv, then
// Size Known with sizeKnown, or Reset Recvd with reset. It is guarded by the
// stream's mutex.
type recvPart struct {
	buf     recvBuffer
	window  uint64
	limit   uint64  // as told to the peer
	max     sentVal // MAX_STREAM_DATA
	highest uint64  // largest offset received

	sizeKnown bool
	finalSize uint64

	early bool // data came in a 0-RTT packet

	reset    bool // RESET_STREAM received before all data
	resetErr error

	stopped  bool    // the application does not want any more
	stop     sentVal // STOP_SENDING
	stopCode uint64

	credited uint64 // bytes that connection flow control counts as consumed
}

func (p *recvPart) init(window uint64) {
	p.window = window
	p.limit = window // as transport parameter
}

// advanceTo checks that the peer may use offsets up to end, of which the
// connection permits credit more bytes, and returns how many are new.
func (p *recvPart) advanceTo(end, credit uint64) (grown uint64, err *TransportError) {
	if p.sizeKnown && end > p.finalSize { // R9000-4.5-4
		return 0, &TransportError{Code: FinalSizeError, Reason: "data beyond the final size"}
	}
	if end <= p.highest {
		return 0, nil
	}
	if end > p.limit { // R9000-4.1-2 R9000-19.8-2
		return 0, &TransportError{Code: FlowControlError, Reason: "beyond the limit of the stream"}
	}
	grown = end - p.highest
	if grown > credit { // R9000-4.1-3 R9000-19.9-1
		return 0, &TransportError{Code: FlowControlError, Reason: "beyond the limit of the connection"}
	}
	p.highest = end
	return grown, nil
}

// setFinalSize notes the final size, after advanceTo has accepted it as not above
// the one known. That one is the highest offset, so it cannot fall either.
// R9000-4.5-3
func (p *recvPart) setFinalSize(size uint64) *TransportError {
	if size < p.highest {
		return &TransportError{Code: FinalSizeError, Reason: "final size changed"}
	}
	p.sizeKnown = true
	p.finalSize = size
	p.max.clear()
	return nil
}

// handleData takes a STREAM frame; credit is what the connection permits, grown what
// was used of it.
func (p *recvPart) handleData(off uint64, data []byte, fin bool, credit uint64) (grown uint64, err *TransportError) {
	end := off + uint64(len(data))
	grown, err = p.advanceTo(end, credit)
	if err == nil && fin {
		err = p.setFinalSize(end)
	}
	if err != nil {
		return 0, err
	}
	if !p.reset && !p.stopped && !p.buf.add(off, data) {
		return 0, &TransportError{Code: InternalError, Reason: "too many gaps in a stream"}
	}
	return grown, nil
}

// handleReset takes RESET_STREAM. The final size counts as received. R9000-4.5-1
// When all data and the end have arrived before, the application gets them all the same.
func (p *recvPart) handleReset(id, code, finalSize, credit uint64) (grown uint64, err *TransportError) {
	complete := !p.stopped && p.allReceived() // before the final size is known from here
	grown, err = p.advanceTo(finalSize, credit)
	if err == nil {
		err = p.setFinalSize(finalSize)
	}
	if err != nil {
		return 0, err
	}
	if p.reset || complete {
		return grown, nil
	}
	p.reset = true
	p.resetErr = &StreamError{StreamID: id, Code: code, Remote: true}
	p.stop.clear()
	p.buf.discard()
	return grown, nil
}

// abort ends reading. STOP_SENDING tells the peer, unless there is nothing left to
// stop. R9000-3.5-1
func (p *recvPart) abort(code uint64) {
	if p.stopped || p.reset {
		return
	}
	if !p.allReceived() {
		p.stop.set()
		p.stopCode = code
	}
	p.stopped = true
	p.max.clear()
	p.buf.discard()
}

// allReceived reports whether the application can read to the end.
func (p *recvPart) allReceived() bool {
	return p.sizeKnown && p.buf.contiguous() == p.finalSize
}

// atEnd reports whether the application has read everything.
func (p *recvPart) atEnd() bool { return p.sizeKnown && p.buf.readOffset() == p.finalSize }

// done reports whether nothing is left to be received, told or read. After an abort
// that waits for the final size, which connection flow control needs.
func (p *recvPart) done() bool {
	switch {
	case p.reset:
		return true
	case p.stopped:
		return p.sizeKnown && (!p.stop.isSet() || p.stop.isReceived())
	}
	return p.atEnd()
}

// updateCredit makes MAX_STREAM_DATA due when half of the window is consumed,
// whether the peer says it is blocked or not, until the final size is known.
// R9000-4.2-1
func (p *recvPart) updateCredit() {
	if !p.sizeKnown && !p.stopped && creditDue(p.buf.readOffset(), p.window, p.limit) {
		p.max.set()
	}
}

// takeCredit returns how many bytes were consumed since the last call, by the
// application or by being dropped: they are given back to connection flow control.
func (p *recvPart) takeCredit() uint64 {
	consumed := p.buf.readOffset()
	switch {
	case p.reset || p.stopped && p.sizeKnown:
		consumed = p.finalSize
	case p.stopped:
		consumed = p.highest
	}
	n := consumed - p.credited
	p.credited = consumed
	return n
}

// appendControl appends the control frames that are due; false if one does not fit.
func (p *recvPart) appendControl(w *packetWriter, id uint64) bool {
	if p.max.due() {
		limit := p.buf.readOffset() + p.window
		if !w.appendMaxStreamData(&p.max, id, limit) {
			return false
		}
		p.limit = limit
	}
	return !p.stop.due() || w.appendStopSending(&p.stop, id, p.stopCode)
}
