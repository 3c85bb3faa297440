// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

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

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == NullCommand {
		os.Stderr.WriteString(RunNull(os.Args[2:]).Error())
		os.Exit(1)
	}
	os.Exit(lab.RunTests(m))
}

func ids(rows []row) (ids []string) {
	for _, r := range rows {
		ids = append(ids, r.id)
	}
	return ids
}

func TestSelectRows(t *testing.T) {
	for _, test := range []struct{ patterns, want string }{
		{"tcp-1-up", "tcp-1-up"},
		{"udp-1100-flood,tcp-4-up", "tcp-4-up udp-1100-flood"}, // always in the same order
		{"tcp-4-*", "tcp-4-up tcp-4-down tcp-4-both tcp-4-up-2paths"},
		{"clients-1000*", "clients-1000 clients-1000-memory"},
		{"*-idle,cpu-*", "cpu-idle ping-idle"},
	} {
		rows, err := selectRows(strings.Split(test.patterns, ","))
		if got := strings.Join(ids(rows), " "); got != test.want || err != nil {
			t.Errorf("%s: %s, %v, want %s", test.patterns, got, err, test.want)
		}
	}
	for _, wrong := range []string{"tcp-2-up", "tcp-1-up,nothing*", "["} {
		if _, err := selectRows(strings.Split(wrong, ",")); err == nil {
			t.Errorf("%s was accepted", wrong)
		}
	}
	all, err := selectRows([]string{"*"})
	if got := slices.Compact(slices.Sorted(slices.Values(ids(all)))); err != nil || len(got) != len(all) || len(all) != len(RowIDs()) {
		t.Errorf("%d rows, %d names, %d listed, %v", len(all), len(got), len(RowIDs()), err)
	}
	usual, err := selectRows(nil)
	if err != nil || len(usual) == 0 || len(usual) == len(all) {
		t.Errorf("%d rows by default of %d, %v", len(usual), len(all), err)
	}
	for _, r := range all {
		for _, m := range r.metrics {
			if _, ok := metrics[m]; !ok {
				t.Errorf("%s: the metric %s has no unit", r.id, m)
			}
		}
	}
}

func TestSubjects(t *testing.T) {
	o := Options{Null: true, Versus: new(lab.Programs), Without: []string{"gso", "gso,tun"}}
	subjects, ratios := o.subjects()
	var names []string
	for _, s := range subjects {
		names = append(names, s.name)
	}
	if got, want := strings.Join(names, "; "), "no tunnel; null tunnel; mqvpn; mqvpn (vs); mqvpn without gso; mqvpn without gso,tun"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, want := range []comparison{{mqvpnName, nullName}, {vsName, nullName}, {mqvpnName, vsName}, {"mqvpn without gso", mqvpnName}} {
		if !slices.Contains(ratios, want) {
			t.Errorf("no ratio of %s to %s", want.of, want.to)
		}
	}
	if got := subjects[5].env; len(got) != 1 || got[0] != "MQVPN_NO_OFFLOAD=gso,tun" {
		t.Errorf("environment %q", got)
	}
}

// example is a report of two subjects and three rounds, in which the machine halves
// its speed from round to round. The second subject lacks the last round.
func example() (*Report, []row) {
	r := &Report{Rounds: 3, Subjects: []Subject{{Name: nullName}, {Name: mqvpnName}}}
	for i, speed := range []float64{1, 0.5, 0.25} {
		r.Values = append(r.Values, Measurement{i + 1, "tcp-1-up", nullName, values{mbps: 4000 * speed, cpu: 2 / speed}})
		if i < 2 {
			r.Values = append(r.Values, Measurement{i + 1, "tcp-1-up", mqvpnName, values{mbps: 3000 * speed, cpu: 3 / speed}})
		}
	}
	return r, []row{{id: "tcp-1-up", metrics: throughput}}
}

