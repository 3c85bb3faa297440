// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// step is one thing that is done to the links or the server at a time of a script.
type step struct {
	at     time.Duration
	do     action
	link   int             // -1: all
	ways   []lab.Direction // of silence
	value  float64         // of rate and loss
	what   string          // for people
	starts bool            // it is not the end of something
}

// action is what a step does.
type action uint8

const (
	silence action = iota
	hear           // ends silence
	unplug
	plug
	setRate // value: Mbit/s; 0: as configured
	setLoss // value: percent; below 0: as configured
	changeAddress
	stopServer
	startServer
)

// script is what happens, in the order of time.
type script []step

// parseScript reads a script: entries joined by ";", each of them
//
//	TIME LINK silent [up|down] [for DURATION]     nothing arrives, without a sign
//	TIME LINK unplugged [for DURATION]            the interface's carrier is gone
//	TIME LINK flap PERIOD for DURATION            unplugged for the first half of each period
//	TIME LINK rate MBIT [for DURATION]
//	TIME LINK loss PERCENT [for DURATION]
//	TIME LINK address                             the client's address there is another one
//	TIME server restart for DURATION              it is killed, and started after that time
//
// where LINK is a letter, or "all". links is how many there are. What has no duration
// lasts.
func parseScript(s string, links int) (script, error) {
	var steps script
	for _, entry := range strings.Split(s, ";") {
		p := entryParser{entry: strings.TrimSpace(entry), words: strings.Fields(entry), links: links}
		more, err := p.parse()
		if err != nil {
			return nil, fmt.Errorf("script %q: %w", p.entry, err)
		}
		steps = append(steps, more...)
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return steps, nil
}

// mustParseScript is parseScript for the scripts of cases, which name links A and B.
func mustParseScript(s string) script {
	parsed, err := parseScript(s, 2)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return parsed
}

// entryParser reads one entry from the left.
type entryParser struct {
	entry string
	words []string
	links int
}

func (p *entryParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *entryParser) duration() (time.Duration, error) {
	w := p.next()
	d, err := time.ParseDuration(w)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time", w)
	}
	return d, nil
}

func (p *entryParser) number(most float64) (float64, error) {
	w := p.next()
	x, err := strconv.ParseFloat(w, 64)
	if err != nil || !(x >= 0 && x <= most) {
		return 0, fmt.Errorf("%q is no number from 0 to %g", w, most)
	}
	return x, nil
}

// lasting reads "for DURATION"; ok is false when there is none.
func (p *entryParser) lasting() (d time.Duration, ok bool, err error) {
	if len(p.words) == 0 {
		return 0, false, nil
	}
	if w := p.next(); w != "for" {
		return 0, false, fmt.Errorf("want \"for\", not %q", w)
	}
	d, err = p.duration()
	return d, err == nil, err
}

