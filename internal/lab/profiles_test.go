// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"testing"
	"time"
)

func TestProfiles(t *testing.T) {
	profiles := Profiles()
	if len(profiles) != 16 {
		t.Fatalf("%d profiles", len(profiles))
	}
	links, err := ParseLinks("fiber_lte")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"A: 300 Mbit/s, 8 ms, queue 50 ms", "B: 30 Mbit/s, 40 ms ± 8, 0.5 % lost, queue 50 ms"} {
		if got := links[i].Describe().String(); got != want {
			t.Errorf("fiber_lte has %q, want %q", got, want)
		}
	}
	for _, p := range profiles {
		if p.Name == "bw_4to1" && (p.ReferenceSingle != 40.6 || p.ReferenceBoth != 39.9) {
			t.Errorf("bw_4to1: %+v", p)
		}
	}
}

func TestParseLinks(t *testing.T) {
	links, err := ParseLinks("300/10+80/30+1.5/20/5/0.5")
	if err != nil || len(links) != 3 {
		t.Fatal(links, err)
	}
	if m := links[2].BtoA; m.Rate != 1.5e6 || m.Delay != 20*time.Millisecond || m.NormalJitter != 5*time.Millisecond || m.Loss != 0.005 {
		t.Errorf("%+v", m)
	}
	// 50 ms at the rate, and at least ten packets.
	if a, c := links[0].AtoB.QueueBytes, links[2].AtoB.QueueBytes; a != 1_875_000 || c != 15_000 {
		t.Errorf("queues of %d and %d bytes", a, c)
	}
	for _, wrong := range []string{"", "300", "300/10+", "0/10", "a/10", "300/-1", "300/NaN", "300/10/1/101", "1/1/1/1/1", "fiberlte"} {
		if links, err := ParseLinks(wrong); err == nil {
			t.Errorf("%q was accepted: %v", wrong, links)
		}
	}
}
