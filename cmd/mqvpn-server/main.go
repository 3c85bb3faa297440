// SPDX-License-Identifier: Apache-2.0

// Command mqvpn-server is the server of mqvpn; "mqvpn-server help" explains it.
package main

import (
	"os"

	"github.com/mqvpn/mqvpn/vpn"
)

func main() {
	os.Exit(vpn.Main(vpn.UntilSignal(), vpn.ModeServer, os.Args[1:], os.Stdout, os.Stderr))
}
