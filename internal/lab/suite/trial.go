// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// values are the results of one trial, by metric.
type values map[string]float64

// The metrics. Those of links follow their letter, as in "A_queue_ms".
const (
	mbps          = "mbps" // of payload that arrived
	stallMs       = "stall_ms"
	pingMean      = "ping_mean_ms"
	pingWorst     = "ping_worst_ms"
	pingP99       = "ping_p99_ms"
	gapUp         = "gap_up_ms"
	gapDown       = "gap_down_ms"
	allowed       = "allowed_ms"
	allowedDown   = "allowed_down_ms"
	returnTime    = "return_s"
	rateBefore    = "mbps_before"
	lost          = "connections_lost"
	upTime        = "up_s"
	carryTime     = "carries_s"
	resumeTime    = "resume_s"
	marked        = "marked_segments"
	retransmitted = "retransmitted_segments"
	dropped       = "dropped_by_tunnel"
	clientCPU     = "client_cpu_percent" // of a core
	serverCPU     = "server_cpu_percent"
)

// trial is one run of a case.
type trial struct {
	*world
	sampler *lab.Sampler
	values  values
	cpu     time.Duration // of the emulators, before it
	began   time.Time
}

func newTrial(w *world) *trial {
	t := &trial{world: w, values: make(values), began: time.Now()}
	t.sampler = newSampler(w.links)
	t.cpu = t.emulatorCPU()
	return t
}

func newSampler(links []*lab.Link) *lab.Sampler {
	return lab.NewSampler(links, func(lab.Sample) {})
}

func (t *trial) emulatorCPU() (sum time.Duration) {
	for _, l := range t.links {
		sum += l.CPU()
	}
	return sum
}

// end closes the trial and returns what it has found.
func (t *trial) end() Result {
	t.sampler.Close()
	r := Result{Values: t.values, timeline: t.sampler.Timeline()}
	r.Seconds = time.Since(t.began).Seconds()
	r.Lateness = r.timeline.WorstLateness()
	r.EmulatorCPU = (t.emulatorCPU() - t.cpu).Seconds() / r.Seconds
	return r
}

// traffic is what a trial sends.
type traffic struct {
	way   lab.Way
	flows int    // of TCP
	cc    string // of TCP; "": CUBIC
	quic  bool   // one QUIC flow instead
}

// flow is traffic that runs.
type flow interface {
	Received() int64
	Err() error
	Close()
}

// send starts traffic through the tunnel.
func (t *trial) send(ctx context.Context, tr traffic) (flow, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	switch {
	case tr.quic:
		return t.programs.StartQUICFlow(ctx, t.host, t.net.Inside, t.quicAddr(), tr.way)
	case tr.cc != "":
		b, err := t.peer.FloodUsing(ctx, t.host, tr.way, tr.flows, tr.cc)
		if errors.Is(err, unix.ENOENT) {
			return nil, &errSkipped{"this kernel has no " + tr.cc}
		}
		return b, err
	}
	return t.peer.Flood(ctx, t.host, tr.way, tr.flows)
}

// watch lets f run for the warm-up and then for d. It records the rate of the second part
// and how full the queues of the links were.
func (t *trial) watch(ctx context.Context, f flow, way lab.Way, warmUp, d time.Duration) error {
	if err := lab.Sleep(ctx, warmUp); err != nil {
		return err
	}
	b, isTCP := f.(*lab.Bulk)
	var congestion lab.Congestion
	if isTCP {
		b.TakeStall()
		var err error
		if congestion, err = b.Congestion(); err != nil {
			return err
		}
	}
	used, err := t.usage()
	if err != nil {
		return err
	}
	from, start, before := t.sampler.Elapsed().Seconds(), time.Now(), f.Received()
	if err := lab.Sleep(ctx, d); err != nil {
		return err
	}
	elapsed := time.Since(start).Seconds()
	t.values[mbps] = float64(f.Received()-before) * 8 / 1e6 / elapsed
	now, err := t.usage()
	if err != nil {
		return err
	}
	for i, name := range []string{clientCPU, serverCPU} {
		t.values[name] = 100 * (now[i] - used[i]).Seconds() / elapsed
	}
	if isTCP {
		t.values[stallMs] = milliseconds(b.TakeStall())
		now, err := b.Congestion()
		if err != nil {
			return err
		}
		t.values[retransmitted] = float64(now.Retransmitted - congestion.Retransmitted)
		t.values[marked] = float64(now.Marked - congestion.Marked)
	}
	t.describeLinks(way, from)
	return f.Err()
}

