// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math"
	"time"
)

// The queue of datagrams that wait for a path: flow buckets served by deficit round
// robin, flows that send less than their share first, and dropping by sojourn time (RFC
// 8290, RFC 8289). So a flow pinned to a full path does not block the others, and the
// queue stays short.

const (
	// A flow has one of the dgramWays buckets at its place, an idle one if it comes anew, so
	// that a call hardly ever shares one with a bulk flow.
	dgramBuckets = 256
	dgramWays    = 4
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
	// shareUnit keeps the share of a small packet among all buckets from being rounded to 0.
	shareUnit = dgramBuckets
)

type dgramBucket struct {
	flow       uint64
	head, tail *PacketBuf
	bytes      int    // storage of the queued buffers
	deficit    int    // bytes that may still be sent in this round
	since      uint64 // dgramQueue.share when deficit was last granted
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
	fresh   bucketList // buckets that were empty and have quantum left: sparse flows
	served  bucketList // buckets that have used up a quantum
	// skipped are those of fresh and served that wait for their path in this turn.
	skippedFresh, skippedServed bucketList

	bytes    int
	packets  int
	quantum  int
	listed   uint64        // buckets that have packets
	share    uint64        // bytes that a bucket which always had packets has sent, times shareUnit
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
	k := q.bucket(b.Flow)
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
		q.list(k)
	}
	for q.bytes > maxQueuedDatagramBytes {
		q.dropLongest()
	}
}

// bucket returns the bucket of flow. If other flows wait in all that it may have, it shares one.
func (q *dgramQueue) bucket(flow uint64) *dgramBucket {
	i := (flow * 0x9e3779b97f4a7c15) >> 56 &^ (dgramWays - 1)
	ways := q.buckets[i : i+dgramWays]
	idle := -1
	for i, k := range ways {
		switch {
		case k != nil && k.flow == flow:
			return k
		case idle < 0 && (k == nil || !k.listed):
			idle = i
		}
	}
	if idle < 0 {
		return ways[flow%dgramWays]
	}
	if ways[idle] == nil {
		ways[idle] = new(dgramBucket)
	}
	*ways[idle] = dgramBucket{flow: flow, deficit: q.quantumBytes(), since: q.share}
	return ways[idle]
}

// list makes k, which was empty, eligible. It may go first with what it has left of a
// quantum until the others have sent one: a call must not wait for a round of bulk flows
// with each of its packets.
func (q *dgramQueue) list(k *dgramBucket) {
	k.listed = true
	q.listed++
	if q.share-k.since >= uint64(q.quantumBytes())*shareUnit {
		k.deficit, k.since = q.quantumBytes(), q.share
	}
	if k.deficit > 0 {
		q.fresh.push(k)
	} else {
		q.served.push(k)
	}
}

func (q *dgramQueue) quantumBytes() int {
	if q.quantum == 0 {
		return quantumPacket
	}
	return q.quantum
}

// setPaths tells the rate of the connection in bytes/s, the longest RTT of its paths, and
// how long a queue is useful, and how long one is until a path is up to its rate: see
// Conn.shapeQueue.
func (q *dgramQueue) setPaths(rate float64, rtt, reserve, ramp time.Duration) {
	q.rtt, q.reserve = rtt, max(min(reserve, maxReserve), ramp)
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
			k.since = q.share
			q.served.push(l.pop())
			continue
		}
		q.codel(now, k)
		if k.head == nil {
			l.pop()
			k.listed = false
			q.listed--
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
	q.share += uint64(b.Len()) * shareUnit / q.listed
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
	return max(codelInterval, 2*(q.rtt+q.reserve))
}

func (q *dgramQueue) target() time.Duration { return max(codelTarget, q.reserve) }

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
