// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"fmt"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	bigPair = "300/10+80/30"
	// tunnelShare is the part of the links' rates that a tunnel can carry as payload of
	// TCP: 347 of 380 Mbit/s.
	tunnelShare = 347.0 / 380
	maxLate     = 20 * time.Millisecond
)

var bothWays = []lab.Way{lab.Up, lab.Down}

// aggregateSuite is about what several links are worth together.
func aggregateSuite() suite {
	const warmUp, d = 3 * time.Second, 5 * time.Second
	s := suite{name: "aggregate", about: "TCP over several links at once", took: 190 * time.Second, maxLate: maxLate}
	pair := scene{links: bigPair}
	add := func(sc *scene, id string, paths pathSet, tr traffic, rows ...row) {
		run := throughput(tr, warmUp, d)
		if paths == noClient {
			run = plain(0, tr, warmUp, d)
		}
		sc.cases = append(sc.cases, testCase{id, paths, run})
		for _, w := range rows {
			w.figure, w.unit = ref{id, mbps}, "Mbit/s"
			s.rows = append(s.rows, w)
		}
	}
	for _, way := range bothWays {
		id := fmt.Sprintf("plain-A-%s", way)
		add(&pair, id, noClient, traffic{way: way, flows: 1}, row{what: fmt.Sprintf("no tunnel, link A, 1 flow %s", way)})
	}
	for _, way := range bothWays {
		add(&pair, fmt.Sprintf("alone-A-%s", way), 0, traffic{way: way, flows: 1}, row{
			what:   fmt.Sprintf("tunnel over A alone, 1 flow %s", way),
			wanted: atLeast, bound: 0.93, relative: []ref{{fmt.Sprintf("plain-A-%s", way), mbps}}, reference: "264",
		})
	}
	for _, x := range []struct {
		flows     int
		way       lab.Way
		reference string
	}{
		{16, lab.Up, "288; 262"}, {16, lab.Down, "322; 275"}, {4, lab.Up, "267; 291"}, {4, lab.Down, "287"},
		{1, lab.Up, "235; 269"}, {1, lab.Down, "259; 266"},
	} {
		w := row{what: fmt.Sprintf("A and B, %d flows %s", x.flows, x.way), wanted: atLeast, reference: x.reference}
		switch x.flows {
		case 16:
			w.bound = 325
		case 4:
			w.bound = 310
		case 1:
			w.bound, w.relative = 0.97, []ref{{fmt.Sprintf("alone-A-%s", x.way), mbps}}
		}
		add(&pair, fmt.Sprintf("both-%d-%s", x.flows, x.way), allPaths, traffic{way: x.way, flows: x.flows}, w)
	}
	for i, flows := range []int{1, 4, 16} {
		add(&pair, fmt.Sprintf("both-%d-up-bbr", flows), allPaths, traffic{way: lab.Up, flows: flows, cc: "bbr"},
			row{what: fmt.Sprintf("A and B, inner BBR, %d flows up", flows), reference: []string{"316", "283", "283"}[i]})
	}
	s.scenes = append(s.scenes, pair)
	for _, set := range []struct {
		name, links string
		sum         float64
		wanted      comparison
	}{
		{"100:10", "100/20+10/20", 110, atLeast},
		{"50:12", "50/20+12/20", 62, atLeast},
		{"200:50:20", "200/20+50/20+20/20", 270, atLeast},
		{"five", "50/10+40/20+30/30+20/40+10/50", 150, informal},
	} {
		sc := scene{links: set.links}
		for _, way := range bothWays {
			add(&sc, fmt.Sprintf("%s-16-%s", set.name, way), allPaths, traffic{way: way, flows: 16}, row{
				what: fmt.Sprintf("%s, 16 flows %s", set.links, way), wanted: set.wanted, bound: 0.92 * tunnelShare * set.sum,
			})
		}
		s.scenes = append(s.scenes, sc)
	}
	return s
}
