// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

func TestFlameGraph(t *testing.T) {
	fn := func(id uint64, name string) *profile.Function { return &profile.Function{ID: id, Name: name} }
	loop, send, seal := fn(1, "example.org/quic.(*Conn).loop"), fn(2, "example.org/quic.send<T>"), fn(3, "crypto/aes.seal")
	// send is inlined into loop.
	at := []*profile.Location{
		{ID: 1, Line: []profile.Line{{Function: send}, {Function: loop}}},
		{ID: 2, Line: []profile.Line{{Function: seal}}},
	}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Sample: []*profile.Sample{
			{Location: []*profile.Location{at[1], at[0]}, Value: []int64{3, 3e9}},
			{Location: []*profile.Location{at[0]}, Value: []int64{1, 1e9}},
		},
		Function: []*profile.Function{loop, send, seal},
		Location: at,
	}
	dir := t.TempDir()
	from, to := filepath.Join(dir, "cpu.pprof"), filepath.Join(dir, "cpu.svg")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := writeFlameGraph(from, to, "server & client"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(b))); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, b)
		}
	}
	var titles []string
	for _, part := range strings.Split(string(b), "<title>")[1:] {
		titles = append(titles, part[:strings.Index(part, "</title>")])
	}
	want := "all: 100.0 %, quic.(*Conn).loop: 100.0 %, quic.send&lt;T&gt;: 100.0 %, aes.seal: 75.0 %"
	if got := strings.Join(titles, ", "); got != want {
		t.Errorf("frames %s; want %s", got, want)
	}
	if err := writeFlameGraph(to, from, ""); err == nil {
		t.Error("an SVG is a profile")
	}
}
