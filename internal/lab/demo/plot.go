// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	plotWidth  = 12 * vg.Inch
	plotHeight = 7 * vg.Inch
)

// writePlots draws the report as SVG and PNG: throughput above, the probe below, over
// the same time.
func (r *Report) writePlots(svgPath, pngPath string) error {
	var total float64
	var names []string
	for _, l := range r.Links {
		total += l.Rate
		names = append(names, l.Name)
	}
	return lab.SavePlots(svgPath, pngPath, plotWidth, plotHeight, func(c draw.Canvas) error {
		rates, err := r.RatePlot(names, total)
		if err != nil {
			return err
		}
		gaps, err := r.GapPlot()
		if err != nil {
			return err
		}
		lab.StackPlots(c, rates, gaps)
		return nil
	})
}
