// SPDX-License-Identifier: Apache-2.0

package processors

import (
	"context"
	"runtime"
	"testing"

	"github.com/mqvpn/mqvpn/internal/inline"
)

// TestDemand: more processors at once when all are used, fewer only after a while.
func TestDemand(t *testing.T) {
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
				d.update(s.used)
			}
			if d.n != s.want {
				t.Errorf("%s, step %d: %d processors, want %d", tt.name, i, d.n, s.want)
			}
		}
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
