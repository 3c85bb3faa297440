// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a network namespace of its own, together with a mount namespace in
// which only /run differs: it is empty at first and the host's own, so that
// programs on different hosts do not meet in their control sockets and state.
// All methods may be called concurrently and from any goroutine.
type Host struct {
	name  string
	ns    *os.File // keeps the namespace, and lets other threads enter it
	calls chan func()
	gone  chan struct{} // closed when the host's thread has ended

	mu     sync.Mutex
	closed bool
}

// errHostClosed is returned by the methods of a Host after Close.
var errHostClosed = errors.New("lab: host is closed")

// NewHost makes a host with nothing but a loopback interface, which is up.
// The name is for messages only.
func NewHost(name string) (*Host, error) {
	h := &Host{name: name, calls: make(chan func()), gone: make(chan struct{})}
	ready := make(chan error, 1)
	onOwnThread(func() {
		defer close(h.gone)
		yieldIfAsked()
		if err := h.unshare(); err != nil {
			ready <- err
			return
		}
		ready <- nil
		for f := range h.calls {
			f()
		}
	})
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	if err := h.Do(setUpNewNamespace); err != nil {
		h.Close()
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// unshare gives the calling thread its namespaces.
func (h *Host) unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	// What is mounted from now on is not to show on the machine.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("none", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	var err error
	h.ns, err = os.Open("/proc/thread-self/ns/net")
	return err
}

// setUpNewNamespace makes interfaces quiet and usable at once: IPv6 addresses
// need no duplicate detection (1.9 s), none is made up by the kernel, and no
// router is asked for one.
func setUpNewNamespace() error {
	for key, value := range map[string]string{
		"net/ipv6/conf/default/accept_dad":           "0",
		"net/ipv6/conf/default/dad_transmits":        "0",
		"net/ipv6/conf/default/accept_ra":            "0",
		"net/ipv6/conf/default/router_solicitations": "0",
		"net/ipv6/conf/default/addr_gen_mode":        "1",
	} {
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Name returns the name given to NewHost.
func (h *Host) Name() string { return h.name }

// Do runs f on the host's thread, so that system calls in it, but not in
// goroutines that it starts, see the host's namespaces. Calls run one at a time,
// so f must not call Do of the same host.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return errHostClosed
	}
	h.calls <- func() { result <- f() }
	h.mu.Unlock()
	return <-result
}

// enter runs f on a thread of its own in the host's namespace; unlike Do it may
// block for long.
func (h *Host) enter(f func() error) error {
	result := make(chan error, 1)
	onOwnThread(func() {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter host %s: %w", h.name, err)
			return
		}
		result <- f()
	})
	return <-result
}

// Close ends the host: its processes are killed, because the thread that
// started them ends, and the namespace disappears with the last socket in it.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	close(h.calls)
	h.mu.Unlock()
	<-h.gone
	return h.ns.Close()
}

// SetSysctl writes a value below /proc/sys, for example "net/ipv4/ip_forward".
// Only values of the network namespace are the host's own.
func (h *Host) SetSysctl(key, value string) error {
	return h.Do(func() error { return setSysctl(key, value) })
}

// Sysctl reads a value below /proc/sys as the host sees it.
func (h *Host) Sysctl(key string) (value string, err error) {
	err = h.Do(func() error {
		b, err := os.ReadFile(filepath.Join("/proc/sys", key))
		for len(b) > 0 && b[len(b)-1] == '\n' {
			b = b[:len(b)-1]
		}
		value = string(b)
		return err
	})
	return value, err
}

// setSysctl must run on a thread of the namespace: /proc/sys/net shows the
// namespace of the thread that opens the file.
func setSysctl(key, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
}

// EnableForwarding makes the host a router for IPv4 and IPv6.
func (h *Host) EnableForwarding() error {
	if err := h.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	return h.SetSysctl("net/ipv6/conf/all/forwarding", "1")
}
