// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flood

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Report is what was measured.
type Report struct {
	Started time.Time     `json:"started"`
	Machine lab.Machine   `json:"machine"`
	Commit  string        `json:"commit,omitempty"` // of the server, where it knows it
	Seconds float64       `json:"seconds"`          // that each flood was measured
	Rounds  int           `json:"rounds"`
	Runs    []Measurement `json:"runs"`
	Summary []Summary     `json:"summary"`
}

// Measurement is one flood to one target.
type Measurement struct {
	Round     int     `json:"round"` // from 1
	Kind      string  `json:"kind,omitempty"`
	Rate      int     `json:"rate"` // datagrams per second that were asked for
	Target    target  `json:"target"`
	Mbps      float64 `json:"mbps"`             // of the TCP flow through the tunnel
	Sent      float64 `json:"sent_per_s"`       // of the flood
	Answers   float64 `json:"answers_per_s"`    // to it
	ServerCPU float64 `json:"server_cpu_cores"` // of the server's process
	ServerRSS float64 `json:"server_rss_mb"`
	// ConnectMs is how long a new client took to get a tunnel during the flood, 12 000 if
	// it did not. Only when the flood goes to the server.
	ConnectMs float64 `json:"connect_ms,omitempty"`
}

func (v Measurement) describe() string {
	s := fmt.Sprintf("%6.0f Mbit/s, %6.0f/s sent, %5.0f/s answered, %.2f cores, %.1f MB", v.Mbps, v.Sent, v.Answers, v.ServerCPU, v.ServerRSS)
	if v.ConnectMs > 0 {
		s += fmt.Sprintf(", new client %.0f ms", v.ConnectMs)
	}
	return s
}

// Summary is one flood over all rounds.
type Summary struct {
	Kind string `json:"kind"`
	Rate int    `json:"rate"`
	// OfDiscard is the throughput during the flood as a part of that during the same flood
	// to a port that discards, in the same round; OfNone as a part of that without flood.
	OfDiscard lab.Spread `json:"of_discard"`
	OfNone    lab.Spread `json:"of_none"`
	Mbps      lab.Spread `json:"mbps"`
	Sent      lab.Spread `json:"sent_per_s"`
	Answers   lab.Spread `json:"answers_per_s"`
	ServerCPU lab.Spread `json:"server_cpu_cores"`
	ServerRSS lab.Spread `json:"server_rss_mb"`
	ConnectMs lab.Spread `json:"connect_ms"`
}

func newReport(o Options) *Report {
	r := &Report{Started: time.Now(), Machine: lab.ThisMachine(), Seconds: o.Measure.Seconds(), Rounds: o.Rounds}
	r.Commit, _ = lab.BuildOf(o.Programs.Server)
	return r
}

// find returns one measurement, nil if it was not made.
func (r *Report) find(round int, kind string, rate int, t target) *Measurement {
	for i := range r.Runs {
		v := &r.Runs[i]
		if v.Round == round && v.Kind == kind && v.Rate == rate && v.Target == t {
			return v
		}
	}
	return nil
}

// summarize computes Summary from Runs.
func (r *Report) summarize(kinds []kind, rates []int) {
	for _, rate := range rates {
		for _, k := range kinds {
			var ofDiscard, ofNone []float64
			var hit []*Measurement
			for round := 1; round <= r.Rounds; round++ {
				none, discard, server := r.find(round, "", 0, toNobody), r.find(round, k.name, rate, toDiscard), r.find(round, k.name, rate, toServer)
				if none == nil || discard == nil || server == nil || none.Mbps == 0 || discard.Mbps == 0 {
					continue
				}
				ofDiscard = append(ofDiscard, server.Mbps/discard.Mbps)
				ofNone = append(ofNone, server.Mbps/none.Mbps)
				hit = append(hit, server)
			}
			if len(hit) == 0 {
				continue
			}
			over := func(f func(*Measurement) float64) lab.Spread {
				var v []float64
				for _, run := range hit {
					v = append(v, f(run))
				}
				return lab.SpreadOf(v)
			}
			r.Summary = append(r.Summary, Summary{
				Kind: k.name, Rate: rate,
				OfDiscard: lab.SpreadOf(ofDiscard),
				OfNone:    lab.SpreadOf(ofNone),
				Mbps:      over(func(v *Measurement) float64 { return v.Mbps }),
				Sent:      over(func(v *Measurement) float64 { return v.Sent }),
				Answers:   over(func(v *Measurement) float64 { return v.Answers }),
				ServerCPU: over(func(v *Measurement) float64 { return v.ServerCPU }),
				ServerRSS: over(func(v *Measurement) float64 { return v.ServerRSS }),
				ConnectMs: over(func(v *Measurement) float64 { return v.ConnectMs }),
			})
		}
	}
}

// writeTable prints medians, with lowest and highest where there are several rounds.
func (r *Report) writeTable(out io.Writer) {
	fmt.Fprintf(out, "\n%s, %d cores, Linux %s. Medians of %d rounds, lowest to highest in brackets; ratios are per round.\n\n",
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.Rounds)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "flood\tsent/s\t× discarded\t× no flood\tanswers/s\tserver cores\tserver MB\tnew client ms")
	for _, s := range r.Summary {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Kind, s.Sent.Text(0, 1),
			s.OfDiscard.Text(2, r.Rounds), s.OfNone.Text(2, r.Rounds), s.Answers.Text(0, 1),
			s.ServerCPU.Text(2, 1), s.ServerRSS.Text(1, r.Rounds), s.ConnectMs.Text(0, r.Rounds))
	}
	t.Flush()
}

// write writes flood.json.
func (r *Report) write(dir string, out io.Writer) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "flood.json")
	fmt.Fprintf(out, "\nData: %s\n", path)
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
