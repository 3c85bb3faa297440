// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"io/fs"
	"os"
	"syscall"
)

// isOwner reports whether a file belongs to the user of this process.
func isOwner(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