func (p *entryParser) parse() (steps script, err error) {
	first := step{starts: true}
	if first.at, err = p.duration(); err != nil {
		return nil, err
	}
	target := p.next()
	if first.link, err = p.target(target); err != nil {
		return nil, err
	}
	verb := p.next()
	last, period := first, time.Duration(0)
	last.starts = false
	switch {
	case (verb == "restart") != (target == "server"):
		return nil, fmt.Errorf("%s cannot be %q", target, verb)
	case verb == "silent":
		first.do, last.do = silence, hear
		first.ways = p.ways()
		last.ways = first.ways
		first.what = target + " silent" + [...]string{"", " one way"}[2-len(first.ways)]
		last.what = target + " heard again"
	case verb == "unplugged":
		first.do, first.what, last.do, last.what = unplug, target+" unplugged", plug, target+" plugged in"
	case verb == "flap":
		first.do, first.what, last.do, last.what = unplug, target+" unplugged", plug, target+" plugged in"
		if period, err = p.duration(); err == nil && period == 0 {
			err = fmt.Errorf("the period is 0")
		}
	case verb == "rate":
		first.do, last.do = setRate, setRate
		first.value, err = p.number(1e5)
		first.what, last.what = fmt.Sprintf("%s at %g Mbit/s", target, first.value), target+" at its rate"
	case verb == "loss":
		first.do, last.do, last.value = setLoss, setLoss, -1
		first.value, err = p.number(100)
		first.what, last.what = fmt.Sprintf("%s loses %g %%", target, first.value), target+" loses as before"
	case verb == "address":
		first.do, first.what = changeAddress, target+" has another address"
	case verb == "restart":
		first.do, first.what, last.do, last.what = stopServer, "server killed", startServer, "server started"
	default:
		return nil, fmt.Errorf("unknown action %q", verb)
	}
	if err != nil {
		return nil, err
	}
	lasts, limited, err := p.lasting()
	switch {
	case err != nil:
		return nil, err
	case len(p.words) > 0:
		return nil, fmt.Errorf("too much: %q", p.words[0])
	case limited && verb == "address", !limited && (verb == "flap" || verb == "restart"):
		return nil, fmt.Errorf("%s with a duration: %v", verb, limited)
	case verb == "flap":
		for at := first.at; at < first.at+lasts; at += period {
			down, up := first, last
			down.at, up.at = at, at+period/2
			steps = append(steps, down, up)
		}
		return steps, nil
	case limited:
		last.at = first.at + lasts
		return script{first, last}, nil
	}
	return script{first}, nil
}

// target returns the number of a link, -1 for all.
func (p *entryParser) target(w string) (link int, err error) {
	switch {
	case w == "all", w == "server":
		return -1, nil
	case len(w) == 1 && w[0] >= 'A' && int(w[0]-'A') < p.links:
		return int(w[0] - 'A'), nil
	}
	return 0, fmt.Errorf("no link %q", w)
}

// ways reads the direction of a silence.
func (p *entryParser) ways() []lab.Direction {
	if len(p.words) > 0 {
		switch p.words[0] {
		case "up":
			p.next()
			return []lab.Direction{lab.AtoB}
		case "down":
			p.next()
			return []lab.Direction{lab.BtoA}
		}
	}
	return []lab.Direction{lab.AtoB, lab.BtoA}
}

// play does what the script says, from now on, and records it. It returns the time of
// each step by the sampler's clock, in seconds.
func (s script) play(ctx context.Context, w *world, sampler *lab.Sampler) (times []float64, err error) {
	start := time.Now()
	for _, st := range s {
		if err := lab.Sleep(ctx, time.Until(start.Add(st.at))); err != nil {
			return times, err
		}
		times = append(times, sampler.Event(st.what).Time)
		if err := st.run(ctx, w); err != nil {
			return times, fmt.Errorf("%s: %w", st.what, err)
		}
	}
	return times, nil
}

// run does it.
func (st step) run(ctx context.Context, w *world) error {
	switch st.do {
	case stopServer:
		w.server.Kill()
		return nil
	case startServer:
		return w.startServer(ctx)
	}
	for i := range w.links {
		if st.link >= 0 && st.link != i {
			continue
		}
		if err := st.runOnLink(w, i); err != nil {
			return err
		}
	}
	return nil
}

func (st step) runOnLink(w *world, i int) error {
	l := w.links[i]
	switch st.do {
	case silence, hear:
		for _, d := range st.ways {
			l.SetSilentOneWay(d, st.do == silence)
		}
	case unplug, plug:
		return l.SetCarrier(st.do == plug)
	case changeAddress:
		return w.net.ChangeAddress(0, i)
	case setRate, setLoss:
		for d, configured := range map[lab.Direction]lab.LinkModel{lab.AtoB: l.Config().AtoB, lab.BtoA: l.Config().BtoA} {
			m := l.Model(d)
			switch {
			case st.do == setLoss && st.value < 0:
				m.Loss = configured.Loss
			case st.do == setLoss:
				m.Loss = st.value / 100
			case st.value == 0:
				m.Rate, m.QueueBytes = configured.Rate, configured.QueueBytes
			default: // the queue keeps its length in bytes
				m.Rate = int64(st.value * 1e6)
			}
			l.SetModel(d, m)
		}
	}
	return nil
}
