// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	plotWidth  = 12 * vg.Inch
	plotHeight = 9 * vg.Inch
)

// panels are the metrics that are drawn, one above the other.
var panels = []struct{ title, metric string }{
	{"Throughput, Mbit/s: median, lowest to highest", mbps},
	{"CPU seconds per GB, both ends", cpu},
}

// writePlots draws the summary as SVG and PNG.
func (r *Report) writePlots(svgPath, pngPath string) error {
	return lab.SavePlots(svgPath, pngPath, plotWidth, plotHeight, r.draw)
}

func (r *Report) draw(c draw.Canvas) error {
	var plots []*plot.Plot
	for _, panel := range panels {
		p, err := r.panel(panel.title, panel.metric)
		if err != nil {
			return err
		}
		if p != nil {
			plots = append(plots, p)
		}
	}
	if len(plots) == 0 {
		return nil // only rows that have neither
	}
	lab.StackPlots(c, plots...)
	return nil
}

// panel draws a metric of all rows that have it, on a logarithmic scale: rows differ
// by factors. It is nil if no row has it.
func (r *Report) panel(title, metric string) (*plot.Plot, error) {
	var rows []string
	for _, s := range r.Summary {
		if s.Metric == metric && s.Low > 0 && !slices.Contains(rows, s.Row) {
			rows = append(rows, s.Row)
		}
	}
	if len(rows) == 0 {
		return nil, nil
	}
	p := plot.New()
	p.Title.Text = title
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	low, high := math.Inf(1), 0.0
	for i, subject := range r.Subjects {
		var points marks
		for _, s := range r.Summary {
			if s.Metric == metric && s.Subject == subject.Name && s.Low > 0 {
				at := float64(slices.Index(rows, s.Row)) + (float64(i+1)/float64(len(r.Subjects)+1)-0.5)*0.6
				points = append(points, mark{at, s.Spread})
				low, high = min(low, s.Low), max(high, s.High)
			}
		}
		if err := points.add(p, subject.Name, lab.PlotColor(i)); err != nil {
			return nil, err
		}
	}
	p.NominalX(rows...)
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/6, draw.XRight, draw.YCenter
	p.X.Min, p.X.Max = -0.5, float64(len(rows))-0.5
	// Whole decades, so that there are labels.
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high*1.01)))
	return p, nil
}

// decades are the ticks of a logarithmic scale, with whole numbers as labels.
func decades(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = strconv.FormatFloat(ticks[i].Value, 'f', -1, 64)
		}
	}
	return ticks
}

// mark is a median at a place, with its spread.
type mark struct {
	x float64
	lab.Spread
}

type marks []mark

func (m marks) Len() int                { return len(m) }
func (m marks) XY(i int) (x, y float64) { return m[i].x, m[i].Median }
func (m marks) YError(i int) (below, above float64) {
	return m[i].Median - m[i].Low, m[i].High - m[i].Median
}

func (m marks) add(p *plot.Plot, name string, c color.Color) error {
	if len(m) == 0 {
		return nil
	}
	points, err := plotter.NewScatter(m)
	if err != nil {
		return err
	}
	points.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	bars, err := plotter.NewYErrorBars(m)
	if err != nil {
		return err
	}
	bars.Color = c
	p.Add(bars, points)
	p.Legend.Add(name, points)
	return nil
}
