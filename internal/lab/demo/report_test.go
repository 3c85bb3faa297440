// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// testReport is a run of ten seconds with a failure of link A in its middle.
func testReport() *Report {
	r := &Report{
		Links:    []Link{{Name: "A", Rate: 50}, {Name: "B", Rate: 50}},
		Timeline: lab.Timeline{Events: []lab.Event{{Time: 4, What: "A cut"}, {Time: 7, What: "A repaired"}}},
		Checks:   []Check{{ID: "one", What: "a thing", Value: 1, Unit: "Mbit/s", Want: "at least 1", Passed: true}},
	}
	for i := range 100 {
		s := lab.Sample{Time: float64(i) / 10, Phase: "first", Links: []lab.LinkSample{{Down: 48, Lateness: 1}, {Down: 47, Lateness: 3}}, Goodput: 90}
		if i >= 40 {
			s.Phase = "second"
			s.Probe = &lab.ProbeSample{UpGap: 6, DownGap: 7, UpDelay: 20, DownDelay: 30}
		}
		r.Samples = append(r.Samples, s)
	}
	return r
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Report)
		passed bool
		void   bool
		says   string
	}{
		{"good", func(*Report) {}, true, false, "PASSED"},
		{"late", func(r *Report) { r.Samples[50].Links[1].Lateness = 21 }, false, true, "VOID"},
		{"late, and measured again", func(r *Report) { r.Samples[50].Links[1].Lateness, r.Samples[50].Void = 21, true }, true, false, "PASSED"},
		{"failed", func(r *Report) { r.Checks = append(r.Checks, Check{ID: "two"}) }, false, false, "FAILED: two"},
		{"nothing checked", func(r *Report) { r.Checks = nil }, false, false, "FAILED"},
	} {
		r := testReport()
		test.change(r)
		r.conclude()
		if r.Passed != test.passed || r.Void != test.void || !strings.HasPrefix(r.verdict(), test.says) {
			t.Errorf("%s: passed %v, void %v, %q", test.name, r.Passed, r.Void, r.verdict())
		}
	}
}

func TestTableShowsEachCheck(t *testing.T) {
	r := testReport()
	r.Checks = append(r.Checks, Check{ID: "two", What: "another", Value: 2, Unit: "ms", Want: "at most 1"})
	var b bytes.Buffer
	r.writeTable(&b)
	for _, want := range []string{"ok      a thing", "1 Mbit/s  at least 1", "FAILED  another"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the table:\n%s", want, &b)
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	r := testReport()
	r.conclude()
	if err := r.writeJSON(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Passed || len(got.Samples) != 100 || got.Samples[99].Probe.DownDelay != 30 || got.Events[1].What != "A repaired" {
		t.Errorf("read back: %+v", got.Samples[99])
	}
}

func TestPlots(t *testing.T) {
	dir := t.TempDir()
	svg, image := filepath.Join(dir, "plot.svg"), filepath.Join(dir, "plot.png")
	for _, r := range []*Report{testReport(), {Links: testReport().Links}} { // also a run that ended at once
		if err := r.writePlots(svg, image); err != nil {
			t.Fatal(err)
		}
	}
	if err := testReport().writePlots(svg, image); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Errorf("PNG: %v", err)
	}
	text, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("SVG: %v", err)
		}
	}
	for _, want := range []string{"link A", "link B", "A cut", "A repaired", "second"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%q is not in the plot", want)
		}
	}
}

func TestLongestGaps(t *testing.T) {
	samples := []lab.Sample{
		{Time: 1, Probe: &lab.ProbeSample{UpGap: 900, DownGap: 900}}, // before the cut
		{Time: 3, Probe: &lab.ProbeSample{UpGap: 5, DownGap: 70}},
		{Time: 4},
		{Time: 5, Probe: &lab.ProbeSample{UpGap: 60, DownGap: 8}},
	}
	if up, down := longestGaps(samples, 2); up != 60 || down != 70 {
		t.Errorf("up %v, down %v, want 60 and 70", up, down)
	}
}

func TestView(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var b bytes.Buffer
		r := testReport()
		v := &view{w: &b, terminal: terminal, links: r.Links}
		v.say("begin")
		for _, s := range r.Samples {
			v.show(s)
		}
		v.say("end")
		if terminal {
			if got := strings.Count(b.String(), clearLine); got != 100/samplesPerTerminalLine+1 {
				t.Errorf("the line was cleared %d times", got)
			}
			continue
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 100/samplesPerLine+2 {
			t.Errorf("%d lines:\n%s", len(lines), &b)
		}
		if want := "A ########  48.0  B ########  47.0 Mbit/s   delivered  90.0"; !strings.Contains(lines[1], want) {
			t.Errorf("%q is not in %q", want, lines[1])
		}
		if want := "longest silence   7 ms"; !strings.Contains(lines[10], want) {
			t.Errorf("%q is not in %q", want, lines[10])
		}
	}
}
