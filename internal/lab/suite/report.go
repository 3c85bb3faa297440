// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Report is what a run of a suite has found.
type Report struct {
	Suite   string      `json:"suite"`
	Started time.Time   `json:"started"`
	Machine lab.Machine `json:"machine"`
	Commit  string      `json:"commit,omitempty"` // of the programs; "+" if changed since
	Go      string      `json:"go,omitempty"`     // that they were built with
	Rounds  int         `json:"rounds"`
	MaxLate float64     `json:"max_lateness_ms"` // beyond it a result is void
	Links   []Links     `json:"links"`
	Rows    []Row       `json:"rows"`
	Results []Result    `json:"results"`
	Seconds float64     `json:"seconds"`
	Passed  bool        `json:"passed"` // every target is met
	Void    bool        `json:"void"`   // some target could not be judged, and none is missed
}

// Links are those of some cases, with their queues.
type Links struct {
	Name  string            `json:"name"`
	Links []lab.Description `json:"links"`
}

// Result is one run of a case.
type Result struct {
	Round       int     `json:"round"` // from 1
	Attempt     int     `json:"attempt"`
	Case        string  `json:"case"`
	Links       string  `json:"links"`
	Values      values  `json:"values"`
	Lateness    float64 `json:"lateness_ms"`        // worst of the emulator
	EmulatorCPU float64 `json:"emulator_cpu_share"` // of one core, all links
	Seconds     float64 `json:"seconds"`
	Void        bool    `json:"void,omitempty"`    // the emulator was too late
	Skipped     string  `json:"skipped,omitempty"` // why it was not measured

	timeline lab.Timeline
}

// Verdict says whether a target is met.
type Verdict string

const (
	met         Verdict = "met"
	missed      Verdict = "missed"
	void        Verdict = "void"         // too few rounds in which the emulator was not late
	notMeasured Verdict = "not measured" // or the rest of the suite was not
	noTarget    Verdict = ""
)

// Row is one line of the table.
type Row struct {
	What      string      `json:"what"`
	Case      string      `json:"case"`
	Metric    string      `json:"metric"`
	Unit      string      `json:"unit"`
	Value     *lab.Spread `json:"value,omitempty"`
	Ratio     *lab.Spread `json:"ratio,omitempty"` // to what the target is relative to
	Target    string      `json:"target,omitempty"`
	Reference string      `json:"reference,omitempty"` // the C implementation
	Verdict   Verdict     `json:"verdict"`
	Valid     int         `json:"valid_rounds"`
	// Of the emulator, in the rounds that count.
	Lateness    float64 `json:"lateness_ms"`
	EmulatorCPU float64 `json:"emulator_cpu_share"`
}

func newReport(o Options, s suite) *Report {
	r := &Report{Suite: s.name, Started: time.Now(), Machine: lab.ThisMachine(), Rounds: o.Rounds, MaxLate: milliseconds(s.maxLate)}
	r.Commit, r.Go = lab.BuildOf(o.Programs.Server)
	if r.Commit == "" {
		r.Commit = o.Commit
	}
	for _, sc := range s.scenes {
		configs, err := lab.ParseLinks(sc.links)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		l := Links{Name: sc.links}
		for _, c := range configs {
			l.Links = append(l.Links, c.Describe())
		}
		if !slices.ContainsFunc(r.Links, func(x Links) bool { return x.Name == l.Name }) {
			r.Links = append(r.Links, l)
		}
	}
	return r
}

// valid returns the results of a case that count, by round.
func (r *Report) valid(id string) map[int]*Result {
	found := make(map[int]*Result)
	for i := range r.Results {
		x := &r.Results[i]
		if x.Case == id && !x.Void && x.Skipped == "" {
			found[x.Round] = x
		}
	}
	return found
}

// summarize makes the rows and the verdict.
func (r *Report) summarize(s suite) {
	r.Passed = true
	anyMissed := false
	for _, w := range s.rows {
		row := r.summary(w)
		r.Rows = append(r.Rows, row)
		switch row.Verdict {
		case missed:
			r.Passed, anyMissed = false, true
		case void:
			r.Passed, r.Void = false, true
		case notMeasured:
			r.Passed, anyMissed = false, true
		}
	}
	r.Void = r.Void && !anyMissed
}

