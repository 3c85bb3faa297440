// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow and writeNow are read and write on a descriptor that does not block,
// without telling Go's scheduler: the kernel carries a packet on to its receiver in
// them, which takes long enough that the scheduler would hand the processor to
// another thread, and take it back a moment later, at a cost above that of the
// call. b must not be empty.

func readNow(fd uintptr, b []byte) (int, error) { return ioNow(unix.SYS_READ, fd, b) }

func writeNow(fd uintptr, b []byte) (int, error) { return ioNow(unix.SYS_WRITE, fd, b) }

func ioNow(trap, fd uintptr, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
