// SPDX-License-Identifier: Apache-2.0

// Package inline says how much work a goroutine that brings packets does itself, instead
// of waking the one whose work it is.
package inline

import (
	"math"
	"runtime"
	"sync/atomic"
)

var maxPackets atomic.Int64

func init() { SetProcessors(runtime.GOMAXPROCS(0)) }

// MaxPackets is the number of packets of up to 64 KiB up to which the goroutine that
// brings them does the work itself, which saves a wake-up: two system calls, 3 to 7 µs.
// With more it goes on bringing while the other one works on another processor; where
// there are two at most, that one has other work, and the wake-ups cost 10 % of a full
// tunnel's processor time: there is no bound. The bytes of so many fit an int.
func MaxPackets() int { return int(maxPackets.Load()) }

// SetProcessors tells on how many processors the program runs from now on.
func SetProcessors(n int) {
	if n <= 2 {
		maxPackets.Store(math.MaxInt >> 16)
	} else {
		maxPackets.Store(32)
	}
}
