// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onOwnThread runs f in a new goroutine on an operating system thread that ends
// with f, so that f may change the thread's namespaces and priority for good.
//
// The main thread is never used: it cannot end before the process, and
// /proc/self describes it.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // still locked: the runtime ends the thread
		}
		// While this goroutine holds the main thread, the next one must get another.
		started := make(chan struct{})
		onOwnThread(func() {
			close(started)
			f()
		})
		<-started
		runtime.UnlockOSThread()
	}()
}
