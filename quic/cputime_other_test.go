// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package quic

import "time"

var processStart = time.Now()

// cpuTime is the time of the wall where there is no clock for the CPU time of a thread.
func cpuTime() time.Duration { return time.Since(processStart) }
