// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"sync"

	"github.com/mqvpn/mqvpn/quic"
)

// maxQuarterStreamID is the largest quarter stream id (RFC 9297 section 2.1).
const maxQuarterStreamID = 1<<60 - 1

// Datagrams that arrive before their stream, or before its handler is known, are
// kept until then; the oldest give way. That is one burst of a client that sends
// together with its request.
const maxEarlyDatagrams = 32

// datagramRouter gives each received datagram to the handler of its request
// stream. It is the quic.DatagramHandler of the connection.
type datagramRouter struct {
	c     *conn
	limit func() uint64 // how many request streams there may be

	// Used on the connection's loop only.
	last  *RequestStream   // of the datagram before, to spare the map
	batch []*RequestStream // those whose deliver lock the current batch holds

	mu      sync.Mutex // innermost: nothing is called while it is held
	streams map[uint64]*RequestStream
	next    uint64 // streams of lower quarter stream id exist or existed
	early   []earlyDatagram
}

type earlyDatagram struct {
	id      uint64
	payload []byte
}

func (r *datagramRouter) init(c *conn) {
	r.c, r.limit = c, c.qc.RequestStreamLimit
	r.streams = make(map[uint64]*RequestStream)
}

// add makes a stream known.
func (r *datagramRouter) add(s *RequestStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[s.quarterID()] = s
	r.next = max(r.next, s.quarterID()+1)
}

// remove forgets a stream; its datagrams are dropped from now on.
func (r *datagramRouter) remove(s *RequestStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, s.quarterID())
	r.takeEarlyLocked(s.quarterID())
}

// open counts the streams that are known.
func (r *datagramRouter) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams)
}

// HandleDatagram is called on the connection's loop; b is valid until
// FlushDatagrams returns.
func (r *datagramRouter) HandleDatagram(b []byte) {
	id, n := ConsumeVarint(b)
	if n < 0 || id > maxQuarterStreamID {
		r.c.abort(&ConnError{ErrDatagram, "invalid quarter stream id"}) // R9297-2.1-1 R9297-2.1-2
		return
	}
	s := r.last
	if s == nil || s.quarterID() != id {
		if s = r.find(id, b[n:]); s == nil {
			if id >= r.limit() { // R9297-2.1-6
				r.c.abort(&ConnError{ErrID, "datagram for a stream beyond the limit"})
			}
			return
		}
		r.last = s
	}
	if s.receiveClosed.Load() {
		return // R9297-2.1-4
	}
	if !s.inBatch {
		s.deliver.Lock()
		s.inBatch = true
		r.batch = append(r.batch, s)
	}
	s.handleDatagram(b[n:])
}

// FlushDatagrams is called on the connection's loop at the end of a receive batch.
func (r *datagramRouter) FlushDatagrams() {
	for i, s := range r.batch {
		if s.handler != nil {
			s.handler.FlushDatagrams()
		}
		s.inBatch = false
		s.deliver.Unlock()
		r.batch[i] = nil
	}
	r.batch = r.batch[:0]
}

// find returns the stream of a datagram. It keeps the datagram of a stream that
// the peer has opened but we have not seen yet. // R9297-2.1-5
func (r *datagramRouter) find(id uint64, payload []byte) *RequestStream {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.streams[id]; s != nil {
		return s
	}
	if r.c.server && id >= r.next {
		r.keepLocked(id, payload)
	}
	return nil
}

func (r *datagramRouter) keep(id uint64, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(id, payload)
}

func (r *datagramRouter) keepLocked(id uint64, payload []byte) {
	if len(r.early) == maxEarlyDatagrams {
		r.early = append(r.early[:0], r.early[1:]...)
	}
	r.early = append(r.early, earlyDatagram{id, append([]byte(nil), payload...)})
}

// takeEarly removes and returns what was kept for a stream, in order of arrival.
func (r *datagramRouter) takeEarly(id uint64) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.takeEarlyLocked(id)
}

func (r *datagramRouter) takeEarlyLocked(id uint64) (taken [][]byte) {
	kept := r.early[:0]
	for _, d := range r.early {
		if d.id == id {
			taken = append(taken, d.payload)
		} else {
			kept = append(kept, d)
		}
	}
	clear(r.early[len(kept):])
	r.early = kept
	return taken
}

// datagramUse says whether the request of a stream has a use for datagrams.
type datagramUse uint8

const (
	datagramsRefused datagramUse = iota // its semantics have none
	datagramsPossible
)

// SetDatagramHandler sets the receiver of the stream's datagrams, once. Its calls
// never overlap. They come on the connection's loop, and from within
// SetDatagramHandler (what has arrived before) and ReadCapsule (DATAGRAM
// capsules); h must neither block nor call SetDatagramHandler or ReadCapsule.
func (s *RequestStream) SetDatagramHandler(h quic.DatagramHandler) {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	s.handler = h
	early := s.c.datagrams.takeEarly(s.quarterID())
	for _, b := range early {
		h.HandleDatagram(b)
	}
	if len(early) > 0 {
		h.FlushDatagrams()
	}
}

// handleDatagram handles a datagram of the stream; the caller holds s.deliver.
func (s *RequestStream) handleDatagram(b []byte) {
	switch {
	case s.handler != nil:
		s.handler.HandleDatagram(b)
	case s.use == datagramsPossible:
		s.c.datagrams.keep(s.quarterID(), b)
	case s.receiveClosed.CompareAndSwap(false, true):
		s.fail(&StreamError{ErrDatagram, "request has no use for datagrams"}) // R9297-2-2
	}
}

// datagramCapsule handles a datagram that came in a capsule. // R9297-3.5-1
func (s *RequestStream) datagramCapsule(b []byte) {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	s.handleDatagram(b)
	if s.handler != nil {
		s.handler.FlushDatagrams()
	}
}

// SendDatagrams sends each buffer as one datagram of the stream and takes
// ownership of all of them. They are dropped, and counted, while datagrams may
// not be sent: before the peer's SETTINGS, without its consent, after the stream
// was closed for sending, or on a request that has no use for them.
func (s *RequestStream) SendDatagrams(bufs []*quic.PacketBuf) {
	// R9297-2-1 R9297-2.1-3 R9297-2.1.1-2
	if s.use != datagramsPossible || s.sendClosed.Load() || !s.c.canSendDatagrams.Load() {
		s.droppedDatagrams.Add(uint64(len(bufs)))
		for _, b := range bufs {
			b.Release()
		}
		return
	}
	for _, b := range bufs {
		copy(b.Prepend(len(s.quarter)), s.quarter)
	}
	s.c.qc.SendDatagrams(bufs)
}

// MaxDatagramSize is the largest payload in bytes that SendDatagrams should be
// given now, 0 or less while that is not known.
func (s *RequestStream) MaxDatagramSize() int {
	return s.c.qc.MaxDatagramPayload() - len(s.quarter)
}

// DroppedDatagrams counts what SendDatagrams did not send.
func (s *RequestStream) DroppedDatagrams() uint64 { return s.droppedDatagrams.Load() }
