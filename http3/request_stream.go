// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/quic"
)

// RequestStream is the stream of one request. Read and Write carry the content,
// or after an answer to CONNECT the data stream of the tunnel; either capsules or
// plain reads and writes are used on it, not both. One goroutine reads; writing,
// closing and sending datagrams may be done from any.
type RequestStream struct {
	c       *conn
	qs      *quic.Stream
	id      uint64
	quarter []byte // the encoded quarter stream id
	method  string

	// Reading side, of the goroutine that reads.
	frames   *tlvReader
	capsules *tlvReader // made by the first ReadCapsule
	tunnel   bool       // only DATA is left: a CONNECT that was answered, or received
	trailers bool       // the trailer section was read
	expect   int64      // content bytes still to come, -1 when not announced
	readErr  error      // sticky

	writeMu   sync.Mutex
	responded bool // a final response was sent

	// Datagrams. The deliver lock makes calls of the handler exclusive; the
	// connection's loop holds it for the length of a receive batch.
	deliver          sync.Mutex
	handler          quic.DatagramHandler
	use              datagramUse // constant once the request is known
	inBatch          bool        // the loop holds deliver; used by the loop only
	receiveClosed    atomic.Bool
	sendClosed       atomic.Bool
	droppedDatagrams atomic.Uint64
	ended            sync.Once
}

func newRequestStream(c *conn, qs *quic.Stream) *RequestStream {
	return &RequestStream{
		c:       c,
		qs:      qs,
		id:      qs.ID(),
		quarter: AppendVarint(nil, qs.ID()/4),
		frames:  newFrameReader(qs),
		expect:  -1,
		use:     datagramsPossible,
	}
}

func (s *RequestStream) quarterID() uint64 { return s.id / 4 }

// Conn is the QUIC connection of the stream.
func (s *RequestStream) Conn() *quic.Conn { return s.c.qc }

// fail ends the stream or the connection as err demands, and returns err.
func (s *RequestStream) fail(err error) error {
	if e, ok := errors.AsType[*StreamError](err); ok {
		s.Cancel(e.Code)
	}
	s.c.abort(err)
	return err
}

// readHeaders reads the first field section of a message. Frames of unknown type
// may come before it.
func (s *RequestStream) readHeaders() ([]Field, error) {
	for {
		typ, err := s.frames.next()
		if err != nil {
			return nil, err
		}
		switch {
		case typ == frameHeaders:
			return s.fieldSection()
		case typ == framePushPromise:
			return nil, s.pushPromise()
		case knownFrame(typ):
			return nil, unexpectedFrame("frame before HEADERS") // R9114-4.1-3
		}
	}
}

func (s *RequestStream) fieldSection() ([]Field, error) {
	b, err := s.frames.value(maxFieldSectionSize)
	if err != nil {
		return nil, err
	}
	return decodeFieldSection(b, maxFieldSectionSize)
}

func (s *RequestStream) pushPromise() error {
	if s.c.server {
		return unexpectedFrame("PUSH_PROMISE from a client") // R9114-7.2.5-2
	}
	return &ConnError{ErrID, "PUSH_PROMISE without MAX_PUSH_ID"} // R9114-7.2.5-1
}

// Read reads content. It returns io.EOF at its end, after trailers, which are
// checked and dropped.
func (s *RequestStream) Read(p []byte) (int, error) {
	if s.readErr == nil && len(p) > 0 {
		var n int
		if s.readErr = s.nextData(); s.readErr == nil {
			n, s.readErr = s.frames.read(p)
		}
		if n > 0 {
			return n, nil
		}
		s.receiveClosed.Store(true)
		if s.readErr != io.EOF {
			s.fail(s.readErr)
		}
	}
	return 0, s.readErr
}

// nextData advances to the next byte of a DATA frame.
func (s *RequestStream) nextData() error {
	for s.frames.left == 0 {
		typ, err := s.frames.next()
		if err == io.EOF && s.expect > 0 {
			return malformed("content shorter than content-length") // R9114-4.1.2-2
		}
		if err != nil {
			return err
		}
		if err := s.checkFrame(typ); err != nil {
			return err
		}
	}
	return nil
}

// checkFrame handles a frame that follows the header section; only the payload
// of DATA is left to be read.
func (s *RequestStream) checkFrame(typ uint64) error {
	switch {
	case typ == frameData && !s.trailers:
		if s.expect < 0 {
			return nil
		}
		if s.frames.left > uint64(s.expect) {
			return malformed("content longer than content-length") // R9114-4.1.2-2
		}
		s.expect -= int64(s.frames.left)
		return nil
	case typ == frameHeaders && !s.trailers && !s.tunnel:
		s.trailers = true
		fields, err := s.fieldSection()
		if err != nil {
			return err
		}
		return checkTrailers(fields)
	case typ == framePushPromise && !s.tunnel:
		return s.pushPromise()
	case knownFrame(typ):
		// R9114-4.1-3 R9114-4.4-2 R9114-7.2.3-1 R9114-7.2.4-2 R9114-7.2.6-2 R9114-7.2.7-2 R9114-7.2.8-2
		return unexpectedFrame("frame on a request stream")
	}
	return s.frames.skip() // R9114-7.2.8-1
}

// ReadCapsule returns the next capsule whose type known accepts; others are
// skipped, DATAGRAM capsules go to the datagram handler. It returns io.EOF at the
// end of the data stream.
func (s *RequestStream) ReadCapsule(known func(typ uint64) bool) (Capsule, error) {
	if s.capsules == nil {
		s.capsules = newCapsuleReader(s)
	}
	c, err := readCapsule(s.capsules, known, s.datagramCapsule)
	if err != nil && err != io.EOF {
		s.fail(err)
	}
	return c, err
}

// WriteCapsule sends a capsule.
func (s *RequestStream) WriteCapsule(typ uint64, value []byte) error {
	_, err := s.Write(AppendCapsule(nil, typ, value))
	return err
}

// Write sends p as content, in one DATA frame.
func (s *RequestStream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.writeFrame(frameData, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *RequestStream) writeFrame(typ uint64, payload []byte) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	b := appendFrameHeader(make([]byte, 0, 16+len(payload)), typ, uint64(len(payload)))
	_, err := s.qs.Write(append(b, payload...))
	return err
}

func (s *RequestStream) writeHeaders(fields []Field) error {
	if err := s.c.checkFieldSectionSize(fields); err != nil {
		return err
	}
	return s.writeFrame(frameHeaders, appendFieldSection(nil, fields))
}

// CloseWrite ends the sending side in order. No datagrams are sent from now on.
func (s *RequestStream) CloseWrite() {
	s.sendClosed.Store(true)
	s.qs.CloseWrite()
}

// Cancel gives up the stream in both directions with an error code. Of several
// calls of Cancel and Close the first counts. // R9220-3-3
func (s *RequestStream) Cancel(code ErrorCode) {
	s.end(func() {
		s.qs.Reset(uint64(code))
		s.qs.StopSending(uint64(code))
	})
}

// Close ends the stream in order and stops reading it.
func (s *RequestStream) Close() {
	s.end(func() {
		s.qs.CloseWrite()
		s.qs.StopSending(uint64(ErrNoError))
	})
}

func (s *RequestStream) end(how func()) {
	s.ended.Do(func() {
		s.sendClosed.Store(true)
		s.receiveClosed.Store(true)
		how()
		s.c.datagrams.remove(s)
	})
}
