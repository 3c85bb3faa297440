// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"fmt"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	// maxSilentGap is the least that is allowed for the detection of a silent link; more
	// on links where 1.5 RTT and 25 ms are longer.
	maxSilentGap = 200.0 // ms
	maxDownGap   = 50.0
	maxFlapGap   = 250.0
	maxReturn    = 1.0 // s
	// loadFlows are the TCP flows beside a probe.
	loadFlows = 4
	// outage is how long a link is gone.
	outage = 1500 * time.Millisecond
)

// failoverSuite is about what a user notices when a link fails.
func failoverSuite() suite {
	s := suite{name: "failover", about: "silences of a call when a link fails, and how soon it is used again", took: 160 * time.Second, maxLate: maxLate}
	sc := scene{links: bigPair}
	type load struct {
		name string
		traffic
	}
	alone, up, down := load{name: "alone"}, load{"load-up", traffic{way: lab.Up, flows: loadFlows}}, load{"load-down", traffic{way: lab.Down, flows: loadFlows}}
	for link, name := range []string{"A", "B"} {
		for _, f := range []struct {
			id, what, event, reference string
			loads                      []load
		}{
			{"unplugged", "link %s down", "unplugged", "25 up, 65 down", []load{alone, up, down}},
			{"silent", "link %s silent", "silent", "6000", []load{alone, up, down}},
			{"silent-up", "link %s silent towards the server", "silent up", "", []load{alone, up}},
			{"silent-down", "link %s silent towards the client", "silent down", "", []load{alone, down}},
		} {
			for _, l := range f.loads {
				id := fmt.Sprintf("%s-%s-%s", f.id, name, l.name)
				text := fmt.Sprintf("0s %s %s for %s", name, f.event, outage)
				limits := silenceLimits(link)
				if f.id == "unplugged" {
					limits = unpluggedLimits(link)
				}
				sc.cases = append(sc.cases, testCase{id, allPaths, fault(text, l.traffic, limits)})
				what := fmt.Sprintf(f.what, name) + ", " + map[string]string{"alone": "no other traffic", "load-up": "4 flows up", "load-down": "4 flows down"}[l.name]
				s.rows = append(s.rows,
					row{what: what + ": gap up", figure: ref{id, gapUp}, unit: "ms", wanted: atMost, bound: 1, relative: []ref{{id, allowed}}, reference: f.reference},
					row{what: what + ": gap down", figure: ref{id, gapDown}, unit: "ms", wanted: atMost, bound: 1, relative: []ref{{id, allowedDown}}, reference: f.reference})
				if l.flows > 0 {
					reference := ""
					if f.id == "silent" {
						reference = "9; 8"
					}
					s.rows = append(s.rows, row{what: what + ": back at 90 %", figure: ref{id, returnTime}, unit: "s", wanted: atMost, bound: maxReturn, reference: reference},
						row{what: what + ": rate before", figure: ref{id, rateBefore}, unit: "Mbit/s"},
						row{what: what + ": longest stall of a flow", figure: ref{id, stallMs}, unit: "ms"})
				}
			}
		}
	}
	id := "flap"
	sc.cases = append(sc.cases, testCase{id, allPaths, fault("0s A flap 2s for 60s", down.traffic, flapLimits)})
	s.rows = append(s.rows,
		row{what: "A flaps every 2 s for a minute, 4 flows down: gap up", figure: ref{id, gapUp}, unit: "ms", wanted: atMost, bound: maxFlapGap},
		row{what: "A flaps every 2 s for a minute, 4 flows down: gap down", figure: ref{id, gapDown}, unit: "ms", wanted: atMost, bound: maxFlapGap},
		row{what: "A flaps every 2 s for a minute: TCP connections lost", figure: ref{id, lost}, wanted: atMost, bound: 0})
	s.scenes = []scene{sc}
	return s
}

// silenceLimits are those for a silent link.
func silenceLimits(link int) func(*trial, lab.ClientStatus) {
	return func(t *trial, st lab.ClientStatus) {
		rtt := milliseconds(rttOf(st, link))
		limit := max(maxSilentGap, 1.5*rtt+25)
		t.values[allowed], t.values[allowedDown], t.values["srtt_before_ms"] = limit, limit, rtt
	}
}

// unpluggedLimits are those for a link of which the client's kernel says that it is down:
// the server is told over the other one.
func unpluggedLimits(link int) func(*trial, lab.ClientStatus) {
	return func(t *trial, st lab.ClientStatus) {
		other := t.links[1-link].Config().AtoB.Delay
		t.values[allowed], t.values[allowedDown] = maxDownGap, maxDownGap+milliseconds(other)
		t.values["srtt_before_ms"] = milliseconds(rttOf(st, link))
	}
}

func flapLimits(*trial, lab.ClientStatus) {}
