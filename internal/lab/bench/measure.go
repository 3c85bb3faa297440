// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	// warmUp is the time that traffic runs before it is measured.
	warmUp = time.Second
	// pingInterval is the time between two echo requests at least.
	pingInterval = 5 * time.Millisecond
	pingSize     = 84 // bytes: ping(8)'s
)

// rate measures for d, after a warm-up, how many bytes arrive and what the ends
// consume for them.
func (w *world) rate(ctx context.Context, d time.Duration, received func() int64) (values, error) {
	if err := lab.Sleep(ctx, warmUp); err != nil {
		return nil, err
	}
	u0, err := w.usage()
	if err != nil {
		return nil, err
	}
	start, r0 := time.Now(), received()
	if err := lab.Sleep(ctx, d); err != nil {
		return nil, err
	}
	elapsed, bytes := time.Since(start), float64(received()-r0)
	u1, err := w.usage()
	if err != nil {
		return nil, err
	}
	if bytes == 0 {
		return nil, errors.New("nothing has arrived")
	}
	v := values{mbps: bytes * 8 / 1e6 / elapsed.Seconds()}
	total := 0.0
	for i, m := range []struct{ perGB, cores string }{{clientCPU, clientCores}, {serverCPU, serverCores}} {
		if w.ends[i] != nil {
			used := (u1[i].CPU - u0[i].CPU).Seconds()
			v[m.cores] = used / elapsed.Seconds()
			v[m.perGB] = used / (bytes / 1e9)
			total += v[m.perGB]
			v[cpu] = total
		}
	}
	return v, nil
}

// tcp measures a number of TCP flows in each of these directions.
func tcp(flows int, ways ...lab.Way) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, d time.Duration) (values, error) {
		var bulks []*lab.Bulk
		for _, way := range ways {
			b, err := w.peer.Flood(ctx, w.client, way, flows)
			if err != nil {
				return nil, err
			}
			defer b.Close()
			bulks = append(bulks, b)
		}
		v, err := w.rate(ctx, d, func() (n int64) {
			for _, b := range bulks {
				n += b.Received()
			}
			return n
		})
		for _, b := range bulks {
			err = errors.Join(err, b.Err())
		}
		return v, err
	}
}

// shaped runs a measurement while the cable carries no more than rate bits per second.
func shaped(rate uint64, f func(context.Context, *world, time.Duration) (values, error)) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, d time.Duration) (v values, err error) {
		for _, h := range []*lab.Host{w.client, w.server} {
			if err := h.Shape(pathName(0), rate); err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, h.Shape(pathName(0), 0)) }()
		}
		return f(ctx, w, d)
	}
}

// payload is the size of a UDP payload in bytes, with fullSize resolved.
func (w *world) payload(size int) int {
	if size == fullSize {
		const headers = 20 + 8 // of IPv4 and UDP
		return w.mtu - headers
	}
	return size
}

// udpFlood measures what arrives of as many datagrams as a sender can send.
func udpFlood(size int) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, d time.Duration) (values, error) {
		return w.udp(ctx, d, w.payload(size), lab.Pace{})
	}
}

// burstInterval is the time between two bursts of UDP traffic: iperf3's.
const burstInterval = time.Millisecond

// udpAt measures datagrams that are sent at a number of payload bits per second, in
// bursts with a time between them, 0 for evenly spaced.
func udpAt(size int, bitsPerSecond float64, every time.Duration) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, d time.Duration) (values, error) {
		return w.udp(ctx, d, size, lab.Pace{PerSecond: bitsPerSecond / 8 / float64(size), Every: every})
	}
}

// udp measures datagrams of size payload bytes.
func (w *world) udp(ctx context.Context, d time.Duration, size int, pace lab.Pace) (values, error) {
	s, err := lab.StartStream(w.client, w.sink.Addr(), size, pace)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	v, err := w.rate(ctx, d, func() int64 { return w.sink.Received() * int64(size) })
	if err != nil {
		return nil, err
	}
	v[pps] = v[mbps] * 1e6 / 8 / float64(size)
	return v, nil
}

const (
	// maxLoss is what "without loss" means.
	maxLoss = 1e-4
	// The rates that lossless tries: losslessSteps of them, each losslessStep times the
	// one before, from losslessLeast packets per second.
	losslessLeast, losslessStep, losslessSteps = 2000, 1.05, 130
	// attempts is how often a rate is tried that has lost no more than fewLost: then it
	// may have been the machine, which did something else for a moment.
	attempts = 3
	fewLost  = 0.01
	// reached is the part of a rate that the sender must have reached.
	reached = 0.97
	// quiet is how long nothing arrives when all has arrived.
	quiet = 30 * time.Millisecond
)

