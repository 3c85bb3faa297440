// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math"
	"time"
)

// The queue of datagrams that wait for a path: flow buckets served by deficit round
// robin, flows that send little first, and dropping by sojourn time (RFC 8290, RFC
// 8289). So a flow pinned to a full path does not block the others, and the queue
// stays short.

const (
	dgramBuckets = 256
	// maxQueuedDatagramBytes bounds the queue of a connection, storage of the buffers included.
	maxQueuedDatagramBytes = 4 << 20
	// codelTarget and codelInterval are those of RFC 8289 section 4. The interval is to be
	// that of a round trip; the tunnel's is only a part of it.
	codelTarget   = 5 * time.Millisecond
	codelInterval = 100 * time.Millisecond
	// maxReserve bounds the queue that is left to bulk flows for other paths.
	maxReserve = 100 * time.Millisecond
	// quantumPacket is one full packet; above fastRate a bucket sends quantumPackets in
	// a row, so that the receiver can coalesce them.
	quantumPacket  = 1500
	quantumPackets = 16
	fastRate       = 100e6 / 8 // bytes/s
)

type dgramBucket struct {
	head, tail *PacketBuf
	bytes      int // storage of the queued buffers
	deficit    int // bytes that may still be sent in this round
	next       *dgramBucket
	listed     bool

	// CoDel.
	firstAbove instant
	dropNext   instant
	dropCount  int
	dropping   bool
}

// bucketList is a queue of buckets.
type bucketList struct{ head, tail *dgramBucket }

func (l *bucketList) push(b *dgramBucket) {
	b.next = nil
	if l.tail == nil {
		l.head = b
	} else {
		l.tail.next = b
	}
	l.tail = b
}

// unshift puts the buckets of m in front of those of l.
func (l *bucketList) unshift(m *bucketList) {
	if m.head == nil {
		return
	}
	m.tail.next = l.head
	if l.head == nil {
		l.tail = m.tail
	}
	l.head = m.head
	*m = bucketList{}
}

func (l *bucketList) pop() *dgramBucket {
	b := l.head
	if l.head = b.next; l.head == nil {
		l.tail = nil
	}
	b.next = nil
	return b
}

// dgramQueue is owned by the loop.
type dgramQueue struct {
	buckets [dgramBuckets]*dgramBucket
	fresh   bucketList // buckets that were empty: sparse flows
	served  bucketList // buckets that have used up a quantum
	// skipped are those of fresh and served that wait for their path in this turn.
	skippedFresh, skippedServed bucketList

	bytes    int
	packets  int
	quantum  int
	rtt      time.Duration // of the slowest path
	reserve  time.Duration // what a bulk flow may wait in any case
	dropped  uint64        // by the bound
	delayed  uint64        // by sojourn time
	marked   uint64        // instead of that
	current  *dgramBucket
	fromList *bucketList
}

// push appends b, which the queue owns from now on.
func (q *dgramQueue) push(now instant, b *PacketBuf) {
	i := (b.Flow * 0x9e3779b97f4a7c15) >> 56
	k := q.buckets[i]
	if k == nil {
		k = new(dgramBucket)
		q.buckets[i] = k
	}
	b.queued, b.next = now, nil
	if k.tail == nil {
		k.head = b
	} else {
		k.tail.next = b
	}
	k.tail = b
	k.bytes += packetBufSize
	q.bytes += packetBufSize
	q.packets++
	if !k.listed {
		k.listed, k.deficit = true, q.quantumBytes()
		q.fresh.push(k)
	}
	for q.bytes > maxQueuedDatagramBytes {
		q.dropLongest()
	}
}

func (q *dgramQueue) quantumBytes() int {
	if q.quantum == 0 {
		return quantumPacket
	}
	return q.quantum
}

// setPaths tells the rate of the connection in bytes/s, the longest RTT of its paths, and
// how long a queue is useful: see Conn.shapeQueue.
func (q *dgramQueue) setPaths(rate float64, rtt, reserve time.Duration) {
	q.rtt, q.reserve = rtt, reserve
	q.quantum = quantumPacket
	if rate >= fastRate {
		q.quantum = quantumPacket * quantumPackets
	}
}

