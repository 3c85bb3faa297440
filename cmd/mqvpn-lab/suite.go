// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"io"
	"os"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/suite"
)

// runSuite runs a suite and turns its verdict into an exit code.
func runSuite(ctx context.Context, o options, programs lab.Programs, stdout io.Writer) (int, error) {
	r, err := suite.Run(ctx, suite.Options{Programs: programs, Commit: os.Getenv(commitVariable), Suite: o.suite, Only: o.only, Rounds: o.rounds, Dir: o.out, Stdout: stdout})
	switch {
	case err != nil:
		return 0, err
	case r.Void:
		return exitVoid, nil
	case !r.Passed:
		return exitFailed, nil
	}
	return exitPassed, nil
}
