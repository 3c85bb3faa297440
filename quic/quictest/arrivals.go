// SPDX-License-Identifier: Apache-2.0

package quictest

import "time"

// Arrivals holds what is on its way: values ordered by the time they arrive, and at
// equal times by the order in which they were pushed. The zero value is empty. It
// is not safe for concurrent use.
type Arrivals[T any] struct {
	heap   []arrival[T]
	pushed uint64
}

type arrival[T any] struct {
	at    time.Duration
	order uint64
	value T
}

func (a *arrival[T]) before(b *arrival[T]) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

// Len is the number of values held.
func (q *Arrivals[T]) Len() int { return len(q.heap) }

// Next returns the time of the earliest arrival; ok is false when there is none.
func (q *Arrivals[T]) Next() (at time.Duration, ok bool) {
	if len(q.heap) == 0 {
		return 0, false
	}
	return q.heap[0].at, true
}

// Push adds v, which arrives at the given time. It reports whether v is now the
// next to arrive.
func (q *Arrivals[T]) Push(at time.Duration, v T) (first bool) {
	q.heap = append(q.heap, arrival[T]{at, q.pushed, v})
	q.pushed++
	h := q.heap
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
	return i == 0
}

// Pop removes and returns the earliest value that has arrived by now.
func (q *Arrivals[T]) Pop(now time.Duration) (v T, ok bool) {
	if len(q.heap) == 0 || q.heap[0].at > now {
		return v, false
	}
	h := q.heap
	v = h[0].value
	last := len(h) - 1
	h[0] = h[last]
	h[last] = arrival[T]{} // let go of what it points to
	h = h[:last]
	q.heap = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&h[i]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	return v, true
}