// dropLongest drops the oldest packet of the longest bucket.
func (q *dgramQueue) dropLongest() {
	var longest *dgramBucket
	for _, k := range q.buckets {
		if k != nil && (longest == nil || k.bytes > longest.bytes) {
			longest = k
		}
	}
	q.take(longest).Release()
	q.dropped++
}

// take removes the first packet of k.
func (q *dgramQueue) take(k *dgramBucket) *PacketBuf {
	b := k.head
	if k.head = b.next; k.head == nil {
		k.tail = nil
	}
	b.next = nil
	k.bytes -= packetBufSize
	q.bytes -= packetBufSize
	q.packets--
	return b
}

// beginTurn makes the buckets that waited for their path eligible again, where they were.
func (q *dgramQueue) beginTurn() {
	q.fresh.unshift(&q.skippedFresh)
	q.served.unshift(&q.skippedServed)
	q.current = nil
}

// peek returns the packet that is next in turn, or nil. pop takes it, skip lets its
// bucket wait until the next turn.
func (q *dgramQueue) peek(now instant) *PacketBuf {
	for {
		l := &q.fresh
		if l.head == nil {
			l = &q.served
		}
		k := l.head
		if k == nil {
			q.current = nil
			return nil
		}
		if k.deficit <= 0 {
			k.deficit += q.quantumBytes()
			q.served.push(l.pop())
			continue
		}
		q.codel(now, k)
		if k.head == nil {
			l.pop()
			if l == &q.fresh && q.served.head != nil {
				// One round among the others, or it would be sparse again at once.
				q.served.push(k)
			} else {
				k.listed = false
			}
			continue
		}
		q.current, q.fromList = k, l
		return k.head
	}
}

// pop takes the packet that peek returned.
func (q *dgramQueue) pop() *PacketBuf {
	b := q.take(q.current)
	q.current.deficit -= b.Len()
	return b
}

// more returns the packet behind those that pop took from the same bucket, or nil.
func (q *dgramQueue) more() *PacketBuf {
	if q.current == nil {
		return nil
	}
	return q.current.head
}

// skip lets the bucket of the packet that peek returned wait until the next turn.
func (q *dgramQueue) skip() {
	to := &q.skippedServed
	if q.fromList == &q.fresh {
		to = &q.skippedFresh
	}
	to.push(q.fromList.pop())
	q.current = nil
}

func (q *dgramQueue) interval() time.Duration {
	return max(codelInterval, 2*(q.rtt+min(q.reserve, maxReserve)))
}

func (q *dgramQueue) target() time.Duration { return max(codelTarget, min(q.reserve, maxReserve)) }

// codel drops packets at the front of k that have waited too long, or marks them if it can
// (RFC 8289 section 5.1).
func (q *dgramQueue) codel(now instant, k *dgramBucket) {
	for {
		ok := q.mayDrop(now, k)
		switch {
		case !ok:
			k.dropping = false
			return
		case k.dropping:
			if now < k.dropNext {
				return
			}
			k.dropCount++
		default:
			// A recent dropping state continues where it was.
			if k.dropCount > 2 && now.sub(k.dropNext) < 8*q.interval() {
				k.dropCount -= 2
			} else {
				k.dropCount = 1
			}
			k.dropping, k.dropNext = true, now
		}
		marked := k.head.mark()
		if marked {
			q.marked++
		} else {
			q.take(k).Release()
			q.delayed++
		}
		k.dropNext = k.dropNext.add(time.Duration(float64(q.interval()) / math.Sqrt(float64(k.dropCount))))
		if marked {
			return
		}
	}
}

// mayDrop says that the packets of k have waited longer than the target for an
// interval, and that more than one packet is left.
func (q *dgramQueue) mayDrop(now instant, k *dgramBucket) bool {
	if k.head == nil || now.sub(k.head.queued) < q.target() || k.bytes <= 2*packetBufSize {
		k.firstAbove = 0
		return false
	}
	if k.firstAbove == 0 {
		k.firstAbove = now.add(q.interval())
		return false
	}
	return now >= k.firstAbove
}

// close drops everything.
func (q *dgramQueue) close() {
	for _, k := range q.buckets {
		for k != nil && k.head != nil {
			q.take(k).Release()
		}
	}
}
