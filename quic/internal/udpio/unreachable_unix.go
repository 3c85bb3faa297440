// SPDX-License-Identifier: Apache-2.0

//go:build unix

package udpio

import (
	"errors"
	"syscall"
)

// IsUnreachable says that err of WriteBatch means that nothing can be sent from this
// socket to that address now: the interface, its address or a route is gone.
func IsUnreachable(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.ENODEV, syscall.ENXIO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
