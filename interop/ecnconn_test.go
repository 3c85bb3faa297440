// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// ecnConn is a UDP socket that tells the ECN field of what it receives, and sets that of
// what it sends. One goroutine may write.
type ecnConn struct {
	*net.UDPConn
	raw syscall.RawConn
	v6  bool
	ecn byte // of what is sent
}

func listenECN(a netip.AddrPort) (*ecnConn, error) {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
	if err != nil {
		return nil, err
	}
	c := &ecnConn{UDPConn: udp, v6: a.Addr().Is6()}
	if c.raw, err = udp.SyscallConn(); err != nil {
		return nil, err
	}
	if c.v6 {
		c.setOption(unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
	} else {
		c.setOption(unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	}
	return c, nil
}

func (c *ecnConn) setOption(level, option, value int) {
	c.raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), level, option, value) })
}

// read waits for the next datagram; it fails only once c is closed.
func (c *ecnConn) read(buf []byte) (n int, ecn byte, from netip.AddrPort, err error) {
	oob := make([]byte, 128)
	for {
		var oobn int
		n, oobn, _, from, err = c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		ms, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, m := range ms {
			isTOS := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS ||
				m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_TCLASS
			if isTOS && len(m.Data) > 0 {
				ecn = m.Data[0] & 3
			}
		}
		return n, ecn, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
	}
}

func (c *ecnConn) write(data []byte, ecn byte, to netip.AddrPort) {
	if ecn != c.ecn {
		if c.v6 {
			c.setOption(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(ecn))
		} else {
			c.setOption(unix.IPPROTO_IP, unix.IP_TOS, int(ecn))
		}
		c.ecn = ecn
	}
	c.WriteToUDPAddrPort(data, to)
}
