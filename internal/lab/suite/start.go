// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"context"
	"fmt"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	longOutage = 60 * time.Second
	// resumeLimit bounds the wait for TCP after a long outage: its timeouts have grown to
	// about the length of that.
	resumeLimit = 75 * time.Second
	// carried is the part of a link's rate that means that it carries traffic, not only
	// probes.
	carried = 0.05
)

// startSuite is about links that are not there at first, change, or are gone for long.
func startSuite() suite {
	s := suite{name: "start", about: "a dead first link, a new interface, another address, a long outage", took: 130 * time.Second, maxLate: maxLate}
	own := scene{links: bigPair}
	for i, name := range []string{"A", "B"} {
		id := "dead-" + name
		own.cases = append(own.cases, testCase{id, ownWorld, startWithDead(i)})
		s.rows = append(s.rows, row{what: fmt.Sprintf("link %s dead at start: tunnel up", name), figure: ref{id, upTime}, unit: "s", wanted: atMost, bound: 1})
	}
	one := scene{links: "80/30+300/10", present: 1, cases: []testCase{{"plugged-in", ownWorld, plugIn}}}
	s.rows = append(s.rows, row{what: "an interface never seen before, --path auto: carries traffic", figure: ref{"plugged-in", carryTime}, unit: "s", wanted: atMost, bound: 1})
	two := scene{links: bigPair}
	addressCase := func(sc *scene, link string, id, what string, tr traffic) {
		sc.cases = append(sc.cases, testCase{id, allPaths, fault("0s "+link+" address", tr, addressLimits(int(link[0]-'A')))})
		for _, x := range []struct{ metric, way, limit string }{{gapUp, "up", allowed}, {gapDown, "down", allowedDown}} {
			s.rows = append(s.rows, row{what: what + ": gap " + x.way, figure: ref{id, x.metric}, unit: "ms", wanted: atMost, bound: 1, relative: []ref{{id, x.limit}}})
		}
	}
	load := traffic{way: lab.Down, flows: loadFlows}
	for _, name := range []string{"A", "B"} {
		addressCase(&two, name, "address-"+name+"-alone", "another address on "+name+" of two, no other traffic", traffic{})
		addressCase(&two, name, "address-"+name+"-load-down", "another address on "+name+" of two, 4 flows down", load)
	}
	single := scene{links: "80/30"}
	addressCase(&single, "A", "address-only-alone", "another address on the only link, no other traffic", traffic{})
	addressCase(&single, "A", "address-only-load-down", "another address on the only link, 4 flows down", load)
	two.cases = append(two.cases, testCase{"long-outage", allPaths, outlast})
	s.rows = append(s.rows,
		row{what: "all links silent for 60 s: TCP connections lost", figure: ref{"long-outage", lost}, wanted: atMost, bound: 0},
		row{what: "all links silent for 60 s: the call is back", figure: ref{"long-outage", returnTime}, unit: "s"},
		row{what: "all links silent for 60 s: every TCP flow is back", figure: ref{"long-outage", resumeTime}, unit: "s"})
	s.scenes = []scene{own, one, two, single}
	return s
}

// addressLimits are those for a change of the address on a link.
func addressLimits(link int) func(*trial, lab.ClientStatus) {
	return func(t *trial, st lab.ClientStatus) {
		limit := milliseconds(rttOf(st, link)) + 50
		t.values[allowed], t.values[allowedDown] = limit, limit
	}
}

// startWithDead starts a client while a link is silent.
func startWithDead(link int) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		t.sampler.Begin("start", nil, nil)
		defer t.sampler.End()
		t.links[link].SetSilent(true)
		t.sampler.Event("client started")
		began := time.Now()
		if err := t.startClient(ctx, t.allInterfaces()); err != nil {
			return err
		}
		t.values[upTime] = time.Since(began).Seconds()
		t.sampler.Event("tunnel up")
		return nil
	}
}

// plugIn gives a client with --path auto a second interface while traffic runs.
func plugIn(ctx context.Context, t *trial) error {
	if err := t.startClient(ctx, []string{"auto"}); err != nil {
		return err
	}
	f, err := t.send(ctx, traffic{way: lab.Down, flows: loadFlows})
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lab.Sleep(ctx, loadWarmUp); err != nil {
		return err
	}
	began := time.Now()
	if err := t.net.AddLink(0, t.configs[1]); err != nil {
		return err
	}
	t.links = t.net.Links[0]
	fresh := t.links[1]
	t.sampler.Close() // it does not know the link
	t.sampler = newSampler(t.links)
	t.sampler.Begin("traffic", nil, f.Received)
	defer t.sampler.End()
	t.sampler.Event("plugged in")
	const step = 20 * time.Millisecond
	needed := uint64(carried * float64(fresh.Config().BtoA.Rate) / 8 * (5 * step).Seconds())
	var history []uint64
	for time.Since(began) < setUpTime {
		history = append(history, fresh.Counters(lab.BtoA).Bytes)
		if n := len(history); n > 5 && history[n-1]-history[n-6] >= needed {
			t.values[carryTime] = time.Since(began).Seconds()
			return nil
		}
		if err := lab.Sleep(ctx, step); err != nil {
			return err
		}
	}
	t.values[carryTime] = time.Since(began).Seconds()
	return nil
}

// outlast has TCP flows over all links while these are silent for a minute.
func outlast(ctx context.Context, t *trial) error {
	probe, err := t.startProbe(ctx)
	if err != nil {
		return err
	}
	defer probe.Close()
	b, err := t.peer.Flood(ctx, t.host, lab.Down, loadFlows)
	if err != nil {
		return err
	}
	defer b.Close()
	t.sampler.Begin("traffic", probe, b.Received)
	defer t.sampler.End()
	if err := lab.Sleep(ctx, loadWarmUp); err != nil {
		return err
	}
	silent := t.sampler.Count()
	times, err := mustParseScript(fmt.Sprintf("0s all silent for %s", longOutage)).play(ctx, t.world, t.sampler)
	if err != nil {
		return err
	}
	t.sampler.Void(silent) // how late nothing arrived is of no interest
	repaired, back := time.Now(), times[len(times)-1]
	t.values[lost] = 0
	t.values[resumeTime], t.values[returnTime] = resumeLimit.Seconds(), resumeLimit.Seconds()
	for resumed, returned := false, false; !(resumed && returned) && time.Since(repaired) < resumeLimit && b.Err() == nil; {
		if !resumed && b.OldestArrival().After(repaired) {
			resumed = true
			t.values[resumeTime] = time.Since(repaired).Seconds()
		}
		for _, x := range t.sampler.Timeline().Samples {
			if since := x.Time - back; !returned && since > 0 && x.Probe.UpGap < 1e3 && x.Probe.DownGap < 1e3 {
				returned = true
				t.values[returnTime] = since
			}
		}
		if err := lab.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	if b.Err() != nil || t.values[resumeTime] >= resumeLimit.Seconds() {
		t.values[lost] = 1
	}
	return nil
}
