// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"golang.org/x/sys/unix"
)

const (
	// quantum is the shortest time between two rounds of work, hence the
	// precision of the emulation under load. Waking for every frame instead costs
	// half a core for 50 Mbit/s on a virtual machine, where sleeping and waking is
	// what costs; a frame that comes alone does not wait for it.
	quantum = 250 * time.Microsecond
	// heartbeat is how often an idle emulator wakes, so that a machine too busy to
	// emulate is seen even when nothing is to be delivered.
	heartbeat = 5 * time.Millisecond
	// accountEvery is how often the thread's CPU time is read.
	accountEvery = 50 * time.Millisecond
	// maxOnTheWay bounds the frames that one direction holds, for links without a
	// rate and a queue of their own; more are dropped.
	maxOnTheWay = 1 << 16
	// readBurst is how many frames of one direction are read in one round.
	readBurst = 64
)

// epoch is the zero of the emulator's clock.
var epoch = time.Now()

// emulator carries frames between the two TAP devices of a link, as late as the
// link models say. One thread runs it.
type emulator struct {
	lanes [2]lane
	wake  int // eventfd: written to end the thread
	done  chan struct{}

	// late is the worst delay, since it was last taken, beyond what the models
	// asked for; cpu is the thread's consumption. Both in nanoseconds.
	late, cpu atomic.Int64

	free [][]byte // buffers not in use
	size int      // of a buffer
}

// lane is one direction.
type lane struct {
	from, to int // the devices
	model    *quictest.Link
	onTheWay quictest.Arrivals[[]byte]
	observer atomic.Pointer[func(frame []byte)]

	packets, bytes, dropped atomic.Uint64
}

// newEmulator starts the thread. ends[i] sends into models[i].
func newEmulator(ends [2]*tap, models [2]*quictest.Link, mtu int) (*emulator, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	e := &emulator{wake: wake, done: make(chan struct{}), size: mtu + ethernetHeader}
	for i := range e.lanes {
		e.lanes[i].from, e.lanes[i].to, e.lanes[i].model = ends[i].fd, ends[1-i].fd, models[i]
	}
	moreProcessors()
	onOwnThread(func() {
		defer close(e.done)
		e.run()
	})
	return e, nil
}

// stop ends the thread and waits for it.
func (e *emulator) stop() {
	unix.Write(e.wake, []byte{7: 1})
	<-e.done
	unix.Close(e.wake)
}

// run is the thread. It sleeps in the kernel's precise timers, with the slack
// removed; Go's own round to a millisecond.
func (e *emulator) run() {
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	if first.Load() {
		unix.Setpriority(unix.PRIO_PROCESS, 0, firstNice)
	}
	fds := []unix.PollFd{
		{Fd: int32(e.lanes[0].from), Events: unix.POLLIN},
		{Fd: int32(e.lanes[1].from), Events: unix.POLLIN},
		{Fd: int32(e.wake), Events: unix.POLLIN},
	}
	var accounted time.Duration
	for fds[2].Revents == 0 {
		began := time.Since(epoch)
		worked := false
		for i := range e.lanes {
			l := &e.lanes[i]
			if fds[i].Revents&unix.POLLIN != 0 {
				e.read(l)
				worked = true
			}
			worked = e.deliver(l) || worked
		}
		if began-accounted >= accountEvery {
			accounted = began
			e.account()
		}
		if worked {
			if rest := began + quantum - time.Since(epoch); rest > 0 {
				ts := unix.NsecToTimespec(int64(rest))
				unix.Nanosleep(&ts, nil)
				e.noteLateness(time.Since(epoch) - (began + quantum))
			}
		}
		deadline := e.deadline(time.Since(epoch) + heartbeat)
		ts := unix.NsecToTimespec(int64(max(0, deadline-time.Since(epoch))))
		if _, err := unix.Ppoll(fds, &ts, nil); err != nil { // interrupted
			fds[0].Revents, fds[1].Revents, fds[2].Revents = 0, 0, 0
		}
		e.noteLateness(time.Since(epoch) - max(deadline, began+quantum))
	}
}

// deadline is when the next frame is due, at most limit.
func (e *emulator) deadline(limit time.Duration) time.Duration {
	for i := range e.lanes {
		if at, ok := e.lanes[i].onTheWay.Next(); ok {
			limit = min(limit, at)
		}
	}
	return limit
}

// read takes frames that wait in the device and admits them to the link.
func (e *emulator) read(l *lane) {
	for range readBurst {
		buf := e.buffer()
		n, err := unix.Read(l.from, buf)
		if err != nil || n < ethernetHeader {
			e.free = append(e.free, buf)
			return
		}
		frame := buf[:n]
		if f := l.observer.Load(); f != nil {
			(*f)(frame)
		}
		at, ok := l.model.Admit(time.Since(epoch), n-ethernetHeader)
		if !ok || l.onTheWay.Len() >= maxOnTheWay {
			l.dropped.Add(1)
			e.free = append(e.free, buf)
			continue
		}
		l.onTheWay.Push(at, frame)
	}
}

// deliver writes the frames that are due, and reports whether there were any.
// Lateness counts until the write, which processes the frame up to the socket
// that it is for.
func (e *emulator) deliver(l *lane) (any bool) {
	for {
		at, ok := l.onTheWay.Next()
		now := time.Since(epoch)
		if !ok || at > now {
			return any
		}
		any = true
		frame, _ := l.onTheWay.Pop(now)
		e.noteLateness(now - at)
		// Counted before the receiver can see it.
		size := uint64(len(frame) - ethernetHeader)
		l.packets.Add(1)
		l.bytes.Add(size)
		if _, err := unix.Write(l.to, frame); err != nil { // the interface is down, or its host gone
			l.packets.Add(^uint64(0))
			l.bytes.Add(-size)
			l.dropped.Add(1)
		}
		e.free = append(e.free, frame[:cap(frame)])
	}
}

func (e *emulator) buffer() []byte {
	if n := len(e.free); n > 0 {
		buf := e.free[n-1]
		e.free = e.free[:n-1]
		return buf
	}
	return make([]byte, e.size)
}

func (e *emulator) noteLateness(late time.Duration) {
	if int64(late) > e.late.Load() {
		e.late.Store(int64(late))
	}
}

func (e *emulator) account() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) == nil {
		e.cpu.Store(ts.Nano())
	}
}
