// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/internal/inline"
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

// tunWriter writes packets of all sessions to the TUN device. The connections hand over
// batches and never wait: when the device does not keep up, batches are dropped and counted.
type tunWriter struct {
	dev  tunDevice
	log  *slog.Logger
	wake chan struct{} // holds one: there is something in queue

	mu     sync.Mutex
	queue  []*packetBatch
	queued int // bytes in queue
	free   []*packetBatch
	// writing says that a goroutine uses dev and split, or that run has not begun.
	writing bool
	split   [][]byte

	packets, bytes  atomic.Uint64 // taken by the device
	dropped         atomic.Uint64 // packets that found the queue full
	refused         atomic.Uint64 // packets that the kernel did not take
	loggedRefusedAt uint64
}

func newTUNWriter(dev tunDevice, log *slog.Logger) *tunWriter {
	return &tunWriter{dev: dev, log: log, wake: make(chan struct{}, 1), writing: true}
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

// put takes ownership of a batch and queues it; or writes it at once, if it is small and
// nobody else is writing. Its packets join those of the last batch that waits, if that has
// room: many loops may hand over a few packets each.
func (w *tunWriter) put(b *packetBatch) {
	w.mu.Lock()
	n := len(w.queue)
	switch {
	case !w.writing && n == 0 && len(b.ends) <= inline.MaxPackets:
		w.writing = true
		w.mu.Unlock()
		open := w.write(b)
		w.mu.Lock()
		w.recycle(b)
		w.writing = !open
	case w.queued+len(b.buf) > maxQueuedBytes:
		w.dropped.Add(uint64(len(b.ends)))
		w.recycle(b)
	case n > 0 && w.queue[n-1].join(b):
		w.queued += len(b.buf)
		w.recycle(b)
	default:
		w.queued += len(b.buf)
		w.queue = append(w.queue, b)
	}
	due := len(w.queue) > 0 && !w.writing // else whoever writes looks into the queue after that
	w.mu.Unlock()
	if due {
		w.signal()
	}
}

func (w *tunWriter) signal() {
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
	w.mu.Lock()
	w.writing = false
	if len(w.queue) > 0 {
		w.signal()
	}
	w.mu.Unlock()
	var work []*packetBatch
	for {
		select {
		case <-w.wake:
		case <-done:
			return
		}
		w.mu.Lock()
		for len(w.queue) > 0 && !w.writing {
			work, w.queue, w.queued = w.queue, work[:0], 0
			w.writing = true
			w.mu.Unlock()
			for _, b := range work {
				if !w.write(b) {
					return
				}
			}
			w.mu.Lock()
			for i, b := range work {
				w.recycle(b)
				work[i] = nil
			}
			w.writing = false
		}
		w.mu.Unlock()
	}
}

// write reports false when the device is closed. Its caller has set writing.
func (w *tunWriter) write(b *packetBatch) bool {
	packets := b.split(w.split[:0])
	w.split = packets
	n, err := w.dev.Write(packets, 0)
	w.packets.Add(uint64(n))
	w.bytes.Add(uint64(len(b.buf)))
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
