// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package udpio

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// UDPSocket is a Socket of the kernel, one datagram per system call. It knows
// neither ECN nor the local address of a datagram, and lets the system fragment:
// this suffices for development, not for a server with several addresses.
type UDPSocket struct {
	conn  *net.UDPConn
	local netip.AddrPort
}

var _ Socket = (*UDPSocket)(nil)

// errUnsupported is returned for what only Linux can do here.
var errUnsupported = errors.New("udpio: not supported on this system")

// ListenGroup binds n sockets to one address, which works only for n = 1.
func ListenGroup(network string, addr netip.AddrPort, opt Options, n int) ([]*UDPSocket, error) {
	if n != 1 {
		return nil, errUnsupported
	}
	s, err := Listen(network, addr, opt)
	if err != nil {
		return nil, err
	}
	return []*UDPSocket{s}, nil
}

func listen(network string, addr netip.AddrPort, opt Options, reusePort bool) (*UDPSocket, error) {
	if opt.Device != "" || reusePort {
		return nil, errUnsupported
	}
	conn, err := bind(network, addr, func(uintptr) error { return nil })
	if err != nil {
		return nil, err
	}
	// What the system refuses to give, we do without.
	_ = conn.SetReadBuffer(receiveBufferSize)
	_ = conn.SetWriteBuffer(sendBufferSize)
	return &UDPSocket{conn: conn, local: localAddr(conn)}, nil
}

// ReadBatch implements Socket; it returns one message at a time.
func (s *UDPSocket) ReadBatch(ms []Received) (int, error) {
	m := &ms[0]
	n, src, err := s.conn.ReadFromUDPAddrPort(m.Buf)
	if err != nil {
		return 0, closedError(err)
	}
	m.N, m.SegSize, m.ECN, m.Dst = n, n, NotECT, netip.Addr{}
	m.Src = netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
	return 1, nil
}

// WriteBatch implements Socket, except that it waits for room in the buffer. It
// ignores the source address and the ECN field of a run.
func (s *UDPSocket) WriteBatch(runs []Run) (int, error) {
	for i := range runs {
		r := &runs[i]
		r.Check()
		for data := r.Data; len(data) > 0; {
			n := min(r.SegSize, len(data))
			if _, err := s.conn.WriteToUDPAddrPort(data[:n], r.Dst); err != nil {
				r.Data = data
				return i, sendError(err)
			}
			data = data[n:]
		}
	}
	return len(runs), nil
}

// sendError makes the errors of this package of those of the system.
func sendError(err error) error {
	const wsaEMSGSIZE = syscall.Errno(10040) // of Windows
	if errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, wsaEMSGSIZE) {
		return ErrMessageTooLong
	}
	return closedError(err)
}

// WaitWritable implements Socket.
func (s *UDPSocket) WaitWritable() error { return nil }

// LocalAddr implements Socket.
func (s *UDPSocket) LocalAddr() netip.AddrPort { return s.local }

// MTU implements Socket; it is unknown.
func (s *UDPSocket) MTU() int { return 0 }

// Warnings tells what is wrong with the system's configuration.
func (s *UDPSocket) Warnings() []string { return nil }

// Stats returns the state of the socket.
func (s *UDPSocket) Stats() Stats { return Stats{} }

// Close implements Socket.
func (s *UDPSocket) Close() error { return s.conn.Close() }
