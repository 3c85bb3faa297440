// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTopTable: rates are those between two samples; a path whose counters began anew
// does not show nonsense.
func TestTopTable(t *testing.T) {
	read := func(line string, after time.Duration) topSample {
		s, err := readTop([]byte(line))
		must(t, err)
		s.at = time.Unix(0, 0).Add(after)
		return s
	}
	first := read(`{"paths":[{"path_id":0,"name":"eth0","bytes_tx":1000,"bytes_rx":5000000},{"path_id":1,"name":"wwan0","bytes_tx":900}]}`, time.Second)
	second := read(`{"paths":[{"path_id":0,"name":"eth0","state_label":"active","bytes_tx":1251000,"bytes_rx":5000000,"share_now":1,"pins":3,
		"weight_bps":12e6,"srtt_us":20500,"loss":0.01,"cwnd":30000,"priority":"primary","state_sec":61.5},
		{"path_id":1,"name":"wwan0","state_label":"dead","bytes_tx":100,"reason":"silent for 300ms","priority":"backup"}]}`, 3*time.Second)
	var out bytes.Buffer
	must(t, second.print(first, &out))
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"", "- eth0 active 1m1s primary 5.0 Mbit/s 0.0 Mbit/s 100 % 12.0 Mbit/s 3 20.5 ms 1.0 % 30.0 kB -",
		"- wwan0 dead 0s backup 0.0 Mbit/s 0.0 Mbit/s 0 % 0.0 Mbit/s 0 0.0 ms 0.0 % 0 B silent for 300ms"} {
		if got := strings.Join(strings.Fields(lines[i]), " "); i > 0 && got != want {
			t.Errorf("line %d:\n%s, want\n%s", i, got, want)
		}
	}
	server := read(`{"clients":[{"user":"alice","paths":[{"path_id":7}]}]}`, 0)
	if len(server.paths) != 1 || server.paths[0].user != "alice" || server.paths[0].label() != "7" {
		t.Errorf("of a server: %+v", server.paths)
	}
}

// TestTopEnds: top prints nothing but tables, and ends without an error when it is
// interrupted, but with one when there is nobody to ask.
func TestTopEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	if err := top(t.Context(), path, new(bytes.Buffer)); exitCode(err) != ExitNotRunning {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	s, err := listenControl(path, func(controlRequest) (any, error) {
		if asked++; asked == 2 {
			cancel()
		}
		return struct {
			Paths []pathStatus `json:"paths"`
		}{[]pathStatus{{Name: "eth0"}}}, nil
	})
	must(t, err)
	defer s.Close()
	if err := top(ctx, path, new(bytes.Buffer)); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}
