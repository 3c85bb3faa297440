// SPDX-License-Identifier: Apache-2.0

//go:build unix

package processors

import (
	"syscall"
	"time"
)

// cpuTime is the processor time that the program has used so far.
func cpuTime() (time.Duration, bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
