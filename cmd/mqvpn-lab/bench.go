// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/bench"
)

// runBench runs the benchmark. It has no checks that could fail.
func runBench(ctx context.Context, o options, programs lab.Programs, stdout io.Writer) (int, error) {
	b := bench.Options{
		Programs:   programs,
		Null:       o.null,
		Without:    o.without,
		Rows:       o.rows,
		Rounds:     o.rounds,
		Measure:    time.Duration(o.seconds) * time.Second,
		CPUProfile: o.cpuProfile,
		Dir:        o.out,
		Stdout:     stdout,
	}
	if o.vs != "" {
		vs, err := lab.ProgramsIn(o.vs)
		if err != nil {
			return 0, fmt.Errorf("--vs: %w", err)
		}
		b.Versus = &vs
	}
	_, err := bench.Run(ctx, b)
	return exitPassed, err
}
