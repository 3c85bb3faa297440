// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"os"
)

// RequiredVariable, when set in the environment, turns the skips of tests that
// the machine refuses to run into failures. CI sets it.
const RequiredVariable = "MQVPN_LAB_REQUIRED"

// errNoLab is why this machine has no lab; set by RunTests before any test runs.
var errNoLab = fmt.Errorf("lab: the package's TestMain does not call RunTests")

// RunTests is called by TestMain of packages whose tests need a lab. It runs the
// tests, in a user namespace when that is needed, and returns the exit code.
func RunTests(m interface{ Run() int }) int {
	again, code, err := Enter()
	if again {
		return code
	}
	errNoLab = err
	return m.Run()
}

// Require skips the test where the kernel refuses a lab. t is a testing.TB.
func Require(t interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}) {
	t.Helper()
	if errNoLab == nil {
		return
	}
	if os.Getenv(RequiredVariable) != "" {
		t.Fatalf("this machine has no lab: %v", errNoLab)
	}
	t.Skipf("this machine has no lab: %v", errNoLab)
}
