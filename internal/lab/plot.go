// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"image/color"
	"io"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

var plotColors = []color.Color{
	color.Gray{0x60}, color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	color.RGBA{0x56, 0xb4, 0xe9, 0xff},
}

// PlotColor is the color of the i-th series of a plot. The first is gray; all can be
// told apart by the color-blind.
func PlotColor(i int) color.Color { return plotColors[i%len(plotColors)] }

// SavePlots writes what f draws as SVG and as PNG.
func SavePlots(svgPath, pngPath string, width, height vg.Length, f func(draw.Canvas) error) error {
	svg, img := vgsvg.New(width, height), vgimg.New(width, height)
	for _, canvas := range []vg.CanvasSizer{svg, img} {
		if err := f(draw.New(canvas)); err != nil {
			return err
		}
	}
	return errors.Join(writeTo(svgPath, svg), writeTo(pngPath, vgimg.PngCanvas{Canvas: img}))
}

func writeTo(path string, from io.WriterTo) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = from.WriteTo(f)
	return errors.Join(err, f.Close())
}

// StackPlots draws plots one above the other, with their axes aligned.
func StackPlots(c draw.Canvas, plots ...*plot.Plot) {
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter,
		PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	column := make([][]*plot.Plot, len(plots))
	for i, p := range plots {
		column[i] = []*plot.Plot{p}
	}
	for i, row := range plot.Align(column, tiles, c) {
		plots[i].Draw(row[0])
	}
}
