// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideVariable marks the copy of the program that runs in a user namespace, so
// that a machine that refuses is reported instead of tried for ever.
const insideVariable = "MQVPN_LAB_INSIDE"

// RefusedError says that the machine does not allow a lab, and what to change.
type RefusedError struct {
	What string // what was refused
	Hint string // what to do about it
	Err  error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s (%v): %s", e.What, e.Err, e.Hint)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// Enter makes sure that this process can make hosts and links. As root it only
// looks. Otherwise it runs the program again, with the same arguments, in a user
// namespace in which it is root, and waits for it: then again is true, and the
// caller must exit with code. The error is a *RefusedError.
func Enter() (again bool, code int, err error) {
	err = probe()
	if err == nil || os.Getenv(insideVariable) != "" || !errors.Is(err, unix.EPERM) {
		return false, 0, err
	}
	code, err = runInUserNamespace()
	if err != nil {
		return false, 0, &RefusedError{"a user namespace was refused", userNamespaceHint(err), err}
	}
	return true, code, nil
}

// probe makes a host with a TAP device, and says what was refused.
func probe() error {
	h, err := NewHost("probe")
	if err != nil {
		return &RefusedError{"a network namespace was refused", "run as root, or allow user namespaces: " + userNamespaceHint(err), err}
	}
	defer h.Close()
	t, err := newTap(Port{Host: h, Interface: "probe0"}, 1500, []byte{2, 'm', 'q', 0, 0, 0})
	if err != nil {
		return tapRefused(err)
	}
	t.close()
	return nil
}

func tapRefused(err error) error {
	refused := &RefusedError{What: "a TAP device was refused", Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		refused.Hint = "load the module with `modprobe tun`; in a container, pass the device in with `--device /dev/net/tun`"
	case errors.Is(err, unix.EACCES):
		refused.Hint = "let ordinary users open it with `sudo chmod 0666 /dev/net/tun`, or run as root"
	case errors.Is(err, unix.EPERM):
		refused.Hint = "run as root; in a container, start it with `--cap-add NET_ADMIN --cap-add SYS_ADMIN`; on Ubuntu `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
	default:
		refused.Hint = "run as root"
	}
	return refused
}

func userNamespaceHint(err error) string {
	if errors.Is(err, unix.ENOSPC) {
		return "`sudo sysctl user.max_user_namespaces=10000`, or run as root"
	}
	for key, want := range map[string]string{
		"kernel.unprivileged_userns_clone":             "1",
		"kernel.apparmor_restrict_unprivileged_userns": "0",
	} {
		value, err := os.ReadFile("/proc/sys/kernel/" + key[len("kernel."):])
		if err == nil && string(value) != want+"\n" {
			return fmt.Sprintf("`sudo sysctl %s=%s`, or run as root", key, want)
		}
	}
	return "run as root; in a container, start it with `--cap-add NET_ADMIN --cap-add SYS_ADMIN`"
}

// runInUserNamespace runs this program again as root of a new user namespace,
// with a network namespace of its own so that it cannot touch the machine's.
func runInUserNamespace() (code int, err error) {
	// The child is to die with this process, but the kernel looks at the thread
	// that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// Ctrl-C reaches the child from the terminal; a SIGTERM is passed on.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGTERM {
					cmd.Process.Signal(s)
				}
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	if cmd.ProcessState == nil {
		return 0, err
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
