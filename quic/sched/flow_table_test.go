// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"math/rand/v2"
	"testing"
	"time"
)

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
	if table.count != 0 || len(table.slots) > minFlowSlots {
		t.Errorf("%d flows in %d slots after a long silence", table.count, len(table.slots))
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
	if table.count != maxFlows || len(table.slots) > 2*maxFlows {
		t.Errorf("%d flows in %d slots", table.count, len(table.slots))
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
