// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/quic/sched"
)

const (
	// packetBufSize is the storage of a PacketBuf in bytes, headroom included.
	packetBufSize = 2048
	// PacketHeadroom is the room in bytes in front of the payload of a fresh
	// PacketBuf: frame type 1 + length 2 + quarter stream id 8 + context id 8 + shim 8 = 27.
	PacketHeadroom = 32
	// MaxPacketPayload is the largest payload that fits a PacketBuf, with spare
	// room behind it for what the layers below may append.
	MaxPacketPayload = packetBufSize - PacketHeadroom - 32
)

// PacketBuf carries the payload of one datagram from the application to the wire.
// It has exactly one holder; handing it to SendDatagrams (here or in a layer
// above) passes it on. It is not safe for concurrent use.
type PacketBuf struct {
	// Flow is an opaque key: datagrams with equal non-zero Flow are kept in order
	// on one path when the scheduler supports affinity.
	Flow uint64
	// Class is the traffic class that the scheduler sees.
	Class sched.Class
	// Mark sets the sign of congestion in the payload, without the headers that layers in
	// between have prepended, when it has waited too long; such packets are not dropped for
	// that. It is called on the connection's loop, once at most, and keeps the length; nil:
	// the payload cannot be marked.
	Mark func(payload []byte)

	off, end int
	queued   instant
	next     *PacketBuf
	buf      [packetBufSize]byte
}

// packetBufChainLen bounds a chain of free buffers. Buffers are taken by one goroutine
// and released by another one, for which sync.Pool costs as much as all else that is
// done with them; a chain of them costs that once.
const packetBufChainLen = 32

var (
	packetBufPool = sync.Pool{New: func() any { return new(PacketBuf) }} // of chains, by next
	// packetBufsOut counts buffers that are not in the pool; tests check that it
	// returns to zero.
	packetBufsOut atomic.Int64
)

// NewPacketBuf returns an empty buffer with PacketHeadroom bytes of headroom.
func NewPacketBuf() *PacketBuf {
	var one [1]*PacketBuf
	FillPacketBufs(one[:])
	return one[0]
}

// FillPacketBufs puts an empty buffer, like those of NewPacketBuf, wherever bufs is nil.
func FillPacketBufs(bufs []*PacketBuf) {
	var chain *PacketBuf
	n := 0
	for i, b := range bufs {
		if b != nil {
			continue
		}
		if chain == nil {
			chain = packetBufPool.Get().(*PacketBuf)
		}
		b, chain = chain, chain.next
		b.Flow, b.Class, b.Mark, b.next, b.queued = 0, sched.ClassOther, nil, nil, 0
		b.off, b.end = PacketHeadroom, PacketHeadroom
		bufs[i] = b
		n++
	}
	if chain != nil {
		packetBufPool.Put(chain)
	}
	packetBufsOut.Add(int64(n))
}

// Bytes is the payload.
func (b *PacketBuf) Bytes() []byte { return b.buf[b.off:b.end] }

// Len is the length of the payload in bytes.
func (b *PacketBuf) Len() int { return b.end - b.off }

// Space is the storage for the payload, MaxPacketPayload bytes; fill its start
// and call SetLen. Only for a fresh buffer, before any Prepend.
func (b *PacketBuf) Space() []byte { return b.buf[b.off : PacketHeadroom+MaxPacketPayload] }

// SetLen makes the first n bytes behind the headroom the payload.
func (b *PacketBuf) SetLen(n int) {
	if n < 0 || n > len(b.buf)-b.off {
		panic("BUG: PacketBuf.SetLen out of range")
	}
	b.end = b.off + n
}

// Prepend grows the payload by n bytes at its front and returns the whole payload.
func (b *PacketBuf) Prepend(n int) []byte {
	if n > b.off {
		panic("BUG: PacketBuf has no headroom left")
	}
	b.off -= n
	return b.buf[b.off:b.end]
}

// mark calls Mark, once, and reports whether there was one.
func (b *PacketBuf) mark() bool {
	if b.Mark == nil {
		return false
	}
	b.Mark(b.buf[PacketHeadroom:b.end])
	b.Mark = nil
	return true
}

// TrimFront shortens the payload by n bytes at its front.
func (b *PacketBuf) TrimFront(n int) {
	if n > b.end-b.off {
		panic("BUG: PacketBuf.TrimFront out of range")
	}
	b.off += n
}

// Release gives the buffer back. The caller must not use it afterwards.
func (b *PacketBuf) Release() {
	packetBufsOut.Add(-1)
	packetBufPool.Put(b)
}

// freePacketBufs is a chain of buffers to be released together.
type freePacketBufs struct {
	head *PacketBuf
	n    int
}

// add takes b, which the caller must not use afterwards.
func (f *freePacketBufs) add(b *PacketBuf) {
	b.next, f.head = f.head, b
	if f.n++; f.n == packetBufChainLen {
		f.release()
	}
}

// release gives all of them back.
func (f *freePacketBufs) release() {
	if f.n > 0 {
		packetBufsOut.Add(-int64(f.n))
		packetBufPool.Put(f.head)
		f.head, f.n = nil, 0
	}
}