// lossless searches the highest rate at which all arrives, by bisection. It takes
// about seven trials, and spends a quarter of d in each.
func lossless(size int) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, d time.Duration) (values, error) {
		size := w.payload(size)
		best := 0.0
		for passed, failed := -1, losslessSteps; failed-passed > 1; {
			i := (passed + failed) / 2
			got, err := w.passes(ctx, d/4, size, losslessLeast*math.Pow(losslessStep, float64(i)))
			if err != nil {
				return nil, err
			}
			if got == 0 {
				failed = i
			} else {
				passed, best = i, got
			}
		}
		return values{pps: best, mbps: best * float64(size) * 8 / 1e6}, nil
	}
}

// passes returns the datagrams that arrived per second when perSecond were offered, 0
// when too many were lost or the sender was too slow.
func (w *world) passes(ctx context.Context, d time.Duration, size int, perSecond float64) (float64, error) {
	for range attempts {
		before, start := w.sink.Received(), time.Now()
		s, err := lab.StartStream(w.client, w.sink.Addr(), size, lab.Pace{PerSecond: perSecond, Every: burstInterval})
		if err != nil {
			return 0, err
		}
		err = lab.Sleep(ctx, d)
		s.Stop()
		elapsed := time.Since(start).Seconds()
		for last := int64(-1); err == nil && last != w.sink.Received(); {
			last = w.sink.Received()
			err = lab.Sleep(ctx, quiet)
		}
		if err != nil {
			return 0, err
		}
		sent := float64(s.Sent())
		arrived := float64(w.sink.Received() - before)
		switch lost := 1 - arrived/sent; {
		case sent < reached*perSecond*elapsed || lost > fewLost:
			return 0, nil
		case lost <= maxLoss:
			return arrived / elapsed, nil
		}
	}
	return 0, nil
}

// idlePing measures echoes while there is no other traffic.
func idlePing(ctx context.Context, w *world, d time.Duration) (values, error) {
	return w.ping(ctx, d)
}

// loadedPing measures echoes beside four TCP flows.
func loadedPing(ctx context.Context, w *world, d time.Duration) (values, error) {
	b, err := w.peer.Flood(ctx, w.client, lab.Up, 4)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := lab.Sleep(ctx, warmUp); err != nil {
		return nil, err
	}
	start, before := time.Now(), b.Received()
	v, err := w.ping(ctx, d)
	if err != nil {
		return nil, err
	}
	v[mbps] = float64(b.Received()-before) * 8 / 1e6 / time.Since(start).Seconds()
	return v, b.Err()
}

func (w *world) ping(ctx context.Context, d time.Duration) (values, error) {
	r, err := w.client.Ping(ctx, w.to, int(d/pingInterval), pingSize, pingInterval)
	if err == nil && r.Received() == 0 {
		err = errors.New("no answer to ping")
	}
	if err != nil {
		return nil, err
	}
	rtts := slices.Sorted(slices.Values(r.RTTs))
	ms := func(part float64) float64 {
		return rtts[int(part*float64(len(rtts)-1))].Seconds() * 1e3
	}
	return values{pingMedian: ms(0.5), pingP99: ms(0.99)}, nil
}

// idleCPU measures which part of a core each end uses without traffic.
func idleCPU(ctx context.Context, w *world, d time.Duration) (values, error) {
	u0, err := w.usage()
	if err != nil {
		return nil, err
	}
	if err := lab.Sleep(ctx, d); err != nil {
		return nil, err
	}
	u1, err := w.usage()
	if err != nil {
		return nil, err
	}
	percent := func(i int) float64 { return 100 * (u1[i].CPU - u0[i].CPU).Seconds() / d.Seconds() }
	return values{clientIdle: percent(0), serverIdle: percent(1)}, nil
}

// memory tells what the ends held before any traffic, and at most since then.
func memory(_ context.Context, w *world, _ time.Duration) (values, error) {
	u, err := w.usage()
	if err != nil {
		return nil, err
	}
	return values{
		clientRSS: megabytes(w.idle[0].RSS), serverRSS: megabytes(w.idle[1].RSS),
		clientPeak: megabytes(u[0].PeakRSS), serverPeak: megabytes(u[1].PeakRSS),
	}, nil
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
