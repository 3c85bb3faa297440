// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	plotWidth  = 10 * vg.Inch
	plotHeight = 6 * vg.Inch
)

// writePlots draws the latest run of each case: throughput of each path over time and
// the silences of the probe, with the events.
func (r *Report) writePlots(dir string) error {
	for id, timeline := range r.timelines() {
		var names []string
		var total float64
		for _, d := range r.linksOf(id) {
			names = append(names, d.Name)
			total += d.Rate
		}
		// A link that was plugged in later is not in the first samples.
		names = names[:min(len(names), len(timeline.Samples[0].Links))]
		name := filepath.Join(dir, r.Suite+"-"+id)
		err := lab.SavePlots(name+".svg", name+".png", plotWidth, plotHeight, func(c draw.Canvas) error {
			rates, err := timeline.RatePlot(names, total)
			if err != nil {
				return err
			}
			plots := []*plot.Plot{rates}
			if slices.ContainsFunc(timeline.Samples, func(s lab.Sample) bool { return s.Probe != nil }) {
				gaps, err := timeline.GapPlot()
				if err != nil {
					return err
				}
				plots = append(plots, gaps)
			}
			lab.StackPlots(c, plots...)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// linksOf describes the links of a case.
func (r *Report) linksOf(id string) []lab.Description {
	i := slices.IndexFunc(r.Results, func(x Result) bool { return x.Case == id })
	j := slices.IndexFunc(r.Links, func(l Links) bool { return l.Name == r.Results[i].Links })
	return r.Links[j].Links
}