// usage is the processor time of client and server so far, 0 without a client.
func (t *trial) usage() (used [2]time.Duration, err error) {
	for i, p := range []*lab.Process{t.client, t.server} {
		if p == nil {
			continue
		}
		u, err := p.Usage()
		if err != nil {
			return used, err
		}
		used[i] = u.CPU
	}
	return used, nil
}

// describeLinks records the rates and queues of the links, in a direction, since a time.
func (t *trial) describeLinks(way lab.Way, from float64) {
	samples := since(t.sampler.Timeline().Samples, from)
	for i, l := range t.links {
		var rate, mean, longest float64
		for _, s := range samples {
			link := s.Links[i]
			q, r := link.DownQueue, link.Down
			if way == lab.Up {
				q, r = link.UpQueue, link.Up
			}
			rate += r / float64(len(samples))
			mean += q.Mean / float64(len(samples))
			longest = max(longest, q.Longest)
		}
		t.values[l.Name()+"_mbps"] = rate
		t.values[l.Name()+"_queue_ms"] = mean
		t.values[l.Name()+"_queue_longest_ms"] = longest
	}
}

// since returns the samples that began at a time or later.
func since(samples []lab.Sample, from float64) []lab.Sample {
	const slack = 0.05 // half a sample: one that began a bit earlier belongs to it
	i := slices.IndexFunc(samples, func(s lab.Sample) bool { return s.Time > from+slack })
	if i < 0 {
		return nil
	}
	return samples[i:]
}

// throughput measures traffic through the tunnel.
func throughput(tr traffic, warmUp, d time.Duration) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		f, err := t.send(ctx, tr)
		if err != nil {
			return err
		}
		defer f.Close()
		t.sampler.Begin("traffic", nil, f.Received)
		defer t.sampler.End()
		return t.watch(ctx, f, tr.way, warmUp, d)
	}
}

// plain measures TCP over one link without a tunnel.
func plain(link int, tr traffic, warmUp, d time.Duration) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		f, err := t.outside[link].Flood(ctx, t.host, tr.way, tr.flows)
		if err != nil {
			return err
		}
		defer f.Close()
		t.sampler.Begin("traffic", nil, f.Received)
		defer t.sampler.End()
		return t.watch(ctx, f, tr.way, warmUp, d)
	}
}

const (
	pingInterval = 10 * time.Millisecond
	pingSize     = 84
)

// latency measures ping beside traffic, and the delay of each direction by a probe.
func latency(tr traffic, warmUp, d time.Duration) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		probe, err := t.startProbe(ctx)
		if err != nil {
			return err
		}
		defer probe.Close()
		var f flow = idle{}
		if tr.flows > 0 {
			if f, err = t.send(ctx, tr); err != nil {
				return err
			}
			defer f.Close()
		}
		t.sampler.Begin("traffic", probe, f.Received)
		defer t.sampler.End()
		watched := make(chan error, 1)
		go func() { watched <- t.watch(ctx, f, tr.way, warmUp, d) }()
		err = t.ping(ctx, warmUp, d)
		err = errors.Join(err, <-watched)
		samples := since(t.sampler.Timeline().Samples, warmUp.Seconds())
		for _, s := range samples {
			t.values["probe_up_ms"] += s.Probe.UpDelay / float64(len(samples))
			t.values["probe_down_ms"] += s.Probe.DownDelay / float64(len(samples))
		}
		return err
	}
}

// idle is no traffic.
type idle struct{}

func (idle) Received() int64 { return 0 }
func (idle) Err() error      { return nil }
func (idle) Close()          {}

// ping measures echoes through the tunnel for d, after a warm-up.
func (t *trial) ping(ctx context.Context, warmUp, d time.Duration) error {
	if err := lab.Sleep(ctx, warmUp); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	r, err := t.host.Ping(ctx, lab.InsideAddr4, int(d/pingInterval), pingSize, pingInterval)
	if err == nil && r.Received() == 0 {
		err = errors.New("no answer to ping")
	}
	if err != nil {
		return err
	}
	rtts := slices.Sorted(slices.Values(r.RTTs))
	t.values[pingMean] = milliseconds(r.Mean())
	t.values[pingWorst] = milliseconds(r.Max())
	t.values[pingP99] = milliseconds(rtts[int(0.99*float64(len(rtts)-1))])
	t.values["pings"] = float64(r.Sent)
	t.values["pings_lost"] = float64(r.Sent - r.Received())
	return nil
}

