// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"testing"
	"time"
)

// queueTest is a dgramQueue with the flows of what it gives out.
type queueTest struct {
	*testing.T
	q   dgramQueue
	now instant
}

func newQueueTest(t *testing.T) *queueTest {
	qt := &queueTest{T: t, now: 1}
	t.Cleanup(func() {
		qt.q.close()
		if qt.q.packets != 0 || qt.q.bytes != 0 {
			t.Errorf("%d packets, %d bytes left after close", qt.q.packets, qt.q.bytes)
		}
	})
	return qt
}

func (qt *queueTest) push(flow uint64, size, n int) {
	for range n {
		qt.q.push(qt.now, datagram(flow, size))
	}
}

// take returns the flows of the next n datagrams, fewer when the queue is empty.
func (qt *queueTest) take(n int) (flows []uint64) {
	for range n {
		b := qt.q.peek(qt.now)
		if b == nil {
			break
		}
		flows = append(flows, b.Flow)
		qt.q.pop().Release()
	}
	return flows
}

func count(flows []uint64, flow uint64) (n int) {
	for _, f := range flows {
		if f == flow {
			n++
		}
	}
	return n
}

func TestQueueKeepsOrderOfFlow(t *testing.T) {
	qt := newQueueTest(t)
	for i := range 50 {
		b := datagram(7, 8)
		b.Bytes()[0] = byte(i)
		qt.q.push(qt.now, b)
	}
	for i := range 50 {
		if got := qt.q.peek(qt.now).Bytes()[0]; got != byte(i) {
			t.Fatalf("datagram %d at place %d", got, i)
		}
		qt.q.pop().Release()
	}
	if qt.q.peek(qt.now) != nil || qt.q.more() != nil {
		t.Error("the queue is not empty")
	}
}

func TestQueueIsFairInBytes(t *testing.T) {
	qt := newQueueTest(t)
	qt.push(1, 1500, 300)
	qt.push(2, 300, 1500)
	big, small := 0, 0
	for range 500 {
		if f := qt.take(1); f[0] == 1 {
			big += 1500
		} else {
			small += 300
		}
	}
	if big < small-3000 || small < big-3000 {
		t.Errorf("%d bytes of the flow with large packets, %d of the other", big, small)
	}
}

func TestQueuePrefersSparseFlows(t *testing.T) {
	qt := newQueueTest(t)
	qt.push(1, 1000, 200)
	qt.take(20) // flow 1 is served by rounds from now on
	qt.push(2, 100, 1)
	if flows := qt.take(2); !slices.Contains(flows, 2) {
		t.Errorf("a sparse flow waits behind %v", flows)
	}
	// Sending one packet whenever the last one has left is no way to be preferred for
	// ever.
	n := 0
	for range 300 {
		qt.push(1, 1000, 1)
		if qt.q.packets < 2 || count(qt.take(1), 2) == 1 {
			n++
			qt.push(2, 1000, 1)
		}
	}
	if n > 200 {
		t.Errorf("the other flow was served %d times of 300", n)
	}
}

// The packets of a call come more often than a round of the bulk flows ends; none of
// them waits, since the call has not used its share.
func TestQueueServesCallAtOnce(t *testing.T) {
	for _, rate := range []float64{fastRate / 2, fastRate} {
		qt := newQueueTest(t)
		qt.q.setPaths(rate, 0, 0, 0)
		const call = 99
		for flow := range uint64(8) {
			qt.push(flow, quantumPacket, 50)
		}
		for i := range 500 {
			bulk := 10 + i%30
			if i == 0 {
				bulk = 8 * quantumPackets // their first quantum, while they are new
			}
			for _, flow := range qt.take(bulk) {
				qt.push(flow, quantumPacket, 1)
			}
			qt.push(call, 200, 1)
			if flows := qt.take(1); flows[0] != call {
				t.Fatalf("at %v bytes/s packet %d of the call waits behind flow %d", rate, i, flows[0])
			}
		}
	}
}

