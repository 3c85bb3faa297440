// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/interop/endpoint"
)

func TestMain(m *testing.M) {
	if peer := os.Getenv(envPeer); peer != "" {
		o := endpoint.FromEnv()
		dir := os.Getenv(envDirectory)
		o.WWW, o.Downloads, o.Certs = filepath.Join(dir, "www"), filepath.Join(dir, "downloads"), filepath.Join(dir, "certs")
		o.Listen, o.HTTP3 = os.Getenv(envListen), os.Getenv(envHTTP3) != ""
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := peers[peer](ctx, o)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// asPeer makes this test binary the given implementation.
func asPeer(peer, role, testCase, dir string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, envPeer+"="+peer, envDirectory+"="+dir, "ROLE="+role, "TESTCASE="+testCase)...)
	return cmd
}

// process is a peer that runs.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end

	mu      sync.Mutex
	output  bytes.Buffer
	changed chan struct{} // one slot: there is new output
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return p.output.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// start runs cmd; it ends with the test at the latest.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{}), changed: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	})
	return p
}

// wait returns the exit code; a process that does not end in time gets -1.
func (p *process) wait(limit time.Duration) int {
	select {
	case <-p.done:
	case <-time.After(limit):
		p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends a server in order.
func (p *process) stop() int {
	p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait(10 * time.Second)
}

// waitFor waits until the output has text, and returns what follows it on the line.
func (p *process) waitFor(text string) (string, error) {
	limit := time.After(20 * time.Second)
	for {
		if _, after, ok := strings.Cut(p.log(), text); ok {
			if line, _, ok := strings.Cut(after, "\n"); ok {
				return line, nil
			}
		}
		select {
		case <-p.changed:
		case <-p.done:
			return "", fmt.Errorf("it ended: %s", p.log())
		case <-limit:
			return "", errors.New("time is up")
		}
	}
}

// address waits until a server of ours listens, and returns where.
func (p *process) address() (netip.AddrPort, error) {
	a, err := p.waitFor("listening on ")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(a)
}
