// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// binVariable names a directory with the programs.
const binVariable = "MQVPN_BIN"

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	// Built before lab.RunTests, which may leave this process without a network.
	if os.Getenv(binVariable) == "" {
		dir, err := os.MkdirTemp("", "mqvpn-suite-")
		if err == nil {
			defer os.RemoveAll(dir)
			_, err = lab.BuildPrograms(context.Background(), dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv(binVariable, dir)
	}
	return lab.RunTests(m)
}

// TestSuites: what the rows refer to exists, and each case has one name.
func TestSuites(t *testing.T) {
	for _, s := range suites() {
		ids := s.ids()
		if sorted := slices.Sorted(slices.Values(ids)); len(slices.Compact(sorted)) != len(ids) {
			t.Errorf("%s: two cases have the same name: %q", s.name, ids)
		}
		measured := make(map[string]bool)
		for _, w := range s.rows {
			measured[w.figure.testCase] = true
			for _, r := range append([]ref{w.figure}, w.relative...) {
				if !slices.Contains(ids, r.testCase) {
					t.Errorf("%s: the row %q refers to a case %q", s.name, w.what, r.testCase)
				}
			}
		}
		for _, id := range ids {
			if !measured[id] {
				t.Errorf("%s: the case %s is in no row", s.name, id)
			}
		}
		for _, sc := range s.scenes {
			if _, err := lab.ParseLinks(sc.links); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
	}
	var list bytes.Buffer
	List(&list)
	for _, want := range []string{"latency: ", "16-down", "ping_mean_ms ≤ 26 ms", "lte_starlink-quic", "≥ 0.93 × lte_starlink-quic-A or lte_starlink-quic-B"} {
		if !strings.Contains(list.String(), want) {
			t.Errorf("%q is not in the list:\n%s", want, &list)
		}
	}
}

func TestFind(t *testing.T) {
	s, err := find("aggregate", []string{"both-1-*", "50:12-16-up"})
	if err != nil {
		t.Fatal(err)
	}
	// Those that the bound of one flow is relative to come along, but are not judged.
	want := "alone-A-up alone-A-down both-1-up both-1-down both-1-up-bbr 50:12-16-up"
	if got := strings.Join(s.ids(), " "); got != want {
		t.Errorf("cases %s, want %s", got, want)
	}
	if len(s.rows) != 4 {
		t.Errorf("%d rows", len(s.rows))
	}
	for _, wrong := range [][]string{{"aggregates"}, {""}, {"aggregate", "none"}, {"aggregate", "["}} {
		if err := Check(wrong[0], wrong[1:]); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}

func TestCandidates(t *testing.T) {
	for links, want := range map[string][]int{
		"baseline": {0}, "rtt_40": {0}, "bw_10to1": {0}, "loss_05": {0}, "lte_starlink": {0, 1}, "congested": {0},
		"10/20+20/20": {1}, "10/5+20/20": {0, 1},
	} {
		cfg, err := lab.ParseLinks(links)
		if got := candidates(cfg); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v, %v", links, got, want, err)
		}
	}
}

// example is a suite of two cases, and a report of three rounds in which the machine
// halves its speed each time.
func example() (suite, *Report) {
	s := suite{name: "example", scenes: []scene{{links: "10/5"}}, rows: []row{
		{what: "ratio", figure: ref{"both", mbps}, unit: "Mbit/s", wanted: atLeast, bound: 0.97, relative: []ref{{"a", mbps}, {"b", mbps}}},
		{what: "rate", figure: ref{"a", mbps}, unit: "Mbit/s", wanted: atLeast, bound: 50},
		{what: "ping", figure: ref{"a", pingMean}, unit: "ms", wanted: atMost, bound: 26, reference: "31"},
		{what: "for information", figure: ref{"b", mbps}, unit: "Mbit/s"},
	}}
	r := newReport(Options{Rounds: 3}, s)
	for i, speed := range []float64{1, 0.5, 0.25} {
		for id, v := range map[string]values{"a": {mbps: 100 * speed, pingMean: 26}, "b": {mbps: 200 * speed}, "both": {mbps: 198 * speed}} {
			r.Results = append(r.Results, Result{Round: i + 1, Case: id, Links: "10/5", Values: v, Lateness: 3})
		}
	}
	return s, r
}

func TestVerdicts(t *testing.T) {
	change := func(id string, rounds int, f func(*Result)) func(*Report) {
		return func(r *Report) {
			for i := range r.Results {
				if x := &r.Results[i]; x.Case == id && x.Round <= rounds {
					f(x)
				}
			}
		}
	}
	isVoid := func(x *Result) { x.Void = true }
	for _, test := range []struct {
		name         string
		change       func(*Report)
		verdicts     []Verdict
		passed, void bool
	}{
		{"good", func(*Report) {}, []Verdict{met, met, met, noTarget}, true, false},
		// The larger of the two single links counts, in each round.
		{"slower than the better link", change("both", 2, func(x *Result) { x.Values[mbps] *= 0.97 }), []Verdict{missed, met, met, noTarget}, false, false},
		{"slower once", change("both", 1, func(x *Result) { x.Values[mbps] *= 0.5 }), []Verdict{met, met, met, noTarget}, true, false},
		{"slow ping", change("a", 2, func(x *Result) { x.Values[pingMean] = 26.1 }), []Verdict{met, met, missed, noTarget}, false, false},
		{"late once", change("both", 1, isVoid), []Verdict{met, met, met, noTarget}, true, false},
		{"late twice", change("both", 2, isVoid), []Verdict{void, met, met, noTarget}, false, true},
		{"the other link late twice", change("b", 2, isVoid), []Verdict{void, met, met, noTarget}, false, true},
		{"late and missed", func(r *Report) {
			change("both", 2, isVoid)(r)
			change("a", 3, func(x *Result) { x.Values[pingMean] = 30 })(r)
		}, []Verdict{void, met, missed, noTarget}, false, false},
		{"skipped", change("a", 3, func(x *Result) { x.Skipped = "not there" }), []Verdict{void, notMeasured, notMeasured, noTarget}, false, false},
		{"interrupted", func(r *Report) {
			r.Results = slices.DeleteFunc(r.Results, func(x Result) bool { return x.Case == "both" })
		}, []Verdict{notMeasured, met, met, noTarget}, false, false},
	} {
		s, r := example()
		test.change(r)
		r.summarize(s)
		var verdicts []Verdict
		for _, row := range r.Rows {
			verdicts = append(verdicts, row.Verdict)
		}
		if !slices.Equal(verdicts, test.verdicts) || r.Passed != test.passed || r.Void != test.void {
			t.Errorf("%s: %q, passed %v, void %v", test.name, verdicts, r.Passed, r.Void)
		}
	}
}

func TestSummary(t *testing.T) {
	s, r := example()
	r.summarize(s)
	if v, x := r.Rows[0].Value, r.Rows[0].Ratio; v.Median != 99 || v.Low != 49.5 || x.Median != 0.99 || x.Low != 0.99 {
		t.Errorf("value %+v, ratio %+v", v, x)
	}
	var table, markdown bytes.Buffer
	r.writeTable(&table)
	r.writeMarkdown(&markdown)
	for text, in := range map[string]string{
		"MET  ping ": table.String(),
		"99 (50–198) Mbit/s   × 0.99 (0.99–0.99)  ≥ 0.97 × a or b": table.String(),
		"PASSED: 3 met": table.String(),
		"| ping | 26.0 (26.0–26.0) ms |  | ≤ 26 ms | met | 31 | 3.0 ms, 0 % |": markdown.String(),
		"- `10/5`: A: 10 Mbit/s, 5 ms, queue 50 ms":                            markdown.String(),
	} {
		if !strings.Contains(in, text) {
			t.Errorf("%q is not in:\n%s", text, in)
		}
	}
}

func TestReturnAfter(t *testing.T) {
	var samples []lab.Sample
	for i := range 60 {
		s := lab.Sample{Time: float64(i) / 10, Goodput: 100}
		switch {
		case i < 10:
			s.Goodput = 20 // slow start
		case i > 20 && i <= 33:
			s.Goodput = 50 // the fault, from 2.0 to 3.0 s, and some time after
		}
		samples = append(samples, s)
	}
	if got, back := returnAfter(samples, rateUntil(samples, 2), 3); !back || got < 0.44 || got > 0.56 { // sample 35, whose window is all good
		t.Errorf("back after %v s", got)
	}
	for i := range samples[21:] {
		samples[21+i].Goodput = 85
	}
	if got, back := returnAfter(samples, 100, 3); back || got < 2.8 {
		t.Errorf("back after %v s, although it is not", got)
	}
}

// TestRun runs two tiny cases with the real programs: one with plain throughput, and one
// in which a link goes silent.
func TestRun(t *testing.T) {
	lab.Require(t)
	programs, err := lab.ProgramsIn(os.Getenv(binVariable))
	if err != nil {
		t.Fatal(err)
	}
	const short = 200 * time.Millisecond
	tiny := scene{links: "20/5+10/5", cases: []testCase{
		{"tcp", allPaths, throughput(traffic{way: lab.Up, flows: 2}, short, short)},
		{"silent", allPaths, fault("0s A silent for 300ms", traffic{}, silenceLimits(0))},
	}}
	var out bytes.Buffer
	o := Options{Programs: programs, Suite: "tiny", Rounds: 1, Dir: t.TempDir(), Stdout: &out}
	s := suite{name: "tiny", maxLate: time.Hour, scenes: []scene{tiny}, rows: []row{
		{what: "throughput", figure: ref{"tcp", mbps}, unit: "Mbit/s"},
		{what: "gap", figure: ref{"silent", gapUp}, unit: "ms", wanted: atMost, bound: 1000, relative: []ref{{"silent", allowed}}},
	}}
	r := &runner{Options: o, suite: s, report: newReport(o, s), round: 1}
	if err := r.runScene(t.Context(), tiny); err != nil {
		t.Fatal(err)
	}
	r.report.summarize(s)
	if len(r.report.Rows) != 2 || r.report.Rows[0].Value.Median <= 0 || r.report.Rows[1].Ratio.Median <= 0 || !r.report.Passed {
		t.Errorf("%+v in\n%s", r.report.Rows, &out)
	}
	if got := r.report.Rows[1].Target; !strings.HasPrefix(got, "≤ ") || strings.Contains(got, allowed) {
		t.Errorf("target %q", got)
	}
	if err := r.report.write(o.Dir, &out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tiny.json", "tiny-samples.json", "tiny.md", "tiny-tcp.svg", "tiny-silent.png"} {
		if st, err := os.Stat(filepath.Join(o.Dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	plot, err := os.ReadFile(filepath.Join(o.Dir, "tiny-silent.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"link A", "link B", "A silent", "A heard again"} {
		if !bytes.Contains(plot, []byte(want)) {
			t.Errorf("%q is not in the plot", want)
		}
	}
	data, err := os.ReadFile(filepath.Join(o.Dir, "tiny.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil || len(back.Results) != 2 || back.Links[0].Links[1].Queue != 50 {
		t.Errorf("%v in\n%s", err, data)
	}
}
