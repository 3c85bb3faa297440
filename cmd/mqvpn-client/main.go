// SPDX-License-Identifier: Apache-2.0

// Command mqvpn-client is the client of mqvpn; "mqvpn-client help" explains it.
package main

import (
	"os"

	"github.com/mqvpn/mqvpn/vpn"
)

func main() {
	os.Exit(vpn.Main(vpn.UntilSignal(), vpn.ModeClient, os.Args[1:], os.Stdout, os.Stderr))
}
