// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// TestLabLeavesNothing runs mqvpn-lab to its end, interrupts another while its
// tunnel is up, and kills a third, and compares what the machine then shows with
// what it showed before.
func TestLabLeavesNothing(t *testing.T) {
	lab.Require(t)
	bin := filepath.Dir(programs.Server)
	before := machineState(t, bin)
	type run struct {
		signal syscall.Signal // 0: none
		code   int
		cmd    *exec.Cmd
		output *outputWatch
	}
	runs := []*run{{0, 0, nil, nil}, {syscall.SIGINT, 130, nil, nil}, {syscall.SIGKILL, -1, nil, nil}}
	for _, r := range runs {
		r.output = newOutputWatch("  mqvpn  ") // a row that was measured over the tunnel
		r.cmd = exec.Command(filepath.Join(bin, "mqvpn-lab"), "bench", "--rows", "tcp-1-*", "--seconds", "1", "--bin", bin, "--out", t.TempDir())
		r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
		if err := r.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer r.cmd.Process.Kill()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, r := range runs {
		if r.signal != 0 {
			select {
			case <-r.output.found:
			case <-ctx.Done():
				t.Fatalf("no tunnel in the output:\n%s", r.output.String())
			}
			r.cmd.Process.Signal(r.signal)
		}
	}
	for _, r := range runs {
		r.cmd.Wait() // its error is in the exit code
		if code := r.cmd.ProcessState.ExitCode(); code != r.code {
			t.Errorf("after signal %d: exit code %d, want %d; output:\n%s", r.signal, code, r.code, r.output.String())
		}
	}
	after := machineState(t, bin)
	for len(after[processes]) > 0 && ctx.Err() == nil { // the kernel kills them one after the other
		time.Sleep(10 * time.Millisecond)
		after = machineState(t, bin)
	}
	for what, was := range before {
		if is := after[what]; is != was {
			t.Errorf("%s before:\n%s\nafter:\n%s", what, was, is)
		}
	}
}

// processes is the key of machineState for the processes of our programs.
const processes = "processes"

// machineState lists what could be left behind.
func machineState(t *testing.T, bin string) map[string]string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range interfaces {
		names = append(names, i.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	list := func(pattern string) string {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(found, "\n")
	}
	var running []string
	for _, exe := range strings.Fields(list("/proc/[0-9]*/exe")) {
		if program, err := os.Readlink(exe); err == nil && filepath.Dir(program) == bin {
			running = append(running, exe+" "+program)
		}
	}
	return map[string]string{
		"interfaces":       strings.Join(names, "\n"),
		"mounts":           string(mounts),
		"named namespaces": list("/run/netns/*"),
		"run-time files":   list("/run/mqvpn/*"),
		processes:          strings.Join(running, "\n"),
	}
}

// outputWatch collects output and tells when a text has come.
type outputWatch struct {
	want  string
	found chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

func newOutputWatch(want string) *outputWatch {
	return &outputWatch{want: want, found: make(chan struct{})}
}

func (o *outputWatch) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *outputWatch) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	had := strings.Contains(o.text.String(), o.want)
	o.text.Write(b)
	if !had && strings.Contains(o.text.String(), o.want) {
		close(o.found)
	}
	return len(b), nil
}
