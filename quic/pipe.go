// SPDX-License-Identifier: Apache-2.0

package quic

// pipeChunkSize is the unit of a pipe's storage in bytes. Small enough that the
// few bytes of a control stream do not hold much, large enough that a window of
// 1 MiB is 256 pointers.
const pipeChunkSize = 4096

type pipeChunk [pipeChunkSize]byte

// A pipe stores the bytes [start, end) of a stream by offset. Bytes are copied in
// once and never moved; they may be written in any order (holes read as
// undefined) and are given up from the front. Memory is held for the chunks
// between start and end that were written to, and returned as start passes them.
// Not safe for concurrent use.
type pipe struct {
	start, end uint64
	base       uint64       // offset of chunks[0], a multiple of pipeChunkSize
	chunks     []*pipeChunk // nil: never written to
}

// writeAt copies b to offset off, which must not be before start.
func (p *pipe) writeAt(b []byte, off uint64) {
	if off < p.start {
		panic("BUG: pipe written before its start")
	}
	if len(b) == 0 {
		return
	}
	p.end = max(p.end, off+uint64(len(b)))
	if len(p.chunks) == 0 {
		p.base = p.start &^ (pipeChunkSize - 1)
	}
	for n := int((p.end - p.base + pipeChunkSize - 1) / pipeChunkSize); len(p.chunks) < n; {
		p.chunks = append(p.chunks, nil)
	}
	for len(b) > 0 {
		i, at := p.locate(off)
		if p.chunks[i] == nil {
			p.chunks[i] = chunkPool.Get().(*pipeChunk)
		}
		n := copy(p.chunks[i][at:], b)
		b = b[n:]
		off += uint64(n)
	}
}

// readAt fills b with the bytes from offset off on, all of which must be stored.
func (p *pipe) readAt(b []byte, off uint64) {
	if off < p.start || off+uint64(len(b)) > p.end {
		panic("BUG: pipe read outside of what it stores")
	}
	for len(b) > 0 {
		i, at := p.locate(off)
		n := copy(b, p.chunks[i][at:])
		b = b[n:]
		off += uint64(n)
	}
}

// peek returns the stored bytes from start to limit (at most end) that lie in the
// first chunk. The slice is valid until the next discard.
func (p *pipe) peek(limit uint64) []byte {
	if p.start == limit {
		return nil
	}
	i, at := p.locate(p.start)
	return p.chunks[i][at:min(pipeChunkSize, at+int(limit-p.start))]
}

// discardBefore gives up what is before offset off; start becomes off.
func (p *pipe) discardBefore(off uint64) {
	if off < p.start {
		panic("BUG: pipe start moved back")
	}
	p.start = off
	if off >= p.end { // empty: not even the last, half-used chunk is kept
		p.end = off
		p.release(len(p.chunks))
		return
	}
	if n := int((off - p.base) / pipeChunkSize); n > 0 {
		p.release(n)
	}
}

func (p *pipe) locate(off uint64) (chunk, at int) {
	d := off - p.base
	return int(d / pipeChunkSize), int(d % pipeChunkSize)
}

// release returns the first n chunks. The pointers behind them are moved down
// (2 KiB for a full window) so that the slice's array is used again.
func (p *pipe) release(n int) {
	for _, c := range p.chunks[:n] {
		if c != nil {
			chunkPool.Put(c)
		}
	}
	rest := copy(p.chunks, p.chunks[n:])
	clear(p.chunks[rest:])
	p.chunks = p.chunks[:rest]
	p.base += uint64(n) * pipeChunkSize
}