// TestQueueSharesNoBucket: flows that come one after the other to the same place have buckets of
// their own while there are any, and as many flows as there may be have some.
func TestQueueSharesNoBucket(t *testing.T) {
	qt := newQueueTest(t)
	var same []uint64
	for flow := uint64(1); len(same) < dgramWays+1; flow++ {
		qt.q.bucket(flow)
		if flow*0x9e3779b97f4a7c15>>56&^(dgramWays-1) == 0 {
			same = append(same, flow)
		}
	}
	seen := map[*dgramBucket]bool{}
	for _, flow := range same {
		qt.push(flow, 100, 2)
		seen[qt.q.bucket(flow)] = true
	}
	if len(seen) != dgramWays {
		t.Errorf("%d flows have %d buckets, want %d", len(same), len(seen), dgramWays)
	}
	if n := len(qt.take(100)); n != 2*len(same) {
		t.Errorf("%d packets of %d", n, 2*len(same))
	}
}

func TestQueueQuantum(t *testing.T) {
	for _, test := range []struct {
		rate float64
		run  int // packets of one flow in a row
	}{{fastRate / 2, 1}, {fastRate, quantumPackets}} {
		qt := newQueueTest(t)
		qt.q.setPaths(test.rate, 0, 0, 0)
		qt.push(1, quantumPacket, 100)
		qt.push(2, quantumPacket, 100)
		flows := qt.take(4 * quantumPackets)
		longest, run := 0, 0
		for i, f := range flows {
			if i > 0 && f != flows[i-1] {
				run = 0
			}
			run++
			longest = max(longest, run)
		}
		if longest != test.run {
			t.Errorf("at %v bytes/s %d packets in a row, want %d", test.rate, longest, test.run)
		}
	}
}

func TestQueueSkip(t *testing.T) {
	qt := newQueueTest(t)
	qt.push(1, 100, 3)
	qt.push(2, 100, 3)
	if b := qt.q.peek(qt.now); b.Flow != 1 {
		t.Fatalf("flow %d first", b.Flow)
	}
	qt.q.skip() // its path is full
	if flows := qt.take(10); !slices.Equal(flows, []uint64{2, 2, 2}) {
		t.Errorf("without flow 1: %v", flows)
	}
	qt.q.beginTurn()
	if flows := qt.take(10); !slices.Equal(flows, []uint64{1, 1, 1}) {
		t.Errorf("in the next turn: %v", flows)
	}
}

func TestQueueBound(t *testing.T) {
	const room = maxQueuedDatagramBytes / packetBufSize
	qt := newQueueTest(t)
	qt.push(1, 100, room-10)
	qt.push(2, 100, 20)
	if qt.q.bytes > maxQueuedDatagramBytes || qt.q.dropped != 10 {
		t.Errorf("%d bytes queued, %d dropped", qt.q.bytes, qt.q.dropped)
	}
	// The longest flow pays.
	if flows := qt.take(room); count(flows, 2) != 20 {
		t.Errorf("%d of 20 packets of the short flow are left", count(flows, 2))
	}
}

// TestQueueDropsWhatWaits: sojourn time above the target for an interval, and then
// ever faster.
func TestQueueDropsWhatWaits(t *testing.T) {
	qt := newQueueTest(t)
	serve := func(d time.Duration) uint64 {
		before := qt.q.delayed
		for end := qt.now.add(d); qt.now < end; qt.now = qt.now.add(time.Millisecond) {
			qt.push(1, 1000, 2)
			qt.take(1)
		}
		return qt.q.delayed - before
	}
	if n := serve(codelInterval); n != 0 {
		t.Errorf("%d dropped within the first interval", n)
	}
	first, later := serve(5*codelInterval), serve(5*codelInterval)
	if first == 0 || later <= first {
		t.Errorf("dropped %d, then %d", first, later)
	}
	// A queue that drains in time is left alone.
	qt.take(10000)
	before := qt.q.delayed
	for range 1000 {
		qt.push(1, 1000, 1)
		qt.now = qt.now.add(codelTarget / 2)
		qt.take(1)
	}
	if n := qt.q.delayed - before; n != 0 {
		t.Errorf("%d dropped from a short queue", n)
	}
}

