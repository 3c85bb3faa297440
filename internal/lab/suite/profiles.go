// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"context"
	"fmt"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// profilesSuite is about the rule that a second link never makes it worse.
func profilesSuite() suite {
	const warmUp, d = 1000 * time.Millisecond, 2000 * time.Millisecond
	s := suite{name: "profiles", about: "one and four TCP flows and one QUIC flow on pairs of links that differ, beside the better link alone",
		took: 340 * time.Second, maxLate: maxLate}
	kinds := []struct {
		name, what string
		traffic
	}{
		{"tcp1", "1 TCP flow", traffic{way: lab.Down, flows: 1}},
		{"tcp4", "4 TCP flows", traffic{way: lab.Down, flows: 4}},
		{"quic", "1 QUIC flow", traffic{way: lab.Down, quic: true}},
	}
	for _, p := range lab.Profiles() {
		sc := scene{links: p.Name}
		for _, link := range candidates(p.Links) {
			for _, k := range kinds {
				id := fmt.Sprintf("%s-%s-%s", p.Name, k.name, p.Links[link].Name)
				sc.cases = append(sc.cases, testCase{id, pathSet(link), needing(k.traffic, throughput(k.traffic, warmUp, d))})
				s.rows = append(s.rows, row{what: fmt.Sprintf("%s, %s, %s alone", p.Name, k.what, p.Links[link].Name), figure: ref{id, mbps}, unit: "Mbit/s"})
			}
		}
		for _, k := range kinds {
			id := fmt.Sprintf("%s-%s", p.Name, k.name)
			sc.cases = append(sc.cases, testCase{id, allPaths, needing(k.traffic, throughput(k.traffic, warmUp, d))})
			w := row{what: fmt.Sprintf("%s, %s", p.Name, k.what), figure: ref{id, mbps}, unit: "Mbit/s", wanted: atLeast, bound: 0.97}
			for _, l := range p.Links {
				if l.AtoB.NormalJitter > 0 || l.AtoB.Loss > 0 {
					w.bound = 0.93
				}
			}
			for _, link := range candidates(p.Links) {
				w.relative = append(w.relative, ref{fmt.Sprintf("%s-%s-%s", p.Name, k.name, p.Links[link].Name), mbps})
			}
			if k.quic {
				w.reference = fmt.Sprintf("× %.2f (%g of %g)", p.ReferenceBoth/p.ReferenceSingle, p.ReferenceBoth, p.ReferenceSingle)
			}
			s.rows = append(s.rows, w)
		}
		s.scenes = append(s.scenes, sc)
	}
	return s
}

// needing skips a case whose traffic cannot be had.
func needing(tr traffic, run func(context.Context, *trial) error) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		if tr.quic && t.programs.QUICFlow == "" {
			return &errSkipped{"there is no quicflow beside the programs; see interop/quicflow"}
		}
		return run(ctx, t)
	}
}

// candidates are the links that may be the best one: those to which no other is superior,
// or equal and before it.
func candidates(links []lab.LinkConfig) (best []int) {
	for i := range links {
		dominated := false
		for j := range links {
			a, b := links[i].AtoB, links[j].AtoB
			notWorse := b.Rate >= a.Rate && b.Delay <= a.Delay && b.NormalJitter <= a.NormalJitter && b.Loss <= a.Loss
			if i != j && notWorse && (b != a || j < i) {
				dominated = true
			}
		}
		if !dominated {
			best = append(best, i)
		}
	}
	return best
}
