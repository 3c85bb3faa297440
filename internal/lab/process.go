// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command describes a program to be run in a host.
type Command struct {
	Path   string
	Args   []string // without the program's name
	Dir    string
	Env    []string  // in addition to the lab's own environment
	Output io.Writer // also gets what the program prints; may be nil
}

// Process is a running, or ended, program in a host. Its methods may be called
// concurrently.
type Process struct {
	cmd  *exec.Cmd
	log  processLog
	done chan struct{}
	err  error // of Wait; valid after done is closed
}

// Start runs a program in the host. It is killed when the host is closed or the
// lab's process ends, and gets no signals from the terminal.
func (h *Host) Start(c Command) (*Process, error) {
	p := &Process{cmd: exec.Command(c.Path, c.Args...), done: make(chan struct{})}
	p.log.also = c.Output
	p.log.grown = make(chan struct{})
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout = &p.log
	p.cmd.Stderr = &p.log
	// A grandchild that keeps the output open must not delay the end.
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := h.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Run runs a program in the host to its end and returns what it printed and its
// exit code. When ctx ends first the program is killed.
func (h *Host) Run(ctx context.Context, c Command) (output string, code int, err error) {
	p, err := h.Start(c)
	if err != nil {
		return "", -1, err
	}
	code, err = p.Wait(ctx)
	if err != nil {
		p.Kill()
	}
	return p.Output(), code, err
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill sends SIGKILL and waits until the process has ended.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// StopAll stops processes in this order, each within d; nil stands for none. It returns
// the first error.
func StopAll(d time.Duration, processes ...*Process) (err error) {
	for _, p := range processes {
		if p == nil {
			continue
		}
		if _, e := p.Stop(d); err == nil {
			err = e
		}
	}
	return err
}

// Stop sends SIGTERM and waits; after the grace period it kills. It returns the
// exit code.
func (p *Process) Stop(grace time.Duration) (code int, err error) {
	p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if code, err = p.Wait(ctx); err != nil {
		p.Kill()
		return -1, fmt.Errorf("%s did not end within %v of SIGTERM", p.cmd.Path, grace)
	}
	return code, nil
}

// Wait waits for the end of the process and returns its exit code, -1 if a
// signal ended it. The error is that of ctx.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return -1, context.Cause(ctx)
	}
}

// Explain adds to an error what a client and a server have printed; either may be nil.
func Explain(err error, client, server *Process) error {
	if err == nil {
		return nil
	}
	for i, p := range []*Process{client, server} {
		if p != nil {
			err = fmt.Errorf("%w\noutput of the %s:\n%s", err, [...]string{"client", "server"}[i], p.Output())
		}
	}
	return err
}

// Output returns everything that the process has printed so far.
func (p *Process) Output() string {
	out, _ := p.log.snapshot()
	return out
}

// WaitOutput waits until the process has printed text, and fails when it ends
// before.
func (p *Process) WaitOutput(ctx context.Context, text string) error {
	for {
		out, grown := p.log.snapshot()
		if strings.Contains(out, text) {
			return nil
		}
		select {
		case <-grown:
		case <-p.done:
			if out = p.Output(); strings.Contains(out, text) {
				return nil
			}
			return fmt.Errorf("%s ended (%v) before it printed %q; its output:\n%s", p.cmd.Path, p.cmd.ProcessState, text, out)
		case <-ctx.Done():
			return fmt.Errorf("%s has not printed %q: %w; its output:\n%s", p.cmd.Path, text, context.Cause(ctx), out)
		}
	}
}

// Usage is what a process has consumed.
type Usage struct {
	CPU     time.Duration // user and system
	RSS     int64         // bytes, now
	PeakRSS int64         // bytes
}

// Usage reads the consumption of the running process.
func (p *Process) Usage() (Usage, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/status")
	if err != nil {
		return Usage{}, err
	}
	u, err := parseUsage(status)
	if err != nil {
		return u, err
	}
	// The process's own clock: /proc counts in steps of 10 ms.
	var cpu unix.Timespec
	if err := unix.ClockGettime(processClock(p.PID()), &cpu); err != nil {
		return u, os.NewSyscallError("clock_gettime", err)
	}
	u.CPU = time.Duration(cpu.Nano())
	return u, nil
}

// processClock is the id of the clock that measures the processor time of a process,
// as clock_getcpuclockid(3) makes it.
func processClock(pid int) int32 {
	const cpuclockSched = 2
	return int32(^pid<<3 | cpuclockSched)
}

// parseUsage reads the memory sizes of /proc/PID/status.
func parseUsage(status []byte) (u Usage, err error) {
	for line := range bytes.Lines(status) {
		var field *int64
		switch {
		case bytes.HasPrefix(line, []byte("VmRSS:")):
			field = &u.RSS
		case bytes.HasPrefix(line, []byte("VmHWM:")):
			field = &u.PeakRSS
		default:
			continue
		}
		kib, err := strconv.ParseInt(string(bytes.Fields(line)[1]), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("lab: /proc/PID/status: %w", err)
		}
		*field = kib * 1024
	}
	if u.RSS == 0 {
		return u, errors.New("lab: /proc/PID/status without VmRSS: has the process ended?")
	}
	return u, nil
}

// processLog collects the output of a process.
type processLog struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	grown chan struct{} // closed and replaced at each write
	also  io.Writer
}

func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	close(l.grown)
	l.grown = make(chan struct{})
	if l.also != nil {
		l.also.Write(b)
	}
	return len(b), nil
}

// snapshot returns the output so far and a channel that is closed when there is
// more.
func (l *processLog) snapshot() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String(), l.grown
}