// TestSummary: ratios are those of one round, so that they do not spread when only the
// machine changes its speed.
func TestSummary(t *testing.T) {
	r, rows := example()
	r.summarize(rows, []comparison{{mqvpnName, nullName}, {mqvpnName, vsName}})
	want := []Summary{
		{"tcp-1-up", nullName, mbps, "Mbit/s", lab.SpreadOf([]float64{1000, 2000, 4000})},
		{"tcp-1-up", nullName, cpu, "CPU-s/GB", lab.SpreadOf([]float64{2, 4, 8})},
		{"tcp-1-up", mqvpnName, mbps, "Mbit/s", lab.SpreadOf([]float64{1500, 3000})},
		{"tcp-1-up", mqvpnName, cpu, "CPU-s/GB", lab.SpreadOf([]float64{3, 6})},
	}
	if !slices.Equal(r.Summary, want) {
		t.Errorf("summary %+v\nwant %+v", r.Summary, want)
	}
	if len(r.Ratios) != 2 || r.Ratios[0].Spread != lab.SpreadOf([]float64{0.75}) || len(r.Ratios[0].Rounds) != 2 || r.Ratios[1].Median != 1.5 {
		t.Errorf("ratios %+v", r.Ratios)
	}
}

func TestReportFiles(t *testing.T) {
	r, rows := example()
	r.summarize(rows, []comparison{{mqvpnName, nullName}})
	var table bytes.Buffer
	r.writeTable(&table)
	for _, want := range []string{
		"tcp-1-up  null tunnel            2 000 (1 000–4 000) Mbit/s  4.00 (2.00–8.00) CPU-s/GB\n",
		"\n            mqvpn / null tunnel  × 0.75 (0.75–0.75)          × 1.50 (1.50–1.50)\n",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	dir := t.TempDir()
	if err := r.write(dir, &table); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bench.svg", "bench.png"} {
		if s, err := os.Stat(filepath.Join(dir, name)); err != nil || s.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(back.Summary, r.Summary) || len(back.Values) != len(r.Values) {
		t.Errorf("%v in\n%s", err, b)
	}
	for _, key := range []string{`"started"`, `"machine"`, `"kernel"`, `"subjects"`, `"round": 3`, `"median"`, `"low"`, `"high"`} {
		if !bytes.Contains(b, []byte(key)) {
			t.Errorf("no %s in\n%s", key, b)
		}
	}
}

// TestEmptyPlot: rows without throughput have nothing to draw, which is no error.
func TestEmptyPlot(t *testing.T) {
	if err := new(Report).writePlots(filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")); err != nil {
		t.Error(err)
	}
}

// TestMeasure runs rows of each kind with the null tunnel, very short, and looks
// whether there are figures.
func TestMeasure(t *testing.T) {
	lab.Require(t)
	s := &subject{name: nullName, kind: nullTunnel}
	w, err := newWorld(t.Context(), s, worldConfig{paths: 1, client: true})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := selectRows([]string{"*-idle", "tcp-4-both", "tcp-1-up-100m", "ping-load", "udp-full-*", "udp-1100-200m*", "memory"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := measureOnce(t.Context(), r, w, 100*time.Millisecond); err != nil {
			t.Logf("again, for longer: %v", err) // a machine may be busy for 100 ms
			if err := measureOnce(t.Context(), r, w, 2*time.Second); err != nil {
				t.Errorf("%v", w.explain(err))
			}
		}
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}

// measureOnce measures a row and reports a figure that is missing.
func measureOnce(ctx context.Context, r row, w *world, d time.Duration) error {
	v, err := r.measure(ctx, w, d)
	if err != nil {
		return fmt.Errorf("%s: %w", r.id, err)
	}
	for _, m := range r.metrics {
		// A null tunnel at rest uses nothing, and on a busy machine all rates may lose something.
		if x, ok := v[m]; !ok || x <= 0 && r.id != "cpu-idle" && r.id != "udp-full-lossless" {
			return fmt.Errorf("%s: %s is %v", r.id, m, x)
		}
	}
	return nil
}
