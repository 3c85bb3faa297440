// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"errors"
	"image/color"
	"io"
	"math"
	"os"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth  = 12 * vg.Inch
	plotHeight = 9 * vg.Inch
)

var subjectColors = []color.Color{
	color.Gray{0x60}, color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff},
}

// panels are the metrics that are drawn, one above the other.
var panels = []struct{ title, metric string }{
	{"Throughput, Mbit/s: median, lowest to highest", mbps},
	{"CPU seconds per GB, both ends", cpu},
}

// writePlots draws the summary as SVG and PNG.
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

func (r *Report) draw(c draw.Canvas) error {
	var plots [][]*plot.Plot
	for _, panel := range panels {
		p, err := r.panel(panel.title, panel.metric)
		if err != nil {
			return err
		}
		if p != nil {
			plots = append(plots, []*plot.Plot{p})
		}
	}
	if len(plots) == 0 {
		return nil // only rows that have neither
	}
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter,
		PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	for i, canvas := range plot.Align(plots, tiles, c) {
		plots[i][0].Draw(canvas[0])
	}
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
		if err := points.add(p, subject.Name, subjectColors[i%len(subjectColors)]); err != nil {
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
	Spread
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
