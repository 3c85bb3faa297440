// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errReadClosed  = errors.New("quic: read on a stream closed for reading")
	errNotReadable = errors.New("quic: read on a stream that only sends")
	errNotWritable = errors.New("quic: write on a stream that only receives")
)

// A Stream is an ordered, reliable sequence of bytes in one or both directions.
//
// Its methods may be called from several goroutines; bytes of concurrent Writes
// larger than the free buffer may be interleaved. The stream's own mutex guards
// what the application and the token holder share, and is held for no longer than
// it takes to copy.
type Stream struct {
	id      uint64
	box     *streamMailbox
	canSend bool
	canRecv bool

	posted atomic.Bool // is in box.changed

	mu       sync.Mutex
	send     sendPart
	recv     recvPart
	readable sync.Cond // data, end, error or deadline
	writable sync.Cond // room, error or deadline
	rtimer   deadline
	wtimer   deadline
	accepted bool  // the application has the stream
	connErr  error // the connection is gone

	// Of the token holder.
	links [numQueues]streamLinks
	gone  bool // was removed from the connection
}

// newStream returns a stream for which the peer permits sendLimit bytes, and we
// recvWindow.
func newStream(box *streamMailbox, id, recvWindow, sendLimit uint64) *Stream {
	s := &Stream{id: id, box: box}
	s.readable.L, s.writable.L = &s.mu, &s.mu
	s.canSend = !s.IsUni() || s.IsLocal()
	s.canRecv = !s.IsUni() || !s.IsLocal()
	if s.canSend {
		s.send.limit = sendLimit
	}
	if s.canRecv {
		s.recv.init(recvWindow)
	}
	return s
}

// ID is the stream ID of RFC 9000 section 2.1.
func (s *Stream) ID() uint64 { return s.id }

// IsUni reports whether the stream carries data in one direction only.
func (s *Stream) IsUni() bool { return s.id&streamIDUni != 0 }

// IsLocal reports whether we opened the stream.
func (s *Stream) IsLocal() bool { return (s.id&streamIDServer != 0) == s.box.byServer }

// Early reports whether some of the data that has arrived came in 0-RTT packets: an
// attacker may have sent it again.
func (s *Stream) Early() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recv.early
}

// Read reads up to len(b) bytes, waiting for the first. At the end of the stream
// the error is io.EOF, after a reset a *StreamError, after the deadline
// os.ErrDeadlineExceeded, and when the connection is gone that of the connection,
// once everything that arrived in order is read.
func (s *Stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	var n int
	var err error
	for {
		n, err = s.tryRead(b)
		if n > 0 || err != nil || len(b) == 0 {
			break
		}
		s.readable.Wait()
	}
	credit := s.recv.takeCredit()
	due := s.due()
	s.mu.Unlock()
	if credit > 0 {
		s.box.consume(credit)
	}
	if due.control || due.done {
		s.box.post(s)
	}
	return n, err
}

// tryRead reads what there is. Both results are zero when Read has to wait.
func (s *Stream) tryRead(b []byte) (int, error) {
	switch p := &s.recv; {
	case !s.canRecv:
		return 0, errNotReadable
	case s.rtimer.passed:
		return 0, os.ErrDeadlineExceeded
	case p.reset:
		return 0, p.resetErr
	case p.stopped:
		return 0, errReadClosed
	case p.atEnd():
		return 0, io.EOF
	case p.buf.contiguous() == p.buf.readOffset():
		return 0, s.connErr
	}
	return s.recv.buf.read(b), nil
}

// Write takes all of b, waiting while 1 MiB is unacknowledged. It does not wait for
// b to be sent. After Reset and when the peer stopped the stream the error is a
// *StreamError.
func (s *Stream) Write(b []byte) (int, error) {
	n := 0
	for {
		s.mu.Lock()
		for s.writeErr() == nil && s.send.room() == 0 && len(b) > 0 {
			s.writable.Wait()
		}
		if err := s.writeErr(); err != nil {
			s.mu.Unlock()
			return n, err
		}
		m := min(len(b)-n, s.send.room())
		s.send.buf.write(b[n : n+m])
		s.mu.Unlock()
		n += m
		if m > 0 {
			s.box.post(s)
		}
		if n == len(b) {
			return n, nil
		}
	}
}