// TestQueueKeepsSparseFlowsFirst: a flow that sends little, and that no path takes in this
// turn, is still the first in the next one.
func TestQueueKeepsSparseFlowsFirst(t *testing.T) {
	qt := newQueueTest(t)
	for flow := uint64(1); flow <= 4; flow++ {
		qt.push(flow, 1000, 20)
	}
	qt.take(12) // all are served by rounds from now on
	qt.push(9, 100, 1)
	for range 3 {
		qt.q.beginTurn()
		if b := qt.q.peek(qt.now); b.Flow != 9 {
			t.Fatalf("flow %d first", b.Flow)
		}
		qt.q.skip() // the sender loop ends here, since all paths are full
	}
	qt.q.beginTurn()
	if flows := qt.take(1); flows[0] != 9 {
		t.Errorf("flow %d first", flows[0])
	}
}

// TestQueueWaitsForRoundTrip: nothing is dropped before the senders can have heard.
func TestQueueWaitsForRoundTrip(t *testing.T) {
	qt := newQueueTest(t)
	qt.q.setPaths(0, 200*time.Millisecond, 0, 0)
	qt.push(1, 1000, 1000)
	for end := qt.now.add(399 * time.Millisecond); qt.now < end; qt.now = qt.now.add(time.Millisecond) {
		qt.take(1)
	}
	if qt.q.delayed != 0 {
		t.Errorf("%d dropped within two round trips", qt.q.delayed)
	}
	qt.now = qt.now.add(100 * time.Millisecond)
	qt.take(2)
	if qt.q.delayed == 0 {
		t.Error("nothing dropped after that")
	}
}

// TestQueueReserve: bulk flows keep the queue that they need on another path.
func TestQueueReserve(t *testing.T) {
	for _, reserve := range []time.Duration{0, 40 * time.Millisecond, time.Second} {
		qt := newQueueTest(t)
		qt.q.setPaths(0, 0, reserve, 0)
		qt.push(1, 1000, 30)
		for range 1000 { // 30 packets at one in a millisecond
			qt.now = qt.now.add(time.Millisecond)
			qt.push(1, 1000, 1)
			qt.take(1)
		}
		if dropped := qt.q.delayed > 0; dropped != (reserve == 0) {
			t.Errorf("reserve %v: %d dropped", reserve, qt.q.delayed)
		}
		qt.push(1, 1000, 150)
		for range 1000 {
			qt.now = qt.now.add(time.Millisecond)
			qt.push(1, 1000, 1)
			qt.take(1)
		}
		if qt.q.delayed == 0 {
			t.Errorf("reserve %v: nothing dropped of a queue of 150 ms", reserve)
		}
	}
}

// TestQueueRamp: nor is the queue dropped that stands for a path in slow start.
func TestQueueRamp(t *testing.T) {
	for _, ramp := range []time.Duration{0, 300 * time.Millisecond} {
		qt := newQueueTest(t)
		qt.q.setPaths(0, 300*time.Millisecond, time.Second, ramp)
		qt.push(1, 1000, 200)
		for range 2000 {
			qt.now = qt.now.add(time.Millisecond)
			qt.push(1, 1000, 1)
			qt.take(1)
		}
		if dropped := qt.q.delayed > 0; dropped != (ramp == 0) {
			t.Errorf("ramp %v: %d dropped", ramp, qt.q.delayed)
		}
	}
}

// TestQueueMarksFirst: what can be marked is, and not dropped; the rest of its bucket is not
// marked more often than it would have been dropped.
func TestQueueMarksFirst(t *testing.T) {
	qt := newQueueTest(t)
	signs := 0
	mark := func(p []byte) {
		if string(p) != "payload" {
			t.Errorf("asked to mark %q", p)
		}
		signs++
	}
	push := func(n int) {
		for range n {
			b := NewPacketBuf()
			b.Flow, b.Mark = 1, mark
			b.SetLen(copy(b.Space(), "payload"))
			copy(b.Prepend(3), "abc")
			qt.q.push(qt.now, b)
		}
	}
	push(500)
	for range 1000 {
		qt.now = qt.now.add(time.Millisecond)
		push(1)
		for range 3 { // looking is not waiting
			qt.q.peek(qt.now)
		}
		qt.take(1)
	}
	if q := &qt.q; q.delayed != 0 || q.dropped != 0 || q.marked == 0 || int(q.marked) != signs || signs > 50 {
		t.Errorf("%d dropped, %d marked, %d signs", q.delayed, q.marked, signs)
	}
	qt.push(2, 100, 1)
	if b := NewPacketBuf(); b.Mark != nil {
		t.Error("a fresh buffer remembers who marked it")
	} else {
		b.Release()
	}
}
