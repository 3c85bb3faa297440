// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math/rand/v2"
	"testing"
)

// checkRangeset compares a set with a model: one bool a number.
func checkRangeset(t *testing.T, s rangeset[int64], model []bool) {
	t.Helper()
	for i, r := range s {
		if r.start >= r.end || i > 0 && s[i-1].end >= r.start {
			t.Fatalf("ranges not in normal form: %v", s)
		}
	}
	for v, in := range model {
		if got := s.contains(int64(v)); got != in {
			t.Fatalf("contains(%d) = %v, want %v: %v", v, got, in, s)
		}
	}
}

func TestRangesetRandom(t *testing.T) {
	const size = 64
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var s rangeset[int64]
		model := make([]bool, size)
		for range 60 {
			start, end := rng.Int64N(size), rng.Int64N(size+1)
			add := rng.IntN(3) > 0
			if add {
				s.add(start, end)
			} else {
				s.sub(start, end)
			}
			for v := start; v < end; v++ {
				model[v] = add
			}
			checkRangeset(t, s, model)

			start, end = rng.Int64N(size), rng.Int64N(size+1)
			want := true
			for v := start; v < end; v++ {
				want = want && model[v]
			}
			if got := s.containsRange(start, end); got != want {
				t.Fatalf("containsRange(%d, %d) = %v, want %v: %v", start, end, got, want, s)
			}
		}
	}
}

func TestRangesetMergesNeighbours(t *testing.T) {
	var s rangeset[uint64]
	s.add(0, 10)
	s.add(20, 30)
	s.add(40, 50)
	s.add(10, 20)
	if len(s) != 2 || s[0] != (numberRange[uint64]{0, 30}) {
		t.Errorf("after closing a gap: %v", s)
	}
	s.sub(0, 50)
	if len(s) != 0 {
		t.Errorf("after removing everything: %v", s)
	}
}
