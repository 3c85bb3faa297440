// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package processors

import "time"

// cpuTime is not known.
func cpuTime() (time.Duration, bool) { return 0, false }
