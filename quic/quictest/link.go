// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

// LinkTick is the grid of delivery times. Every link delivers at its own offset
// from the grid, so that no two links (of different Seed modulo LinkTick) deliver
// at the same instant: goroutines that wake at one instant run in random order,
// even in a synctest bubble.
const LinkTick = 1024 * time.Nanosecond

// LinkConfig describes one direction of a link. The zero value is a perfect link:
// no delay, no loss, unlimited rate.
type LinkConfig struct {
	// Rate is the capacity in bits of IP packets per second; 0: unlimited.
	Rate int64
	// Delay is added to each packet after its transmission.
	Delay time.Duration
	// Jitter is the bound of a further, uniformly distributed delay. A packet is
	// never delivered before an earlier one unless Reorder is set.
	Jitter  time.Duration
	Reorder bool
	// NormalJitter is the standard deviation of a further, normally distributed delay
	// with mean 0, under the same condition. Where the sum of all delays would be
	// negative there is none.
	NormalJitter time.Duration
	// Stall is the longest of the times in which the link delivers nothing and then all
	// at once, as Wi-Fi, mobile networks and busy hosts do; StallEvery is the mean time
	// between two. Both are uniformly distributed.
	Stall, StallEvery time.Duration
	// QueueBytes bounds what waits for transmission, the packet in transmission
	// included; 0: unbounded. A packet that finds the queue empty always fits.
	QueueBytes int
	// Loss is the fraction of packets lost at random, 0 to 1. They are lost behind
	// the queue, so they use up capacity.
	Loss float64
	// LossBurst, when above 1, is the mean number of consecutive packets lost
	// (Gilbert model). The fraction lost stays Loss, for which bursts are made
	// longer where the good packets between them would not suffice.
	LossBurst float64
	// LossMask drops, of each 64 packets, those whose bit is set, the first packet
	// being the least significant bit.
	LossMask uint64
	// MTU is the size of the largest IP packet that passes; 0: unlimited.
	MTU int
	// MarkBytes sets CE in ECN-capable packets that find more than so many bytes
	// in the queue; 0: never.
	MarkBytes int
	// ClearECN sets the ECN field to Not-ECT.
	ClearECN bool
	// DropECN drops the packets whose ECN field is not Not-ECT.
	DropECN bool
	// Seed seeds the randomness, and its remainder modulo LinkTick is the link's
	// offset on the grid. It cannot be changed later.
	Seed uint64
}

// DropReason says why a link dropped a packet.
type DropReason uint8

const (
	NotDropped    DropReason = iota
	DropBlackhole            // the link is a black hole
	DropMTU                  // larger than the MTU
	DropQueue                // the queue was full
	DropLoss                 // lost by chance or by mask
	DropECN                  // the ECN field was not Not-ECT
	numDropReasons
)

func (d DropReason) String() string {
	return [...]string{"delivered", "blackhole", "mtu", "queue", "loss", "ecn"}[d]
}

// LinkStats counts what happened to the packets given to a link.
type LinkStats struct {
	Packets, Bytes uint64 // delivered, or on their way
	Marked         uint64 // of these, set to CE
	Dropped        [numDropReasons]uint64
}

// Link models one direction of a link: a drop-tail queue in front of a transmitter
// of constant rate, followed by a delay. It holds no packets and no clock: the
// caller tells the time, as the duration since any epoch, and delivers the packets
// itself. For one seed and one sequence of calls the outcome is always the same. It
// is safe for concurrent use.
type Link struct {
	mu        sync.Mutex
	cfg       LinkConfig
	offset    time.Duration
	rng       *rand.Rand
	blackhole bool
	admitted  uint             // packets that LossMask has judged
	bursting  bool             // Gilbert model: in the bad state
	waiting   fifo             // packets that have not left the transmitter
	queued    int              // their bytes
	busy      time.Duration    // when the transmitter is done with them
	last      time.Duration    // latest delivery
	stall     [2]time.Duration // beginning and end of the latest stall
	stats     LinkStats
}

// NewLink returns an idle link.
func NewLink(cfg LinkConfig) *Link {
	return &Link{
		cfg:    cfg,
		offset: time.Duration(cfg.Seed % uint64(LinkTick)),
		rng:    rand.New(rand.NewPCG(cfg.Seed, 0x6c696e6b)),
	}
}

// Config returns the present configuration.
func (l *Link) Config() LinkConfig {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg
}

// SetConfig changes the configuration, except the seed, for the packets to come:
// those admitted before keep their delivery times.
func (l *Link) SetConfig(cfg LinkConfig) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg.Seed = l.cfg.Seed
	l.cfg = cfg
}

// SetBlackhole makes the link drop all packets, or end that. Packets admitted
// before are still delivered.
func (l *Link) SetBlackhole(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blackhole = on
}

// Admit offers the link an IP packet of size bytes at the time now. It returns when
// to deliver it, which is not before now, or ok false when the packet is dropped.
func (l *Link) Admit(now time.Duration, size int) (at time.Duration, ok bool) {
	at, _, drop := l.AdmitECN(now, size, uint8(udpio.NotECT))
	return at, drop == NotDropped
}

