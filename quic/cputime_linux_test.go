// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time that the calling thread has used: unlike the time of the
// wall it does not count what other processes take.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}
