// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math/rand/v2"
	"testing"
)

// TestSendBufferRandom writes, sends, loses and acknowledges at random. In the end
// every byte is acknowledged, and no transmission of a byte differs from another.
func TestSendBufferRandom(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var b sendBuffer
		const size = 50_000
		flying := []numberRange[uint64]{}
		acked := make([]bool, size)
		for step := 0; !(b.end() == size && b.allAcked()); step++ {
			if step > 100_000 {
				t.Fatalf("seed %d: not done", seed)
			}
			switch rng.IntN(4) {
			case 0:
				b.write(patternBytes(1, b.end(), rng.IntN(min(2000, int(size-b.end()))+1)))
			case 1, 2:
				r := b.next(b.sent + rng.Uint64N(3000))
				if r.size() == 0 {
					continue
				}
				r.end = r.start + 1 + rng.Uint64N(min(r.size(), 1200))
				data := make([]byte, r.size())
				b.pipe.readAt(data, r.start)
				checkPattern(t, 1, r.start, data) // R9000-2.2-2
				for v := r.start; v < r.end; v++ {
					if acked[v] {
						t.Fatalf("seed %d: byte %d sent although acknowledged", seed, v)
					}
				}
				b.markSent(r.start, r.end)
				flying = append(flying, r)
			case 3:
				if len(flying) == 0 {
					continue
				}
				i := rng.IntN(len(flying))
				r := flying[i]
				f := fate(rng.IntN(2))
				b.handleFate(r.start, r.end, f)
				if f == fateAcked || rng.IntN(2) == 0 { // else its fate may come again, and change
					flying[i] = flying[len(flying)-1]
					flying = flying[:len(flying)-1]
				}
				if f == fateAcked {
					for v := r.start; v < r.end; v++ {
						acked[v] = true
					}
				}
			}
		}
		if n := b.pipe.chunksHeld(); n != 0 {
			t.Errorf("seed %d: %d chunks held with nothing to send", seed, n)
		}
	}
}

func TestSendBufferLostFirst(t *testing.T) {
	var b sendBuffer
	b.write(make([]byte, 100))
	b.markSent(0, 60)
	b.handleFate(20, 40, fateLost)
	if r := b.next(1000); r != (numberRange[uint64]{20, 40}) {
		t.Errorf("next is %v, want the lost bytes", r)
	}
	b.handleFate(20, 40, fateAcked) // late
	if r := b.next(80); r != (numberRange[uint64]{60, 80}) {
		t.Errorf("next is %v, want new bytes within the limit", r)
	}
}

func TestSendBufferFreesAcked(t *testing.T) {
	var b sendBuffer
	b.write(make([]byte, 10*pipeChunkSize))
	b.markSent(0, b.end())
	b.handleFate(pipeChunkSize, 5*pipeChunkSize, fateAcked)
	if b.buffered() != 10*pipeChunkSize {
		t.Errorf("%d bytes held, want all: the first is not acknowledged", b.buffered())
	}
	b.handleFate(0, pipeChunkSize, fateAcked)
	if b.buffered() != 5*pipeChunkSize || b.pipe.chunksHeld() != 5 {
		t.Errorf("%d bytes in %d chunks held", b.buffered(), b.pipe.chunksHeld())
	}
}
