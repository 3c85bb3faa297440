// SPDX-License-Identifier: Apache-2.0

package quic

// A sendBuffer keeps the bytes of an ordered stream (STREAM or CRYPTO) from the
// time they are written until they are acknowledged, and knows which of them have
// to be sent: those that were lost, then those never sent. Not safe for concurrent
// use.
type sendBuffer struct {
	pipe  pipe             // from the first unacknowledged byte to the last written one
	sent  uint64           // end of what was sent at least once
	lost  rangeset[uint64] // to be sent again; below sent
	acked rangeset[uint64] // acknowledged out of order; above pipe.start
}

// end is the number of bytes ever written.
func (b *sendBuffer) end() uint64 { return b.pipe.end }

// buffered is the number of bytes held.
func (b *sendBuffer) buffered() uint64 { return b.pipe.end - b.pipe.start }

func (b *sendBuffer) write(p []byte) { b.pipe.writeAt(p, b.pipe.end) }

// next returns the range to send next: the first lost one, else what was never
// sent below limit. It is empty when there is nothing to send.
func (b *sendBuffer) next(limit uint64) (r numberRange[uint64]) {
	if len(b.lost) > 0 {
		return b.lost[0]
	}
	return numberRange[uint64]{b.sent, max(b.sent, min(b.pipe.end, limit))}
}

// markSent notes that [start, end) is in flight.
func (b *sendBuffer) markSent(start, end uint64) {
	b.lost.sub(start, end)
	b.sent = max(b.sent, end)
}

// handleFate takes the fate of a frame that carried [start, end). Bytes that were
// acknowledged before, in this or in another transmission, stay acknowledged.
func (b *sendBuffer) handleFate(start, end uint64, f fate) {
	start = max(start, b.pipe.start)
	if start >= end {
		return
	}
	if f == fateLost {
		b.lost.add(start, end)
		for _, r := range b.acked[b.acked.search(start):] {
			if r.start >= end {
				break
			}
			b.lost.sub(r.start, r.end)
		}
		return
	}
	b.lost.sub(start, end)
	b.acked.add(start, end)
	if first := b.acked[0]; first.start == b.pipe.start {
		b.pipe.discardBefore(first.end)
		b.acked.sub(first.start, first.end)
	}
}

// allAcked reports whether everything written is acknowledged.
func (b *sendBuffer) allAcked() bool { return b.pipe.start == b.pipe.end }

// discard drops the contents; nothing is sent any more.
func (b *sendBuffer) discard() {
	b.pipe.discardBefore(b.pipe.end)
	b.sent = b.pipe.end
	b.lost, b.acked = nil, nil
}
