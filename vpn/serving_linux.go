// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// servingLock tells the servers in a network namespace of each other: each holds a
// shared lock on one file while it needs the sysctls that they have in common, such
// as ip_forward. The first one sets them; as long as another one runs nobody sets
// them back, and then they stay, as nobody is left who knows what they were.
// Not safe for concurrent use.
type servingLock struct {
	path string
	held *os.File // nil: not held
}

func newServingLock(dir string) (*servingLock, error) {
	ns, err := namespaceID()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return &servingLock{path: filepath.Join(dir, fmt.Sprintf("servers-%d.lock", ns))}, nil
}

// hold tells others that a server runs.
func (l *servingLock) hold() (err error) {
	if l.held == nil {
		l.held, err = lockFile(l.path, unix.LOCK_SH)
	}
	return err
}

// others reports whether another server runs. It is for somebody who is not serving
// yet, or not any more: what we hold is let go of, and the last one removes the file.
func (l *servingLock) others() bool {
	if l.held != nil {
		l.held.Close()
		l.held = nil
	}
	f, err := lockFile(l.path, unix.LOCK_EX)
	if err != nil {
		return errors.Is(err, unix.EWOULDBLOCK)
	}
	os.Remove(l.path)
	f.Close()
	return false
}

// close lets go of the lock.
func (l *servingLock) close() {
	if l.held != nil {
		l.others()
	}
}
