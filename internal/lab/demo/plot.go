// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"errors"
	"image/color"
	"io"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth  = 12 * vg.Inch
	plotHeight = 7 * vg.Inch
	// shortPhase is the number of samples of a phase that has no room for a name.
	shortPhase = 30
)

var (
	totalColor = color.Gray{0x60}
	eventColor = color.RGBA{0xb0, 0x00, 0x20, 0xff}
	linkColors = []color.Color{color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}}
	wayColors  = []color.Color{color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff}}
)

// writePlots draws the report as SVG and PNG.
func (r *Report) writePlots(svgPath, pngPath string) error {
	svg := vgsvg.New(plotWidth, plotHeight)
	img := vgimg.New(plotWidth, plotHeight)
	for _, canvas := range []vg.CanvasSizer{svg, img} {
		if err := r.draw(draw.New(canvas)); err != nil {
			return err
		}
	}
	return errors.Join(writeFile(svgPath, svg), writeFile(pngPath, vgimg.PngCanvas{Canvas: img}))
}

func writeFile(path string, from io.WriterTo) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = from.WriteTo(f)
	return errors.Join(err, f.Close())
}

// draw draws throughput above, the probe below, over the same time.
func (r *Report) draw(c draw.Canvas) error {
	rates, err := r.ratePlot()
	if err != nil {
		return err
	}
	gaps, err := r.gapPlot()
	if err != nil {
		return err
	}
	plots := [][]*plot.Plot{{rates}, {gaps}}
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter,
		PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	canvases := plot.Align(plots, tiles, c)
	rates.Draw(canvases[0][0])
	gaps.Draw(canvases[1][0])
	return nil
}

func (r *Report) ratePlot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Throughput of each link, in its busier direction, and TCP data delivered"
	p.Y.Label.Text = "Mbit/s"
	p.Y.Min = 0
	var total float64
	for i, l := range r.Links {
		total += l.Rate
		err := r.addLine(p, "link "+l.Name, linkColors[i%len(linkColors)], 1.5, func(s Sample) float64 {
			return max(s.Links[i].Up, s.Links[i].Down)
		})
		if err != nil {
			return nil, err
		}
	}
	if err := r.addLine(p, "delivered", totalColor, 1, func(s Sample) float64 { return s.Goodput }); err != nil {
		return nil, err
	}
	p.Y.Max = total * 1.6 // room for the legend and the events
	return p, r.finish(p, true)
}

func (r *Report) gapPlot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Longest silence of a call through the tunnel (a packet every 5 ms)"
	p.X.Label.Text = "seconds"
	p.Y.Label.Text = "ms"
	p.Y.Min, p.Y.Max = 0, 100
	for i, way := range []string{"up", "down"} {
		err := r.addLine(p, way, wayColors[i], 1.5, func(s Sample) float64 {
			if s.Probe == nil {
				return math.NaN()
			}
			gap := [...]float64{s.Probe.UpGap, s.Probe.DownGap}[i]
			p.Y.Max = max(p.Y.Max, gap*1.1)
			return gap
		})
		if err != nil {
			return nil, err
		}
	}
	return p, r.finish(p, false)
}

// addLine draws a value over time, with holes between phases and where it is NaN.
func (r *Report) addLine(p *plot.Plot, name string, c color.Color, width vg.Length, value func(Sample) float64) error {
	var run plotter.XYs
	named := false
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		line, err := plotter.NewLine(run)
		if err != nil {
			return err
		}
		line.Color, line.Width = c, vg.Points(float64(width))
		p.Add(line)
		if !named {
			p.Legend.Add(name, line)
			named = true
		}
		run = nil
		return nil
	}
	for i, s := range r.Samples {
		v := value(s)
		if i > 0 && r.Samples[i-1].Phase != s.Phase || math.IsNaN(v) {
			if err := flush(); err != nil {
				return err
			}
		}
		if !math.IsNaN(v) {
			run = append(run, plotter.XY{X: s.Time, Y: v})
		}
	}
	return flush()
}

// finish adds what both plots have: grid, legend, events, and the name of each
// phase where it begins.
func (r *Report) finish(p *plot.Plot, names bool) error {
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	p.Legend.Left = true
	p.X.Min = 0
	if n := len(r.Samples); n > 0 {
		p.X.Max = r.Samples[n-1].Time
	}
	var labels plotter.XYLabels
	label := func(t, height float64, text string) {
		labels.XYs = append(labels.XYs, plotter.XY{X: t, Y: height * p.Y.Max})
		labels.Labels = append(labels.Labels, " "+text)
	}
	for i, e := range r.Events {
		line, err := plotter.NewLine(plotter.XYs{{X: e.Time, Y: 0}, {X: e.Time, Y: p.Y.Max}})
		if err != nil {
			return err
		}
		line.Color, line.Dashes = eventColor, []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(line)
		if names {
			label(e.Time, 0.72-0.05*float64(i%2), e.What)
		}
	}
	for i, s := range r.Samples {
		begins := i == 0 || r.Samples[i-1].Phase != s.Phase
		long := i+shortPhase < len(r.Samples) && r.Samples[i+shortPhase].Phase == s.Phase
		if names && begins && long {
			label(s.Time, 0.78, s.Phase)
		}
	}
	if len(labels.Labels) == 0 {
		return nil
	}
	l, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	p.Add(l)
	return nil
}
