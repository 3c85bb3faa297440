// SPDX-License-Identifier: Apache-2.0

package sched

import "time"

// minRTT fills the path with the lowest RTT first.
type minRTT struct{}

// NewMinRTT returns the scheduler that takes the path with the lowest smoothed RTT
// that has room, whatever the work.
func NewMinRTT() Scheduler { return minRTT{} }

// NewBackup returns the scheduler that leaves standby paths (the peer's, and those of
// PriorityBackup and PrioritySecondary) alone as long as a better one is usable, and
// returns to that at once. All schedulers do; this one has no other aim, and fills the
// path of the lowest RTT first.
func NewBackup() Scheduler { return minRTT{} }

func (minRTT) Pick(_ time.Duration, _ Work, paths []Path) (first, second int) {
	return fastest(paths, bestTier(paths)), -1
}

func (minRTT) Sent(time.Duration, Work, int, int) {}
func (minRTT) Event(time.Duration, uint32, Event) {}
func (minRTT) Usage(uint32) Usage                 { return Usage{} }
