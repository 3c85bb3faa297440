// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Sizes of the socket buffers in bytes, as far as the kernel grants them.
const (
	// receiveBufferSize holds 30 ms at 1 Gbit/s: what arrives while the reader
	// waits for a processor.
	receiveBufferSize = 4 << 20
	// sendBufferSize holds about ten full runs. More would only hide from the
	// sender that the interface is slower than it thinks.
	sendBufferSize = 1 << 20
)

// Options are the options of Listen. The zero value suits most uses.
type Options struct {
	// Device binds the socket to a network interface.
	Device string
	// NoGSO sends each datagram by itself, NoGRO receives it so.
	NoGSO, NoGRO bool
	// NoEqualTail never lets the last datagram of a GSO message be as long as the
	// others: some kernels compute a wrong checksum then.
	NoEqualTail bool
}

// Stats describes what the kernel made of a socket.
type Stats struct {
	GSO, GRO   bool   // in use now
	GSORefused uint64 // messages that had to be sent as single datagrams
}

// Listen binds a UDP socket; network is "udp4" or "udp6" (which excludes IPv4).
// Link-local IPv6 peers can be reached only with Options.Device, as zones are not
// carried.
func Listen(network string, addr netip.AddrPort, opt Options) (*UDPSocket, error) {
	return listen(network, addr, opt, false)
}

// bind opens a UDP socket and runs configure on it before it is bound.
func bind(network string, addr netip.AddrPort, configure func(fd uintptr) error) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { err = configure(fd) }); cerr != nil {
			return cerr
		}
		return err
	}}
	if network != "udp4" && network != "udp6" {
		return nil, fmt.Errorf("udpio: network %q is neither udp4 nor udp6", network)
	}
	conn, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// localAddr is the address that conn is bound to.
func localAddr(conn *net.UDPConn) netip.AddrPort {
	bound := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
}

// closedError makes net.ErrClosed of the error of a connection that is closed.
func closedError(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	}
	return err
}
