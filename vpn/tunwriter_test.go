// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/tun/tuntest"
)

func newSink(w *tunWriter) *tunSink { return &tunSink{w: w, mtu: func() int { return 1440 }} }

func TestTUNWriterKeepsOrder(t *testing.T) {
	dev := tuntest.New("t")
	w := newTUNWriter(dev, discardLog)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() { w.run(done); close(ended) }()
	s := newSink(w)
	const packets = 300 // more than go to the device at once
	lent := make([][]byte, packets)
	for i := range lent {
		lent[i] = bytes.Repeat([]byte{byte(i)}, 1400)
		s.HandlePacket(lent[i])
	}
	s.FlushPackets()
	for _, pkt := range lent {
		pkt[0]++ // what is not written yet was copied
	}
	s.FlushPackets() // nothing to flush is fine
	for i := range packets {
		pkt, err := dev.Receive(t.Context())
		if err != nil || len(pkt) != 1400 || pkt[0] != byte(i) || pkt[1399] != byte(i) {
			t.Fatalf("packet %d: %d bytes, %v", i, len(pkt), err)
		}
	}
	close(done)
	<-ended
	if w.packets.Load() != packets || w.bytes.Load() != packets*1400 || w.dropped.Load() != 0 {
		t.Errorf("counted %d packets, %d bytes, %d dropped", w.packets.Load(), w.bytes.Load(), w.dropped.Load())
	}
}

// TestTUNWriterFull: a device that does not keep up costs packets, not time. What
// counts is how many bytes wait, not in how many pieces they came.
func TestTUNWriterFull(t *testing.T) {
	for _, size := range []int{100, 1000, batchBytes/2 + 1, batchBytes} {
		dev := tuntest.New("t")
		w := newTUNWriter(dev, discardLog) // nobody runs it yet
		s := newSink(w)
		fit := maxQueuedBytes / size
		for i := range fit + 3 {
			pkt := make([]byte, size)
			pkt[0], pkt[1], pkt[size-1] = byte(i>>8), byte(i), byte(i)
			s.HandlePacket(pkt)
			s.FlushPackets()
		}
		storage := 0
		for _, b := range w.queue {
			storage += cap(b.buf)
		}
		if w.dropped.Load() != 3 || storage > 2*maxQueuedBytes {
			t.Errorf("packets of %d bytes: %d dropped, %d bytes of storage", size, w.dropped.Load(), storage)
		}
		n := 0
		for _, b := range w.queue {
			for _, pkt := range b.split(nil) {
				if len(pkt) != size || pkt[0] != byte(n>>8) || pkt[1] != byte(n) || pkt[size-1] != byte(n) {
					t.Fatalf("packets of %d bytes: number %d is %d bytes, % x…", size, n, len(pkt), pkt[:2])
				}
				n++
			}
		}
		if n != fit {
			t.Errorf("packets of %d bytes: %d of %d are queued", size, n, fit)
		}
	}
}

// TestTUNWriterFair: a session that has filled the queue takes nothing from the others, all
// of which together are bounded.
func TestTUNWriterFair(t *testing.T) {
	w := newTUNWriter(tuntest.New("t"), discardLog) // nobody runs it yet
	put := func(s *tunSink) bool {
		before := w.dropped.Load()
		s.HandlePacket(make([]byte, 1000))
		s.FlushPackets()
		return w.dropped.Load() == before
	}
	heavy, light := newSink(w), newSink(w)
	for put(heavy) {
	}
	for i := range lightBytes / 1000 {
		if !put(light) || put(heavy) {
			t.Fatalf("packet %d of who sends little: %d dropped", i, w.dropped.Load())
		}
	}
	if put(light) {
		t.Error("more than little is queued beyond the bound")
	}
	for range 2 * maxLightBytes / lightBytes {
		for s := newSink(w); put(s); {
		}
	}
	if w.queued > maxQueuedBytes+maxLightBytes {
		t.Errorf("%d bytes are queued", w.queued)
	}
	w.queue, w.queued, w.round = nil, 0, w.round+1 // as run does
	if !put(heavy) || heavy.share.bytes != 1000 {
		t.Errorf("after that the first session has %d bytes in the queue", heavy.share.bytes)
	}
}

// TestTUNWriterRecovers: when the device has caught up there is room again.
func TestTUNWriterRecovers(t *testing.T) {
	w := newTUNWriter(nullDevice{tuntest.New("t")}, discardLog)
	done, ended := make(chan struct{}), make(chan struct{})
	s := newSink(w)
	full := func() {
		for range maxQueuedBytes / 1000 {
			s.HandlePacket(make([]byte, 1000))
			s.FlushPackets()
		}
	}
	full()
	go func() { w.run(done); close(ended) }()
	for w.packets.Load() < maxQueuedBytes/1000 {
		time.Sleep(time.Millisecond)
	}
	close(done)
	<-ended
	full()
	if n := w.dropped.Load(); n != 0 {
		t.Errorf("%d packets dropped", n)
	}
}

// TestTUNWriterClosed: the writer ends with the device.
func TestTUNWriterClosed(t *testing.T) {
	dev := tuntest.New("t")
	w := newTUNWriter(dev, discardLog)
	dev.Close()
	w.putPacket([]byte{1})
	w.run(nil)
}

// refusingDevice is a kernel that takes no packet.
type refusingDevice struct{ *tuntest.Device }

func (refusingDevice) Write(bufs [][]byte, _ int) (int, error) {
	return 0, os.NewSyscallError("write", syscall.EIO)
}

func TestTUNWriterRefused(t *testing.T) {
	w := newTUNWriter(refusingDevice{tuntest.New("t")}, discardLog)
	for range 3 {
		if !w.write([][]byte{{1}, {2}}) {
			t.Fatal("gave up")
		}
	}
	if w.refused.Load() != 6 || w.packets.Load() != 0 {
		t.Errorf("%d refused, %d taken", w.refused.Load(), w.packets.Load())
	}
}

// nullDevice takes everything.
type nullDevice struct{ *tuntest.Device }

func (nullDevice) Write(bufs [][]byte, _ int) (int, error) { return len(bufs), nil }

func TestTUNSinkAllocs(t *testing.T) {
	w := newTUNWriter(nullDevice{tuntest.New("t")}, discardLog)
	s := newSink(w)
	pkt := ipPacket("10.0.0.2", "192.0.2.9", protoTCP, make([]byte, 1380))
	cycle := func() {
		for range 40 {
			s.HandlePacket(pkt)
		}
		s.FlushPackets()
		w.writeAll(w.queue)
		for i, b := range w.queue {
			w.recycle(b)
			w.queue[i] = nil
		}
		w.queue, w.queued = w.queue[:0], 0
	}
	for _, w.writing = range []bool{true, false} { // somebody else is; the sink does
		cycle()
		if n := testing.AllocsPerRun(100, cycle); n != 0 {
			t.Errorf("%v allocations in 40 packets", n)
		}
	}
}
