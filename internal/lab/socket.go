// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// innerCongestionControl is what the lab's own TCP connections use unless told
// otherwise, whatever the machine's default is, so that figures of different machines compare.
const innerCongestionControl = "cubic"

// Dial connects from the host. The address must be numeric: there is no
// resolver in the lab.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.enter(func() error {
		d := net.Dialer{Control: setCongestionControl}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens for TCP connections in the host.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.enter(func() error {
		lc := net.ListenConfig{Control: setCongestionControl}
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a packet socket in the host, for example "udp4" or
// "ip4:icmp".
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.enter(func() error {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(context.Background(), network, address)
		return err
	})
	return c, err
}

// setCongestionControl runs before a TCP socket connects or listens; accepted
// connections inherit the listener's choice.
func setCongestionControl(network, _ string, c syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil
	}
	var errno error
	if err := c.Control(func(fd uintptr) {
		errno = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, innerCongestionControl)
	}); err != nil {
		return err
	}
	return errno
}

// useCongestionControl changes the congestion control of a TCP connection.
func useCongestionControl(c net.Conn, name string) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	if err := raw.Control(func(fd uintptr) {
		errno = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	}); err != nil {
		return err
	}
	if errno != nil {
		return fmt.Errorf("TCP congestion control %s: %w", name, errno)
	}
	return nil
}
