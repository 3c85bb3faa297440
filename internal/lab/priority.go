// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// moreProcessors lets Go run more threads than there are cores, so that an
// emulator's thread that the kernel wakes does not wait for one of Go's processors.
var moreProcessors = sync.OnceFunc(func() {
	const processors = 8
	runtime.GOMAXPROCS(max(processors, runtime.GOMAXPROCS(0)))
})

// yields is set by ProgramsYield.
var yields atomic.Bool

// ProgramsYield makes the emulators of this process more punctual on a machine
// with few cores: the programs run on hosts made from now on get a core only when
// this process, and every other of the machine, leaves one idle. Anyone may ask
// the kernel for that. It is for a lab that has the machine to itself; beside
// other work the programs would starve.
//
// Real-time priority for this process, which takes root, is worse: its threads
// then wait for each other. In runs of the demo on the two cores of a virtual
// machine, interleaved, the worst lateness was 12 to 21 ms in six with programs
// that yield, 17 to 128 ms in six with real-time priority, and 19 and 33 ms in two
// with neither.
func ProgramsYield() { yields.Store(true) }

// yieldIfAsked is called on the thread of a host, whose programs inherit it.
func yieldIfAsked() {
	if yields.Load() {
		unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	}
}
