// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math/rand/v2"
	"testing"
)

// TestRecvBufferRandom gives a stream in shuffled, duplicated and overlapping pieces.
func TestRecvBufferRandom(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 6))
		const size = 30_000
		var b recvBuffer
		var pieces []numberRange[uint64]
		for off := uint64(0); off < size; {
			r := numberRange[uint64]{off, min(size, off+1+rng.Uint64N(1500))}
			off = r.end
			for range 1 + rng.IntN(2) {
				wide := numberRange[uint64]{r.start - min(r.start, rng.Uint64N(700)), min(size, r.end+rng.Uint64N(700))}
				pieces = append(pieces, wide)
			}
		}
		rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		read := uint64(0)
		for _, r := range pieces {
			if !b.add(r.start, patternBytes(9, r.start, int(r.size()))) {
				t.Fatalf("seed %d: too many gaps", seed)
			}
			for b.contiguous() > b.readOffset() {
				p := make([]byte, 1+rng.IntN(2000))
				if rng.IntN(2) == 0 {
					p = p[:b.read(p)]
				} else {
					p = append(p[:0], b.peek()...)
					b.advance(uint64(len(p)))
				}
				checkPattern(t, 9, read, p) // R9000-2.2-1
				read += uint64(len(p))
			}
		}
		if read != size {
			t.Errorf("seed %d: read %d bytes of %d", seed, read, size)
		}
		if len(b.have) > 0 || b.pipe.chunksHeld() > 0 {
			t.Errorf("seed %d: memory held when all is read", seed)
		}
	}
}

func TestRecvBufferBoundsGaps(t *testing.T) {
	var b recvBuffer
	for i := range uint64(maxReceiveGaps) {
		if !b.add(2*i+1, []byte{1}) {
			t.Fatalf("refused with %d ranges", i)
		}
	}
	if b.add(2*maxReceiveGaps+1, []byte{1}) {
		t.Error("the number of ranges is not bounded")
	}
}
