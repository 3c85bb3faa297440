// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

const (
	// flowShards is how many parts the table has: one grows in one step, so that no packet
	// waits for more than 448 flows to be moved.
	flowShards   = 256
	minFlowSlots = 8   // of a shard in use
	maxFlowSlots = 512 // 8 MB in all shards
	maxFlows     = flowShards * maxShardFlows
	flowIdle     = 60 * time.Second
	// A shard is full at 7/8.
	maxShardFlows = maxFlowSlots / 8 * 7
	// sweepParts is in how many sweeps the whole table is visited.
	sweepParts = 16
	// evictWindow is among how many slots the least recently used flow is looked
	// for when the table is full.
	evictWindow = 16
)

// flow is what is remembered of a pinned flow.
type flow struct {
	key     uint64 // 0: free slot
	used    time.Duration
	pinned  time.Duration // since when it is on its path; 0: on none
	arrival time.Duration // when its newest packet is predicted to arrive
	path    uint32        // id
	life    uint32        // of the path, when pinned: see wlbPath
	period  uint32        // last one in which it sent: see wlb
	dense   uint32        // one after the last in which its packets followed each other closely
	bytes   int           // sent in that period
	rate    float64       // bytes/s in the period before
}

// flowTable maps flow keys to flows. It grows and shrinks with the number of flows, up to
// maxFlows. Pointers into it are valid until insert or sweep.
type flowTable struct {
	shards []flowShard // nil before the first flow
	hand   int         // next shard to sweep
	// forgotten is told of each flow that is removed, nil: nobody.
	forgotten func(*flow)
}

// hashed spreads a key: it is a hash already, but the seed may have left a pattern in some
// of its bits.
func hashed(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 }

func (t *flowTable) shard(key uint64) *flowShard { return &t.shards[hashed(key)>>56] }

// find returns the flow, nil if there is none.
func (t *flowTable) find(key uint64) *flow {
	if t.shards == nil {
		return nil
	}
	return t.shard(key).find(key)
}

// insert adds a flow that is not in the table. A full shard forgets another one.
func (t *flowTable) insert(key uint64, now time.Duration) *flow {
	if t.shards == nil {
		t.shards = make([]flowShard, flowShards)
	}
	return t.shard(key).insert(key, now, t.forgotten)
}

// sweep forgets the idle flows of the next part of the table.
func (t *flowTable) sweep(now time.Duration) {
	if t.shards == nil {
		return
	}
	for range flowShards / sweepParts {
		t.shards[t.hand].sweep(now, t.forgotten)
		t.hand = (t.hand + 1) % flowShards
	}
}

// flowShard is a part of a flowTable: open addressing with linear probing, so that it can be
// swept in a defined order.
type flowShard struct {
	slots []flow // length is 0 or a power of two
	count int
	hand  int // where evict looked last
}

// home is the slot where the search for key begins.
func (t *flowShard) home(key uint64) int {
	return int(hashed(key)>>32) & (len(t.slots) - 1)
}

func (t *flowShard) find(key uint64) *flow {
	if t.count == 0 {
		return nil
	}
	for i := t.home(key); ; i = (i + 1) & (len(t.slots) - 1) {
		switch f := &t.slots[i]; f.key {
		case key:
			return f
		case 0:
			return nil
		}
	}
}

func (t *flowShard) insert(key uint64, now time.Duration, forgotten func(*flow)) *flow {
	if t.count >= maxShardFlows {
		t.evict(forgotten)
	}
	if 8*(t.count+1) > 7*len(t.slots) {
		t.resize(max(2*len(t.slots), minFlowSlots))
	}
	t.count++
	f := t.free(key)
	*f = flow{key: key, used: now}
	return f
}

// free returns the free slot for a key that is not in the shard.
func (t *flowShard) free(key uint64) *flow {
	i := t.home(key)
	for t.slots[i].key != 0 {
		i = (i + 1) & (len(t.slots) - 1)
	}
	return &t.slots[i]
}

func (t *flowShard) resize(n int) {
	old := t.slots
	t.slots, t.hand = make([]flow, n), 0
	for i := range old {
		if old[i].key != 0 {
			*t.free(old[i].key) = old[i]
		}
	}
}

// remove frees slot i, and moves those behind it that a search would not find
// any more.
func (t *flowShard) remove(i int, forgotten func(*flow)) {
	if forgotten != nil {
		forgotten(&t.slots[i])
	}
	mask := len(t.slots) - 1
	for j := (i + 1) & mask; t.slots[j].key != 0; j = (j + 1) & mask {
		// A flow may move to i unless its home lies cyclically in (i, j].
		if (j-t.home(t.slots[j].key))&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = flow{}
	t.count--
}

// evict removes the least recently used of some flows.
func (t *flowShard) evict(forgotten func(*flow)) {
	oldest, seen := -1, 0
	for seen < evictWindow {
		t.hand = (t.hand + 1) & (len(t.slots) - 1)
		if t.slots[t.hand].key == 0 {
			continue
		}
		seen++
		if oldest < 0 || t.slots[t.hand].used < t.slots[oldest].used {
			oldest = t.hand
		}
	}
	t.remove(oldest, forgotten)
}

// sweep forgets the idle flows.
func (t *flowShard) sweep(now time.Duration, forgotten func(*flow)) {
	for i := range t.slots {
		// remove may fill the slot again with a flow that was not seen yet.
		for t.slots[i].key != 0 && now-t.slots[i].used >= flowIdle {
			t.remove(i, forgotten)
		}
	}
	if n := len(t.slots) / 2; n >= minFlowSlots && 4*t.count < n {
		t.resize(n)
	}
	if t.count == 0 {
		t.slots = nil
	}
}
