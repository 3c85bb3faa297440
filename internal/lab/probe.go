// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// probeInterval is the time between two packets of a probe.
	probeInterval = 5 * time.Millisecond
	// probeSize is the payload of a probe packet: a voice packet's.
	probeSize = 160
	// probeHeader is marker, number, time sent.
	probeHeader = markerSize + 8 + 8
	markerSize  = 16
)

// Probe is a UDP packet every 5 ms in both directions between a host and a peer.
// It measures how long nothing arrives, and how old is what arrives.
type Probe struct {
	number uint64
	marker [markerSize]byte
	conn   *net.UDPConn
	peer   *Peer
	stop   chan struct{}
	client atomic.Pointer[netip.AddrPort] // where the latest packet up came from
	run    sync.WaitGroup
	ways   [2]probeWay
}

// probeWay is one direction of a Probe.
type probeWay struct {
	mu    sync.Mutex
	last  time.Time // latest arrival; zero before the first
	stats ProbeStats
	sum   time.Duration // of the delays
}

// ProbeStats is what one direction of a probe has seen between two calls of Take.
type ProbeStats struct {
	Received  int
	Gap       time.Duration // longest time without an arrival, the present one included
	MeanDelay time.Duration // one way, from sending to arrival
	MaxDelay  time.Duration
}

// StartProbe starts a probe from a host. It returns when packets arrive both ways.
func (p *Peer) StartProbe(ctx context.Context, from *Host) (*Probe, error) {
	c, err := from.Dial(ctx, "udp", p.addr.String())
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", from.name, err)
	}
	pr := &Probe{number: rand.Uint64(), conn: c.(*net.UDPConn), peer: p, stop: make(chan struct{})}
	binary.BigEndian.PutUint64(pr.marker[:], rand.Uint64())
	binary.BigEndian.PutUint64(pr.marker[8:], rand.Uint64())
	p.mu.Lock()
	p.probes[pr.number] = pr
	p.mu.Unlock()
	pr.run.Go(pr.sendUp)
	pr.run.Go(pr.sendDown)
	pr.run.Go(pr.receiveDown)
	for !pr.ways[Up].heard() || !pr.ways[Down].heard() {
		if err := Sleep(ctx, probeInterval); err != nil {
			pr.Close()
			return nil, fmt.Errorf("probe from %s: %w", from.name, err)
		}
	}
	pr.Take(Up)
	pr.Take(Down)
	return pr, nil
}

// Marker is in every packet of the probe.
func (pr *Probe) Marker() []byte { return pr.marker[:] }

// Take returns what one direction has seen since the last Take. A gap that goes
// on is in the result of each Take with the length that it has by then.
func (pr *Probe) Take(way Way) ProbeStats {
	w := &pr.ways[way]
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Gap = max(s.Gap, time.Since(w.last))
	if s.Received > 0 {
		s.MeanDelay = w.sum / time.Duration(s.Received)
	}
	w.stats, w.sum = ProbeStats{}, 0
	return s
}

// Close ends the probe.
func (pr *Probe) Close() {
	pr.peer.mu.Lock()
	delete(pr.peer.probes, pr.number)
	pr.peer.mu.Unlock()
	close(pr.stop)
	pr.conn.Close()
	pr.run.Wait()
}

func (pr *Probe) sendUp() {
	pr.send(func(b []byte) { pr.conn.Write(b) })
}

// sendDown sends from the peer's socket to where the client is, which may change
// behind a NAT that was restarted.
func (pr *Probe) sendDown() {
	pr.send(func(b []byte) {
		if to := pr.client.Load(); to != nil {
			pr.peer.udp.WriteToUDPAddrPort(b, *to)
		}
	})
}

// send writes a packet every probeInterval until the probe is closed. A write
// that fails is a packet lost: the gap shows it.
func (pr *Probe) send(write func([]byte)) {
	b := make([]byte, probeSize)
	copy(b, pr.marker[:])
	binary.BigEndian.PutUint64(b[markerSize:], pr.number)
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		binary.BigEndian.PutUint64(b[markerSize+8:], uint64(time.Since(epoch)))
		write(b)
		select {
		case <-tick.C:
		case <-pr.stop:
			return
		}
	}
}

func (pr *Probe) receiveDown() {
	b := make([]byte, 2*probeSize)
	for {
		n, err := pr.conn.Read(b)
		select {
		case <-pr.stop:
			return
		default:
		}
		if err == nil && n >= probeHeader { // an error is a "connection refused" or the like
			pr.ways[Down].arrived(b)
		}
	}
}

// receiveProbes is the peer's UDP service.
func (p *Peer) receiveProbes() {
	b := make([]byte, 2*probeSize)
	for {
		n, from, err := p.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if n < probeHeader {
			continue
		}
		p.mu.Lock()
		pr := p.probes[binary.BigEndian.Uint64(b[markerSize:])]
		p.mu.Unlock()
		if pr == nil {
			continue
		}
		pr.ways[Up].arrived(b)
		if known := pr.client.Load(); known == nil || *known != from {
			pr.client.Store(&from)
		}
	}
}

// arrived notes the arrival of a packet. Sender and receiver share a clock.
func (w *probeWay) arrived(b []byte) {
	now := time.Now()
	delay := now.Sub(epoch) - time.Duration(binary.BigEndian.Uint64(b[markerSize+8:]))
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() {
		w.stats.Gap = max(w.stats.Gap, now.Sub(w.last))
	}
	w.last = now
	w.stats.Received++
	w.stats.MaxDelay = max(w.stats.MaxDelay, delay)
	w.sum += delay
}

// heard reports whether anything has arrived yet.
func (w *probeWay) heard() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.last.IsZero()
}
