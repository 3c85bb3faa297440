// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const signalEnv = "MQVPN_TEST_SIGNAL"

// TestSignals: the end of the terminal, which is a hangup and a closed log, leaves the
// program the time to undo what it did. With nohup it goes on.
func TestSignals(t *testing.T) {
	if os.Getenv(signalEnv) != "" {
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
	for before, want := range map[string]int{"trap - HUP": 40, `trap "" HUP`: 41} {
		cmd := exec.Command("sh", "-c", before+`; exec "$0" -test.run='^TestSignals$'`, os.Args[0])
		cmd.Env = append(os.Environ(), signalEnv+"=1")
		r, w, err := os.Pipe()
		must(t, err)
		r.Close()
		cmd.Stderr = w
		cmd.Run()
		w.Close()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: %v, want exit code %d", before, cmd.ProcessState, want)
		}
	}
}
