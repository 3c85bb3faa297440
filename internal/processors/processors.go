// SPDX-License-Identifier: Apache-2.0

// Package processors gives the program as many processors as its work fills. Go wakes a
// thread for each processor that it has and does not use whenever a packet wakes a
// goroutine, which looks for work, finds none and sleeps again: with two processors that
// cost a quarter of the throughput, on a machine that both ends and the traffic shared.
package processors

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/mqvpn/mqvpn/internal/inline"
)

const (
	// fullAt is the used part of the processors from which on there are to be more. Below
	// it one processor does all; a program that can use more is at 0.95 and above.
	fullAt = 0.9
	// spareAt is the part of one processor less below which there are to be fewer. Work
	// that filled fullAt of one takes a quarter more of two, by the idle threads.
	spareAt = 0.75
	// calmPeriods is for how many periods it must be so: more processors cost less than
	// what waits while they are missing.
	calmPeriods = 20
	// period is between two looks, idlePeriod while less than idleAt of a processor is used.
	period     = 100 * time.Millisecond
	idlePeriod = 500 * time.Millisecond
	idleAt     = 0.05
)

// Adapt sets the number of processors of the program until ctx ends, between one and what
// Go began with. It does nothing where the user has set GOMAXPROCS, or the system does not
// tell what the program uses.
func Adapt(ctx context.Context) {
	last, ok := cpuTime()
	if !ok || os.Getenv("GOMAXPROCS") != "" {
		return
	}
	d := demand{n: 1, most: runtime.GOMAXPROCS(0)}
	if d.most == 1 {
		return
	}
	set(d.n)
	defer set(d.most)
	wait := period
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for from := time.Now(); ; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		cpu, _ := cpuTime()
		used := (cpu - last).Seconds() / now.Sub(from).Seconds()
		from, last = now, cpu
		if d.update(used) {
			set(d.n)
		}
		wait = period
		if used < idleAt {
			wait = idlePeriod
		}
		timer.Reset(wait)
	}
}

func set(n int) {
	runtime.GOMAXPROCS(n)
	inline.SetProcessors(n)
}

// demand decides how many processors there are to be.
type demand struct {
	n, most int
	calm    int // periods in a row in which there was one too many
}

// update takes how many processors were used in a period. It reports whether n changed.
func (d *demand) update(used float64) (changed bool) {
	switch {
	case used > fullAt*float64(d.n) && d.n < d.most:
		d.n, d.calm = min(2*d.n, d.most), 0
		return true
	case d.n > 1 && used < spareAt*float64(d.n-1):
		if d.calm++; d.calm == calmPeriods {
			d.n, d.calm = d.n-1, 0
			return true
		}
	default:
		d.calm = 0
	}
	return false
}
