// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

const (
	// profileQueue is the length of each link's queue, as the time that it takes to
	// empty it; slow links have room for profileQueuePackets large packets.
	profileQueue        = 50 * time.Millisecond
	profileQueuePackets = 10
	profileMTU          = 1500
	// maxLinks is how many links a list may have: as many as have letters.
	maxLinks = 26
)

// profilesTSV is the table of the pairs of links for which the C implementation of
// mqvpn publishes results. Each line has, for its links a and b: rate in Mbit/s; one-way
// delay in ms; standard deviation of that in ms, by a normal distribution and without
// reordering; loss in percent; all of them the same in both directions. Its own results
// follow, in Mbit/s, for one inner QUIC transfer of 20 MiB with BBR, as medians of three:
// over its best single link, and over both with its wlb and minrtt schedulers, each with
// the best of its reorder settings.
//
//go:embed profiles.tsv
var profilesTSV string

// Profile is a named pair of links.
type Profile struct {
	Name  string
	Links []LinkConfig
	// What the C implementation of mqvpn makes of them with one inner QUIC flow, in
	// Mbit/s: over its best link, and over both at its best.
	ReferenceSingle, ReferenceBoth float64
}

// Profiles lists the named pairs of links.
var Profiles = sync.OnceValue(func() (profiles []Profile) {
	for i, line := range strings.Split(strings.TrimSpace(profilesTSV), "\n") {
		if i == 0 {
			continue
		}
		fields := strings.Split(line, "\t")
		var x []float64
		for _, f := range fields[1:] {
			v, err := strconv.ParseFloat(f, 64)
			if err != nil {
				panic("BUG: profiles.tsv: " + err.Error())
			}
			x = append(x, v)
		}
		profiles = append(profiles, Profile{
			Name:            fields[0],
			Links:           []LinkConfig{newLinkConfig(0, x[0:4]), newLinkConfig(1, x[4:8])},
			ReferenceSingle: x[8],
			ReferenceBoth:   max(x[9], x[10]),
		})
	}
	return profiles
})

// ParseLinks returns the links that s names: a profile, or a list as 300/10+80/30, in
// which each link has a rate in Mbit/s and a one-way delay in ms, and may have a jitter
// in ms and a loss in percent, as 30/40/8/0.5. They are called A, B and so on.
func ParseLinks(s string) ([]LinkConfig, error) {
	for _, p := range Profiles() {
		if p.Name == s {
			return p.Links, nil
		}
	}
	var links []LinkConfig
	for _, part := range strings.Split(s, "+") {
		fields := strings.Split(part, "/")
		if len(fields) < 2 || len(fields) > 4 || len(links) == maxLinks {
			return nil, fmt.Errorf("links %q: want a profile, or up to %d of RATE/DELAY[/JITTER[/LOSS]] joined by +, not %q", s, maxLinks, part)
		}
		x := make([]float64, 4)
		for i, f := range fields {
			v, err := strconv.ParseFloat(f, 64)
			// Not so written that NaN passes.
			if limit := [...]float64{1e5, 1e4, 1e4, 100}[i]; err != nil || !(v >= 0 && v <= limit) || i == 0 && v == 0 {
				return nil, fmt.Errorf("links %q: %q is no %s", s, f, [...]string{"rate in Mbit/s", "delay in ms", "jitter in ms", "loss in percent"}[i])
			}
			x[i] = v
		}
		links = append(links, newLinkConfig(len(links), x))
	}
	return links, nil
}

// newLinkConfig makes link i of rate, delay, jitter and loss in the units of the table.
func newLinkConfig(i int, x []float64) LinkConfig {
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	c := quictest.LinkConfig{Rate: int64(x[0] * 1e6), Delay: ms(x[1]), NormalJitter: ms(x[2]), Loss: x[3] / 100}
	c.QueueBytes = max(int(float64(c.Rate)/8*profileQueue.Seconds()), profileQueuePackets*profileMTU)
	return LinkConfig{Name: string(rune('A' + i)), MTU: profileMTU, AtoB: c, BtoA: c}
}

// Description is a link's configuration in words.
type Description struct {
	Name   string  `json:"name"`
	Rate   float64 `json:"rate_mbps"`
	Delay  float64 `json:"one_way_delay_ms"`
	Jitter float64 `json:"jitter_ms"` // standard deviation
	Loss   float64 `json:"loss_percent"`
	Queue  float64 `json:"queue_ms"` // at its rate
}

// Describe describes the direction A to B.
func (c LinkConfig) Describe() Description {
	m := c.AtoB
	return Description{
		Name: c.Name, Rate: float64(m.Rate) / 1e6, Delay: milliseconds(m.Delay),
		Jitter: milliseconds(m.NormalJitter), Loss: m.Loss * 100,
		Queue: float64(m.QueueBytes) * 8 / float64(m.Rate) * 1e3,
	}
}

func (d Description) String() string {
	s := fmt.Sprintf("%s: %.4g Mbit/s, %.4g ms", d.Name, d.Rate, d.Delay)
	if d.Jitter > 0 {
		s += fmt.Sprintf(" ± %.4g", d.Jitter)
	}
	if d.Loss > 0 {
		s += fmt.Sprintf(", %.4g %% lost", d.Loss)
	}
	return s + fmt.Sprintf(", queue %.0f ms", d.Queue)
}
