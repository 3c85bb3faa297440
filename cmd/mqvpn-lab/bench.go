// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"io"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
	labbench "github.com/mqvpn/mqvpn/internal/lab/bench"
)

// bench runs the benchmark. It has no checks that could fail.
func bench(ctx context.Context, o options, programs lab.Programs, stdout io.Writer) (int, error) {
	_, err := labbench.Run(ctx, labbench.Options{
		Programs: programs, Dir: o.out, Measure: time.Duration(o.seconds) * time.Second, Stdout: stdout,
	})
	return exitPassed, err
}
