// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"os"
	"path"
	"slices"

	"github.com/google/pprof/profile"
)

const (
	flameWidth  = 1400 // pixels, as all below
	flameRow    = 17
	flameLetter = 6.5 // of the font, on average
	flameLeast  = 0.4 // narrower frames are left out
)

// flame is a function in a call stack, and what it calls.
type flame struct {
	name  string
	value int64 // nanoseconds of CPU time, calls included
	calls []*flame
}

func (f *flame) call(name string) *flame {
	for _, c := range f.calls {
		if c.name == name {
			return c
		}
	}
	c := &flame{name: name}
	f.calls = append(f.calls, c)
	return c
}

func (f *flame) depth() int {
	d := 0
	for _, c := range f.calls {
		d = max(d, c.depth())
	}
	return d + 1
}

// sort puts the most expensive calls first, so that graphs of two profiles look alike.
func (f *flame) sort() {
	slices.SortFunc(f.calls, func(a, b *flame) int {
		return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.name, b.name))
	})
	for _, c := range f.calls {
		c.sort()
	}
}

// flames adds up the stacks of a CPU profile.
func flames(p *profile.Profile) *flame {
	root := &flame{name: "all"}
	for _, s := range p.Sample {
		v := s.Value[len(s.Value)-1] // samples, nanoseconds
		root.value += v
		at := root
		for _, loc := range slices.Backward(s.Location) {
			for _, line := range slices.Backward(loc.Line) { // what was inlined comes first
				at = at.call(path.Base(line.Function.Name))
				at.value += v
			}
		}
	}
	root.sort()
	return root
}

// writeFlameGraph draws the CPU profile in file from as SVG into file to.
func writeFlameGraph(from, to, title string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	p, err := profile.Parse(in)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	flames(p).draw(out, title)
	return out.Close()
}

// draw writes the graph: callers below, what they call above, as wide as it is expensive.
func (f *flame) draw(w io.Writer, title string) {
	height := (f.depth() + 2) * flameRow
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", flameWidth, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="#fff"/><text x="8" y="14" font-size="13">%s: %.1f s of CPU time</text>`+"\n",
		html.EscapeString(title), float64(f.value)/1e9)
	f.drawAt(w, f.value, 0, flameWidth, height-flameRow)
	fmt.Fprintln(w, "</svg>")
}

func (f *flame) drawAt(w io.Writer, total int64, x, width float64, y int) {
	h := fnv.New32a()
	io.WriteString(h, f.name)
	hue := 15 + h.Sum32()%40
	fmt.Fprintf(w, `<g><title>%s: %.1f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="hsl(%d,85%%,68%%)" stroke="#fff" stroke-width=".5"/>`,
		html.EscapeString(f.name), 100*float64(f.value)/float64(total), x, y, width, flameRow-1, hue)
	if letters := int(width/flameLetter) - 1; letters >= 4 {
		fmt.Fprintf(w, `<text x="%.1f" y="%d">%s</text>`, x+3, y+flameRow-5, html.EscapeString(f.name[:min(letters, len(f.name))]))
	}
	fmt.Fprintln(w, "</g>")
	for _, c := range f.calls {
		if cw := width * float64(c.value) / float64(f.value); cw >= flameLeast {
			c.drawAt(w, total, x, cw, y-flameRow)
			x += cw
		}
	}
}
