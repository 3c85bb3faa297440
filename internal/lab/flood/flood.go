// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package flood measures what a running connection and a new one feel of a flood of
// datagrams that the server never asked for. Each flood is sent to the server and, in
// turn with that, to a port that discards: what the connection loses then is the price
// of sending and receiving on the same cores.
package flood

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Options say what to measure.
type Options struct {
	Programs lab.Programs
	Kinds    []string // none: all
	Rates    []int    // datagrams per second
	Rounds   int
	Measure  time.Duration // of each flood
	Dir      string        // for the output; must exist
	Stdout   io.Writer
}

const (
	// settle is how long a flood runs before it is measured.
	settle = 500 * time.Millisecond
	// pause is how long none runs between two of them.
	pause = 200 * time.Millisecond
	// connectTime bounds how long a new client may take to connect.
	connectTime = 12 * time.Second
)

// target is where a flood goes.
type target string

const (
	toNobody  target = "none" // there is no flood
	toDiscard target = "discard"
	toServer  target = "server"
)

// Run measures, prints a table and writes flood.json.
func Run(ctx context.Context, o Options) (*Report, error) {
	kinds, err := kindsNamed(o.Kinds)
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	w, err := newWorld(ctx, o.Programs)
	if err != nil {
		return nil, err
	}
	r := newReport(o)
	fmt.Fprintf(o.Stdout, "A TCP flow up through the tunnel, on %d cores with all ends and the flood.\n\n", r.Machine.CPUs)
	for round := 1; round <= o.Rounds && err == nil; round++ {
		err = w.explain(r.round(ctx, w, o, kinds, round))
	}
	err = errors.Join(err, w.close())
	if len(r.Runs) == 0 {
		return nil, err
	}
	r.summarize(kinds, o.Rates)
	r.writeTable(o.Stdout)
	return r, errors.Join(err, r.write(o.Dir, o.Stdout))
}

// round measures each flood once, to both targets. Which comes first changes from round
// to round.
func (r *Report) round(ctx context.Context, w *world, o Options, kinds []kind, round int) error {
	bulk, err := w.peer.Flood(ctx, w.client, lab.Up, 1)
	if err != nil {
		return err
	}
	defer bulk.Close()
	one := func(k kind, rate int, t target, payloads [][]byte) error {
		v, err := w.measure(ctx, bulk, t, payloads, rate, o.Measure)
		if err != nil {
			return fmt.Errorf("%s, %d/s, to %s: %w", k.name, rate, t, err)
		}
		v.Round, v.Kind, v.Rate, v.Target = round, k.name, rate, t
		r.Runs = append(r.Runs, v)
		fmt.Fprintf(o.Stdout, "round %d of %d  %-8s %7d/s to %-8s %s\n", round, o.Rounds, k.name, rate, t, v.describe())
		return bulk.Err()
	}
	if err := one(kind{}, 0, toNobody, nil); err != nil {
		return err
	}
	for _, rate := range o.Rates {
		for _, k := range kinds {
			payloads := k.payloads(w.hellos)
			targets := [2]target{toDiscard, toServer}
			if round%2 == 0 {
				targets = [2]target{toServer, toDiscard}
			}
			for _, t := range targets {
				if err := one(k, rate, t, payloads); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// measure runs one flood.
func (w *world) measure(ctx context.Context, bulk *lab.Bulk, t target, payloads [][]byte, rate int, d time.Duration) (v Measurement, err error) {
	if err := lab.Sleep(ctx, pause); err != nil {
		return v, err
	}
	sent := func() int64 { return 0 }
	if t != toNobody {
		to := floodedNowhere
		if t == toServer {
			to = floodedServer
		}
		s, err := lab.StartSpoofer(w.attacker, to, payloads, rate)
		if err != nil {
			return v, err
		}
		defer s.Stop()
		sent = s.Sent
	}
	if err := lab.Sleep(ctx, settle); err != nil {
		return v, err
	}
	usage0, err := w.programs[1].Usage()
	if err != nil {
		return v, err
	}
	answers0, err := w.answers()
	if err != nil {
		return v, err
	}
	start, sent0, bytes0 := time.Now(), sent(), bulk.Received()
	if err := lab.Sleep(ctx, d); err != nil {
		return v, err
	}
	sent1, bytes1, elapsed := sent(), bulk.Received(), time.Since(start).Seconds()
	answers1, err := w.answers()
	if err != nil {
		return v, err
	}
	usage1, err := w.programs[1].Usage()
	if err != nil {
		return v, err
	}
	v.Mbps = float64(bytes1-bytes0) * 8 / 1e6 / elapsed
	v.Sent = float64(sent1-sent0) / elapsed
	v.Answers = float64(answers1-answers0) / elapsed
	v.ServerCPU = (usage1.CPU - usage0.CPU).Seconds() / elapsed
	v.ServerRSS = float64(usage1.RSS) / 1e6
	if t == toServer {
		ctx, cancel := context.WithTimeout(ctx, connectTime)
		defer cancel()
		took, err := w.connect(ctx)
		if err != nil {
			took = connectTime // it has failed: no less than that
		}
		v.ConnectMs = float64(took) / 1e6
	}
	return v, nil
}
