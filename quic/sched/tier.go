// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

// A tier is a set of paths of equal standing. Only the best tier present carries
// work, blocked or not: standby paths wait until no better path is left, and
// suspect ones until there is no other at all. RMP21-3.3-1
type tier uint8

const (
	tierPrimary tier = iota
	tierSecondary
	tierBackup
	tierSuspect // plus the tier that the path would have
	tierNone    = 2 * tierSuspect
)

func tierOf(p *Path) tier {
	t := tierPrimary
	switch {
	case p.Blocked == BlockedMTU || p.Blocked == BlockedAmplification:
		return tierNone // may last for ever
	case p.PeerBackup || p.Priority == PriorityBackup:
		t = tierBackup
	case p.Priority == PrioritySecondary:
		t = tierSecondary
	}
	if p.Phase == PhaseSuspect {
		t += tierSuspect
	}
	return t
}

func bestTier(paths []Path) tier {
	best := tierNone
	for i := range paths {
		best = min(best, tierOf(&paths[i]))
	}
	return best
}

const (
	// unknownRTT stands for the RTT of a path before its first sample: RFC 9002 section 6.2.2.
	unknownRTT = 333 * time.Millisecond
	poorRTT    = 2 * time.Second
	poorLoss   = 0.30
)

// poor paths are used after all others of their tier.
func poor(p *Path) bool { return p.SRTT > poorRTT || p.Loss > poorLoss }

func srtt(p *Path) time.Duration {
	if p.SRTT == 0 {
		return unknownRTT
	}
	return p.SRTT
}

// fastest returns the index of the unblocked path of tier t with the lowest
// smoothed RTT, -1 if there is none.
func fastest(paths []Path, t tier) int {
	best := -1
	for i := range paths {
		p := &paths[i]
		if p.Blocked != NotBlocked || tierOf(p) != t {
			continue
		}
		if best < 0 || before(p, &paths[best]) {
			best = i
		}
	}
	return best
}

func before(p, q *Path) bool {
	if poor(p) != poor(q) {
		return !poor(p)
	}
	return srtt(p) < srtt(q)
}
