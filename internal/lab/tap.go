// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ethernetHeader is the length of the header in front of each IP packet on a TAP
// device.
const ethernetHeader = 14

// tap is a TAP device in a host's namespace, held by this process: it exists as
// long as fd is open. Offloads are off, so each read and write is one frame with
// complete checksums, not larger than the MTU and the header.
type tap struct {
	port Port
	fd   int
	mac  net.HardwareAddr
}

// newTap makes the device of a port. A device belongs to the namespace of the
// thread that opens /dev/net/tun.
func newTap(p Port, mtu int, mac net.HardwareAddr) (*tap, error) {
	t := &tap{port: p, fd: -1, mac: mac}
	err := p.Host.Do(func() error { return t.open(mtu) })
	if err != nil {
		t.close()
		return nil, fmt.Errorf("%s: TAP device %s: %w", p.Host.name, p.Interface, err)
	}
	return t, nil
}

func (t *tap) open(mtu int) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	t.fd = fd
	ifr, err := unix.NewIfreq(t.port.Interface)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return os.NewSyscallError("TUNSETIFF", err)
	}
	link, err := netlink.LinkByName(t.port.Interface)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return err
	}
	if err := netlink.LinkSetHardwareAddr(link, t.mac); err != nil {
		return err
	}
	return configure(t.port)
}

// setCarrier tells the kernel that the cable is plugged in, or not.
func (t *tap) setCarrier(on bool) error {
	var v int32
	if on {
		v = 1
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(t.fd), unix.TUNSETCARRIER, uintptr(unsafe.Pointer(&v)))
	if errno != 0 {
		return os.NewSyscallError("TUNSETCARRIER", errno)
	}
	return nil
}

// close removes the device.
func (t *tap) close() {
	if t.fd >= 0 {
		unix.Close(t.fd)
		t.fd = -1
	}
}
