// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// Report is what was measured.
type Report struct {
	Started  time.Time     `json:"started"`
	Machine  Machine       `json:"machine"`
	Seconds  float64       `json:"seconds"` // that each row was measured
	Rounds   int           `json:"rounds"`
	Subjects []Subject     `json:"subjects"`
	Values   []Measurement `json:"values"`
	Summary  []Summary     `json:"summary"`
	Ratios   []Ratio       `json:"ratios"`
}

// Machine is where it was measured.
type Machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Memory float64 `json:"memory_gb"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"` // of the program that measured
}

// Subject is one of those that are compared.
type Subject struct {
	Name   string `json:"name"`
	Commit string `json:"commit,omitempty"` // where the program knows it; "+" if it was changed since
	Go     string `json:"go,omitempty"`     // that it was built with
}

// Measurement is one row of one subject in one round.
type Measurement struct {
	Round   int                `json:"round"` // from 1
	Row     string             `json:"row"`
	Subject string             `json:"subject"`
	Values  map[string]float64 `json:"values"`
}

// Spread is the median of the rounds, with the lowest and the highest.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Summary is one metric of one row of one subject over all rounds.
type Summary struct {
	Row     string `json:"row"`
	Subject string `json:"subject"`
	Metric  string `json:"metric"`
	Unit    string `json:"unit"`
	Spread
}

// Ratio compares two subjects in each round.
type Ratio struct {
	Row    string `json:"row"`
	Metric string `json:"metric"`
	Of     string `json:"of"`
	To     string `json:"to"`
	Spread
	Rounds []float64 `json:"rounds"`
}

func newReport(o Options, subjects []*subject) *Report {
	r := &Report{Started: time.Now(), Machine: thisMachine(), Seconds: o.Measure.Seconds(), Rounds: o.Rounds}
	for _, s := range subjects {
		about := Subject{Name: s.name}
		if s.kind == vpnPrograms {
			about.Commit, about.Go = buildOf(s.programs.Server)
		}
		r.Subjects = append(r.Subjects, about)
	}
	return r
}

// buildOf says what a program was built from, as far as it knows.
func buildOf(program string) (commit, goVersion string) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", ""
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	if commit != "" {
		commit += changed
	}
	return commit, info.GoVersion
}

func thisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	info, _ := os.ReadFile("/proc/cpuinfo") // not all architectures tell the model
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		m.Memory = float64(s.Totalram) * float64(s.Unit) / 1e9
	}
	return m
}

// spread is over at least one value.
func spread(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Low: v[0], High: v[n-1]}
}

// find returns the values of a metric by round.
func (r *Report) find(row, subject, metric string) map[int]float64 {
	found := make(map[int]float64)
	for _, m := range r.Values {
		if x, ok := m.Values[metric]; ok && m.Row == row && m.Subject == subject {
			found[m.Round] = x
		}
	}
	return found
}

// summarize computes Summary and Ratios from Values, in the order of rows, subjects
// and metrics.
func (r *Report) summarize(rows []row, ratios []comparison) {
	for _, row := range rows {
		for _, s := range r.Subjects {
			for _, m := range row.metrics {
				if v := inOrder(r.find(row.id, s.Name, m)); len(v) > 0 {
					r.Summary = append(r.Summary, Summary{row.id, s.Name, m, metrics[m].unit, spread(v)})
				}
			}
		}
		for _, c := range ratios {
			for _, m := range row.metrics {
				of, to := r.find(row.id, c.of, m), r.find(row.id, c.to, m)
				ratio := make(map[int]float64)
				for round, x := range of {
					if to[round] > 0 {
						ratio[round] = x / to[round]
					}
				}
				if v := inOrder(ratio); len(v) > 0 {
					r.Ratios = append(r.Ratios, Ratio{row.id, m, c.of, c.to, spread(v), v})
				}
			}
		}
	}
}

// inOrder returns the values of the rounds.
func inOrder(byRound map[int]float64) (v []float64) {
	rounds := make([]int, 0, len(byRound))
	for n := range byRound {
		rounds = append(rounds, n)
	}
	slices.Sort(rounds)
	for _, n := range rounds {
		v = append(v, byRound[n])
	}
	return v
}

// writeTable prints the medians, with lowest and highest where there are several
// rounds, and the ratios.
func (r *Report) writeTable(out io.Writer) {
	fmt.Fprintf(out, "\n%s, %d cores, %.0f GB, Linux %s. ", r.Machine.CPU, r.Machine.CPUs, r.Machine.Memory, r.Machine.Kernel)
	if r.Rounds > 1 {
		fmt.Fprintf(out, "Medians of %d rounds, lowest to highest in brackets; ratios are per round.", r.Rounds)
	}
	fmt.Fprint(out, "\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	lastRow, last := "", ""
	line := func(row, name, cell string) {
		switch {
		case row == lastRow && name == last:
			fmt.Fprintf(t, "\t%s", cell)
			return
		case row == lastRow:
			row = ""
		default:
			lastRow = row
		}
		if last != "" {
			fmt.Fprintln(t)
		}
		last = name
		fmt.Fprintf(t, "%s\t%s\t%s", row, name, cell)
	}
	var order []string
	for _, s := range r.Summary {
		if !slices.Contains(order, s.Row) {
			order = append(order, s.Row)
		}
	}
	for _, row := range order {
		for _, s := range r.Summary {
			if s.Row == row {
				line(row, s.Subject, s.Spread.text(metrics[s.Metric].decimals, r.Rounds)+" "+s.Unit)
			}
		}
		for _, x := range r.Ratios {
			if x.Row == row {
				line(row, "  "+x.Of+" / "+x.To, "× "+x.Spread.text(2, r.Rounds))
			}
		}
	}
	fmt.Fprintln(t)
	t.Flush()
}

// text is "median (low–high)"; of one round the value alone.
func (s Spread) text(decimals, rounds int) string {
	if rounds == 1 {
		return number(s.Median, decimals)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median, decimals), number(s.Low, decimals), number(s.High, decimals))
}

// number groups the digits of large numbers by thousands.
func number(x float64, decimals int) string {
	s := strconv.FormatFloat(x, 'f', decimals, 64)
	whole, rest, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + " " + whole[i:]
	}
	if point {
		whole += "." + rest
	}
	return whole
}

// write writes bench.json, bench.svg and bench.png.
func (r *Report) write(dir string, out io.Writer) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	data, svg, png := filepath.Join(dir, "bench.json"), filepath.Join(dir, "bench.svg"), filepath.Join(dir, "bench.png")
	err = errors.Join(os.WriteFile(data, append(b, '\n'), 0o644), r.writePlots(svg, png))
	fmt.Fprintf(out, "\nData: %s\nPlot: %s, %s\n", data, svg, png)
	return err
}
