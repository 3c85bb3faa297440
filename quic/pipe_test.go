// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func (p *pipe) chunksHeld() (n int) {
	for _, c := range p.chunks {
		if c != nil {
			n++
		}
	}
	return n
}

func TestPipeRandom(t *testing.T) {
	const size = 10 * pipeChunkSize
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var p pipe
		model := make([]byte, size)
		written := make([]bool, size)
		for range 100 {
			switch start := int(p.start); rng.IntN(4) {
			case 0:
				if p.end > p.start {
					off := start + rng.IntN(int(p.end)-start+1)
					p.discardBefore(uint64(off))
				}
			default:
				off := start + rng.IntN(size-start+1)
				b := patternBytes(rng.Uint64(), 0, rng.IntN(min(size-off, 2*pipeChunkSize)+1))
				p.writeAt(b, uint64(off))
				copy(model[off:], b)
				for i := range b {
					written[off+i] = true
				}
			}
			for off := int(p.start); off < int(p.end); {
				if !written[off] {
					off++
					continue
				}
				end := off
				for end < int(p.end) && written[end] {
					end++
				}
				got := make([]byte, end-off)
				p.readAt(got, uint64(off))
				if !bytes.Equal(got, model[off:end]) {
					t.Fatalf("bytes %d to %d differ", off, end)
				}
				off = end
			}
		}
	}
}

func TestPipeReturnsChunks(t *testing.T) {
	var p pipe
	p.writeAt(make([]byte, 10), 100*pipeChunkSize) // far ahead: the hole costs nothing
	if n := p.chunksHeld(); n != 1 {
		t.Errorf("%d chunks held for 10 bytes", n)
	}
	p.writeAt(make([]byte, 3*pipeChunkSize), 0)
	p.discardBefore(2*pipeChunkSize + 1)
	if n := p.chunksHeld(); n != 2 {
		t.Errorf("%d chunks held, want the two in use", n)
	}
	p.discardBefore(p.end)
	if n := p.chunksHeld(); n != 0 {
		t.Errorf("%d chunks held by an empty pipe", n)
	}
	p.writeAt([]byte("x"), p.end)
	if b := p.peek(p.end); string(b) != "x" {
		t.Errorf("peek: %q", b)
	}
}

func TestPipeDoesNotAllocate(t *testing.T) {
	var p pipe
	b := make([]byte, 1000)
	step := func() {
		p.writeAt(b, p.end)
		p.readAt(b, p.start)
		p.discardBefore(p.start + 1000)
		p.writeAt(b[:10], p.end)
	}
	for range 100 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n >= 1 { // below 1: the pool may be emptied
		t.Errorf("%v allocations", n)
	}
}
