// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const clonePath = "/dev/net/tun"

// queueLength is how many packets, or super-packets, may wait in the kernel for Read: 9 ms of
// UDP at 1 Gbit/s in packets of 1100 bytes. Linux has 500, of which a reader that does not
// get its processor for 5 ms loses some.
const queueLength = 1000

// Device is a TUN interface of the kernel. See the package comment for which
// goroutine may call what.
type Device struct {
	file *os.File
	raw  syscall.RawConn
	link netlink.Link // name and index, fixed at creation
	off  *offload     // nil: each read and write is one packet

	closed atomic.Bool

	rd readState
	wr writeState
}

// readState holds the arguments and results of the Read in progress, so that the
// callback given to the poller is built once and a call allocates nothing.
type readState struct {
	bufs   [][]byte
	sizes  []int
	offset int
	n      int
	err    error
	step   func(fd uintptr) bool
}

type writeState struct {
	bufs   [][]byte
	offset int
	next   int // index of the packet, or of the run of packets, to write next
	n      int // packets the kernel took
	err    error
	step   func(fd uintptr) bool
}

// Create makes a TUN interface. A %d in name is replaced by the kernel with the
// first free number. The interface has no address and is down; the kernel is told
// to give it no IPv6 link-local address, so that nothing is sent by itself.
//
// The device has the offloads that the kernel grants, see Offloads.
func Create(name string) (*Device, error) { return create(name, allOffloads) }

// CreatePlain is Create without offloads.
func CreatePlain(name string) (*Device, error) { return create(name, nil) }

// create tries the offloads of each set, until the kernel grants one. The device is
// made anew for each attempt: a vnet header, once asked for, stays.
func create(name string, sets []Offloads) (*Device, error) {
	if len(name) == 0 || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("tun: interface name %q: want 1 to %d bytes", name, unix.IFNAMSIZ-1)
	}
	for _, o := range sets {
		d, err := attach(name, o)
		if !errors.Is(err, errNoOffload) {
			return d, err
		}
	}
	return attach(name, Offloads{})
}

// attach makes a device with exactly these offloads.
func attach(name string, o Offloads) (*Device, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, createError(name, err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		// Without EXCL an interface that exists already and nobody reads would be taken
		// over with its addresses and routes, and outlive the program.
		flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
		if o.any() {
			flags |= unix.IFF_VNET_HDR
		}
		req.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, createError(name, err)
	}
	if o.any() {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, o.flags()); err != nil {
			unix.Close(fd)
			return nil, errNoOffload
		}
	}
	// Only now: before TUNSETIFF the poller would see the descriptor as broken.
	file := os.NewFile(uintptr(fd), clonePath)
	d := &Device{file: file}
	if err := d.init(req.Name(), o); err != nil {
		file.Close()
		return nil, fmt.Errorf("tun: %s: %w", req.Name(), err)
	}
	return d, nil
}

// createError turns the kernel's answer into what the user can do about it.
func createError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return ErrNotAvailable
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return ErrPermission
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("tun: %s: %w", name, ErrBusy)
	case errors.Is(err, unix.EINVAL):
		// TUNSETIFF answers so when the name belongs to an interface of another kind.
		return fmt.Errorf("tun: %s: the name is not valid or belongs to an interface that is no TUN device", name)
	}
	return fmt.Errorf("tun: %s: %w", name, err)
}

func (d *Device) init(name string, o Offloads) (err error) {
	if d.raw, err = d.file.SyscallConn(); err != nil {
		return err
	}
	if d.link, err = netlink.LinkByName(name); err != nil {
		return err
	}
	if err := d.noLinkLocal(); err != nil {
		return err
	}
	_ = netlink.LinkSetTxQLen(d.link, queueLength) // the kernel's own serves too
	d.rd.step, d.wr.step = d.readPlain, d.writePlain
	if o.any() {
		d.off = newOffload(o)
		d.rd.step, d.wr.step = d.readOffload, d.writeOffload
	}
	return nil
}

// noLinkLocal keeps the kernel from giving the interface an address of its own.
func (d *Device) noLinkLocal() error {
	const genModeNone = 1 // IN6_ADDR_GEN_MODE_NONE
	err := netlink.LinkSetIP6AddrGenMode(d.link, genModeNone)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("addr_gen_mode: %w", err) // the two above: a kernel without IPv6
	}
	return nil
}

// Name is the name that the kernel gave the interface.
func (d *Device) Name() string { return d.link.Attrs().Name }

// BatchSize is the number of buffers that Read and Write make best use of.
func (d *Device) BatchSize() int { return BatchSize }

// MTU asks the kernel for the current MTU in bytes, which others may change.
func (d *Device) MTU() (int, error) {
	link, err := netlink.LinkByIndex(d.link.Attrs().Index)
	if err != nil {
		return 0, fmt.Errorf("tun: %s: %w", d.Name(), err)
	}
	return link.Attrs().MTU, nil
}

