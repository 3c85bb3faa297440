// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

const (
	minFlowSlots = 64
	maxFlows     = 1 << 15 // 4 MB with the free slots
	flowIdle     = 60 * time.Second
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
	bytes   int           // sent in that period
	rate    float64       // bytes/s in the period before
}

// flowTable maps flow keys to flows: open addressing with linear probing, so that
// it can be swept piece by piece in a defined order. It grows and shrinks with the
// number of flows, up to maxFlows. Pointers into it are valid until insert or sweep.
type flowTable struct {
	slots []flow // length is 0 or a power of two
	count int
	hand  int // next slot to sweep
	// forgotten is told of each flow that is removed, nil: nobody.
	forgotten func(*flow)
}

// home is the slot where the search for key begins. Keys are hashes already, but
// the seed may have left a pattern in the low bits.
func (t *flowTable) home(key uint64) int {
	return int(key*0x9e3779b97f4a7c15>>32) & (len(t.slots) - 1)
}

// find returns the flow, nil if there is none.
func (t *flowTable) find(key uint64) *flow {
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

// insert adds a flow that is not in the table. A full table forgets another one.
func (t *flowTable) insert(key uint64, now time.Duration) *flow {
	if t.count >= maxFlows {
		t.evict()
	}
	if 4*(t.count+1) > 3*len(t.slots) {
		t.resize(max(2*len(t.slots), minFlowSlots))
	}
	t.count++
	f := t.free(key)
	*f = flow{key: key, used: now}
	return f
}

// free returns the free slot for a key that is not in the table.
func (t *flowTable) free(key uint64) *flow {
	i := t.home(key)
	for t.slots[i].key != 0 {
		i = (i + 1) & (len(t.slots) - 1)
	}
	return &t.slots[i]
}

func (t *flowTable) resize(n int) {
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
func (t *flowTable) remove(i int) {
	if t.forgotten != nil {
		t.forgotten(&t.slots[i])
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

// evict removes the least recently used flow of a part of the table.
func (t *flowTable) evict() {
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
	t.remove(oldest)
}

// sweep forgets the idle flows of the next part of the table.
func (t *flowTable) sweep(now time.Duration) {
	for n := (len(t.slots) + sweepParts - 1) / sweepParts; n > 0; n-- {
		// remove may fill the slot again with a flow that was not seen yet.
		for t.slots[t.hand].key != 0 && now-t.slots[t.hand].used >= flowIdle {
			t.remove(t.hand)
		}
		t.hand = (t.hand + 1) & (len(t.slots) - 1)
	}
	if n := len(t.slots) / 2; n >= minFlowSlots && 4*t.count < n {
		t.resize(n)
	}
}
