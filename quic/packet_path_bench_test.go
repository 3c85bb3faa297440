// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/qlog"
)

// Benchmarks of what is done for each packet. They measure CPU time of this thread
// where the figure has a name, since benchmarks share their machine.

// pumpSizes are payloads of datagrams in bytes: a full inner packet, and small ones
// of which several share a QUIC packet.
var pumpSizes = []int{1300, 200}

// BenchmarkDatagrams is the whole work of both ends for a datagram, without system
// calls: SendDatagrams, mailbox, turn and batch; reading, delivery, mailbox, turn and
// handler; and acknowledgments. One operation is a tick with 40 datagrams,
// about what one batch holds.
func BenchmarkDatagrams(b *testing.B) {
	for _, paths := range []int{1, 2} {
		for _, size := range pumpSizes {
			b.Run(fmt.Sprintf("paths=%d/size=%d", paths, size), func(b *testing.B) {
				benchmarkDatagrams(b, newPump(b, paths), newPumpLoad(40, size))
			})
		}
	}
}

// BenchmarkDatagramsLogged is BenchmarkDatagrams with a qlog at both ends; without one
// each packet pays for a few comparisons with nil.
func BenchmarkDatagramsLogged(b *testing.B) {
	open := func(_ []byte, isClient bool) slog.Handler {
		return qlog.NewTrace(discard{io.Discard}, qlog.Client, "00")
	}
	benchmarkDatagrams(b, newPumpWith(b, 1, func(c *Config) { c.Qlog = open }), newPumpLoad(40, 1300))
}

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

func benchmarkDatagrams(b *testing.B, p *pump, l *pumpLoad) {
	runtime.LockOSThread() // for cpuTime
	defer runtime.UnlockOSThread()
	p.client.load = l
	for range 1000 { // slow start, and the growth of rings and queues
		p.step()
	}
	p.client.busy, p.server.busy = 0, 0
	received := p.server.sink.count
	b.ReportAllocs()
	for b.Loop() {
		p.step()
	}
	n := b.N * len(l.bufs)
	if lost := n - (p.server.sink.count - received); lost > n/100+len(l.bufs)*8 {
		b.Errorf("%d of %d datagrams did not arrive", lost, n)
	}
	perDatagram := func(d time.Duration, unit string) { b.ReportMetric(float64(d)/float64(n), unit) }
	perDatagram(p.client.busy, "ns/sent")
	perDatagram(p.server.busy, "ns/received")
}

// BenchmarkPacketBuild takes a datagram from the queue, builds and seals a packet with
// it, and accounts for it until its path forgets it.
func BenchmarkPacketBuild(b *testing.B) {
	for _, size := range pumpSizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p := newPump(b, 1)
			c := p.client.c
			q := c.paths[0]
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if c.batchFull(q) {
					q.batch.reset()
					c.fatePath = q
					q.loss.discardAllInFlight(c.fateFunc)
				}
				d := datagram(1, size)
				c.dgrams.push(p.now, d)
				c.dgrams.peek(p.now)
				if c.writeDatagrams(p.now, q) == 0 {
					b.Fatal("no packet was built")
				}
			}
			c.sentBufs.release()
		})
	}
}

// BenchmarkPacketParse opens a packet with one datagram, parses it, and hands the
// datagram to the handler.
func BenchmarkPacketParse(b *testing.B) {
	for _, size := range pumpSizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p := newPump(b, 1)
			// The same packet again and again: the receiver forgets it in between.
			c, q := p.client.c, p.client.c.paths[0]
			c.dgrams.push(p.now, datagram(1, size))
			c.dgrams.peek(p.now)
			c.writeDatagrams(p.now, q)
			c.sentBufs.release()
			sealed := append([]byte(nil), q.batch.runs[0].Data...)
			s := p.server.c
			acks := &s.paths[0].space.acks
			m := &rxMsg{sock: s.paths[0].sock, src: s.paths[0].remote, dst: s.paths[0].local, at: p.now}
			buf := make([]byte, len(sealed))
			received := p.server.sink.count
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				ranges := acks.ranges[:0]
				acks.init(false)
				acks.ranges = ranges
				copy(buf, sealed)
				s.handleDatagram(m, buf)
			}
			if n := p.server.sink.count - received; n != b.N {
				b.Errorf("%d of %d datagrams were handled", n, b.N)
			}
		})
	}
}

// BenchmarkDatagramQueue pushes and pops 64 datagrams of some flows.
func BenchmarkDatagramQueue(b *testing.B) {
	var q dgramQueue
	var bufs [64]*PacketBuf
	for i := range bufs {
		bufs[i] = datagram(uint64(i%pumpFlows+1), 1300)
	}
	now := instant(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range bufs {
			q.push(now, d)
		}
		q.beginTurn()
		for i := range bufs {
			q.peek(now)
			bufs[i] = q.pop()
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N*len(bufs)), "ns/datagram")
	for _, d := range bufs {
		d.Release()
	}
}

// BenchmarkPacketBufs is what a buffer costs that the reader of a TUN device takes,
// and a connection on another processor releases.
func BenchmarkPacketBufs(b *testing.B) {
	const batch = 32
	full, empty := make(chan []*PacketBuf, 8), make(chan []*PacketBuf, 8)
	for range cap(empty) {
		empty <- make([]*PacketBuf, batch)
	}
	var conn sync.WaitGroup
	conn.Go(func() {
		var free freePacketBufs
		for bufs := range full {
			for i, d := range bufs {
				free.add(d)
				bufs[i] = nil
			}
			free.release()
			empty <- bufs
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		bufs := <-empty
		FillPacketBufs(bufs)
		full <- bufs
	}
	close(full)
	conn.Wait()
	b.ReportMetric(float64(b.Elapsed())/float64(b.N*batch), "ns/datagram")
}
