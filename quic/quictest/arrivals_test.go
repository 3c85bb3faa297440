// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Values come out by time, and at equal times in the order of Push.
func TestArrivals(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var q Arrivals[int]
		var model []arrival[int] // in order of Push
		earliest := func() (best int) {
			for i := range model {
				if model[i].at < model[best].at {
					best = i
				}
			}
			return best
		}
		for i := range 200 {
			if rng.IntN(3) > 0 {
				at := time.Duration(rng.IntN(50))
				model = append(model, arrival[int]{at: at, value: i})
				if first := q.Push(at, i); first != (earliest() == len(model)-1) {
					t.Fatalf("Push reports first = %v", first)
				}
			}
			at, ok := q.Next()
			if ok != (len(model) > 0) || q.Len() != len(model) {
				t.Fatalf("Next: %v, Len %d, want %d", ok, q.Len(), len(model))
			}
			now := time.Duration(rng.IntN(50))
			got, popped := q.Pop(now)
			if popped != (ok && at <= now) {
				t.Fatalf("Pop(%d) = %v, next is at %d", now, popped, at)
			}
			if popped {
				best := earliest()
				if model[best].at != at || model[best].value != got {
					t.Fatalf("got %d at %d, want %d at %d", got, at, model[best].value, model[best].at)
				}
				model = append(model[:best], model[best+1:]...)
			}
		}
	}
}