// summary makes one row. A median needs half of the rounds.
func (r *Report) summary(w row) Row {
	out := Row{What: w.what, Case: w.figure.testCase, Metric: w.figure.metric, Unit: w.unit, Target: w.target(), Reference: w.reference}
	var figures, ratios, limits []float64
	results := r.valid(w.figure.testCase)
	for _, round := range slices.Sorted(maps.Keys(results)) {
		x, ok := results[round].Values[w.figure.metric]
		if !ok {
			continue
		}
		of, complete := r.largest(round, w.relative)
		if !complete {
			continue
		}
		figures = append(figures, x)
		if of > 0 {
			ratios, limits = append(ratios, x/of), append(limits, w.bound*of)
		}
		out.Lateness = max(out.Lateness, results[round].Lateness)
		out.EmulatorCPU += results[round].EmulatorCPU
	}
	out.Valid = len(figures)
	if out.Valid > 0 {
		out.EmulatorCPU /= float64(out.Valid)
		s := lab.SpreadOf(figures)
		out.Value = &s
	}
	judged := out.Value
	if len(w.relative) > 0 && len(ratios) > 0 {
		s := lab.SpreadOf(ratios)
		out.Ratio, judged = &s, &s
	}
	if w.isLimited() && len(limits) > 0 {
		out.Target = fmt.Sprintf("%s %.0f %s", w.wanted, lab.SpreadOf(limits).Median, w.unit)
	}
	switch {
	case w.wanted == informal:
		out.Verdict = noTarget
	case r.wasSkipped(w) || !r.wasRun(w):
		out.Verdict = notMeasured
	case judged == nil || 2*out.Valid < r.Rounds:
		out.Verdict = void
	case w.wanted == atLeast && judged.Median >= w.bound, w.wanted == atMost && judged.Median <= w.bound:
		out.Verdict = met
	default:
		out.Verdict = missed
	}
	return out
}

// largest is that of some metrics in a round; complete is false if one is not there.
func (r *Report) largest(round int, refs []ref) (x float64, complete bool) {
	for _, f := range refs {
		result := r.valid(f.testCase)[round]
		if result == nil {
			return 0, false
		}
		x = max(x, result.Values[f.metric])
	}
	return x, true
}

func (r *Report) wasSkipped(w row) bool {
	return slices.ContainsFunc(r.Results, func(x Result) bool { return x.Case == w.figure.testCase && x.Skipped != "" })
}

func (r *Report) wasRun(w row) bool {
	return slices.ContainsFunc(r.Results, func(x Result) bool { return x.Case == w.figure.testCase })
}

// target is what is asked for in words.
func (w row) target() string {
	switch {
	case w.wanted == informal:
		return ""
	case len(w.relative) == 0:
		return strings.TrimSpace(fmt.Sprintf("%s %.4g %s", w.wanted, w.bound, w.unit))
	case w.isLimited():
		return fmt.Sprintf("%s %s", w.wanted, w.relative[0].metric)
	}
	var of []string
	for _, x := range w.relative {
		of = append(of, x.testCase)
	}
	return fmt.Sprintf("%s %.4g × %s", w.wanted, w.bound, strings.Join(of, " or "))
}

// isLimited tells that the case itself says in each round what is allowed.
func (w row) isLimited() bool {
	return len(w.relative) > 0 && w.relative[0].testCase == w.figure.testCase
}

func (c comparison) String() string { return [...]string{"", "≥", "≤"}[c] }

// describe shows a result in one line.
func (r Result) describe() string {
	if r.Skipped != "" {
		return "not measured: " + r.Skipped
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Values)) {
		if !diagnostic(name) && (name != marked || r.Values[name] > 0) {
			parts = append(parts, fmt.Sprintf("%s %.4g", name, r.Values[name]))
		}
	}
	s := fmt.Sprintf("%s (emulator %.1f ms late, %.0f %% of a core)", strings.Join(parts, ", "), r.Lateness, 100*r.EmulatorCPU)
	if r.Void {
		s += " VOID"
	}
	return s
}

// diagnostic tells the metrics that are for the analysis of others.
func diagnostic(metric string) bool {
	return len(metric) > 1 && metric[1] == '_' || strings.HasPrefix(metric, "pings") || strings.HasPrefix(metric, "allowed") || strings.HasSuffix(metric, "_cpu_percent")
}

