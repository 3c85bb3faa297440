// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Report is what was measured.
type Report struct {
	Started  time.Time     `json:"started"`
	Machine  lab.Machine   `json:"machine"`
	Seconds  float64       `json:"seconds"` // that each row was measured
	Rounds   int           `json:"rounds"`
	Subjects []Subject     `json:"subjects"`
	Values   []Measurement `json:"values"`
	Summary  []Summary     `json:"summary"`
	Ratios   []Ratio       `json:"ratios"`
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

// Summary is one metric of one row of one subject over all rounds.
type Summary struct {
	Row     string `json:"row"`
	Subject string `json:"subject"`
	Metric  string `json:"metric"`
	Unit    string `json:"unit"`
	lab.Spread
}

// Ratio compares two subjects in each round.
type Ratio struct {
	Row    string `json:"row"`
	Metric string `json:"metric"`
	Of     string `json:"of"`
	To     string `json:"to"`
	lab.Spread
	Rounds []float64 `json:"rounds"`
}

func newReport(o Options, subjects []*subject) *Report {
	r := &Report{Started: time.Now(), Machine: lab.ThisMachine(), Seconds: o.Measure.Seconds(), Rounds: o.Rounds}
	for _, s := range subjects {
		about := Subject{Name: s.name}
		if s.kind == vpnPrograms {
			about.Commit, about.Go = lab.BuildOf(s.programs.Server)
		}
		r.Subjects = append(r.Subjects, about)
	}
	return r
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
					r.Summary = append(r.Summary, Summary{row.id, s.Name, m, metrics[m].unit, lab.SpreadOf(v)})
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
					r.Ratios = append(r.Ratios, Ratio{row.id, m, c.of, c.to, lab.SpreadOf(v), v})
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
				line(row, s.Subject, s.Spread.Text(metrics[s.Metric].decimals, r.Rounds)+" "+s.Unit)
			}
		}
		for _, x := range r.Ratios {
			if x.Row == row {
				line(row, "  "+x.Of+" / "+x.To, "× "+x.Spread.Text(2, r.Rounds))
			}
		}
	}
	fmt.Fprintln(t)
	t.Flush()
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
