// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// MaxLateness is how late the emulator may be: beyond it the machine was too busy
// for the figures to mean anything.
const MaxLateness = 20 * time.Millisecond

// Report is everything that a run of the demo has found. Table and plots are made
// from it alone.
type Report struct {
	Started time.Time `json:"started"`
	Kernel  string    `json:"kernel"`
	CPUs    int       `json:"cpus"`
	Links   []Link    `json:"links"`
	Checks  []Check   `json:"checks"`
	lab.Timeline
	// Lateness is the worst of the emulator in any sample that is not void; when it
	// is above MaxLateness the run is void.
	Lateness    float64 `json:"lateness_ms"`
	EmulatorCPU float64 `json:"emulator_cpu_share"` // of one core, all links
	Void        bool    `json:"void"`
	Passed      bool    `json:"passed"`
	Seconds     float64 `json:"seconds"`
}

// Link describes an emulated link, the same in both directions.
type Link struct {
	Name  string  `json:"name"`
	Rate  float64 `json:"rate_mbps"`
	Delay float64 `json:"one_way_delay_ms"`
	Queue float64 `json:"queue_ms"`
}

// Check is one line of the summary.
type Check struct {
	ID     string  `json:"id"`   // stable, for scripts
	What   string  `json:"what"` // for people
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Want   string  `json:"want"` // in words; empty: for information only
	Passed bool    `json:"passed"`
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// conclude adds the check of the emulator's lateness, and derives the verdict.
func (r *Report) conclude() {
	r.Lateness = r.WorstLateness()
	r.Void = r.Lateness > milliseconds(MaxLateness)
	r.Checks = append(r.Checks, Check{
		ID: "lateness", What: "link emulator: latest delivery of a packet, after its time", Value: r.Lateness, Unit: "ms",
		Want: fmt.Sprintf("at most %.0f", milliseconds(MaxLateness)), Passed: !r.Void,
	})
	r.Passed = len(r.Checks) > 1 && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.Passed })
}

// writeJSON writes the report to a file.
func (r *Report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// writeTable writes the summary for people.
func (r *Report) writeTable(w io.Writer) {
	const format = "  %-6s  %-62s  %16s  %s\n"
	fmt.Fprintf(w, format, "", "What was measured", "Result", "Wanted")
	fmt.Fprintf(w, format, "", strings.Repeat("-", 62), strings.Repeat("-", 16), strings.Repeat("-", 18))
	for _, c := range r.Checks {
		verdict := "ok"
		switch {
		case !c.Passed:
			verdict = "FAILED"
		case c.Want == "":
			verdict = ""
		}
		fmt.Fprintf(w, format, verdict, c.What, fmt.Sprintf("%.4g %s", c.Value, c.Unit), c.Want)
	}
}

// verdict is the last line of the summary.
func (r *Report) verdict() string {
	switch {
	case r.Void:
		return fmt.Sprintf("VOID: the link emulator was up to %.0f ms late (%v is allowed), so this machine was too busy "+
			"and the figures mean nothing. Close what else is running and try again.", r.Lateness, MaxLateness)
	case r.Passed:
		return "PASSED: every check holds."
	default:
		var failed []string
		for _, c := range r.Checks {
			if !c.Passed {
				failed = append(failed, c.ID)
			}
		}
		return "FAILED: " + strings.Join(failed, ", ")
	}
}
