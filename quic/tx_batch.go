// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

// txBatchSize is the storage of a batch in bytes, and so the most that a path sends
// in one turn.
const txBatchSize = 1 << 16

var (
	txBufPool = sync.Pool{New: func() any { return new([txBatchSize]byte) }}
	// txBuffersOut counts buffers that are not in the pool; tests check that it
	// returns to zero.
	txBuffersOut atomic.Int64
)

// runNumbers are the 1-RTT packets of a run, for when the kernel refuses it.
type runNumbers struct{ first, last packetNumber }

// txBatch collects the sealed packets of one path until the end of the turn: several
// GSO runs, sent by one WriteBatch. Its memory is borrowed while it is not empty.
type txBatch struct {
	buf  *[txBatchSize]byte
	n    int // bytes used
	runs []udpio.Run
	pns  []runNumbers
	open bool // the last run takes further packets
}

// begin returns the place for a packet of up to size bytes, or nil if the batch is full.
func (b *txBatch) begin(size int) []byte {
	if b.buf == nil {
		b.buf = txBufPool.Get().(*[txBatchSize]byte)
		txBuffersOut.Add(1)
	}
	if b.n+size > len(b.buf) {
		return nil
	}
	return b.buf[b.n : b.n : b.n+size]
}

// segment is the segment size of the open run, if packets with this ECN field can
// join it, or 0.
func (b *txBatch) segment(ecn udpio.ECN) int {
	if !b.open || b.runs[len(b.runs)-1].ECN != ecn {
		return 0
	}
	return b.runs[len(b.runs)-1].SegSize
}

// commit adds the packet of n bytes that was built where begin said. It joins the
// open run if it is not larger than its segments; a shorter one closes it.
func (b *txBatch) commit(n int, to tuple, ecn udpio.ECN, pn packetNumber) {
	start := b.n
	b.n += n
	if b.open {
		r := &b.runs[len(b.runs)-1]
		if n <= r.SegSize && r.Dst == to.remote && r.Src == to.local && r.ECN == ecn && len(r.Data)+n <= udpio.MaxRunBytes {
			r.Data = r.Data[:len(r.Data)+n]
			b.pns[len(b.pns)-1].last = pn
			b.open = n == r.SegSize && r.Segments() < udpio.MaxSegments
			return
		}
	}
	b.runs = append(b.runs, udpio.Run{Data: b.buf[start:b.n], SegSize: n, Dst: to.remote, Src: to.local, ECN: ecn})
	b.pns = append(b.pns, runNumbers{pn, pn})
	b.open = true
}

// reset drops what is not sent yet.
func (b *txBatch) reset() {
	b.runs, b.pns = b.runs[:0], b.pns[:0]
	b.n, b.open = 0, false
}

// release gives the memory back.
func (b *txBatch) release() {
	b.reset()
	if b.buf != nil {
		txBufPool.Put(b.buf)
		txBuffersOut.Add(-1)
		b.buf = nil
	}
}

// pop removes the first n runs.
func (b *txBatch) pop(n int) {
	b.runs = b.runs[:copy(b.runs, b.runs[n:])]
	b.pns = b.pns[:copy(b.pns, b.pns[n:])]
	b.open = b.open && len(b.runs) > 0
}

// flush sends the batch of p. If the socket is full, what remains stays sealed and
// goes first when it can be written again. It returns true if the content of packets
// that were too long is to be sent again at once.
func (c *Conn) flush(now instant, p *pathState) (again bool) {
	b := &p.batch
	for len(b.runs) > 0 && !p.sockBlocked {
		n, err := p.sock.WriteBatch(b.runs)
		b.pop(n)
		if err == nil {
			continue
		}
		if errors.Is(err, udpio.ErrWouldBlock) {
			p.sockBlocked = true
			p.sock.notifyWritable(c)
			return again
		}
		if len(b.runs) == 0 {
			break
		}
		seg, pns := b.runs[0].SegSize, b.pns[0]
		b.pop(1)
		if errors.Is(err, udpio.ErrMessageTooLong) {
			// Not congestion: the path's MTU is smaller than was thought.
			p.mtu.tooLong(seg, interfacePayload(p.sock.MTU(), p.remote.Addr().Is6()))
			again = again || seg > minInitialSize
			p.loss.setMaxDatagram(p.mtu.size)
			c.updateMaxDatagram()
			if c.confirmed {
				c.fatePath = p
				p.loss.discardSent(pns.first, pns.last, c.fateFunc)
			}
			continue
		}
		c.sendFailed(now, p, err)
	}
	if len(b.runs) == 0 {
		b.release()
	}
	return again
}

// sendFailed treats an error of the kernel, such as a missing route, as a sign that
// the path is broken: it is doubted at once.
func (c *Conn) sendFailed(now instant, p *pathState, err error) {
	p.stats.sendErrors++
	if p.phase == pathActive && c.activePaths() > 1 && udpio.IsUnreachable(err) {
		p.why = "send: " + err.Error()
		if !p.doubted {
			p.doubted, p.doubtedAt = true, now
			p.probePings = 2
		}
		p.doubtSince = now.add(-time.Nanosecond)
		c.setPhase(now, p, evSuspicion, p.why)
		p.suspectAt = now
		c.resendElsewhere(p)
	}
}

// socketWritable continues on the paths of a socket that was full.
func (c *Conn) socketWritable(es *endpointSocket) {
	for _, p := range c.paths {
		if p.sock == es {
			p.sockBlocked = false
		}
	}
}