// writeTable prints the rows for people.
func (r *Report) writeTable(out io.Writer) {
	fmt.Fprintf(out, "%s, %d cores, Linux %s, commit %s; %d rounds, medians (lowest–highest).\n\n",
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.commit(), r.Rounds)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tWhat\tResult\tRatio\tTarget\tC\tEmulator")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", strings.ToUpper(string(row.Verdict)), row.What, row.value(), row.ratio(), row.Target, row.Reference, row.emulator())
	}
	t.Flush()
	fmt.Fprintf(out, "\n%s\n", r.verdict())
}

// commit is that of the programs, or why there is none.
func (r *Report) commit() string {
	if r.Commit == "" {
		return "unknown"
	}
	return r.Commit
}

func (w Row) value() string {
	if w.Value == nil {
		return "-"
	}
	decimals := 0
	if w.Value.High < 100 {
		decimals = 1
	}
	if w.Value.High < 10 {
		decimals = 2
	}
	return w.Value.Text(decimals, w.Valid) + " " + w.Unit
}

func (w Row) ratio() string {
	if w.Ratio == nil {
		return ""
	}
	return "× " + w.Ratio.Text(2, w.Valid)
}

func (w Row) emulator() string {
	return fmt.Sprintf("%.1f ms, %.0f %%", w.Lateness, 100*w.EmulatorCPU)
}

// verdict is the last line.
func (r *Report) verdict() string {
	count := make(map[Verdict]int)
	for _, row := range r.Rows {
		count[row.Verdict]++
	}
	s := fmt.Sprintf("%d met, %d missed, %d void, %d not measured; %.0f s", count[met], count[missed], count[void], count[notMeasured], r.Seconds)
	switch {
	case r.Void:
		return "VOID: " + s
	case r.Passed:
		return "PASSED: " + s
	}
	return "FAILED: " + s
}

// writeMarkdown writes the table as it stands in the documentation.
func (r *Report) writeMarkdown(out io.Writer) {
	fmt.Fprintf(out, "`mqvpn-lab suite %s --rounds %d`, %s, commit %s, %s, %d cores, Linux %s, %s. ",
		r.Suite, r.Rounds, r.Started.Format(time.DateOnly), r.commit(), r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.Go)
	fmt.Fprintf(out, "Medians, lowest to highest in brackets. Emulator: worst lateness (%.0f ms is allowed) and share of a core.\n\n", r.MaxLate)
	fmt.Fprintln(out, "| | result | ratio | target | | C | emulator |\n|---|---|---|---|---|---|---|")
	for _, row := range r.Rows {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", row.What, row.value(), row.ratio(), row.Target, row.Verdict, row.Reference, row.emulator())
	}
	fmt.Fprintln(out, "\nLinks, the same in both directions:")
	fmt.Fprintln(out)
	for _, l := range r.Links {
		var text []string
		for _, d := range l.Links {
			text = append(text, d.String())
		}
		fmt.Fprintf(out, "- `%s`: %s\n", l.Name, strings.Join(text, "; "))
	}
}

// write writes all files of the report.
func (r *Report) write(dir string, out io.Writer) error {
	path := func(suffix string) string { return filepath.Join(dir, r.Suite+suffix) }
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	samples, err := json.Marshal(r.timelines())
	if err != nil {
		return err
	}
	var text strings.Builder
	r.writeMarkdown(&text)
	err = errors.Join(
		os.WriteFile(path(".json"), append(data, '\n'), 0o644),
		os.WriteFile(path("-samples.json"), append(samples, '\n'), 0o644),
		os.WriteFile(path(".md"), []byte(text.String()), 0o644),
		r.writePlots(dir))
	fmt.Fprintf(out, "Data: %s, %s; table: %s; plots: %s\n", path(".json"), path("-samples.json"), path(".md"), path("-CASE.svg, .png"))
	return err
}

// timelines are those of the latest run of each case.
func (r *Report) timelines() map[string]lab.Timeline {
	latest := make(map[string]lab.Timeline)
	for _, x := range r.Results {
		if len(x.timeline.Samples) > 0 {
			latest[x.Case] = x.timeline
		}
	}
	return latest
}
