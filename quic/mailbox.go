// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

const (
	rxChunkSize = 1 << 16
	// maxMailboxChunks bounds what the socket readers queue for one connection: 2 MiB,
	// more than arrives in 3 ms at 5 Gbit/s.
	maxMailboxChunks = 32
	// maxMailboxDatagrams bounds the datagrams that the application has queued and the
	// loop has not taken yet.
	maxMailboxDatagrams = 1024
)

// rxChunk is storage for received datagrams.
type rxChunk struct {
	n   int
	buf [rxChunkSize]byte
}

var (
	rxChunkPool = sync.Pool{New: func() any { return new(rxChunk) }}
	// rxChunksOut counts chunks that are not in the pool; tests check that it returns
	// to zero.
	rxChunksOut atomic.Int64
)

// rxMsg is one or more received datagrams of segSize bytes (the last may be
// shorter) that came together over one path. data points into an rxChunk.
type rxMsg struct {
	data    []byte
	segSize int
	sock    *endpointSocket
	src     netip.AddrPort
	dst     netip.Addr
	ecn     udpio.ECN
	at      instant
}

// inbox is what one turn of the loop takes out of the mailbox.
type inbox struct {
	rx     []rxMsg
	chunks []*rxChunk
	dgrams []*PacketBuf
	cmds   []func(now instant)
}

// mailbox hands input to the connection in batches. Any goroutine may append, and then
// has a turn run; the turn takes all at once.
type mailbox struct {
	mu     sync.Mutex
	in     inbox
	closed bool
	wake   chan struct{} // capacity 1

	rxDropped   uint64 // datagrams from the network
	sendDropped uint64 // datagrams of the application
}

func (m *mailbox) init() { m.wake = make(chan struct{}, 1) }

// signal wakes the loop.
func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// putReceived copies data, which the reader keeps.
func (m *mailbox) putReceived(msg rxMsg) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	var ch *rxChunk
	if n := len(m.in.chunks); n > 0 && rxChunkSize-m.in.chunks[n-1].n >= len(msg.data) {
		ch = m.in.chunks[n-1]
	} else {
		if n >= maxMailboxChunks {
			m.rxDropped++
			return
		}
		ch = rxChunkPool.Get().(*rxChunk)
		rxChunksOut.Add(1)
		ch.n = 0
		m.in.chunks = append(m.in.chunks, ch)
	}
	n := copy(ch.buf[ch.n:], msg.data)
	msg.data = ch.buf[ch.n : ch.n+n]
	ch.n += n
	m.in.rx = append(m.in.rx, msg)
}

// putDatagrams takes ownership of bufs (not of the slice). It returns how many were queued.
func (m *mailbox) putDatagrams(bufs []*PacketBuf) int {
	m.mu.Lock()
	room := max(0, maxMailboxDatagrams-len(m.in.dgrams))
	if m.closed {
		room = 0
	}
	taken := bufs[:min(room, len(bufs))]
	m.in.dgrams = append(m.in.dgrams, taken...)
	m.sendDropped += uint64(len(bufs) - len(taken))
	m.mu.Unlock()
	for _, b := range bufs[len(taken):] {
		b.Release()
	}
	return len(taken)
}

// putCommand queues f for the next turn. It returns false if the loop has ended.
func (m *mailbox) putCommand(f func(now instant)) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	m.in.cmds = append(m.in.cmds, f)
	m.mu.Unlock()
	return true
}

// takeDatagrams takes only the datagrams, for empty.
func (m *mailbox) takeDatagrams(empty []*PacketBuf) (dgrams []*PacketBuf) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dgrams, m.in.dgrams = m.in.dgrams, empty
	return dgrams
}

// take swaps the content of the mailbox into box, whose slices are reused.
func (m *mailbox) take(box *inbox) {
	m.mu.Lock()
	m.in, *box = *box, m.in
	m.mu.Unlock()
}

// release empties box after the loop has processed it.
func (box *inbox) release() {
	for i, ch := range box.chunks {
		rxChunkPool.Put(ch)
		rxChunksOut.Add(-1)
		box.chunks[i] = nil
	}
	clear(box.rx)
	clear(box.dgrams)
	clear(box.cmds)
	box.rx, box.chunks, box.dgrams, box.cmds = box.rx[:0], box.chunks[:0], box.dgrams[:0], box.cmds[:0]
}

// close drops what is queued; nothing is taken any more.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	in := m.in
	m.in = inbox{}
	m.mu.Unlock()
	for _, b := range in.dgrams {
		b.Release()
	}
	in.release()
}
