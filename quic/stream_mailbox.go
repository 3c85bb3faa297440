// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
)

// chunkPool holds the storage of pipes, of all connections.
var chunkPool = sync.Pool{New: func() any { return new(pipeChunk) }}

// A streamMailbox is where the application and the token holder of a connection
// meet as far as it concerns more than one stream: streams that the application
// changed, streams to be opened and accepted. Its mutex and that of a stream are
// never held together.
type streamMailbox struct {
	byServer bool   // we are the server
	wake     func() // makes the token holder run; called without locks

	news     atomic.Bool   // changed or waiting is worth a look
	consumed atomic.Uint64 // stream bytes read or dropped, all streams
	wakeAt   atomic.Uint64 // value of consumed at which MAX_DATA falls due

	mu      sync.Mutex
	cond    sync.Cond // limit, incoming or err changed
	changed []*Stream // by the application, new ones included; each is in it once
	spare   []*Stream // the other half of the double buffer
	opened  [numStreamTypes]uint64
	limit   [numStreamTypes]uint64 // the peer's MAX_STREAMS
	// Of the streams to be opened, in bytes: what the peer may send, what we may.
	recvWindow uint64
	sendLimit  [numStreamTypes]uint64
	waiting    [numStreamTypes]int // callers of open at the limit
	incoming   []*Stream           // not accepted yet; bounded by what we let the peer open
	err        error               // of the connection
}

func (m *streamMailbox) init(byServer bool, recvWindow uint64, wake func()) {
	m.byServer = byServer
	m.recvWindow = recvWindow
	m.wake = wake
	m.cond.L = &m.mu
	m.wakeAt.Store(math.MaxUint64)
}

// post tells the token holder that s has changed.
func (m *streamMailbox) post(s *Stream) {
	if s.posted.Swap(true) {
		return
	}
	m.mu.Lock()
	if m.err == nil {
		m.changed = append(m.changed, s)
	}
	m.mu.Unlock()
	m.ring()
}

// ring wakes the token holder unless it was woken and has not looked yet.
func (m *streamMailbox) ring() {
	if !m.news.Swap(true) {
		m.wake()
	}
}

// consume gives n bytes back to connection flow control, and wakes the token
// holder once when MAX_DATA falls due.
func (m *streamMailbox) consume(n uint64) {
	total := m.consumed.Add(n) // before the load: awaitCredit does it the other way round
	if at := m.wakeAt.Load(); total >= at && m.wakeAt.CompareAndSwap(at, math.MaxUint64) {
		m.wake()
	}
}

// awaitCredit has consume wake the token holder at the given total.
func (m *streamMailbox) awaitCredit(at uint64) {
	m.wakeAt.Store(at)
	if m.consumed.Load() >= at && m.wakeAt.CompareAndSwap(at, math.MaxUint64) {
		m.wake() // read on meanwhile, seeing the old value
	}
}

// take returns what the application changed, for the token holder, and for which
// types it waits to open streams. The slice is valid until the next call.
func (m *streamMailbox) take() (changed []*Stream, waiting [numStreamTypes]bool) {
	m.news.Store(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = m.changed
	clear(m.spare)
	m.changed, m.spare = m.spare[:0], changed
	for t, n := range m.waiting {
		waiting[t] = n > 0 && m.opened[t] >= m.limit[t]
	}
	return changed, waiting
}

// setPeerParams takes the peer's initial limits.
func (m *streamMailbox) setPeerParams(p *transportParams) {
	m.mu.Lock()
	m.limit = [numStreamTypes]uint64{p.initialMaxStreamsBidi, p.initialMaxStreamsUni}
	m.sendLimit = [numStreamTypes]uint64{p.initialMaxStreamDataBidiRemote, p.initialMaxStreamDataUni}
	m.mu.Unlock()
	m.cond.Broadcast()
}

// restart forgets the streams that were opened, and the limits. It returns those that
// the token holder may not have seen.
func (m *streamMailbox) restart() []*Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := m.changed
	m.changed = nil
	m.opened, m.limit, m.sendLimit = [numStreamTypes]uint64{}, [numStreamTypes]uint64{}, [numStreamTypes]uint64{}
	return changed
}

// setLimit takes the peer's limit for streams of one type, and reports whether it
// is too low for those who wait to open one.
func (m *streamMailbox) setLimit(t streamType, limit uint64) (blocked bool) {
	m.mu.Lock()
	m.limit[t] = limit
	blocked = uint64(m.waiting[t]) > limit-m.opened[t]
	m.mu.Unlock()
	m.cond.Broadcast()
	return blocked
}

// deliver hands streams that the peer opened to the application.
func (m *streamMailbox) deliver(s *Stream) {
	m.mu.Lock()
	m.incoming = append(m.incoming, s)
	m.mu.Unlock()
	m.cond.Broadcast()
}

// fail ends every wait with err, the error of the connection, and returns the
// streams that the token holder has not seen.
func (m *streamMailbox) fail(err error) []*Stream {
	m.mu.Lock()
	m.err = err
	changed := m.changed
	m.changed, m.spare, m.incoming = nil, nil, nil
	m.mu.Unlock()
	m.cond.Broadcast()
	return changed
}

// await blocks, with m.mu held, until ready, the end of ctx or of the connection.
func (m *streamMailbox) await(ctx context.Context, ready func() bool) error {
	if m.err == nil && ctx.Err() == nil && !ready() {
		stop := context.AfterFunc(ctx, func() {
			m.mu.Lock() // not between the caller's check and its wait
			defer m.mu.Unlock()
			m.cond.Broadcast()
		})
		defer stop()
		for m.err == nil && ctx.Err() == nil && !ready() {
			m.cond.Wait()
		}
	}
	if m.err != nil {
		return m.err
	}
	return ctx.Err()
}

// open creates a stream of ours, waiting until the peer's limit permits it.
// R9000-4.6-3
func (m *streamMailbox) open(ctx context.Context, t streamType) (*Stream, error) {
	m.mu.Lock()
	blocked := m.opened[t] >= m.limit[t]
	if blocked {
		m.waiting[t]++
		m.mu.Unlock()
		m.ring() // for STREAMS_BLOCKED
		m.mu.Lock()
	}
	err := m.await(ctx, func() bool { return m.opened[t] < m.limit[t] })
	if blocked {
		m.waiting[t]--
	}
	var s *Stream
	if err == nil {
		s = newStream(m, newStreamID(m.byServer, t, m.opened[t]), m.recvWindow, m.sendLimit[t])
		s.accepted = true
		s.posted.Store(true)
		m.changed = append(m.changed, s) // in the order of IDs
		m.opened[t]++
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	m.ring()
	return s, nil
}

// accept returns the next stream that the peer opened, of either type, waiting for
// one.
func (m *streamMailbox) accept(ctx context.Context) (*Stream, error) {
	m.mu.Lock()
	if err := m.await(ctx, func() bool { return len(m.incoming) > 0 }); err != nil {
		m.mu.Unlock()
		return nil, err
	}
	s := m.incoming[0]
	m.incoming[0] = nil
	m.incoming = m.incoming[1:]
	m.mu.Unlock()

	s.mu.Lock()
	s.accepted = true
	done := s.due().done
	s.mu.Unlock()
	if done {
		m.post(s)
	}
	return s, nil
}
