// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"fmt"
	"os"
	"path/filepath"
)

// stateDirs are the places for the control socket and for the record of what must
// be undone, best first: /run/mqvpn, or where that cannot be written, a directory
// of the user's own.
func stateDirs() []string {
	dirs := []string{"/run/mqvpn"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		dirs = append(dirs, filepath.Join(dir, "mqvpn"))
	}
	return append(dirs, filepath.Join(os.TempDir(), fmt.Sprintf("mqvpn-%d", os.Getuid())))
}

// makeStateDir returns the first of stateDirs in which files can be made.
func makeStateDir() (string, error) {
	dirs := stateDirs()
	for _, dir := range dirs {
		if canCreateIn(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no directory for run-time files: none of %q can be written", dirs)
}

func canCreateIn(dir string) bool {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false
	}
	// In /tmp another user may have been there first.
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() || !isOwner(fi) {
		return false
	}
	f, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}
