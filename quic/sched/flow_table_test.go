// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"math/rand/v2"
	"testing"
	"time"
)

// size counts the flows, the slots, and the slots of the largest shard.
func (t *flowTable) size() (flows, slots, largest int) {
	for i := range t.shards {
		flows += t.shards[i].count
		slots += len(t.shards[i].slots)
		largest = max(largest, len(t.shards[i].slots))
	}
	return flows, slots, largest
}

// TestFlowTableGrowsInSmallSteps: a hundred thousand flows are remembered, and no insertion
// on the way there has more to do than to move the flows of one shard.
func TestFlowTableGrowsInSmallSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var table flowTable
	keys := make([]uint64, 100_000)
	for i := range keys {
		keys[i] = rng.Uint64() | 1
		table.insert(keys[i], time.Second)
	}
	missing := 0
	for _, k := range keys {
		if table.find(k) == nil {
			missing++
		}
	}
	if _, _, largest := table.size(); missing > len(keys)/1000 || largest > maxFlowSlots {
		t.Errorf("%d flows are missing, %d slots in the largest shard", missing, largest)
	}
}

// BenchmarkFlowTable adds flows until there are 100 000; max-ns is the longest insertion.
func BenchmarkFlowTable(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 8))
	var table flowTable
	var worst time.Duration
	n := 0
	for b.Loop() {
		if n++; n%100_000 == 0 {
			table = flowTable{}
		}
		start := time.Now()
		table.insert(rng.Uint64()|1, time.Second)
		worst = max(worst, time.Since(start))
	}
	b.ReportMetric(float64(worst), "max-ns")
}

// TestFlowTableRandom compares with a map.
func TestFlowTableRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var table flowTable
	want := map[uint64]time.Duration{}
	now := time.Second
	for step := range 20_000 {
		now += time.Duration(rng.IntN(200)) * ms
		key := uint64(rng.IntN(400)) + 1
		f := table.find(key)
		used, known := want[key]
		if f == nil && known && now-used < flowIdle {
			t.Fatalf("step %d: flow %d is missing", step, key)
		}
		if f != nil && (!known || f.key != key || f.used != used) {
			t.Fatalf("step %d: flow %d is %+v, want %v, %v", step, key, f, used, known)
		}
		switch {
		case step > 15_000: // no new ones any more
		case f == nil:
			table.insert(key, now)
			want[key] = now
		default:
			f.used = now
			want[key] = now
		}
		if step%10 == 0 {
			table.sweep(now)
		}
	}
	for range sweepParts {
		now += flowIdle
		table.sweep(now)
	}
	if flows, slots, _ := table.size(); flows != 0 || slots != 0 {
		t.Errorf("%d flows in %d slots after a long silence", flows, slots)
	}
}

func TestFlowTableIsBounded(t *testing.T) {
	var table flowTable
	for i := range uint64(2 * maxFlows) {
		if i%1000 == 0 { // one flow that is used all the time
			if f := table.find(1 << 60); f != nil {
				f.used = time.Duration(i + 1)
			} else {
				table.insert(1<<60, time.Duration(i+1))
			}
		}
		table.insert(i+1, time.Duration(i+1))
	}
	if flows, slots, _ := table.size(); flows < maxFlows*99/100 || flows > maxFlows || slots > flowShards*maxFlowSlots {
		t.Errorf("%d flows in %d slots", flows, slots)
	}
	if table.find(2*maxFlows) == nil {
		t.Error("the newest flow is missing")
	}
	if table.find(1<<60) == nil {
		t.Error("a flow in use was evicted")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, w := range []Work{udp, tcp(1), control} {
		for _, s := range []Scheduler{NewMinRTT(), NewWLB()} {
			paths := benchViews(8)
			now := time.Second
			if n := testing.AllocsPerRun(1000, func() {
				now += ms
				i, _ := s.Pick(now, w, paths)
				s.Sent(now, w, i, w.Size)
			}); n != 0 {
				t.Errorf("%T, %+v: %v allocations", s, w, n)
			}
		}
	}
}