// minMTU6 is the MTU below which the kernel ends IPv6 on an interface: addresses and
// routes of IPv6 are gone then, and must be set again when the MTU has grown.
const minMTU6 = 1280

// SetMTU sets the MTU in bytes. Below 1280 the interface loses its IPv6 addresses
// and routes.
func (d *Device) SetMTU(mtu int) error {
	old, err := d.MTU()
	if err != nil || old == mtu {
		return err
	}
	if err := netlink.LinkSetMTU(d.link, mtu); err != nil {
		return d.wrap("set MTU", err)
	}
	if old >= minMTU6 || mtu < minMTU6 {
		return nil
	}
	// IPv6 has begun anew, with the defaults of the host.
	if err := d.noLinkLocal(); err != nil {
		return d.wrap("set MTU", err)
	}
	addrs, err := netlink.AddrList(d.link, netlink.FAMILY_V6)
	if err != nil {
		return d.wrap("list addresses", err)
	}
	for _, a := range addrs {
		if a.IP.IsLinkLocalUnicast() {
			if err := netlink.AddrDel(d.link, &a); err != nil && !isGone(err) {
				return d.wrap("remove address "+a.IPNet.String(), err)
			}
		}
	}
	return nil
}

// AddAddress gives the interface an address, and with a prefix shorter than the
// address the route to its network. Adding one that is there is no error and changes
// nothing. IPv6 addresses skip duplicate address detection: there is no one on a TUN
// to ask.
func (d *Device) AddAddress(p netip.Prefix) error {
	err := netlink.AddrAdd(d.link, address(p))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return d.wrap("add address "+p.String(), err)
}

// RemoveAddress takes an address away. One that is gone already is no error.
func (d *Device) RemoveAddress(p netip.Prefix) error {
	err := netlink.AddrDel(d.link, address(p))
	if isGone(err) {
		return nil
	}
	return d.wrap("remove address "+p.String(), err)
}

// isGone recognizes the kernel's answers for an address that is not there: in IPv4, in
// IPv6, and where IPv6 has ended on the whole interface.
func isGone(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}

// Up sets the interface up.
func (d *Device) Up() error { return d.wrap("set up", netlink.LinkSetUp(d.link)) }

func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func (d *Device) wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("tun: %s: %s: %w", d.Name(), what, err)
	}
	return nil
}

// Read waits for at least one packet and then takes all that are there, at most
// len(bufs). Packet i is in bufs[i][offset:offset+sizes[i]]. A packet longer than
// its buffer is cut by the kernel; with offloads it is dropped and counted. After
// Close it returns an error that is [os.ErrClosed].
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	s := &d.rd
	s.bufs, s.sizes, s.offset, s.n, s.err = bufs, sizes, offset, 0, nil
	if err := d.raw.Read(s.step); err != nil {
		return 0, d.notReady(err)
	}
	return s.n, s.err
}

func (d *Device) readPlain(fd uintptr) bool {
	s := &d.rd
	for s.n < len(s.bufs) {
		n, err := readNow(fd, s.bufs[s.n][s.offset:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return s.n > 0 // false: wait until there is something
		case err != nil:
			if s.n == 0 {
				s.err = os.NewSyscallError("read", err)
			}
			return true
		}
		s.sizes[s.n] = n
		s.n++
	}
	return true
}

// Write writes the packets bufs[i][offset:], which it does not change. The kernel may
// refuse a packet (not IP, the interface is down); the others are written all the
// same. It returns how many were taken and the error of the first one that was not.
// Packets of one flow arrive in order; with offloads, those of different flows may
// change places.
func (d *Device) Write(bufs [][]byte, offset int) (n int, err error) {
	s := &d.wr
	s.bufs, s.offset, s.next, s.n, s.err = bufs, offset, 0, 0, nil
	if d.off != nil {
		d.off.coalescer.plan(bufs, offset)
	}
	if err := d.raw.Write(s.step); err != nil {
		return s.n, d.notReady(err)
	}
	return s.n, s.err
}

func (d *Device) writePlain(fd uintptr) bool {
	s := &d.wr
	for s.next < len(s.bufs) {
		_, err := writeNow(fd, s.bufs[s.next][s.offset:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err == nil:
			s.n++
		case s.err == nil:
			s.err = os.NewSyscallError("write", err)
		}
		s.next++
	}
	return true
}

// Close removes the interface and ends a Read in progress.
func (d *Device) Close() error {
	d.closed.Store(true)
	return d.file.Close()
}

// notReady is why the poller does not wait for the device: it is closed, or the interface gone.
func (d *Device) notReady(err error) error {
	if d.closed.Load() {
		return os.ErrClosed // no deadline is ever set
	}
	return fmt.Errorf("tun: %s: %w", d.Name(), err)
}
