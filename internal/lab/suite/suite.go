// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package suite measures what mqvpn makes of several links, and what users notice when
// links fail: named suites of short cases with the figures that are asked for.
//
// A case is run once per round, all cases of a suite in turn, so that the moods of the
// machine hit all alike; ratios are those of one round. Whether a target is met is
// decided by medians.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Options say how to run a suite.
type Options struct {
	Programs lab.Programs
	Commit   string   // that the programs were built from; "": they know it
	Suite    string   // its name
	Only     []string // patterns of case ids; none: all
	Rounds   int
	Dir      string    // for the outputs; must exist
	Stdout   io.Writer // for people
}

// suite is a named list of cases and what is asked of them.
type suite struct {
	name   string
	about  string
	took   time.Duration // one round of all cases, where it was written
	scenes []scene
	rows   []row
	// maxLate is how late the emulator may be in a case before it is void.
	maxLate time.Duration
}

// scene is a set of links. Its cases run one after the other in one world.
type scene struct {
	links   string // as lab.ParseLinks reads them
	present int    // so many are there from the start; 0: all
	cases   []testCase
}

// testCase is one thing that is measured.
type testCase struct {
	id    string
	paths pathSet
	run   func(context.Context, *trial) error
}

// pathSet says over which links a client is to run when a case begins.
type pathSet int

const (
	// From 0 on: the one link of this number.
	allPaths pathSet = -1
	noClient pathSet = -2
	// ownWorld: the case starts the client itself, in a world of its own.
	ownWorld pathSet = -3
)

// ref names a metric of a case.
type ref struct{ testCase, metric string }

// row is one line of a suite's table: a figure, and what is asked of it.
type row struct {
	what   string
	figure ref
	unit   string
	// The bound, if there is one, is a factor of the largest of relative, in the same
	// round, or a figure of its own where that is empty.
	wanted   comparison
	bound    float64
	relative []ref
	// reference is what the C implementation does.
	reference string
}

// comparison is what a bound means.
type comparison uint8

const (
	informal comparison = iota // there is no bound
	atLeast
	atMost
)

// attempts is how often a case is measured in a round as long as the emulator is late.
const attempts = 3

// runner is a run of a suite.
type runner struct {
	Options
	suite  suite
	report *Report
	round  int
}

// Run runs a suite, prints its table, and writes NAME.json, NAME.md, NAME-samples.json
// and a plot of each case.
func Run(ctx context.Context, o Options) (*Report, error) {
	s, err := find(o.Suite, o.Only)
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if !lab.EmulatorsFirst() {
		lab.ProgramsYield() // the suite has the machine to itself, or is void
	}
	r := &runner{Options: o, suite: s, report: newReport(o, s)}
	if len(o.Only) == 0 {
		fmt.Fprintf(o.Stdout, "Suite %s: %d rounds of about %.0f s.\n\n", s.name, o.Rounds, s.took.Seconds())
	}
	for r.round = 1; r.round <= o.Rounds && err == nil; r.round++ {
		for _, sc := range s.scenes {
			if err = r.runScene(ctx, sc); err != nil {
				break
			}
		}
	}
	r.report.Seconds = time.Since(r.report.Started).Seconds()
	if len(r.report.Results) == 0 {
		return r.report, err
	}
	// What was measured before an error is worth keeping.
	r.report.summarize(s)
	fmt.Fprintln(o.Stdout)
	r.report.writeTable(o.Stdout)
	err = errors.Join(err, r.report.write(o.Dir, o.Stdout))
	if err != nil {
		r.report.Passed = false
	}
	return r.report, err
}

// runScene runs the cases of a scene.
func (r *runner) runScene(ctx context.Context, sc scene) (err error) {
	links, err := lab.ParseLinks(sc.links)
	if err != nil {
		return err
	}
	var w *world
	defer func() {
		if w != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, c := range sc.cases {
		for attempt := 1; ; attempt++ {
			if w == nil || c.paths == ownWorld {
				if w != nil {
					if err := w.close(); err != nil {
						return err
					}
				}
				if w, err = newWorld(ctx, r.Programs, links, sc.present); err != nil {
					return err
				}
			}
			result, err := r.runCase(ctx, w, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.id, w.explain(err))
			}
			result.Links, result.Attempt = sc.links, attempt
			r.report.Results = append(r.report.Results, result)
			fmt.Fprintf(r.Stdout, "round %d of %d  %-24s %s\n", r.round, r.Rounds, c.id, result.describe())
			if !result.Void || attempt == attempts {
				break
			}
		}
	}
	return nil
}

