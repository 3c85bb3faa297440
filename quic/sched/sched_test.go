// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"fmt"
	"testing"
	"time"
)

const (
	ms   = time.Millisecond
	mbit = 1e6 / 8
)

// path returns the view of an unblocked path that is warm.
func path(id uint32, rtt time.Duration, rate float64) Path {
	return Path{
		ID: id, SRTT: rtt, MinRTT: rtt, Rate: rate, MaxDatagram: 1400,
		Cwnd: int(2 * rate * rtt.Seconds()), CwndFree: 1 << 20, PaceFree: 1 << 20,
	}
}

// with returns p changed by f.
func with(p Path, f func(*Path)) Path {
	f(&p)
	return p
}

func blocked(p Path) Path   { p.Blocked = BlockedCwnd; return p }
func suspect(p Path) Path   { p.Phase = PhaseSuspect; return p }
func standby(p Path) Path   { p.PeerBackup = true; return p }
func secondary(p Path) Path { p.Priority = PrioritySecondary; return p }
func backup(p Path) Path    { p.Priority = PriorityBackup; return p }
func lossy(p Path) Path     { p.Loss = 0.4; return p }

func tcp(flow uint64) Work {
	return Work{Kind: WorkDatagram, Class: ClassTCP, Flow: flow, Size: 1400}
}

var (
	udp     = Work{Kind: WorkDatagram, Class: ClassUDP, Flow: 77, Size: 1400}
	voice   = Work{Kind: WorkDatagram, Class: ClassRealtime, Flow: 78, Size: 200}
	control = Work{Kind: WorkControl, Size: 100}
	stream  = Work{Kind: WorkStream, Size: 1400}
)

// TestFastest holds for minrtt with any work, and for wlb with work that it does
// not balance.
func TestFastest(t *testing.T) {
	a, b := path(0, 20*ms, 50*mbit), path(1, 50*ms, 50*mbit)
	noRTT := with(path(2, 0, 0), func(p *Path) { p.Cwnd = 12000 })
	slow := with(a, func(p *Path) { p.SRTT = 3 * time.Second })
	tests := []struct {
		name  string
		paths []Path
		want  int
	}{
		{"no path", nil, -1},
		{"lowest RTT", []Path{b, a}, 1},
		{"next if it is blocked", []Path{b, blocked(a)}, 0},
		{"all blocked", []Path{blocked(b), blocked(a)}, -1},
		{"no sample counts as 333 ms", []Path{noRTT, b}, 1},
		{"no sample is better than waiting", []Path{noRTT, blocked(b)}, 0},
		{"lossy last", []Path{lossy(a), b}, 1},
		{"lossy is better than waiting", []Path{lossy(a), blocked(b)}, 0},
		{"above 2 s last", []Path{slow, b}, 1},
		{"suspect last", []Path{suspect(a), b}, 1},
		{"suspect not even if the other is blocked", []Path{suspect(a), blocked(b)}, -1},
		{"suspect if nothing else", []Path{suspect(b), suspect(a)}, 1},
		// RMP21-3.3-1
		{"standby of the peer waits", []Path{standby(a), b}, 1},
		{"standby of the peer waits though the other is blocked", []Path{standby(a), blocked(b)}, -1},
		{"standby if the other is suspect", []Path{standby(b), suspect(a)}, 0},
		{"suspect primary before suspect standby", []Path{suspect(standby(a)), suspect(b)}, 1},
		{"backup interface waits", []Path{backup(a), b}, 1},
		{"secondary before backup", []Path{backup(a), secondary(b)}, 1},
		{"too small a path does not hold back the standby", []Path{standby(b), with(a, func(p *Path) { p.Blocked = BlockedMTU })}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, w := range []Work{control, stream, voice} {
				for name, s := range map[string]Scheduler{"minrtt": NewMinRTT(), "wlb": NewWLB()} {
					if got, dup := s.Pick(time.Second, w, tt.paths); got != tt.want || dup != -1 {
						t.Errorf("%s, work %+v: path %d (duplicate %d), want %d", name, w, got, dup, tt.want)
					}
				}
			}
			if got, _ := NewMinRTT().Pick(time.Second, udp, tt.paths); got != tt.want {
				t.Errorf("minrtt, datagram: path %d, want %d", got, tt.want)
			}
		})
	}
}

// TestNeverStarves checks that work goes somewhere whenever a path of the tier in
// use is free, at the latest after a while.
func TestNeverStarves(t *testing.T) {
	views := [][]Path{
		{path(0, 20*ms, 50*mbit)},
		{blocked(path(0, 20*ms, 50*mbit)), path(1, 20*ms, 50*mbit)},
		{blocked(path(0, 20*ms, 50*mbit)), path(1, 20*ms, 0.1*mbit)},
		{lossy(path(0, 20*ms, 50*mbit))},
		{blocked(path(0, 20*ms, 50*mbit)), lossy(path(1, 20*ms, 50*mbit))},
		{suspect(path(0, 20*ms, 50*mbit))},
		{with(path(0, 0, 0), func(p *Path) { p.Cwnd = 0 })},
		{with(path(0, 20*ms, 50*mbit), func(p *Path) { p.Loss = 1 })},
	}
	for i, paths := range views {
		for _, w := range []Work{udp, control, stream, {Kind: WorkDatagram, Size: 100}} {
			s := NewWLB()
			for n := range 500 { // in ten rounds and more
				now := time.Second + time.Duration(n)*time.Millisecond
				w.Age = time.Second
				got, _ := s.Pick(now, w, paths)
				if got < 0 || paths[got].Blocked != NotBlocked {
					t.Fatalf("views %d, packet %d of %+v: path %d", i, n, w, got)
				}
				s.Sent(now, w, got, w.Size)
			}
		}
	}
}

func benchViews(n int) []Path {
	paths := make([]Path, n)
	for i := range paths {
		paths[i] = path(uint32(i), 20*ms+time.Duration(i)*ms/8, 50*mbit)
	}
	return paths
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{2, 8} {
		for _, c := range []struct {
			name string
			s    Scheduler
			w    Work
		}{
			{"minrtt", NewMinRTT(), udp},
			{"wlb-udp", NewWLB(), udp},
			{"wlb-tcp", NewWLB(), tcp(1)},
			{"wlb-control", NewWLB(), control},
		} {
			b.Run(fmt.Sprintf("%s/paths=%d", c.name, n), func(b *testing.B) {
				paths := benchViews(n)
				now := time.Second
				b.ReportAllocs()
				for b.Loop() {
					now += 10 * time.Microsecond
					c.w.Flow = c.w.Flow&^63 | uint64(now)&63
					i, _ := c.s.Pick(now, c.w, paths)
					c.s.Sent(now, c.w, i, 1400)
				}
			})
		}
	}
}
