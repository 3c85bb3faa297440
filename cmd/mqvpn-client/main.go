// SPDX-License-Identifier: Apache-2.0

// Command mqvpn-client is the client of mqvpn; "mqvpn-client help" explains it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mqvpn/mqvpn/vpn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(vpn.Main(ctx, vpn.ModeClient, os.Args[1:], os.Stdout, os.Stderr))
}