// runCase runs a case once.
func (r *runner) runCase(ctx context.Context, w *world, c testCase) (Result, error) {
	paths := w.allInterfaces()
	switch {
	case c.paths == noClient:
		paths = nil
	case c.paths >= 0:
		paths = interfaces(int(c.paths))
	}
	if c.paths != ownWorld {
		if err := w.useClient(ctx, paths); err != nil {
			return Result{}, err
		}
	}
	t := newTrial(w)
	err := c.run(ctx, t)
	if c.paths != ownWorld {
		err = errors.Join(err, w.heal(ctx))
	}
	result := t.end()
	result.Round, result.Case = r.round, c.id
	if skipped, ok := errors.AsType[*errSkipped](err); ok {
		result.Skipped, err = skipped.why, nil
	}
	result.Void = result.Lateness > milliseconds(r.suite.maxLate)
	return result, err
}

// find returns a suite with those of its cases that match a pattern, and those that
// their bounds refer to.
func find(name string, only []string) (suite, error) {
	i := slices.IndexFunc(suites(), func(s suite) bool { return s.name == name })
	if i < 0 {
		return suite{}, fmt.Errorf("no suite %q; there are: %s", name, strings.Join(Names(), ", "))
	}
	s := suites()[i]
	if len(only) == 0 {
		return s, nil
	}
	wanted := make(map[string]bool)
	for _, pattern := range only {
		matched := false
		for _, id := range s.ids() {
			ok, err := path.Match(pattern, id)
			if err != nil {
				return suite{}, fmt.Errorf("--only %q: %w", pattern, err)
			}
			if ok {
				wanted[id], matched = true, true
			}
		}
		if !matched {
			return suite{}, fmt.Errorf("--only %q: no case of %s has such a name; there are: %s", pattern, name, strings.Join(s.ids(), " "))
		}
	}
	s.rows = slices.DeleteFunc(slices.Clone(s.rows), func(w row) bool { return !wanted[w.figure.testCase] })
	for _, w := range s.rows {
		for _, other := range w.relative {
			wanted[other.testCase] = true
		}
	}
	var scenes []scene
	for _, sc := range s.scenes {
		sc.cases = slices.DeleteFunc(slices.Clone(sc.cases), func(c testCase) bool { return !wanted[c.id] })
		if len(sc.cases) > 0 {
			scenes = append(scenes, sc)
		}
	}
	s.scenes = scenes
	return s, nil
}

// ids lists the cases.
func (s suite) ids() (ids []string) {
	for _, sc := range s.scenes {
		for _, c := range sc.cases {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// Names lists the suites.
func Names() (names []string) {
	for _, s := range suites() {
		names = append(names, s.name)
	}
	return names
}

// Check returns an error if there is no such suite or a pattern matches no case.
func Check(name string, only []string) error {
	_, err := find(name, only)
	return err
}

// List describes the suites, their cases and what is asked of them.
func List(w io.Writer) {
	for _, s := range suites() {
		fmt.Fprintf(w, "%s: %s. A round takes %.0f s.\n", s.name, s.about, s.took.Seconds())
		for _, sc := range s.scenes {
			fmt.Fprintf(w, "  %s\n", sc.links)
			for _, c := range sc.cases {
				var asked []string
				for _, x := range s.rows {
					if x.figure.testCase == c.id && x.wanted != informal {
						asked = append(asked, x.figure.metric+" "+x.target())
					}
				}
				fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("    %-28s %s", c.id, strings.Join(asked, "; ")), " "))
			}
		}
	}
}

// suites lists all.
func suites() []suite {
	return []suite{aggregateSuite(), profilesSuite(), failoverSuite(), startSuite(), latencySuite()}
}
