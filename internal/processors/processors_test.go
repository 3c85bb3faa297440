// SPDX-License-Identifier: Apache-2.0

package processors

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/inline"
)

// TestDemand: more processors at once when all are used, fewer only after a while.
func TestDemand(t *testing.T) {
	const calmPeriods = int(calmTime / period)
	type step struct {
		used    float64
		periods int
		want    int
	}
	for _, tt := range []struct {
		name  string
		most  int
		steps []step
	}{
		{"nothing to do", 4, []step{{0, 100, 1}}},
		{"one is enough", 2, []step{{0.85, 100, 1}}},
		{"two, and back", 2, []step{{0.95, 1, 2}, {1.9, 50, 2}, {0.8, 50, 2}, {0.7, calmPeriods - 1, 2}, {0.7, 1, 1}}},
		{"a moment of calm", 2, []step{{0.95, 1, 2}, {0.1, calmPeriods - 1, 2}, {1, 1, 2}, {0.1, calmPeriods - 1, 2}}},
		{"all", 6, []step{{1, 1, 2}, {2, 1, 4}, {4, 1, 6}, {6, 10, 6}, {0, calmPeriods, 5}, {0, 4 * calmPeriods, 1}}},
	} {
		d := demand{n: 1, most: tt.most}
		for i, s := range tt.steps {
			for range s.periods {
				d.update(s.used, period)
			}
			if d.n != s.want {
				t.Errorf("%s, step %d: %d processors, want %d", tt.name, i, d.n, s.want)
			}
		}
	}
}

// TestDemandTime: calm is a time, however often one looks, and an idle program looks less
// often, but soon enough for the work that comes.
func TestDemandTime(t *testing.T) {
	d := demand{n: 2, most: 2}
	looks := 0
	for d.n == 2 {
		d.update(0, nextLook(0))
		looks++
	}
	if got := time.Duration(looks) * nextLook(0); got != calmTime {
		t.Errorf("back to one after %v without work, want %v", got, calmTime)
	}
	// The work begins when too little of a period is left to be seen as full.
	if nextLook(0.9) != period || nextLook(0)+period > 350*time.Millisecond {
		t.Errorf("the next look after %v, %v if idle", nextLook(0.9), nextLook(0))
	}
}

// TestLimit: the bound may change meanwhile.
func TestLimit(t *testing.T) {
	d := demand{n: 4, most: 8}
	d.limit(2)
	d.update(2, period)
	if d.n != 2 {
		t.Errorf("%d processors, want the 2 there are", d.n)
	}
	d.limit(6)
	if d.n != 2 {
		t.Errorf("%d processors before more are used, want 2", d.n)
	}
	d.update(2, period)
	d.update(4, period)
	if d.n != 6 {
		t.Errorf("%d processors, want all 6", d.n)
	}
}

// TestAdapt: the program begins with one processor, has them all back at the end, and a
// user's choice is left alone.
func TestAdapt(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)
	defer inline.SetProcessors(before)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Adapt(ctx)
	}()
	if _, ok := cpuTime(); ok {
		for runtime.GOMAXPROCS(0) != 1 {
			runtime.Gosched()
		}
	}
	cancel()
	<-done
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors at the end, want 3", n)
	}
	t.Setenv("GOMAXPROCS", "3")
	Adapt(context.Background())
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors where the user set 3", n)
	}
}
