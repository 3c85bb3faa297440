// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// sampleInterval is the time between two samples.
const sampleInterval = 100 * time.Millisecond

// sampler measures all the time; the checks, the live view and the report are fed
// by it. Its methods may be called concurrently.
type sampler struct {
	start time.Time
	links []*lab.Link
	show  func(Sample) // called with each sample of a phase
	stop  chan struct{}
	run   sync.WaitGroup

	mu      sync.Mutex
	phase   string // empty: between phases, when nothing is recorded
	probe   *lab.Probe
	bulks   []*lab.Bulk
	samples []Sample
	events  []Event

	// What the counters showed at the latest sample.
	last         time.Time
	lastUp       []uint64
	lastDown     []uint64
	lastReceived int64
}

func newSampler(links []*lab.Link, show func(Sample)) *sampler {
	now := time.Now()
	s := &sampler{
		start: now, last: now, links: links, show: show, stop: make(chan struct{}),
		lastUp: make([]uint64, len(links)), lastDown: make([]uint64, len(links)),
	}
	s.run.Go(func() {
		tick := time.NewTicker(sampleInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.sample()
			case <-s.stop:
				return
			}
		}
	})
	return s
}

func (s *sampler) close() {
	close(s.stop)
	s.run.Wait()
}

// begin starts a phase, in which what happens is recorded. probe, which may be
// nil, and bulks are what runs in it.
func (s *sampler) begin(phase string, probe *lab.Probe, bulks ...*lab.Bulk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.probe, s.bulks = phase, probe, bulks
	s.take() // what came before does not count
}

// end ends the phase and returns its samples.
func (s *sampler) end() []Sample {
	s.sample()
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []Sample
	for _, sample := range s.samples {
		if sample.Phase == s.phase && !sample.Void {
			of = append(of, sample)
		}
	}
	s.phase, s.probe, s.bulks = "", nil, nil
	return of
}

// count is the number of samples so far.
func (s *sampler) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.samples)
}

// lateness is the emulator's worst since the first of some samples, in ms.
func (s *sampler) lateness(first int) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return worstLateness(s.samples[first:])
}

// void marks samples as void.
func (s *sampler) void(first int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.samples[first:] {
		s.samples[first+i].Void = true
	}
}

// event records that something was done.
func (s *sampler) event(what string) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := Event{Time: time.Since(s.start).Seconds(), What: what}
	s.events = append(s.events, e)
	return e
}

func (s *sampler) sample() {
	s.mu.Lock()
	sample := s.take()
	if s.phase != "" {
		s.samples = append(s.samples, sample)
	}
	s.mu.Unlock()
	if sample.Phase != "" {
		s.show(sample)
	}
}

// take reads all counters and returns what they have counted since the last time.
func (s *sampler) take() Sample {
	now := time.Now()
	seconds := now.Sub(s.last).Seconds()
	s.last = now
	mbps := func(bytes float64) float64 { return bytes * 8 / 1e6 / seconds }
	sample := Sample{Time: now.Sub(s.start).Seconds(), Phase: s.phase}
	for i, l := range s.links {
		up, down := l.Counters(lab.AtoB).Bytes, l.Counters(lab.BtoA).Bytes
		sample.Links = append(sample.Links, LinkSample{
			Up:       mbps(float64(up - s.lastUp[i])),
			Down:     mbps(float64(down - s.lastDown[i])),
			Lateness: milliseconds(l.TakeLate()),
		})
		s.lastUp[i], s.lastDown[i] = up, down
	}
	var received int64
	for _, b := range s.bulks {
		received += b.Received()
	}
	sample.Goodput = mbps(float64(received - s.lastReceived))
	s.lastReceived = received
	if s.probe != nil {
		up, down := s.probe.Take(lab.Up), s.probe.Take(lab.Down)
		sample.Probe = &ProbeSample{
			UpGap: milliseconds(up.Gap), DownGap: milliseconds(down.Gap),
			UpDelay: milliseconds(up.MeanDelay), DownDelay: milliseconds(down.MeanDelay),
		}
	}
	return sample
}
