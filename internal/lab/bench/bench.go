// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package bench measures the speed of the tunnel over an ideal cable, and what it
// costs in processor time and memory. What it is compared with is measured in turn
// with it, because the speed of a machine changes from minute to minute.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Options say how to run the benchmark.
type Options struct {
	Programs   lab.Programs
	Versus     *lab.Programs // a second build to compare with; nil: none
	Null       bool          // compare with the null tunnel
	Without    []string      // compare with mqvpn itself without these offloads: values of MQVPN_NO_OFFLOAD
	Rows       []string      // patterns of row ids; none: those that are measured by default
	Rounds     int
	Measure    time.Duration // of each row
	CPUProfile bool          // write CPU profiles of the programs in Dir
	Dir        string        // for the outputs; must exist
	Stdout     io.Writer
}

// noOffloadVariable is the programs' own.
const noOffloadVariable = "MQVPN_NO_OFFLOAD"

// kind is what a subject is.
type kind uint8

const (
	bareCable kind = 1 << iota
	nullTunnel
	vpnPrograms
	anyTunnel = nullTunnel | vpnPrograms
)

// subject is something that is measured.
type subject struct {
	name     string
	kind     kind
	programs lab.Programs
	env      []string
	profiles bool // it knows --cpuprofile
}

// comparison is a ratio that the report shows.
type comparison struct{ of, to string }

// names of subjects.
const (
	cableName = "no tunnel"
	nullName  = "null tunnel"
	mqvpnName = "mqvpn"
	vsName    = "mqvpn (vs)"
)

// subjects lists what is measured, in turn, and which ratios are of interest.
func (o *Options) subjects() (subjects []*subject, ratios []comparison) {
	subjects = []*subject{{name: cableName, kind: bareCable}}
	if o.Null {
		subjects = append(subjects, &subject{name: nullName, kind: nullTunnel})
	}
	add := func(s *subject) {
		s.kind = vpnPrograms
		subjects = append(subjects, s)
		if o.Null {
			ratios = append(ratios, comparison{s.name, nullName})
		}
	}
	add(&subject{name: mqvpnName, programs: o.Programs, profiles: o.CPUProfile})
	if o.Versus != nil {
		add(&subject{name: vsName, programs: *o.Versus})
		ratios = append(ratios, comparison{mqvpnName, vsName})
	}
	for _, w := range o.Without {
		name := "mqvpn without " + w
		add(&subject{name: name, programs: o.Programs, env: []string{noOffloadVariable + "=" + w}})
		ratios = append(ratios, comparison{name, mqvpnName})
	}
	return subjects, ratios
}

// bench is a run of the benchmark.
type bench struct {
	Options
	report   *Report
	subjects []*subject
	rows     []row
	round    int // from 1
	worlds   map[worldKey]*world
}

// worldKey names the worlds that are kept for a round.
type worldKey struct {
	*subject
	paths int
}

// Run measures, prints a table, and writes bench.json, bench.svg and bench.png.
func Run(ctx context.Context, o Options) (*Report, error) {
	rows, err := selectRows(o.Rows)
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	b := &bench{Options: o, rows: rows}
	subjects, ratios := o.subjects()
	b.subjects = subjects
	b.report = newReport(o, subjects)
	fmt.Fprintf(o.Stdout, "Ideal cables on %d cores; sender and receiver of the traffic run on them too.\n\n", b.report.Machine.CPUs)
	for b.round = 1; b.round <= o.Rounds && err == nil; b.round++ {
		err = b.runRound(ctx)
	}
	if len(b.report.Values) == 0 {
		return nil, err
	}
	// What was measured before an error is worth keeping.
	b.report.summarize(rows, ratios)
	b.report.writeTable(o.Stdout)
	return b.report, errors.Join(err, b.report.write(o.Dir, o.Stdout))
}

// runRound measures each row once with each subject, one subject after the other. All
// tunnels are up meanwhile; those that wait use next to nothing.
func (b *bench) runRound(ctx context.Context) (err error) {
	b.worlds = make(map[worldKey]*world)
	defer func() {
		for _, w := range b.worlds {
			if e := w.close(); err == nil {
				err = e
			}
		}
	}()
	for _, s := range b.subjects {
		if err := b.openWorlds(ctx, s); err != nil {
			return err
		}
	}
	for _, r := range b.rows {
		for _, s := range b.subjects {
			if r.subjects&s.kind == 0 {
				continue
			}
			v, err := b.measure(ctx, r, s)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.id, s.name, err)
			}
			b.report.Values = append(b.report.Values, Measurement{b.round, r.id, s.name, v})
			fmt.Fprintf(b.Stdout, "round %d of %d  %-22s %-22s %s\n", b.round, b.Rounds, r.id, s.name, r.describe(v))
		}
	}
	return nil
}

// openWorlds makes the worlds that the rows need, so that all of them have been idle
// for a while before anything is measured.
func (b *bench) openWorlds(ctx context.Context, s *subject) error {
	for _, r := range b.rows {
		key := worldKey{s, r.paths}
		if r.subjects&s.kind == 0 || r.paths == 0 || b.worlds[key] != nil {
			continue
		}
		w, err := newWorld(ctx, s, worldConfig{paths: r.paths, client: true, profile: b.profile(s, fmt.Sprintf("%dpath", r.paths))})
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		b.worlds[key] = w
	}
	return nil
}

// profile is where the CPU profiles of a world go, "" for nowhere. The name of the
// end follows.
func (b *bench) profile(s *subject, what string) string {
	if !s.profiles {
		return ""
	}
	return filepath.Join(b.Dir, fmt.Sprintf("cpu-round%d-%s-", b.round, what))
}

// measure measures one row with one subject.
func (b *bench) measure(ctx context.Context, r row, s *subject) (values, error) {
	if r.paths > 0 {
		w := b.worlds[worldKey{s, r.paths}]
		v, err := r.measure(ctx, w, b.Measure)
		return v, w.explain(err)
	}
	w, err := newWorld(ctx, s, worldConfig{paths: 1, profile: b.profile(s, r.id)})
	if err != nil {
		return nil, err
	}
	v, err := r.measure(ctx, w, b.Measure)
	err = w.explain(err)
	if e := w.close(); err == nil {
		err = e
	}
	return v, err
}
