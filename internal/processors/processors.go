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
	// calmTime is for how long it must be so: more processors cost less than what waits
	// while they are missing.
	calmTime = 2 * time.Second
	// period is between two looks: work that comes has its processors, or the first two,
	// after less than two of them. Shorter ones would take a burst for more. idlePeriod is
	// while less than idleAt of a processor is used, when a look wakes a thread for itself:
	// four a second take 0.05 % of a processor.
	period     = 100 * time.Millisecond
	idlePeriod = 250 * time.Millisecond
	idleAt     = 0.05
	// limitPeriod is between two questions for how many processors there are: the limit of
	// a control group, or the affinity, may have changed, and Go stops asking when it is told.
	limitPeriod = 30 * time.Second
)

// Adapt sets the number of processors of the program until ctx ends, between one and what
// Go would use. It does nothing where the user has set GOMAXPROCS, or the system does not
// tell what the program uses, or one is all there are.
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
	defer func() { set(d.most) }()
	timer := time.NewTimer(period)
	defer timer.Stop()
	from := time.Now()
	for asked := from; ; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		cpu, _ := cpuTime()
		took := now.Sub(from)
		used := (cpu - last).Seconds() / took.Seconds()
		from, last = now, cpu
		changed := d.update(used, took)
		wait := nextLook(used)
		if wait == period && now.Sub(asked) >= limitPeriod {
			asked = now
			runtime.SetDefaultGOMAXPROCS()
			d.limit(runtime.GOMAXPROCS(0))
			changed = true
		}
		if changed {
			set(d.n)
		}
		timer.Reset(wait)
	}
}

// nextLook is the time until the next look if so many processors were used until now.
func nextLook(used float64) time.Duration {
	if used < idleAt {
		return idlePeriod
	}
	return period
}

func set(n int) {
	runtime.GOMAXPROCS(n)
	inline.SetProcessors(n)
}

// demand decides how many processors there are to be.
type demand struct {
	n, most int
	calm    time.Duration // for how long there has been one too many
}

// update takes how many processors were used in a period. It reports whether n changed.
func (d *demand) update(used float64, period time.Duration) (changed bool) {
	switch {
	case used > fullAt*float64(d.n) && d.n < d.most:
		d.n, d.calm = min(2*d.n, d.most), 0
		return true
	case d.n > 1 && used < spareAt*float64(d.n-1):
		if d.calm += period; d.calm >= calmTime {
			d.n, d.calm = d.n-1, 0
			return true
		}
	default:
		d.calm = 0
	}
	return false
}

// limit notes how many processors there are at most from now on.
func (d *demand) limit(most int) {
	d.most = most
	d.n = min(d.n, most)
}