// AdmitECN is Admit for a packet with the given ECN field (the two low bits of the
// traffic class). It returns also the field on delivery and the reason of a drop.
func (l *Link) AdmitECN(now time.Duration, size int, ecn uint8) (at time.Duration, ecnOut uint8, drop DropReason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drain(now)
	marked := false
	if drop = DropECN; !l.cfg.DropECN || ecn == uint8(udpio.NotECT) {
		at, drop = l.admit(now, size)
	}
	if drop != NotDropped {
		l.stats.Dropped[drop]++
		return 0, 0, drop
	}
	switch {
	case l.cfg.ClearECN:
		ecn = uint8(udpio.NotECT)
	case ecn != uint8(udpio.NotECT) && l.cfg.MarkBytes > 0 && l.queued-size > l.cfg.MarkBytes:
		marked = ecn != uint8(udpio.CE)
		ecn = uint8(udpio.CE)
	}
	l.stats.Packets++
	l.stats.Bytes += uint64(size)
	if marked {
		l.stats.Marked++
	}
	return at, ecn, NotDropped
}

func (l *Link) admit(now time.Duration, size int) (time.Duration, DropReason) {
	cfg := &l.cfg
	switch {
	case l.blackhole:
		return 0, DropBlackhole
	case cfg.MTU > 0 && size > cfg.MTU:
		return 0, DropMTU
	case cfg.QueueBytes > 0 && l.queued > 0 && l.queued+size > cfg.QueueBytes:
		return 0, DropQueue
	}
	sent := max(now, l.busy)
	if cfg.Rate > 0 {
		// Rounded up, so that the rate is never exceeded.
		sent += time.Duration((int64(size)*8*int64(time.Second) + cfg.Rate - 1) / cfg.Rate)
		l.busy = sent
		l.waiting.push(transmission{done: sent, size: size})
		l.queued += size
	}
	if l.lose() {
		return 0, DropLoss
	}
	at := sent + cfg.Delay
	if cfg.Jitter > 0 {
		at += time.Duration(l.rng.Int64N(int64(cfg.Jitter)))
	}
	if cfg.NormalJitter > 0 {
		at = max(sent, at+time.Duration(l.rng.NormFloat64()*float64(cfg.NormalJitter)))
	}
	if cfg.Stall > 0 && cfg.StallEvery > 0 {
		at = l.stalled(at)
	}
	at = nextOnGrid(at, l.offset)
	if !cfg.Reorder {
		at = max(at, l.last)
	}
	l.last = max(at, l.last)
	return at, NotDropped
}

// stalled is when a packet is delivered that would be at a time.
func (l *Link) stalled(at time.Duration) time.Duration {
	for l.stall[1] <= at {
		l.stall[0] = l.stall[1] + time.Duration(l.rng.Int64N(int64(2*l.cfg.StallEvery)))
		l.stall[1] = l.stall[0] + time.Duration(l.rng.Int64N(int64(l.cfg.Stall)))
	}
	if at >= l.stall[0] {
		return l.stall[1]
	}
	return at
}

// lose decides whether the packet just transmitted is lost.
func (l *Link) lose() bool {
	masked := l.cfg.LossMask>>(l.admitted%64)&1 != 0
	l.admitted++
	p := l.cfg.Loss
	if p <= 0 {
		l.bursting = false
		return masked
	}
	if l.cfg.LossBurst > 1 && p < 1 {
		// The bad state loses everything and is left with probability leave; the
		// good state loses nothing. Entering it this often makes p the stationary
		// fraction of packets in the bad state; it cannot be more often than always.
		leave := min(1/l.cfg.LossBurst, (1-p)/p)
		if l.bursting {
			p = 1 - leave
		} else {
			p = p * leave / (1 - p)
		}
	}
	l.bursting = l.rng.Float64() < p
	return masked || l.bursting
}

// drain forgets the packets that have left the transmitter.
func (l *Link) drain(now time.Duration) {
	for l.waiting.len() > 0 && l.waiting.front().done <= now {
		l.queued -= l.waiting.pop().size
	}
}

// Queued returns the number of bytes and packets that wait for transmission, the
// packet in transmission included.
func (l *Link) Queued(now time.Duration) (sizeBytes, packets int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drain(now)
	return l.queued, l.waiting.len()
}

// Stats returns the counters.
func (l *Link) Stats() LinkStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// nextOnGrid returns the earliest time not before t that is offset past a multiple
// of LinkTick.
func nextOnGrid(t, offset time.Duration) time.Duration {
	past := (t - offset) % LinkTick
	if past < 0 {
		past += LinkTick
	}
	if past == 0 {
		return t
	}
	return t - past + LinkTick
}

// transmission is a packet in the queue of a link.
type transmission struct {
	done time.Duration
	size int
}

// fifo is a queue in a ring that grows by doubling.
type fifo struct {
	ring []transmission // length is a power of two
	head int
	n    int
}

func (f *fifo) len() int             { return f.n }
func (f *fifo) front() *transmission { return &f.ring[f.head] }

func (f *fifo) push(t transmission) {
	if f.n == len(f.ring) {
		grown := make([]transmission, max(16, 2*f.n))
		for i := range f.n {
			grown[i] = f.ring[(f.head+i)%len(f.ring)]
		}
		f.ring, f.head = grown, 0
	}
	f.ring[(f.head+f.n)%len(f.ring)] = t
	f.n++
}

func (f *fifo) pop() transmission {
	t := f.ring[f.head]
	f.head = (f.head + 1) % len(f.ring)
	f.n--
	return t
}
