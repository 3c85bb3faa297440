// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/masque"
)

const (
	// batchBytes is the storage of a packetBatch: as much as one receive batch of a
	// connection usually holds.
	batchBytes = 64 << 10
	// maxQueuedBytes bounds what waits for the TUN device: 13 ms at 1.2 Gbit/s. Two
	// batches in a row hold more than one has room for, so that the storage is at most
	// twice as much.
	maxQueuedBytes = 2 << 20
	// maxFreeBatches is kept for reuse; the rest is left to the garbage collector.
	maxFreeBatches = 8
)

// packetBatch holds packets back to back. It has one holder at a time.
type packetBatch struct {
	buf  []byte
	ends []int // end of each packet in buf
}

// add copies pkt in and returns the copy; nil when there is no room.
func (b *packetBatch) add(pkt []byte) []byte {
	start := len(b.buf)
	if len(pkt) > cap(b.buf)-start {
		return nil
	}
	b.buf = append(b.buf, pkt...)
	b.ends = append(b.ends, len(b.buf))
	return b.buf[start:]
}

// join adds the packets of c if there is room for all.
func (b *packetBatch) join(c *packetBatch) bool {
	start := len(b.buf)
	if len(c.buf) > cap(b.buf)-start {
		return false
	}
	b.buf = append(b.buf, c.buf...)
	for _, end := range c.ends {
		b.ends = append(b.ends, start+end)
	}
	return true
}

// split appends the packets to dst.
func (b *packetBatch) split(dst [][]byte) [][]byte {
	start := 0
	for _, end := range b.ends {
		dst = append(dst, b.buf[start:end])
		start = end
	}
	return dst
}

// tunWriter writes packets of all sessions to the TUN device. The loops of the
// connections hand over batches and never wait: when the device does not keep up,
// batches are dropped and counted.
type tunWriter struct {
	dev  tunDevice
	log  *slog.Logger
	wake chan struct{} // holds one: there is something in queue

	mu     sync.Mutex
	queue  []*packetBatch
	queued int // bytes in queue
	free   []*packetBatch

	packets, bytes  atomic.Uint64 // taken by the device
	dropped         atomic.Uint64 // packets that found the queue full
	refused         atomic.Uint64 // packets that the kernel did not take
	loggedRefusedAt uint64
}

func newTUNWriter(dev tunDevice, log *slog.Logger) *tunWriter {
	return &tunWriter{dev: dev, log: log, wake: make(chan struct{}, 1)}
}

// empty returns a batch without packets.
func (w *tunWriter) empty() *packetBatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.free); n > 0 {
		b := w.free[n-1]
		w.free = w.free[:n-1]
		return b
	}
	return &packetBatch{buf: make([]byte, 0, batchBytes), ends: make([]int, 0, 64)}
}

// put queues a batch and takes ownership of it. Its packets join those of the last
// batch that waits, if that has room: many loops may hand over a few packets each.
func (w *tunWriter) put(b *packetBatch) {
	w.mu.Lock()
	n := len(w.queue)
	full := w.queued+len(b.buf) > maxQueuedBytes
	switch {
	case full:
		w.dropped.Add(uint64(len(b.ends)))
		w.recycle(b)
	case n > 0 && w.queue[n-1].join(b):
		w.queued += len(b.buf)
		w.recycle(b)
	default:
		w.queued += len(b.buf)
		w.queue = append(w.queue, b)
	}
	w.mu.Unlock()
	if full {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// putPacket queues one packet. It is for the rare ones, such as ICMP errors.
func (w *tunWriter) putPacket(pkt []byte) {
	b := w.empty()
	b.add(pkt)
	w.put(b)
}

// recycle keeps a batch for reuse. Called with mu held.
func (w *tunWriter) recycle(b *packetBatch) {
	if len(w.free) < maxFreeBatches {
		b.buf, b.ends = b.buf[:0], b.ends[:0]
		w.free = append(w.free, b)
	}
}

// run writes what is queued until done is closed or the device is.
func (w *tunWriter) run(done <-chan struct{}) {
	var work []*packetBatch
	var packets [][]byte
	for {
		select {
		case <-w.wake:
		case <-done:
			return
		}
		w.mu.Lock()
		work, w.queue, w.queued = w.queue, work[:0], 0
		w.mu.Unlock()
		for i, b := range work {
			packets = b.split(packets[:0])
			if !w.write(packets, len(b.buf)) {
				return
			}
			w.mu.Lock()
			w.recycle(b)
			w.mu.Unlock()
			work[i] = nil
		}
	}
}

// write reports false when the device is closed.
func (w *tunWriter) write(packets [][]byte, size int) bool {
	n, err := w.dev.Write(packets, 0)
	w.packets.Add(uint64(n))
	w.bytes.Add(uint64(size))
	if errors.Is(err, os.ErrClosed) {
		return false
	}
	if err != nil {
		total := w.refused.Add(uint64(len(packets) - n))
		if total >= 2*w.loggedRefusedAt { // ever more rarely
			w.loggedRefusedAt = total
			w.log.Warn("the kernel refuses packets from the tunnel", "error", err, "packets", total)
		}
	}
	return true
}

// tunSink receives the packets of one session, on the loop of its connection.
type tunSink struct {
	w     *tunWriter
	mtu   func() int // largest packet that the session carries
	batch *packetBatch
}

// HandlePacket copies pkt for the TUN writer.
func (s *tunSink) HandlePacket(pkt []byte) {
	if s.batch == nil {
		s.batch = s.w.empty()
	}
	c := s.batch.add(pkt)
	if c == nil {
		s.FlushPackets()
		s.batch = s.w.empty()
		c = s.batch.add(pkt) // a datagram is at most 65 535 bytes: an empty batch holds it
	}
	masque.ClampMSS(c, s.mtu())
}

// FlushPackets hands over what has been collected.
func (s *tunSink) FlushPackets() {
	if s.batch != nil {
		s.w.put(s.batch)
		s.batch = nil
	}
}
