// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// mqvpn-lab needs Linux: it is made of network namespaces and TAP devices.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "mqvpn-lab: this program needs Linux")
	os.Exit(4)
}
