// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"testing"
	"time"
)

// TestWLBUDPThatWouldSuffer sends UDP at some rate for three seconds, and looks at the
// paths of the last one.
func TestWLBUDPThatWouldSuffer(t *testing.T) {
	equal := []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}
	jitter := []Path{with(equal[0], func(p *Path) { p.RTTVar = ms }), with(equal[1], func(p *Path) { p.RTTVar = ms })}
	near := []Path{path(0, 20*ms, 50*mbit), path(1, 22*ms, 50*mbit)}
	far := []Path{path(0, 20*ms, 50*mbit), path(1, 60*ms, 50*mbit)}
	tests := []struct {
		name  string
		paths []Path
		size  int
		every time.Duration
		burst int // packets at once; 0: one
		both  bool
	}{
		{"bulk, equal paths", equal, 1400, 300 * time.Microsecond, 0, true},
		{"bulk, equal paths with jitter", jitter, 1400, 300 * time.Microsecond, 0, false},
		{"bulk, paths that differ", near, 1400, 300 * time.Microsecond, 0, false},
		{"bulk, paths that differ much", far, 1400, 300 * time.Microsecond, 0, false},
		{"bursts, 4 Mbit/s, equal paths with jitter", jitter, 1400, 20 * ms, 8, false},
		{"voice, paths that differ a little", near, 200, 2 * ms, 0, true},
		{"voice, paths that differ much", far, 200, 20 * ms, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewWLB()
			w := udp
			w.Size = tt.size
			var counts [2]int
			for now := time.Second; now < 4*time.Second; now += tt.every {
				for range max(tt.burst, 1) {
					if i := pathOfFlow(s, now, w, tt.paths); now >= 3*time.Second {
						counts[i]++
					}
				}
			}
			if both := counts[0] > 0 && counts[1] > 0; both != tt.both {
				t.Errorf("packets %v", counts)
			}
			if tt.size < 1000 && counts[0] == 0 {
				t.Errorf("packets %v, want the fast path", counts)
			}
		})
	}
}

// TestWLBUDPFirstWindow sends the first window of a flow of which nothing is known: only so
// many packets may take another path than the rest as do not count as lost when they are late.
func TestWLBUDPFirstWindow(t *testing.T) {
	s := NewWLB()
	jitter := func(p *Path) { p.RTTVar = ms }
	paths := []Path{with(path(0, 20*ms, 50*mbit), jitter), with(path(1, 20*ms, 50*mbit), jitter)}
	var counts [2]int
	for range 32 {
		counts[pathOfFlow(s, time.Second, udp, paths)]++
	}
	if n := min(counts[0], counts[1]); n >= harmless {
		t.Errorf("packets %v", counts)
	}
}

// TestWLBUDPDoesNotSpill blocks the path of a bulk flow for a moment, beside one on which the
// packet would be as soon there as by waiting. TCP takes that one.
func TestWLBUDPDoesNotSpill(t *testing.T) {
	for _, tt := range []struct {
		w    Work
		want int
	}{{tcp(5), 1}, {udp, -1}} {
		paths := []Path{path(0, 20*ms, 50*mbit), path(1, 20*ms, 50*mbit)}
		s := NewWLBUDPPin()
		now := time.Second
		if got := pathOfFlow(s, now, tt.w, paths); got != 0 {
			t.Fatalf("path %d", got)
		}
		paths[0] = blocked(paths[0])
		if got := pathOfFlow(s, now+100*time.Microsecond, tt.w, paths); got != tt.want {
			t.Errorf("class %d: path %d, want %d", tt.w.Class, got, tt.want)
		}
	}
}

// TestWLBUDPFlood blocks the path of a bulk flow: it waits as long as the queue may be
// short again, and is spread if it does not become so.
func TestWLBUDPFlood(t *testing.T) {
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 60*ms, 50*mbit)}
	s := NewWLB()
	now := time.Second
	for ; now < 3*time.Second; now += 300 * time.Microsecond {
		pathOfFlow(s, now, udp, paths)
	}
	full := []Path{blocked(paths[0]), paths[1]}
	w := udp
	for _, tt := range []struct {
		age  time.Duration
		want int
	}{{50 * ms, -1}, {120 * ms, -1}, {200 * ms, 1}} {
		w.Age = tt.age
		if got := pathOfFlow(s, now, w, full); got != tt.want {
			t.Errorf("path %d after %v, want %d", got, tt.age, tt.want)
		}
	}
}

// TestWLBCallBesideBulkFlows: bulk flows keep both paths full, and a call that began on the
// far one, while nothing else was there, goes to the near one and stays.
func TestWLBCallBesideBulkFlows(t *testing.T) {
	paths := []Path{path(0, 25*ms, 50*mbit), path(1, 55*ms, 50*mbit)}
	paths[0].MinRTT, paths[1].MinRTT = 20*ms, 50*ms
	away := []Path{suspect(paths[0]), paths[1]}
	for _, tt := range []struct {
		name string
		size int // of the packets of the call, each 5 ms
	}{{"voice", 172}, {"video", 1200}} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewWLB()
			call := udp
			call.Size = tt.size
			var counts [2]int
			for now := time.Second; now < 6*time.Second; now += ms {
				now := now
				view := paths
				if now < 2*time.Second {
					view = away
				}
				s.Pick(now, control, []Path{blocked(view[0]), blocked(view[1])})
				for flow := range uint64(8) {
					pathOfFlow(s, now, tcp(100+flow), view)
				}
				if now%(5*ms) != 0 {
					continue
				}
				if i := pathOfFlow(s, now, call, view); now >= 4*time.Second {
					counts[i]++
				}
			}
			if counts[1] > 0 {
				t.Errorf("packets %v", counts)
			}
		})
	}
}

// TestWLBUDPGoesToReturnedPath: bulk flows are spread over one path, for which they wait as it
// is full by pacing, when another one comes back: some go there.
func TestWLBUDPGoesToReturnedPath(t *testing.T) {
	paths := []Path{path(0, 20*ms, 50*mbit), path(1, 60*ms, 50*mbit)}
	s := newWLB()
	var counts [2]int
	for now := time.Second; now < 8*time.Second+fullFor; now += 2 * ms {
		view := paths
		switch {
		case now == 4*time.Second:
			s.Event(now, 1, EventPathDown)
			fallthrough
		case now > 4*time.Second && now < 8*time.Second:
			view = paths[:1]
		case now == 8*time.Second:
			s.Event(now, 1, EventPathUp)
		}
		w := udp
		for flow := range uint64(8) {
			w.Flow, w.Age = 100+flow, 0
			if i := pathOfFlow(s, now, w, view); now >= 8*time.Second {
				counts[i]++
			}
		}
		w.Age = 2 * queueDelay
		if len(view) == 1 {
			p := view[0]
			p.Blocked = BlockedPacing
			s.Pick(now, w, []Path{p})
		}
	}
	if part := float64(counts[1]) / float64(counts[0]+counts[1]); part < 0.2 || part > 0.8 {
		t.Errorf("packets %v", counts)
	}
}
