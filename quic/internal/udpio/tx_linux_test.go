// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"fmt"
	"net/netip"
	"testing"
)

// How runs become messages: N bytes in segments (s) or one datagram (d).
func TestFill(t *testing.T) {
	run := func(n, segSize int) Run {
		return Run{Data: make([]byte, n), SegSize: segSize, Dst: netip.MustParseAddrPort("192.0.2.1:443")}
	}
	const gso, noEqualTail = true, true
	for _, c := range []struct {
		runs             []Run
		off              int
		gso, noEqualTail bool
		want             string
	}{
		{[]Run{run(4000, 1000)}, 0, gso, !noEqualTail, "[4000s]"},
		{[]Run{run(4000, 1000), run(1000, 1000), run(10, 1000)}, 0, gso, !noEqualTail, "[4000s 1000d 10d]"},
		{[]Run{run(4000, 1000)}, 2000, gso, !noEqualTail, "[2000s]"},
		{[]Run{run(4000, 1000), run(2000, 1000)}, 3000, gso, !noEqualTail, "[1000d 2000s]"},
		{[]Run{run(3500, 1000), run(1000, 1000)}, 0, !gso, !noEqualTail, "[1000d 1000d 1000d 500d 1000d]"},
		{[]Run{run(3500, 1000), run(1000, 1000)}, 2000, !gso, !noEqualTail, "[1000d 500d 1000d]"},
		{[]Run{run(4000, 1000)}, 0, gso, noEqualTail, "[3000s 1000d]"},
		{[]Run{run(4001, 1000)}, 0, gso, noEqualTail, "[4001s]"},
		{[]Run{run(2000, 1000), run(1000, 1000)}, 0, gso, noEqualTail, "[1000d 1000d 1000d]"},
	} {
		s := newSender()
		if err := s.fill(c.runs, c.off, false, c.gso, c.noEqualTail); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range s.want {
			kind := "d"
			if s.segmented[i] {
				kind = "s"
			}
			got = append(got, fmt.Sprint(s.sizes[i], kind))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: got %v", c.want, got)
		}
	}
}

func TestMalformedRun(t *testing.T) {
	for _, r := range []Run{
		{},
		{Data: []byte("x")},
		{SegSize: 1},
		{Data: make([]byte, MaxSegments+1), SegSize: 1},
		{Data: make([]byte, MaxRunBytes+1), SegSize: 2000},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes in segments of %d were accepted", len(r.Data), r.SegSize)
				}
			}()
			r.Check()
		}()
	}
}
