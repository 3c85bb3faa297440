// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

// What a path has delivered is what it can carry only if it was given enough. Until
// then it is on trial: flows are placed on it as if it were as good as it was before it
// went, or as the others are, so that its estimate can grow.

const (
	// A path is proven when it was full in trialRounds round trips in which its estimate
	// did not grow by trialGrowth: the rule by which BBR finds the full pipe
	// (draft-ietf-ccwg-bbr section 5.3.1.2).
	trialRounds = 3
	trialGrowth = 1.25
	// provenFor is for how long that holds without the path being full again.
	provenFor = 30 * time.Second
	// A path is full, too, when its flows use most of it and a queue has grown.
	queueDelay = 5 * time.Millisecond
	usedPart   = 0.7
)

type trial struct {
	was     float64 // bytes/s that the path was worth before it went; 0: unknown
	wasFull bool    // and that was all that it carried
	proven  bool
	blocked bool // the window was full since the last check

	next   time.Duration // the next check
	full   time.Duration // last check that saw a full window
	best   float64       // largest rate so far, bytes/s
	rounds int           // with a full window, since best
}

// checkTrial looks at the path once in a round trip.
func (p *wlbPath) checkTrial(now time.Duration, v *Path) {
	t := &p.trial
	if now < t.next {
		return
	}
	t.next = now + srtt(v)
	// Flows that fit themselves to the path fill its queue, not the window.
	queue := v.SRTT > v.MinRTT+max(v.MinRTT/4, queueDelay) && p.pins.used >= usedPart*p.rate
	switch {
	case v.Rate == 0:
	case !t.blocked && !queue:
		if t.proven && now-t.full > provenFor {
			*t = trial{next: t.next}
		}
	default:
		t.full = now
		if p.rate >= trialGrowth*t.best {
			t.best, t.rounds = p.rate, 0
		} else if t.rounds++; t.rounds >= trialRounds {
			t.proven = true
		}
	}
	t.blocked = false
}

// remembered is what the path is worth when it comes back, in bytes/s.
func (p *wlbPath) remembered() float64 {
	if p.trial.proven {
		return p.rate
	}
	return max(p.trial.was, p.rate)
}

// known sums up what is known of the paths in use: their windows in bytes, which is
// what a TCP flow takes along when it moves to another path.
type known struct {
	proven, rated   float64 // of proven paths, and of those with a delivery rate
	nProven, nRated int
}

func (k *known) add(p *wlbPath, v *Path) {
	if p.trial.proven {
		k.proven += p.weight * srtt(v).Seconds()
		k.nProven++
	}
	if v.Rate > 0 {
		k.rated += p.weight * srtt(v).Seconds()
		k.nRated++
	}
}

// promise is what flows may expect of p in bytes/s. Without credit no flow would go to
// a new path beside a warm one, and without flows it could never prove what it carries.
func (k *known) promise(p *wlbPath, v *Path) float64 {
	if p.trial.proven {
		return p.weight
	}
	if p.trial.was > 0 {
		return max(p.weight, p.trial.was)
	}
	window, n := k.proven, k.nProven
	if n == 0 {
		window, n = k.rated, k.nRated
		if v.Rate > 0 && p.share > 0 { // not its own
			window, n = window-p.weight*srtt(v).Seconds(), n-1
		}
	}
	if n == 0 {
		return p.weight
	}
	return max(p.weight, window/float64(n)/srtt(v).Seconds())
}
