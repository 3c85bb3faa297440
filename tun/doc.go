// SPDX-License-Identifier: Apache-2.0

// Package tun creates network interfaces of the TUN kind and moves batches of IP
// packets between them and the program:
//
//	dev, err := tun.Create("mqvpn0")
//	...
//	defer dev.Close()
//	dev.SetMTU(1400)
//	dev.AddAddress(netip.MustParsePrefix("10.0.0.2/24"))
//	dev.Up()
//	n, err := dev.Read(bufs, sizes, 0)
//
// One goroutine may call Read and one may call Write, at the same time. Close may
// be called by any goroutine and ends both. The interface disappears from the
// kernel with Close or with the process, and its addresses and routes with it.
//
// A read or a write of the kernel's costs as much as several packets do elsewhere, so
// on Linux it carries up to 64 KiB of a TCP or UDP flow, if the kernel allows: Read
// cuts such a super-packet into packets, Write makes super-packets of packets. Neither
// can be told from the packets that the caller sees.
//
// Devices exist on Linux only; elsewhere Create returns an error that says so.
// Package tuntest has a device without a kernel behind it.
package tun

import "errors"

// BatchSize is the number of packets that Read and Write handle at best per call.
const BatchSize = 128

// Offloads says for which protocols a device moves super-packets.
type Offloads struct{ TCP, UDP bool }

var (
	// ErrUnsupported: this operating system has no devices that the package knows.
	ErrUnsupported = errors.New("TUN devices are supported on Linux only")
	// ErrNotAvailable: the kernel offers no /dev/net/tun.
	ErrNotAvailable = errors.New("/dev/net/tun is not there: load the module with \"modprobe tun\", or give the container the device")
	// ErrPermission: the process may not create the device.
	ErrPermission = errors.New("no permission to create a TUN device: run as root or with CAP_NET_ADMIN")
	// ErrBusy: there is an interface of that name already.
	ErrBusy = errors.New("an interface of that name exists already: another process uses it, or it was made persistent (\"ip tuntap\")")
)
