// SPDX-License-Identifier: Apache-2.0

// Package inline says how much work a goroutine that brings packets does itself, instead
// of waking the one whose work it is.
package inline

import (
	"math"
	"runtime"
)

// MaxPackets is the number of packets of up to 64 KiB up to which the goroutine that
// brings them does the work itself, which saves a wake-up: two system calls, 3 to 7 µs.
// With more it goes on bringing while the other one works on another processor; where
// there are two at most, that one has other work, and the wake-ups cost 10 % of a full
// tunnel's processor time: there is no bound. The bytes of so many fit an int.
var MaxPackets = func() int {
	if runtime.GOMAXPROCS(0) <= 2 {
		return math.MaxInt >> 16
	}
	return 32
}()
