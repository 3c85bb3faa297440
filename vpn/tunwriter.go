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
	// batchBytes is the storage of a packetBatch.
	batchBytes = 64 << 10
	// maxQueuedBytes bounds what waits for the TUN device: 13 ms at 1.2 Gbit/s. Two
	// batches in a row hold more than one has room for, so that the storage is at most
	// twice as much.
	maxQueuedBytes = 2 << 20
	// lightBytes is what a session may have in the queue when others have filled it, and
	// maxLightBytes what all of them together may add to it so: who sends little does not
	// lose packets because somebody else sends much.
	lightBytes    = batchBytes / 4
	maxLightBytes = maxQueuedBytes / 8
	// maxFreeBatches is kept for reuse; the rest is left to the garbage collector.
	maxFreeBatches = 8
	// maxWritePackets is about how many packets go to the device at once: several of its
	// super-packets, so that the ends of a batch cut few of them.
	maxWritePackets = 256
)

// packetBatch holds packets back to back. It has one holder at a time.
type packetBatch struct {
	buf  []byte
	ends []int // end of each packet in buf
}

// add copies pkt in, if there is room.
func (b *packetBatch) add(pkt []byte) bool {
	if len(pkt) > cap(b.buf)-len(b.buf) {
		return false
	}
	b.buf = append(b.buf, pkt...)
	b.ends = append(b.ends, len(b.buf))
	return true
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
	queued int      // bytes in queue
	round  uint64   // counts how often the queue was taken as a whole
	rare   tunShare // of putPacket
	free   []*packetBatch
	// writing says that a goroutine uses dev, or that run has not begun.
	writing bool
	split   [][]byte // of run

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

// put writes packets of a session at once, if there are few and nobody else is writing. Else
// it queues copies: the packets are the caller's again when it returns.
func (w *tunWriter) put(packets [][]byte, of *tunShare) {
	w.mu.Lock()
	if w.writing || len(w.queue) > 0 || len(packets) > inline.MaxPackets() {
		w.mu.Unlock()
		w.copy(packets, of)
		return
	}
	w.writing = true
	w.mu.Unlock()
	open := w.write(packets)
	w.mu.Lock()
	w.writing = !open
	due := open && len(w.queue) > 0
	w.mu.Unlock()
	if due {
		w.signal()
	}
}

// copy queues copies of packets.
func (w *tunWriter) copy(packets [][]byte, of *tunShare) {
	for len(packets) > 0 {
		b := w.empty()
		for len(packets) > 0 && b.add(packets[0]) { // an empty one holds any packet
			packets = packets[1:]
		}
		w.enqueue(b, of)
	}
}

// tunShare is what a session has in the queue of a tunWriter, whose mu guards it.
type tunShare struct {
	bytes int
	round uint64 // in which they were queued
}

// room is how long the queue may get with n bytes more of a session. Called with mu held.
func (w *tunWriter) room(of *tunShare, n int) int {
	if of.round != w.round {
		*of = tunShare{round: w.round}
	}
	if of.bytes+n <= lightBytes {
		return maxQueuedBytes + maxLightBytes
	}
	return maxQueuedBytes
}

// enqueue takes ownership of a batch of a session. Its packets join those of the last batch
// that waits, if that has room: many loops may hand over a few packets each.
func (w *tunWriter) enqueue(b *packetBatch, of *tunShare) {
	w.mu.Lock()
	n := len(w.queue)
	switch {
	case w.queued+len(b.buf) > w.room(of, len(b.buf)):
		w.dropped.Add(uint64(len(b.ends)))
		w.recycle(b)
	default:
		w.queued += len(b.buf)
		of.bytes += len(b.buf)
		if n > 0 && w.queue[n-1].join(b) {
			w.recycle(b)
		} else {
			w.queue = append(w.queue, b)
		}
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
func (w *tunWriter) putPacket(pkt []byte) { w.put([][]byte{pkt}, &w.rare) }

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
			w.round++
			w.writing = true
			w.mu.Unlock()
			if !w.writeAll(work) {
				return
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

// writeAll writes the packets of several batches, as write does.
func (w *tunWriter) writeAll(work []*packetBatch) bool {
	packets := w.split[:0]
	for i, b := range work {
		packets = b.split(packets)
		if len(packets) < maxWritePackets && i < len(work)-1 {
			continue
		}
		if !w.write(packets) {
			return false
		}
		packets = packets[:0]
	}
	w.split = packets
	return true
}

// write reports false when the device is closed. Its caller has set writing.
func (w *tunWriter) write(packets [][]byte) bool {
	n, err := w.dev.Write(packets, 0)
	bytes := 0
	for _, pkt := range packets {
		bytes += len(pkt)
	}
	w.packets.Add(uint64(n))
	w.bytes.Add(uint64(bytes))
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

// tunSink receives the packets of one session, on the loop of its connection. They are lent
// until the end of a receive batch, and so can be written without a copy.
type tunSink struct {
	w       *tunWriter
	mtu     func() int // largest packet that the session carries
	packets [][]byte
	share   tunShare
}

// HandlePacket collects pkt for the TUN writer.
func (s *tunSink) HandlePacket(pkt []byte) {
	masque.ClampMSS(pkt, s.mtu())
	if s.packets = append(s.packets, pkt); len(s.packets) == maxWritePackets {
		s.FlushPackets()
	}
}

// FlushPackets hands over what has been collected.
func (s *tunSink) FlushPackets() {
	if len(s.packets) > 0 {
		s.w.put(s.packets, &s.share)
		clear(s.packets)
		s.packets = s.packets[:0]
	}
}
