// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/internal/lab"
	labdemo "github.com/mqvpn/mqvpn/internal/lab/demo"
)

// runDemo runs the demo and turns its verdict into an exit code.
func runDemo(ctx context.Context, o options, programs lab.Programs, stdout io.Writer) (int, error) {
	r, err := labdemo.Run(ctx, labdemo.Options{Programs: programs, Dir: o.out, Stdout: stdout, Terminal: isTerminal(stdout)})
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

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}
