// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// view shows the run while it goes on: on a terminal one line that changes,
// elsewhere a line each second.
type view struct {
	w        io.Writer
	terminal bool
	links    []Link

	mu      sync.Mutex
	recent  []lab.Sample // since the latest line
	partial bool         // the cursor stands behind a line that is to be replaced
}

const (
	clearLine = "\r\x1b[K"
	// samplesPerLine makes a line each second, and on a terminal two.
	samplesPerLine         = 10
	samplesPerTerminalLine = 5
)

// say prints a line that stays.
func (v *view) say(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.partial {
		fmt.Fprint(v.w, clearLine)
		v.partial = false
	}
	v.recent = nil
	fmt.Fprintf(v.w, format+"\n", args...)
}

// show takes a sample, and presents those of the latest half or whole second.
func (v *view) show(s lab.Sample) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recent = append(v.recent, s)
	switch {
	case v.terminal && len(v.recent) >= samplesPerTerminalLine:
		fmt.Fprint(v.w, clearLine+v.line())
		v.partial = true
	case !v.terminal && len(v.recent) >= samplesPerLine:
		fmt.Fprintln(v.w, v.line())
	default:
		return
	}
	v.recent = nil
}

// line shows the means of the recent samples, and the longest silence.
func (v *view) line() string {
	var b strings.Builder
	n := float64(len(v.recent))
	fmt.Fprintf(&b, "    %5.1f s ", v.recent[len(v.recent)-1].Time)
	for i, link := range v.links {
		var mbps float64
		for _, s := range v.recent {
			mbps += max(s.Links[i].Up, s.Links[i].Down) / n
		}
		fmt.Fprintf(&b, "  %s %s %5.1f", link.Name, bar(mbps/link.Rate), mbps)
	}
	var goodput, gap float64
	for _, s := range v.recent {
		goodput += s.Goodput / n
		if s.Probe != nil {
			gap = max(gap, s.Probe.UpGap, s.Probe.DownGap)
		}
	}
	fmt.Fprintf(&b, " Mbit/s   delivered %5.1f", goodput)
	if gap > 0 {
		fmt.Fprintf(&b, "   longest silence %3.0f ms", gap)
	}
	return b.String()
}

// bar draws a fraction in eight characters.
func bar(fraction float64) string {
	const width = 8
	full := int(min(max(fraction, 0), 1)*width + 0.5)
	return strings.Repeat("#", full) + strings.Repeat(".", width-full)
}
