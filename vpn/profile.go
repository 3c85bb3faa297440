// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"os"
	"runtime/pprof"
)

// startProfile writes a CPU profile of the program from now until stop is called.
func startProfile(file string) (stop func() error, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, failf(exitCode(err), "--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
