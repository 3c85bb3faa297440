// SPDX-License-Identifier: Apache-2.0

// Command mqvpn-server is the server of mqvpn; "mqvpn-server help" explains it.
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
	os.Exit(vpn.Main(ctx, vpn.ModeServer, os.Args[1:], os.Stdout, os.Stderr))
}
