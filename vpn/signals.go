// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilSignal returns a context that ends with the first signal that asks the program
// to end; a second one ends the program at once, without undoing anything. The hangup
// of a terminal is such a signal, unless it is ignored as by nohup. A write to a log
// that nobody reads any more does not end the program.
func UntilSignal() context.Context {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx
}