// writeErr is why nothing can be written, nil if something can.
func (s *Stream) writeErr() error {
	switch {
	case !s.canSend:
		return errNotWritable
	case s.connErr != nil:
		return s.connErr
	case s.send.err != nil:
		return s.send.err
	case s.wtimer.passed:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// CloseWrite ends the stream behind what was written: the peer reads io.EOF there.
// It does nothing when the sending part has ended already.
func (s *Stream) CloseWrite() error {
	if !s.canSend {
		return errNotWritable
	}
	s.mu.Lock()
	s.send.closeWrite()
	s.mu.Unlock()
	s.writable.Broadcast()
	s.box.post(s)
	return nil
}

// Reset abandons what was written and is not acknowledged yet, and tells the peer
// code. It does nothing when the sending part is reset already, or finished.
func (s *Stream) Reset(code uint64) {
	if !s.canSend {
		return
	}
	s.mu.Lock()
	s.send.abort(code, &StreamError{StreamID: s.id, Code: code})
	s.mu.Unlock()
	s.writable.Broadcast()
	s.box.post(s)
}

// StopSending drops what was not read, and asks the peer to stop sending, with
// code. Later reads fail.
func (s *Stream) StopSending(code uint64) {
	if !s.canRecv {
		return
	}
	s.mu.Lock()
	s.recv.abort(code)
	credit := s.recv.takeCredit()
	s.mu.Unlock()
	if credit > 0 {
		s.box.consume(credit)
	}
	s.readable.Broadcast()
	s.box.post(s)
}

// Close ends both directions: CloseWrite, and StopSending with code 0 when not all
// was read.
func (s *Stream) Close() error {
	if s.canSend {
		s.CloseWrite()
	}
	s.mu.Lock()
	unread := s.canRecv && !s.recv.atEnd()
	s.mu.Unlock()
	if unread {
		s.StopSending(0)
	}
	return nil
}

// A deadline ends the waits of one direction of a stream.
type deadline struct {
	timer  *time.Timer
	passed bool
}

// SetReadDeadline has Read fail with os.ErrDeadlineExceeded from t on; a zero t
// means never. It also applies to a Read that waits already.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.setDeadline(&s.rtimer, &s.readable, t)
	return nil
}

// SetWriteDeadline has Write fail with os.ErrDeadlineExceeded from t on; a zero t
// means never. It also applies to a Write that waits already.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.setDeadline(&s.wtimer, &s.writable, t)
	return nil
}

func (s *Stream) setDeadline(d *deadline, waiters *sync.Cond, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		waiters.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer { // not replaced while this waited for the mutex
			d.passed = true
			waiters.Broadcast()
		}
	})
	d.timer = timer
}

// streamDue says what the token holder has to do for a stream.
type streamDue struct {
	control bool // send control frames
	lost    bool // send data or a FIN bit that needs no credit
	fresh   bool // send new data
	done    bool // forget the stream
}

// due finds out what there is to do. The caller holds s.mu.
func (s *Stream) due() (d streamDue) {
	sendDone, recvDone := true, true
	if p := &s.send; s.canSend {
		p.updateBlocked()
		sendDone = p.done()
		d.control = p.reset.due() || p.blocked.due()
		d.lost = p.hasLost()
		d.fresh = p.hasFresh()
	}
	if p := &s.recv; s.canRecv {
		p.updateCredit()
		recvDone = p.done()
		d.control = d.control || p.max.due() || p.stop.due()
	}
	d.done = sendDone && recvDone && s.accepted
	return d
}

// signalRoom wakes writers when there is room again, but not for a few bytes: they
// would come back for every acknowledgment. The caller holds s.mu.
func (s *Stream) signalRoom() {
	if s.send.room() >= maxStreamWriteBuffer/4 {
		s.writable.Broadcast()
	}
}

// fail ends every wait with the error of the connection.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	s.connErr = err
	s.mu.Unlock()
	s.readable.Broadcast()
	s.writable.Broadcast()
}
