// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UDPSocket is a Socket of the kernel. It receives with recvmmsg and UDP_GRO, and
// sends with sendmmsg and UDP_SEGMENT; neither allocates.
type UDPSocket struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	local    netip.AddrPort
	device   string
	warnings []string

	rx receiver // of the goroutine in ReadBatch

	noEqualTail bool
	gso         atomic.Bool
	gro         bool
	gsoRefused  atomic.Uint64
	gsoRow      atomic.Int32 // refusals since the last success

	senders struct { // idle ones; at most as many exist as goroutines send at once
		sync.Mutex
		free []*sender
	}

	pollFDs  [1]unix.PollFd // of the goroutine in WaitWritable
	writable func(fd uintptr) bool
}

var _ Socket = (*UDPSocket)(nil)

// ListenGroup binds n sockets to one address; the kernel spreads the packets over
// them by their 4-tuple. It fails when the port is taken by anyone else.
func ListenGroup(network string, addr netip.AddrPort, opt Options, n int) (group []*UDPSocket, err error) {
	defer func() {
		if err != nil {
			for _, s := range group {
				s.Close()
			}
			group = nil
		}
	}()
	// SO_REUSEPORT from the start would join the group of another process of this
	// user unnoticed. So the first socket binds without.
	first, err := listen(network, addr, opt, false)
	if err != nil {
		return nil, err
	}
	group = append(group, first)
	if n == 1 {
		return group, nil
	}
	var serr error
	err = first.raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	if err = errors.Join(err, serr); err != nil {
		return group, err
	}
	for len(group) < n {
		s, err := listen(network, first.local, opt, true)
		if err != nil {
			return group, err
		}
		group = append(group, s)
	}
	return group, nil
}

func listen(network string, addr netip.AddrPort, opt Options, reusePort bool) (*UDPSocket, error) {
	s := &UDPSocket{device: opt.Device, noEqualTail: opt.NoEqualTail}
	conn, err := bind(network, addr, func(fd uintptr) error {
		return s.configure(int(fd), network == "udp6", opt, reusePort)
	})
	if err != nil {
		return nil, err
	}
	s.conn = conn
	s.local = localAddr(conn)
	if s.raw, err = conn.SyscallConn(); err != nil {
		conn.Close()
		return nil, err
	}
	s.rx.init()
	s.writable = s.pollWritable
	return s, nil
}

// configure sets the options of a socket that is not bound yet.
func (s *UDPSocket) configure(fd int, v6 bool, opt Options, reusePort bool) error {
	type option struct{ level, name, value int }
	// MTU_DISCOVER: probes of the path MTU must neither be fragmented nor be bounded
	// by what ICMP messages, which anyone can forge, made the kernel believe.
	// R9000-14-1 R9000-14.2.1-1 R9000-14.2.1-2
	options := []option{
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
	}
	if v6 {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		}
	}
	if reusePort {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if opt.Device != "" {
		if err := unix.BindToDevice(fd, opt.Device); err != nil {
			return fmt.Errorf("udpio: bind to %s: %w", opt.Device, err)
		}
	}
	// Kernels without GSO or GRO refuse the option.
	s.gso.Store(!opt.NoGSO && unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) == nil)
	s.gro = !opt.NoGRO && unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	s.growBuffer(fd, "receive", receiveBufferSize, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, "net.core.rmem_max")
	s.growBuffer(fd, "send", sendBufferSize, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, "net.core.wmem_max")
	return nil
}

// growBuffer sets the size of a socket buffer, beyond the system's limit if we may.
func (s *UDPSocket) growBuffer(fd int, kind string, size, opt, force int, sysctl string) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) == nil {
		return
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, size) // the result is read back
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt)
	got /= 2 // the kernel doubles what it is asked for
	if err == nil && got < size {
		s.warnings = append(s.warnings, fmt.Sprintf(
			"UDP %s buffer is %d bytes, wanted %d: raise the sysctl %s", kind, got, size, sysctl))
	}
}

// Warnings tells what is wrong with the system's configuration; each item is a
// sentence for the log.
func (s *UDPSocket) Warnings() []string { return s.warnings }

// Stats returns the state and the counters of the socket.
func (s *UDPSocket) Stats() Stats {
	return Stats{GSO: s.gso.Load(), GRO: s.gro, GSORefused: s.gsoRefused.Load()}
}

// LocalAddr implements Socket.
func (s *UDPSocket) LocalAddr() netip.AddrPort { return s.local }

// MTU implements Socket. It asks the kernel each time.
func (s *UDPSocket) MTU() int {
	ifr, err := unix.NewIfreq(s.device)
	if s.device == "" || err != nil {
		return 0
	}
	mtu := 0
	// Asked through the socket itself, which may be in another network namespace
	// than this thread.
	_ = s.raw.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SIOCGIFMTU, uintptr(unsafe.Pointer(ifr)))
		if errno == 0 {
			mtu = int(ifr.Uint32())
		}
	})
	return mtu
}

// WaitWritable implements Socket.
func (s *UDPSocket) WaitWritable() error {
	return closedError(s.raw.Write(s.writable))
}

// pollWritable asks the kernel: the netpoller tells only of changes, of which one
// may have come before the wait.
func (s *UDPSocket) pollWritable(fd uintptr) bool {
	s.pollFDs[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
	n, err := unix.Poll(s.pollFDs[:], 0)
	return n > 0 || err != nil && err != unix.EINTR
}

// Close implements Socket.
func (s *UDPSocket) Close() error { return s.conn.Close() }
