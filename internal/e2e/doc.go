// SPDX-License-Identifier: Apache-2.0

// Package e2e contains only tests: the two real programs, in the hosts and on the
// links of package lab.
//
// The programs are built when the tests start, or taken from the directory named
// by the environment variable MQVPN_BIN.
package e2e
