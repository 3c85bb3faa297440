// SPDX-License-Identifier: Apache-2.0

// Package tuntest has a TUN device without a kernel: a test puts packets in where
// the kernel would and takes out what the program under test wrote. Everything
// blocks on channels, so it works in a testing/synctest bubble if created there.
package tuntest

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"sync"
)

// queueLen is the number of packets that wait in each direction, as with the
// kernel's default transmit queue. What comes on top is dropped.
const queueLen = 500

// Device is a fake with the methods of tun.Device. All are safe for concurrent use.
type Device struct {
	name   string
	toProg chan []byte
	toTest chan []byte
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	mtu   int
	addrs []netip.Prefix
	up    bool
}

// New returns a device that is down and has no address.
func New(name string) *Device {
	return &Device{
		name:   name,
		toProg: make(chan []byte, queueLen),
		toTest: make(chan []byte, queueLen),
		closed: make(chan struct{}),
		mtu:    1500,
	}
}

// Inject hands pkt, of which it keeps a copy, to the program's Read. It reports
// false when the kernel would have dropped it: device down, closed, or queue full.
func (d *Device) Inject(pkt []byte) bool {
	d.mu.Lock()
	up := d.up
	d.mu.Unlock()
	if !up {
		return false
	}
	select {
	case d.toProg <- slices.Clone(pkt):
		return true
	default:
		return false
	}
}

// Receive returns the next packet that the program wrote.
func (d *Device) Receive(ctx context.Context) ([]byte, error) {
	select {
	case p := <-d.toTest:
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.closed:
		return nil, os.ErrClosed
	}
}

// Addresses is the list of addresses set so far.
func (d *Device) Addresses() []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.addrs)
}

// Closed is closed with the device.
func (d *Device) Closed() <-chan struct{} { return d.closed }

func (d *Device) Name() string    { return d.name }
func (d *Device) BatchSize() int  { return 8 }
func (d *Device) Dropped() uint64 { return 0 }

func (d *Device) MTU() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mtu, nil
}

func (d *Device) SetMTU(mtu int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mtu = mtu
	return nil
}

func (d *Device) AddAddress(p netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.addrs, p) {
		d.addrs = append(d.addrs, p)
	}
	return nil
}

func (d *Device) RemoveAddress(p netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs = slices.DeleteFunc(d.addrs, func(a netip.Prefix) bool { return a == p })
	return nil
}

func (d *Device) Up() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.up = true
	return nil
}

// Read waits for one injected packet and takes the others that are there.
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case p := <-d.toProg:
		sizes[0] = copy(bufs[0][offset:], p)
	case <-d.closed:
		return 0, os.ErrClosed
	}
	for n := 1; n < len(bufs); n++ {
		select {
		case p := <-d.toProg:
			sizes[n] = copy(bufs[n][offset:], p)
		default:
			return n, nil
		}
	}
	return len(bufs), nil
}

// Write keeps copies of the packets for Receive.
func (d *Device) Write(bufs [][]byte, offset int) (int, error) {
	select {
	case <-d.closed:
		return 0, os.ErrClosed
	default:
	}
	for _, b := range bufs {
		select {
		case d.toTest <- slices.Clone(b[offset:]):
		default:
		}
	}
	return len(bufs), nil
}

func (d *Device) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}
