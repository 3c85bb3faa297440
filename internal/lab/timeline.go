// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"image/color"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Timeline is what happened in the course of a run.
type Timeline struct {
	Events  []Event  `json:"events"`
	Samples []Sample `json:"samples"`
}

// Event is something that was done to the links.
type Event struct {
	Time float64 `json:"t"` // seconds since the start
	What string  `json:"what"`
}

// Sample is what happened in a tenth of a second.
type Sample struct {
	Time    float64      `json:"t"` // of its end, seconds since the start
	Phase   string       `json:"phase"`
	Void    bool         `json:"void,omitempty"` // the phase was measured again
	Links   []LinkSample `json:"links"`
	Goodput float64      `json:"goodput_mbps"` // of the TCP traffic, at its receiver
	Probe   *ProbeSample `json:"probe,omitempty"`
}

// LinkSample is one link's part of a Sample. The rates are of IP packets that
// arrived.
type LinkSample struct {
	Up        float64     `json:"up_mbps"`
	Down      float64     `json:"down_mbps"`
	UpQueue   QueueSample `json:"up_queue"`
	DownQueue QueueSample `json:"down_queue"`
	Lateness  float64     `json:"lateness_ms"`
}

// QueueSample is how full one direction's queue was: in milliseconds at the link's rate.
type QueueSample struct {
	Mean    float64 `json:"mean_ms"`
	Longest float64 `json:"longest_ms"`
}

// ProbeSample is the probe's part of a Sample. A gap that goes on counts with the
// length that it has at the end of the sample.
type ProbeSample struct {
	UpGap     float64 `json:"up_gap_ms"`
	DownGap   float64 `json:"down_gap_ms"`
	UpDelay   float64 `json:"up_delay_ms"`   // mean, one way
	DownDelay float64 `json:"down_delay_ms"` // mean, one way
}

// WorstLateness is the emulator's in all samples that are not void, in milliseconds.
func (t *Timeline) WorstLateness() (worst float64) {
	for _, s := range t.Samples {
		for _, l := range s.Links {
			if !s.Void {
				worst = max(worst, l.Lateness)
			}
		}
	}
	return worst
}

// shortPhase is the number of samples of a phase that has no room for a name.
const shortPhase = 30

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

var eventColor = color.RGBA{0xb0, 0x00, 0x20, 0xff}

// RatePlot draws the throughput of the links, which have these names and the sum total
// of their rates in Mbit/s, with the events.
func (t *Timeline) RatePlot(links []string, total float64) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Throughput of each link, in its busier direction, and TCP data delivered"
	p.Y.Label.Text = "Mbit/s"
	p.Y.Min = 0
	for i, name := range links {
		err := t.addLine(p, "link "+name, PlotColor(1+i), 1.5, func(s Sample) float64 {
			return max(s.Links[i].Up, s.Links[i].Down)
		})
		if err != nil {
			return nil, err
		}
	}
	if err := t.addLine(p, "delivered", PlotColor(0), 1, func(s Sample) float64 { return s.Goodput }); err != nil {
		return nil, err
	}
	p.Y.Max = total * 1.6 // room for the legend and the events
	return p, t.finish(p, true)
}

// GapPlot draws the probe's silences, with the events.
func (t *Timeline) GapPlot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Longest silence of a call through the tunnel (a packet every 5 ms)"
	p.X.Label.Text = "seconds"
	p.Y.Label.Text = "ms"
	p.Y.Min, p.Y.Max = 0, 100
	for i, way := range []string{"up", "down"} {
		err := t.addLine(p, way, PlotColor(3+i), 1.5, func(s Sample) float64 {
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
	return p, t.finish(p, false)
}

// addLine draws a value over time, with holes between phases and where it is NaN.
func (t *Timeline) addLine(p *plot.Plot, name string, c color.Color, width vg.Length, value func(Sample) float64) error {
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
	for i, s := range t.Samples {
		v := value(s)
		if i > 0 && t.Samples[i-1].Phase != s.Phase || math.IsNaN(v) {
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
func (t *Timeline) finish(p *plot.Plot, names bool) error {
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	p.Legend.Left = true
	p.X.Min = 0
	if n := len(t.Samples); n > 0 {
		p.X.Max = t.Samples[n-1].Time
	}
	var labels plotter.XYLabels
	label := func(x, height float64, text string) {
		labels.XYs = append(labels.XYs, plotter.XY{X: x, Y: height * p.Y.Max})
		labels.Labels = append(labels.Labels, " "+text)
	}
	for i, e := range t.Events {
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
	for i, s := range t.Samples {
		begins := i == 0 || t.Samples[i-1].Phase != s.Phase
		long := i+shortPhase < len(t.Samples) && t.Samples[i+shortPhase].Phase == s.Phase
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
