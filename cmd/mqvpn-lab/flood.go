// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"io"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/flood"
)

// runFlood measures floods. It has no checks that could fail.
func runFlood(ctx context.Context, o options, programs lab.Programs, stdout io.Writer) (int, error) {
	_, err := flood.Run(ctx, flood.Options{
		Programs: programs,
		Kinds:    o.kinds,
		Rates:    o.rates,
		Rounds:   o.rounds,
		Measure:  time.Duration(o.seconds) * time.Second,
		Dir:      o.out,
		Stdout:   stdout,
	})
	return exitPassed, err
}
