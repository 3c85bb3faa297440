// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// datagramBuffer is the receive buffer of a Sink in bytes: what is lost is to be
	// lost on the way.
	datagramBuffer = 8 << 20
	// stopInterval is how long a Sink may take to notice that it was closed.
	stopInterval = 50 * time.Millisecond
	// maxLag bounds what a sender that the kernel let wait sends at once to make up
	// for it: about the queue of a TUN device in the fastest flows.
	maxLag = time.Millisecond
)

// Sink receives UDP datagrams in a host, one by one on a thread of its own, and counts.
type Sink struct {
	fd       int
	addr     netip.AddrPort
	received atomic.Int64
	stop     atomic.Bool
	run      sync.WaitGroup
}

// NewSink receives at an IPv4 address of the host.
func NewSink(h *Host, addr netip.AddrPort) (*Sink, error) {
	s := &Sink{addr: addr}
	timeout := unix.NsecToTimeval(int64(stopInterval))
	err := h.Do(func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, datagramBuffer) != nil {
			unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, datagramBuffer)
		}
		if err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err == nil {
			err = unix.Bind(s.fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
		}
		if err != nil {
			unix.Close(s.fd)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: UDP socket at %s: %w", h.name, addr, err)
	}
	s.run.Add(1)
	onOwnThread(func() {
		defer s.run.Done()
		b := make([]byte, 65536)
		for !s.stop.Load() {
			if _, err := unix.Read(s.fd, b); err == nil {
				s.received.Add(1)
			}
		}
	})
	return s, nil
}

// Addr is where the sink receives.
func (s *Sink) Addr() netip.AddrPort { return s.addr }

// Received is the number of datagrams that have arrived.
func (s *Sink) Received() int64 { return s.received.Load() }

// Close ends the sink.
func (s *Sink) Close() {
	s.stop.Store(true)
	s.run.Wait()
	unix.Close(s.fd)
}

// Stream is a flow of UDP datagrams of one size, sent one by one on a thread of its
// own: what an application does that knows no offloads.
type Stream struct {
	fd   int
	sent atomic.Int64
	stop atomic.Bool
	run  sync.WaitGroup
}

// Pace says when the datagrams of a Stream are sent.
type Pace struct {
	// PerSecond is the number of datagrams; 0: as many as the thread can.
	PerSecond float64
	// Every is the time between two bursts, which hold what is due. 0: no bursts, each
	// datagram at its own time.
	Every time.Duration
}

// StartStream sends datagrams of size payload bytes from a host until Stop.
func StartStream(from *Host, to netip.AddrPort, size int, pace Pace) (*Stream, error) {
	s := new(Stream)
	err := from.Do(func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Connect(s.fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			unix.Close(s.fd)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: UDP to %s: %w", from.name, to, os.NewSyscallError("socket", err))
	}
	s.run.Add(1)
	onOwnThread(func() {
		defer s.run.Done()
		s.send(make([]byte, size), pace)
	})
	return s, nil
}

// send sends until it is stopped. A datagram that the kernel refuses is one lost.
func (s *Stream) send(payload []byte, pace Pace) {
	if pace.PerSecond == 0 {
		for !s.stop.Load() {
			unix.Write(s.fd, payload)
			s.sent.Add(1)
		}
		return
	}
	// Without slack the kernel wakes the thread as soon as it can.
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	tick := max(pace.Every, time.Duration(float64(time.Second)/pace.PerSecond))
	most := pace.PerSecond * (tick + maxLag).Seconds()
	last, due := monotonic(), 0.0
	for next := last + tick; !s.stop.Load(); next += tick {
		now := monotonic()
		if next > now {
			at := unix.NsecToTimespec(int64(next))
			unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil)
			now = monotonic()
		} else {
			next = max(next, now-maxLag)
		}
		due = min(due+pace.PerSecond*(now-last).Seconds(), most)
		for last = now; due >= 1; due-- {
			unix.Write(s.fd, payload)
			s.sent.Add(1)
		}
	}
}

// monotonic is the time of the clock that ClockNanosleep waits on.
func monotonic() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano())
}

// Sent is the number of datagrams that were sent.
func (s *Stream) Sent() int64 { return s.sent.Load() }

// Stop ends the stream.
func (s *Stream) Stop() {
	s.stop.Store(true)
	s.run.Wait()
	unix.Close(s.fd)
}
