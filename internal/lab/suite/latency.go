// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// latencySuite is about how long packets wait beside bulk traffic.
func latencySuite() suite {
	const warmUp, d = 3 * time.Second, 4 * time.Second
	s := suite{name: "latency", about: "ping beside TCP flows", took: 65 * time.Second, maxLate: maxLate}
	sc := scene{links: bigPair}
	sc.cases = append(sc.cases, testCase{"idle", allPaths, latency(traffic{}, 200*time.Millisecond, 2*time.Second)})
	s.rows = append(s.rows, row{what: "ping without other traffic: mean", figure: ref{"idle", pingMean}, unit: "ms"},
		row{what: "ping without other traffic: worst", figure: ref{"idle", pingWorst}, unit: "ms"})
	for _, flows := range []int{4, 16} {
		for _, way := range bothWays {
			id := fmt.Sprintf("%d-%s", flows, way)
			sc.cases = append(sc.cases, testCase{id, allPaths, latency(traffic{way: way, flows: flows}, warmUp, d)})
			what := fmt.Sprintf("ping under %d flows %s: ", flows, way)
			reference := [2]string{}
			if flows == 4 {
				reference = [2]string{"31; 70", "47; 99"}
			}
			s.rows = append(s.rows,
				row{what: what + "mean", figure: ref{id, pingMean}, unit: "ms", wanted: atMost, bound: 26, reference: reference[0]},
				row{what: what + "worst", figure: ref{id, pingWorst}, unit: "ms", wanted: atMost, bound: 40, reference: reference[1]},
				row{what: what + "99th of 100", figure: ref{id, pingP99}, unit: "ms"},
				row{what: what + "throughput", figure: ref{id, mbps}, unit: "Mbit/s"})
		}
	}
	for _, way := range bothWays {
		id := fmt.Sprintf("ecn-%s", way)
		sc.cases = append(sc.cases, testCase{id, allPaths, withECN(latency(traffic{way: way, flows: loadFlows}, warmUp, d))})
		what := fmt.Sprintf("4 flows %s with ECN: ", way)
		s.rows = append(s.rows,
			row{what: what + "marked", figure: ref{id, marked}, unit: "segments", wanted: atLeast, bound: 1},
			row{what: what + "dropped by the queues of the tunnel", figure: ref{id, dropped}, unit: "packets", wanted: atMost, bound: 0},
			row{what: what + "sent again", figure: ref{id, retransmitted}, unit: "segments"},
			row{what: what + "ping mean", figure: ref{id, pingMean}, unit: "ms"})
	}
	s.scenes = []scene{sc}
	return s
}

// withECN runs f with inner TCP that uses ECN, and records what became of it.
func withECN(f func(context.Context, *trial) error) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		const key, always = "net/ipv4/tcp_ecn", "1"
		for _, h := range []*lab.Host{t.host, t.net.Inside} {
			usual, err := h.Sysctl(key)
			if err != nil {
				return err
			}
			if err := h.SetSysctl(key, always); err != nil {
				return err
			}
			defer h.SetSysctl(key, usual)
		}
		before, err := t.droppedByTunnel(ctx)
		if err != nil {
			return err
		}
		t.values[dropped] = -float64(before)
		err = f(ctx, t)
		after, e := t.droppedByTunnel(ctx)
		t.values[dropped] += float64(after)
		return errors.Join(err, e)
	}
}

// droppedByTunnel is how many inner packets the queues of both ends have dropped so far.
func (w *world) droppedByTunnel(ctx context.Context) (n uint64, err error) {
	count := func(drops map[string]uint64) {
		for _, reason := range []string{"queue_full", "queue_delay", "tun_queue_full"} {
			n += drops[reason]
		}
	}
	client, err := w.programs.ClientStatus(ctx, w.host)
	if err != nil {
		return 0, err
	}
	server, err := w.programs.ServerStatus(ctx, w.net.Server)
	if err != nil {
		return 0, err
	}
	count(client.Dropped)
	for _, c := range server.Clients {
		count(c.Dropped)
	}
	return n, nil
}
