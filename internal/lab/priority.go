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
// Real-time priority for this process, which takes root, did worse: of eight runs of
// the demo on the two cores of a virtual machine one was not void (17 to 128 ms late),
// of fifteen with programs that yield twelve (12 to 20 ms; the others 21, 100 and 126).
// The host took differing shares of the processor away in these runs, so that they say
// which to choose, but not by how much it is better.
func ProgramsYield() { yields.Store(true) }

// yieldIfAsked is called on the thread of a host, whose programs inherit it.
func yieldIfAsked() {
	if yields.Load() {
		unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	}
}

// first is set by EmulatorsFirst; firstNice is the highest priority that is not real-time.
var first atomic.Bool

const firstNice = -20

// EmulatorsFirst gives the threads of emulators made from now on more of the processor
// than anyone else gets, so that the programs need not yield. It takes root, and returns
// false where that is refused.
//
// With 16 TCP flows through a tunnel over links of 300 and 80 Mbit/s on the two cores of a
// virtual machine the worst lateness was 6 and 7 ms so (two runs, in which the tunnel
// carried 311 and 349 Mbit/s), 5 to 29 ms with programs that yield (six; 205 to 338 Mbit/s,
// because they starve for moments), and 12 to 31 ms with neither (six; 308 to 351 Mbit/s).
func EmulatorsFirst() bool {
	allowed := make(chan bool)
	onOwnThread(func() { allowed <- unix.Setpriority(unix.PRIO_PROCESS, 0, firstNice) == nil })
	ok := <-allowed
	first.Store(ok)
	return ok
}
