// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

const signalEnv = "MQVPN_TEST_SIGNAL"

// TestSignals: the end of the terminal, which is a hangup and a closed log, leaves the
// program the time to undo what it did. With nohup it goes on.
func TestSignals(t *testing.T) {
	if how := os.Getenv(signalEnv); how != "" {
		ctx := UntilSignal()
		syscall.Kill(os.Getpid(), syscall.SIGHUP)
		os.Stderr.WriteString("to nobody\n")
		select {
		case <-ctx.Done():
			os.Exit(40)
		case <-time.After(200 * time.Millisecond):
			os.Exit(41)
		}
	}
	for how, want := range map[string]int{"terminal": 40, "nohup": 41} {
		if how == "nohup" {
			signal.Ignore(syscall.SIGHUP) // the child inherits it
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestSignals$")
		cmd.Env = append(os.Environ(), signalEnv+"="+how)
		r, w, err := os.Pipe()
		must(t, err)
		r.Close()
		cmd.Stderr = w
		cmd.Run()
		w.Close()
		signal.Reset(syscall.SIGHUP)
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: %v, want exit code %d", how, cmd.ProcessState, want)
		}
	}
}
