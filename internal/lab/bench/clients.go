// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/loadclients"
)

const (
	// clientPayload is the size of the clients' UDP payloads in bytes.
	clientPayload = 1100
	// idleTime is how long clients are idle before the server's memory is read.
	idleTime = 60 * time.Second
	// tidyTime is how long no client is there before the server's memory is read.
	tidyTime = 10 * time.Second
	// dialTime bounds the time in which all clients connect.
	dialTime = 2 * time.Minute
)

// dial connects n clients of the load generator, some of them at once (0: a few), and
// tells how that went.
func (w *world) dial(ctx context.Context, n, atOnce int) (*loadclients.Clients, values, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	before, err := w.usage()
	if err != nil {
		return nil, nil, err
	}
	start := time.Now()
	cs, err := loadclients.Dial(ctx, n, loadclients.Config{
		Server: netip.AddrPortFrom(firstServer.Addr(), serverPort),
		Token:  sharedKey,
		AtOnce: atOnce,
		Within: w.client.Do,
	})
	if err != nil {
		return nil, nil, err
	}
	elapsed := time.Since(start).Seconds()
	after, err := w.usage()
	if err != nil {
		cs.Close()
		return nil, nil, err
	}
	return cs, values{
		handshakes:   float64(n) / elapsed,
		handshakeCPU: (after[1].CPU - before[1].CPU).Seconds() * 1e3 / float64(n),
	}, nil
}

// manyClients measures a server with n clients that take turns, first up, then down.
func manyClients(n int) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, d time.Duration) (values, error) {
		cs, v, err := w.dial(ctx, n, 0)
		if err != nil {
			return nil, err
		}
		defer cs.Close()
		cs.Prepare(w.sink.Addr(), clientPayload)
		up, err := w.pump(ctx, d, n, cs.Send, w.sink.Received)
		if err != nil {
			return nil, err
		}
		c, err := w.server.ListenPacket("udp4", "0.0.0.0:0")
		if err != nil {
			return nil, err
		}
		defer c.Close()
		payload := make([]byte, clientPayload)
		down, err := w.pump(ctx, d, n, func(i int) {
			to := netip.AddrPortFrom(cs.Addr(i), sinkPort)
			for range loadclients.Burst {
				c.(*net.UDPConn).WriteToUDPAddrPort(payload, to)
			}
		}, cs.Received)
		if err != nil {
			return nil, err
		}
		v[upMbps], v[upCPU], v[upCores] = up[mbps], up[serverCPU], up[serverCores]
		v[downMbps], v[downCPU], v[downCores] = down[mbps], down[serverCPU], down[serverCores]
		return v, nil
	}
}

const (
	// clientWindow is how many packets of each client may be under way, within these
	// bounds for all of them: what keeps the server busy and is not yet too much for
	// its queues.
	clientWindow         = 64
	minWindow, maxWindow = 128, 2048
	// windowTime is how long a packet is awaited that may be lost.
	windowTime = 20 * time.Millisecond
	// pumpWait is the sleep of a sender whose window is full.
	pumpWait = 50 * time.Microsecond
)

// pump measures while burst is called for one client after the other, as often as a
// window permits: a flood would spend the processors on packets that nobody gets.
func (w *world) pump(ctx context.Context, d time.Duration, clients int, burst func(i int), received func() int64) (values, error) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		window := int64(min(max(clients*clientWindow, minWindow), maxWindow))
		base, sent, since := received(), int64(0), time.Now()
		for i := 0; ; {
			select {
			case <-stop:
				return
			default:
			}
			got := received()
			if now := time.Now(); now.Sub(since) > windowTime {
				base, sent, since = got, 0, now // what has not arrived is lost
			}
			if sent-(got-base) >= window {
				time.Sleep(pumpWait)
				continue
			}
			burst(i % clients)
			sent += loadclients.Burst
			i++
		}
	}()
	defer func() {
		close(stop)
		<-done
	}()
	return w.rate(ctx, d, func() int64 { return received() * clientPayload })
}

// idleClients measures the memory that a client costs the server.
func idleClients(n int) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, _ time.Duration) (values, error) {
		cs, _, err := w.dial(ctx, n, 0)
		if err != nil {
			return nil, err
		}
		defer cs.Close()
		if err := lab.Sleep(ctx, idleTime); err != nil {
			return nil, err
		}
		after, err := w.usage()
		if err != nil {
			return nil, err
		}
		return values{perClient: float64(after[1].RSS-w.idle[1].RSS) / float64(n) / 1e3}, nil
	}
}

// manyHandshakes measures clients that connect, some of them at once, and leave, in
// several rounds, and what the server has grown by when they are gone.
func manyHandshakes(rounds, n, atOnce int) func(context.Context, *world, time.Duration) (values, error) {
	return func(ctx context.Context, w *world, _ time.Duration) (values, error) {
		sum := values{}
		for range rounds {
			cs, v, err := w.dial(ctx, n, atOnce)
			if err != nil {
				return nil, err
			}
			cs.Close()
			sum[handshakes] += 1 / v[handshakes]
			sum[handshakeCPU] += v[handshakeCPU]
		}
		if err := lab.Sleep(ctx, tidyTime); err != nil {
			return nil, err
		}
		after, err := w.usage()
		if err != nil {
			return nil, err
		}
		return values{
			handshakes:   float64(rounds) / sum[handshakes],
			handshakeCPU: sum[handshakeCPU] / float64(rounds),
			serverGrowth: megabytes(after[1].RSS - w.idle[1].RSS),
			serverPeak:   megabytes(after[1].PeakRSS),
		}, nil
	}
}
