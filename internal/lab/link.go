// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// Direction names one of the two directions of a link.
type Direction int

const (
	AtoB Direction = iota
	BtoA
)

// LinkConfig describes an emulated link.
type LinkConfig struct {
	Name string
	MTU  int // of both interfaces; 0: 1500
	AtoB quictest.LinkConfig
	BtoA quictest.LinkConfig
}

// Symmetric returns a link with the same rate (bits per second), one-way delay
// and queue in both directions. The queue is given as the time that it takes to
// empty it.
func Symmetric(name string, rate int64, delay, queue time.Duration) LinkConfig {
	c := quictest.LinkConfig{
		Rate:       rate,
		Delay:      delay,
		QueueBytes: int(rate / 8 * int64(queue) / int64(time.Second)),
	}
	return LinkConfig{Name: name, AtoB: c, BtoA: c}
}

// LinkModel is one direction of a link.
type LinkModel = quictest.LinkConfig

// Link is an emulated link between two hosts. Its methods may be called
// concurrently.
type Link struct {
	cfg      LinkConfig
	ends     [2]*tap
	emulator *emulator

	mu        sync.Mutex
	silent    [2]bool
	unplugged bool
}

// linksMade numbers the links of this process: it gives each its own hardware
// addresses, and its models their own seeds and places on the clock's grid.
var linksMade atomic.Uint32

// NewLink joins two hosts. The interfaces are up, and the ends know each other's
// hardware addresses for all addresses given, so that only IP traffic crosses the
// link.
func NewLink(cfg LinkConfig, a, b Port) (*Link, error) {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	l := &Link{cfg: cfg}
	id := linksMade.Add(1)
	for i, port := range []Port{a, b} {
		mac := net.HardwareAddr{0x02, 'm', 'q', byte(id >> 8), byte(id), byte(i)}
		end, err := newTap(port, cfg.MTU, mac)
		if err != nil {
			l.Close()
			return nil, err
		}
		l.ends[i] = end
	}
	for i, end := range l.ends {
		if err := end.port.learn(l.ends[1-i].port.Addrs, l.ends[1-i].mac); err != nil {
			l.Close()
			return nil, err
		}
	}
	var models [2]*quictest.Link
	for i, model := range []quictest.LinkConfig{cfg.AtoB, cfg.BtoA} {
		if model.Seed == 0 {
			model.Seed = uint64(2*id) + uint64(i)
		}
		models[i] = quictest.NewLink(model)
	}
	var err error
	if l.emulator, err = newEmulator(l.ends, models, cfg.MTU); err != nil {
		l.Close()
		return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
	}
	return l, nil
}

// Close removes the link and its interfaces.
func (l *Link) Close() {
	if l.emulator != nil {
		l.emulator.stop()
	}
	for _, end := range l.ends {
		if end != nil {
			end.close()
		}
	}
}

// Name returns the name in the link's configuration.
func (l *Link) Name() string { return l.cfg.Name }

// Config returns the configuration that the link was made with.
func (l *Link) Config() LinkConfig { return l.cfg }

// RTT is the round-trip time of the empty link for small packets.
func (l *Link) RTT() time.Duration { return l.cfg.AtoB.Delay + l.cfg.BtoA.Delay }

// SetSilent makes the link lose everything in both directions, without any sign
// at the interfaces, or ends that. What is on its way arrives.
func (l *Link) SetSilent(silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = [2]bool{silent, silent}
	l.updateModels()
}

// SetSilentOneWay is SetSilent for one direction.
func (l *Link) SetSilentOneWay(d Direction, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent[d] = silent
	l.updateModels()
}

// SetCarrier plugs the cable of the A end in, or pulls it: the kernel there tells
// everyone that the link is down, up to a second later, but nothing passes from
// now on.
func (l *Link) SetCarrier(on bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unplugged = !on
	l.updateModels()
	return l.ends[0].setCarrier(on)
}

func (l *Link) updateModels() {
	for d := range l.emulator.lanes {
		l.emulator.lanes[d].model.SetBlackhole(l.silent[d] || l.unplugged)
	}
}

// SetModel changes the rate, delay and so on of one direction for the packets to
// come.
func (l *Link) SetModel(d Direction, c quictest.LinkConfig) {
	l.emulator.lanes[d].model.SetConfig(c)
}

// Model returns the present model of one direction.
func (l *Link) Model(d Direction) quictest.LinkConfig { return l.emulator.lanes[d].model.Config() }

// Queued is the number of bytes that wait for transmission in one direction.
func (l *Link) Queued(d Direction) int {
	bytes, _ := l.emulator.lanes[d].model.Queued(time.Since(epoch))
	return bytes
}

// Observe calls f with each Ethernet frame that enters the link in direction d,
// before the model judges it; nil ends that. f runs on the emulator's thread, must
// be quick, and must not keep the frame.
func (l *Link) Observe(d Direction, f func(frame []byte)) {
	if f == nil {
		l.emulator.lanes[d].observer.Store(nil)
		return
	}
	l.emulator.lanes[d].observer.Store(&f)
}

// CountMarker observes both directions for frames that contain marker, and
// returns a function that tells their number so far.
func (l *Link) CountMarker(marker []byte) (seen func() uint64) {
	var n atomic.Uint64
	for _, d := range []Direction{AtoB, BtoA} {
		l.Observe(d, func(frame []byte) {
			if bytes.Contains(frame, marker) {
				n.Add(1)
			}
		})
	}
	return n.Load
}

// Counters describe one direction of a link since it was made. Bytes are those
// of IP packets.
type Counters struct {
	Packets, Bytes uint64 // delivered
	Dropped        uint64 // for whatever reason
	Silent         uint64 // of these, because the link was silent
	QueueFull      uint64 // of these, because the queue was full
}

// Counters returns what one direction has carried so far.
func (l *Link) Counters(d Direction) Counters {
	lane := &l.emulator.lanes[d]
	stats := lane.model.Stats()
	return Counters{
		Packets:   lane.packets.Load(),
		Bytes:     lane.bytes.Load(),
		Dropped:   lane.dropped.Load(),
		Silent:    stats.Dropped[quictest.DropBlackhole],
		QueueFull: stats.Dropped[quictest.DropQueue],
	}
}

// TakeLate returns the worst lateness since the last call: how long after its
// time a frame was delivered, or the emulator woke.
func (l *Link) TakeLate() time.Duration { return time.Duration(l.emulator.late.Swap(0)) }

// CPU is the time that the emulator's thread has consumed. It includes what the
// kernel does with a frame up to the receiving socket.
func (l *Link) CPU() time.Duration { return time.Duration(l.emulator.cpu.Load()) }
