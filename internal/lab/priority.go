// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// prioritize makes the emulator punctual on a busy machine: it puts this process
// ahead of all others, as far as the kernel allows, which is only for root, and
// lets Go run more threads than there are cores, so that one that the kernel wakes
// does not wait for one of Go's processors.
//
// All threads must have the priority, not only the emulator's: Go's runtime makes
// a thread that comes back from a system call spin until another one, which watches
// it, is done, and that one would not get the core. Measured on two cores with ten
// busy processes, the worst lateness in a run of the demo was 150 ms with priority
// for the emulator's threads, and 11 to 19 ms with priority for all.
var prioritize = sync.OnceFunc(func() {
	const processors = 8
	runtime.GOMAXPROCS(max(processors, runtime.GOMAXPROCS(0)))
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	// Threads made from now on inherit it.
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		now, err := unix.SchedGetAttr(tid, 0)
		if err != nil || now.Flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
			continue
		}
		unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
	}
})

// keepChildrenOrdinary takes the priority from the calling thread, and marks it as
// one whose child processes have none either.
func keepChildrenOrdinary() {
	unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0)
}
