// SPDX-License-Identifier: Apache-2.0

package quic

import "slices"

// numberRange is the half-open range [start, end).
type numberRange[T ~int64 | ~uint64] struct {
	start, end T
}

// size is the count of numbers in the range.
func (r numberRange[T]) size() T { return r.end - r.start }

// rangeset is a set of numbers kept as ranges in ascending order that neither
// overlap nor touch. The zero value is the empty set. Its memory is the number of
// ranges, which whoever adds what a peer chooses has to bound.
type rangeset[T ~int64 | ~uint64] []numberRange[T]

// search returns the index of the first range that ends at or after v.
func (s rangeset[T]) search(v T) int {
	// New numbers mostly continue or follow the last range.
	if n := len(s); n == 0 || s[n-1].end < v {
		return n
	} else if s[n-1].start <= v {
		return n - 1
	}
	lo, hi := 0, len(s)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if s[mid].end < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// add inserts [start, end). An empty range changes nothing.
func (s *rangeset[T]) add(start, end T) {
	if start >= end {
		return
	}
	i := s.search(start)
	if i == len(*s) || end < (*s)[i].start {
		*s = slices.Insert(*s, i, numberRange[T]{start, end})
		return
	}
	// Merge the ranges i to j-1, which overlap or touch the new one, into range i.
	r := &(*s)[i]
	r.start = min(r.start, start)
	r.end = max(r.end, end)
	j := i + 1
	for ; j < len(*s) && (*s)[j].start <= r.end; j++ {
		r.end = max(r.end, (*s)[j].end)
	}
	*s = slices.Delete(*s, i+1, j)
}

// sub removes [start, end). An empty range changes nothing.
func (s *rangeset[T]) sub(start, end T) {
	if start >= end {
		return
	}
	i := s.search(start)
	if i < len(*s) && (*s)[i].end == start {
		i++ // touches, does not overlap
	}
	if i == len(*s) || end <= (*s)[i].start {
		return
	}
	if r := &(*s)[i]; r.start < start {
		if end < r.end {
			tail := numberRange[T]{end, r.end}
			r.end = start
			*s = slices.Insert(*s, i+1, tail)
			return
		}
		r.end = start
		i++
	}
	j := i
	for j < len(*s) && (*s)[j].end <= end {
		j++
	}
	if j < len(*s) && (*s)[j].start < end {
		(*s)[j].start = end
	}
	*s = slices.Delete(*s, i, j)
}

// rangeContaining returns the range that holds v.
func (s rangeset[T]) rangeContaining(v T) (numberRange[T], bool) {
	i := s.search(v)
	if i < len(s) && s[i].end == v {
		i++
	}
	if i < len(s) && s[i].start <= v {
		return s[i], true
	}
	return numberRange[T]{}, false
}

// contains reports whether v is in the set.
func (s rangeset[T]) contains(v T) bool {
	_, ok := s.rangeContaining(v)
	return ok
}

// containsRange reports whether all of [start, end) is in the set; the empty
// range always is.
func (s rangeset[T]) containsRange(start, end T) bool {
	if start >= end {
		return true
	}
	r, ok := s.rangeContaining(start)
	return ok && end <= r.end
}
