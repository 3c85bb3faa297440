// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// spoofBatch is the most datagrams of one system call.
	spoofBatch = 64
	// spoofTick is the time between two bursts: at 20 000 datagrams a second, four.
	spoofTick = 200 * time.Microsecond
	// spoofLag bounds what a sender that got no processor sends at once to make up for it.
	spoofLag = 50 * time.Millisecond
	// spoofHeaders are those of IPv4 and UDP, in bytes.
	spoofHeaders = 20 + 8
)

// Spoofer sends UDP datagrams with source addresses that are not its host's, on a thread
// of its own.
type Spoofer struct {
	fd      int
	packets [][]byte
	sent    atomic.Int64
	stop    atomic.Bool
	run     sync.WaitGroup
}

// StartSpoofer sends payloads from a host until Stop, over and over, perSecond of them a
// second. Each has one source address out of 100.64.0.0/10.
func StartSpoofer(from *Host, to netip.AddrPort, payloads [][]byte, perSecond int) (*Spoofer, error) {
	s := &Spoofer{}
	for i, p := range payloads {
		s.packets = append(s.packets, spoofed(i, to, p))
	}
	err := from.Do(func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		if err = unix.Connect(s.fd, &unix.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
			unix.Close(s.fd)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: raw socket to %s: %w", from.name, to, os.NewSyscallError("socket", err))
	}
	s.run.Add(1)
	onOwnThread(func() {
		defer s.run.Done()
		s.send(perSecond)
	})
	return s, nil
}

// spoofed is the IPv4 packet number i. The kernel fills in its length, identification and
// header checksum; UDP needs none.
func spoofed(i int, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, spoofHeaders, spoofHeaders+len(payload))
	b[0] = 0x45
	b[8], b[9] = 64, unix.IPPROTO_UDP
	// Numbers that differ by one are far apart: a multiplier of the 22 host bits.
	binary.BigEndian.PutUint32(b[12:], 100<<24|64<<16|uint32(i)*2654435761>>10)
	dst := to.Addr().As4()
	copy(b[16:], dst[:])
	udp := b[20:]
	binary.BigEndian.PutUint16(udp, uint16(1024+i%60000))
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	return append(b, payload...)
}

// send sends until it is stopped.
func (s *Spoofer) send(perSecond int) {
	var msgs [spoofBatch]struct {
		unix.Msghdr
		n uint32
	}
	var iovs [spoofBatch]unix.Iovec
	for i := range msgs {
		msgs[i].Iov = &iovs[i]
		msgs[i].SetIovlen(1)
	}
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	most := float64(perSecond) * (spoofTick + spoofLag).Seconds()
	last, due, next := monotonic(), 0.0, 0
	for wake := last + spoofTick; !s.stop.Load(); wake += spoofTick {
		if now := monotonic(); wake > now {
			at := unix.NsecToTimespec(int64(wake))
			unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil)
		} else {
			wake = now
		}
		now := monotonic()
		due = min(due+float64(perSecond)*(now-last).Seconds(), most)
		for last = now; due >= 1; {
			n := min(int(due), spoofBatch)
			for i := range n {
				p := s.packets[next]
				next = (next + 1) % len(s.packets)
				iovs[i].Base = &p[0]
				iovs[i].SetLen(len(p))
			}
			sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(n), 0, 0, 0)
			if errno == 0 {
				s.sent.Add(int64(sent))
			}
			due -= float64(n)
		}
	}
}

// Sent is the number of datagrams that were sent.
func (s *Spoofer) Sent() int64 { return s.sent.Load() }

// Stop ends the flood.
func (s *Spoofer) Stop() {
	s.stop.Store(true)
	s.run.Wait()
	unix.Close(s.fd)
}