// startProbe starts a probe through the tunnel.
func (t *trial) startProbe(ctx context.Context) (*lab.Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	return t.peer.StartProbe(ctx, t.host)
}

const (
	// loadWarmUp is how long traffic runs before a fault, and before is the part of it
	// that says what its rate was.
	loadWarmUp = 1500 * time.Millisecond
	before     = 0.7 // s
	aloneTime  = 300 * time.Millisecond
	// After the last step is watched for afterAlone at least, beside traffic for afterLoad and
	// then until its rate is back, but not longer than maxAfter.
	afterLoad, afterAlone = 1200 * time.Millisecond, 500 * time.Millisecond
	maxAfter              = 6 * time.Second
	// recovered is the part of the old rate that means that it is back, over a window of
	// this many samples.
	recovered     = 0.90
	recoverWindow = 2
)

// fault runs a probe, beside traffic or alone, while a script is played, and records the
// longest gaps from its first step on, and when the rate was back after its last one.
// limits sets what is allowed, from the path's state before.
func fault(text string, tr traffic, limits func(*trial, lab.ClientStatus)) func(context.Context, *trial) error {
	s := mustParseScript(text)
	return func(ctx context.Context, t *trial) error {
		probe, err := t.startProbe(ctx)
		if err != nil {
			return err
		}
		defer probe.Close()
		var f flow = idle{}
		warmUp, after := aloneTime, afterAlone
		if tr.flows > 0 {
			warmUp, after = loadWarmUp, afterLoad
			if f, err = t.send(ctx, tr); err != nil {
				return err
			}
			defer f.Close()
		}
		t.sampler.Begin("traffic", probe, f.Received)
		defer t.sampler.End()
		if err := lab.Sleep(ctx, warmUp); err != nil {
			return err
		}
		st, err := t.programs.ClientStatus(ctx, t.host)
		if err != nil {
			return err
		}
		limits(t, st)
		if b, ok := f.(*lab.Bulk); ok {
			b.TakeStall()
		}
		times, err := s.play(ctx, t.world, t.sampler)
		if err == nil {
			err = lab.Sleep(ctx, after)
		}
		samples := t.sampler.Timeline().Samples
		for tr.flows > 0 && err == nil {
			if took, back := returnAfter(samples, rateUntil(samples, times[0]), times[len(times)-1]); back || took > maxAfter.Seconds() {
				break
			}
			err = lab.Sleep(ctx, 100*time.Millisecond)
			samples = t.sampler.Timeline().Samples
		}
		if err != nil {
			return err
		}
		for _, x := range samples {
			if x.Time >= times[0] {
				t.values[gapUp] = max(t.values[gapUp], x.Probe.UpGap)
				t.values[gapDown] = max(t.values[gapDown], x.Probe.DownGap)
			}
		}
		if b, ok := f.(*lab.Bulk); ok {
			t.values[stallMs] = milliseconds(b.TakeStall())
			t.values[lost] = 0
			if b.Err() != nil {
				t.values[lost] = 1
			}
			t.values[rateBefore] = rateUntil(samples, times[0])
			t.values[returnTime], _ = returnAfter(samples, t.values[rateBefore], times[len(times)-1])
		}
		return nil
	}
}

// rateUntil is the goodput just before a time.
func rateUntil(samples []lab.Sample, until float64) (mbps float64) {
	n := 0.0
	for _, s := range samples {
		if s.Time > until-before && s.Time <= until {
			mbps, n = mbps+s.Goodput, n+1
		}
	}
	return mbps / max(n, 1)
}

// returnAfter tells how long after the repair the goodput was what it was before the
// fault, in seconds; if it is not back, how long that was watched.
func returnAfter(samples []lab.Sample, old, repair float64) (seconds float64, back bool) {
	for i, s := range samples {
		if i < recoverWindow || s.Time < repair {
			continue
		}
		var now float64
		for _, x := range samples[i-recoverWindow+1 : i+1] {
			now += x.Goodput / recoverWindow
		}
		if now >= recovered*old {
			return s.Time - repair, true
		}
	}
	return samples[len(samples)-1].Time - repair, false
}

// rttOf is the smoothed round-trip time of the path over a link.
func rttOf(st lab.ClientStatus, link int) time.Duration {
	p, _ := st.Path(interfaces(link)[0])
	return p.RTT()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// errSkipped is why a case was not measured: something that it needs is not there.
type errSkipped struct{ why string }

func (e *errSkipped) Error() string { return fmt.Sprintf("not measured: %s", e.why) }
