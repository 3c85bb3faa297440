// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flood

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/internal/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.RunTests(m)) }

// TestPayloads: each kind is what it says, made of what real clients send.
func TestPayloads(t *testing.T) {
	lab.Require(t)
	h, err := lab.NewHost("attacker")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const n = 5
	hellos, err := captureHellos(t.Context(), h, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		seen := map[string]bool{}
		for i, p := range k.payloads(hellos) {
			seen[string(p)] = true
			if len(p) != initialSize {
				t.Errorf("%s: %d bytes", k.name, len(p))
			}
			long, v1 := p[0]&0x80 != 0, bytes.Equal(p[1:5], []byte{0, 0, 0, 1})
			switch sameID := bytes.Equal(p[6:14], hellos[i][6:14]); k.name {
			case "forged":
				if !long || !v1 || sameID || !bytes.Equal(p[14:], hellos[i][14:]) {
					t.Errorf("forged: % x", p[:20])
				}
			case "hello":
				if !bytes.Equal(p, hellos[i]) || !long || !v1 {
					t.Errorf("hello: % x", p[:20])
				}
			case "short":
				if long {
					t.Errorf("short: % x", p[:20])
				}
			case "version":
				if !long || v1 {
					t.Errorf("version: % x", p[:20])
				}
			}
		}
		if len(seen) != n {
			t.Errorf("%s: %d different datagrams of %d", k.name, len(seen), n)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Check(Kinds(), []int{1, maxRate}); err != nil {
		t.Error(err)
	}
	for _, err := range []error{Check([]string{"none"}, nil), Check(nil, []int{0}), Check(nil, []int{maxRate + 1})} {
		if err == nil {
			t.Error("accepted")
		}
	}
}

func TestSummary(t *testing.T) {
	r := &Report{Rounds: 3}
	for round, mbps := range [][3]float64{{1000, 800, 600}, {1000, 500, 400}, {2000, 1000, 900}} {
		r.Runs = append(r.Runs,
			Measurement{Round: round + 1, Target: toNobody, Mbps: mbps[0]},
			Measurement{Round: round + 1, Kind: "forged", Rate: 20000, Target: toDiscard, Mbps: mbps[1]},
			Measurement{Round: round + 1, Kind: "forged", Rate: 20000, Target: toServer, Mbps: mbps[2], Sent: 20001, ConnectMs: 12, ServerRSS: 30})
	}
	// A round that was not finished does not count.
	r.Rounds++
	r.Runs = append(r.Runs, Measurement{Round: 4, Target: toNobody, Mbps: 1})
	r.summarize(kinds, []int{20000})
	if len(r.Summary) != 1 {
		t.Fatalf("summary %+v", r.Summary)
	}
	s := r.Summary[0]
	if s.OfDiscard.Median != 0.8 || s.OfDiscard.Low != 0.75 || s.OfDiscard.High != 0.9 || s.OfNone.Median != 0.45 || s.Sent.Median != 20001 {
		t.Errorf("summary %+v", s)
	}
	var out bytes.Buffer
	r.writeTable(&out)
	if !strings.Contains(out.String(), "0.80 (0.75–0.90)") {
		t.Errorf("table:\n%s", &out)
	}
	dir := t.TempDir()
	if err := r.write(dir, &out); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "flood.json"))
	var again Report
	if err != nil || json.Unmarshal(data, &again) != nil || len(again.Runs) != len(r.Runs) {
		t.Errorf("flood.json: %v\n%s", err, data)
	}
}
