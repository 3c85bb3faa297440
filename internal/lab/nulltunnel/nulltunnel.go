// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package nulltunnel is the yardstick of the benchmarks: a tunnel that does nothing
// but what every tunnel must. It moves packets between a TUN device and a UDP socket
// with the offloads that the kernel has, and encrypts each with AES-128-GCM under a
// fixed key. No handshake, no acknowledgments, no control, and no secrecy: the key is
// known.
package nulltunnel

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/tun"
)

const (
	// MTU of the tunnel: what fits 1500 bytes with the headers of IPv4 and UDP, the
	// packet number and the tag.
	MTU        = 1500 - 28 - numberLen - tagLen
	numberLen  = 8
	tagLen     = 16
	maxRun     = 64    // packets in one send: the kernel's UDP_MAX_SEGMENTS
	maxSend    = 65507 // bytes in one send: the largest UDP payload
	socketSize = 8 << 20
	packetRoom = 2048 // more than an MTU
)

// tunnel is one end. Each direction is one goroutine.
type tunnel struct {
	dev  *tun.Device
	sock int // connected, blocking
	aead cipher.AEAD
}

// Run makes an end of the tunnel and moves packets until the process ends. It calls
// ready when the device is up.
func Run(local, remote netip.AddrPort, inside netip.Prefix, ready func()) error {
	block, err := aes.NewCipher([]byte("a key that all k"))
	if err != nil {
		return err
	}
	t := &tunnel{}
	if t.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	if t.sock, err = connect(local, remote); err != nil {
		return err
	}
	if t.dev, err = tun.Create("null%d"); err != nil {
		return err
	}
	if err := t.dev.SetMTU(MTU); err != nil {
		return err
	}
	if err := t.dev.AddAddress(inside); err != nil {
		return err
	}
	if err := t.dev.Up(); err != nil {
		return err
	}
	ready()
	failed := make(chan error, 2)
	go func() { failed <- t.send() }()
	go func() { failed <- t.receive() }()
	return <-failed
}

// connect makes a UDP socket that coalesces what it receives.
func connect(local, remote netip.AddrPort) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_UDP, unix.UDP_GRO, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, socketSize},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, socketSize},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.Addr().As4(), Port: int(local.Port())}); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: remote.Addr().As4(), Port: int(remote.Port())}); err != nil {
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// send moves packets from the device to the socket: runs of one size in one call.
func (t *tunnel) send() error {
	var bufs [tun.BatchSize][]byte
	var sizes [tun.BatchSize]int
	for i := range bufs {
		bufs[i] = make([]byte, packetRoom)
	}
	var nonce [12]byte
	var number uint64
	run := make([]byte, 0, 1<<16)
	size, packets := 0, 0
	segment := make([]byte, unix.CmsgSpace(2))
	flush := func() error {
		if packets == 0 {
			return nil
		}
		err := sendRun(t.sock, run, size, segment)
		run, size, packets = run[:0], 0, 0
		return err
	}
	for {
		n, err := t.dev.Read(bufs[:], sizes[:], 0)
		if err != nil {
			return err
		}
		for i := range n {
			sealed := numberLen + sizes[i] + tagLen
			if packets == maxRun || packets > 0 && sealed > size || len(run)+sealed > maxSend {
				if err := flush(); err != nil {
					return err
				}
			}
			number++
			binary.BigEndian.PutUint64(nonce[4:], number)
			run = append(run, nonce[4:]...)
			run = t.aead.Seal(run, nonce[:], bufs[i][:sizes[i]], nil)
			if packets++; packets == 1 {
				size = sealed
			} else if sealed < size { // a short one ends the run
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
}

// sendRun sends datagrams of size bytes each, the last of which may be shorter.
func sendRun(sock int, run []byte, size int, control []byte) error {
	if len(run) == size {
		control = nil
	} else {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(size))
	}
	for {
		_, err := unix.SendmsgN(sock, run, control, nil, 0)
		switch err {
		case unix.EINTR:
		case nil, unix.ENOBUFS, unix.ECONNREFUSED: // lost, or the other end is not there yet
			return nil
		default:
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// receive moves packets from the socket to the device.
func (t *tunnel) receive() error {
	buf, control := make([]byte, 1<<16), make([]byte, 64)
	var packets [][]byte
	var nonce [12]byte
	for {
		n, oobn, _, _, err := unix.Recvmsg(t.sock, buf, control, 0)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNREFUSED:
			continue
		default:
			return os.NewSyscallError("recvmsg", err)
		}
		size := n
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		if oobn >= unix.CmsgLen(4) && h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO {
			size = int(binary.NativeEndian.Uint32(control[unix.CmsgLen(0):]))
		}
		packets = packets[:0]
		for data := buf[:n]; len(data) > numberLen+tagLen; {
			d := data[:min(size, len(data))]
			data = data[len(d):]
			copy(nonce[4:], d)
			packet, err := t.aead.Open(d[numberLen:numberLen], nonce[:], d[numberLen:], nil)
			if err != nil {
				return fmt.Errorf("a datagram of %d bytes: %w", len(d), err)
			}
			packets = append(packets, packet)
		}
		t.dev.Write(packets, 0) // what the kernel refuses is lost
	}
}
