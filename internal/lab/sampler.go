// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"slices"
	"sync"
	"time"
)

const (
	// sampleInterval is the time between two samples.
	sampleInterval = 100 * time.Millisecond
	// looksPerSample is how often in a sample the queues of the links are looked at.
	looksPerSample = 10
)

// Sampler watches links, and what runs over them, all the time, and records it in
// phases. Its methods may be called concurrently.
type Sampler struct {
	start time.Time
	links []*Link
	show  func(Sample) // called with each sample of a phase
	stop  chan struct{}
	run   sync.WaitGroup

	mu       sync.Mutex
	phase    string // empty: between phases, when nothing is recorded
	probe    *Probe
	received func() int64 // nil: no traffic
	samples  []Sample
	events   []Event

	// What the counters showed at the latest sample.
	last         time.Time
	lastUp       []uint64
	lastDown     []uint64
	lastReceived int64

	// The queues since the latest sample, in bytes: of each link and direction.
	looks  int
	queued [][2]queueLook
}

// queueLook is what some looks at a queue have shown.
type queueLook struct{ sum, most int }

// NewSampler starts watching. show is called with each sample of a phase.
func NewSampler(links []*Link, show func(Sample)) *Sampler {
	now := time.Now()
	s := &Sampler{
		start: now, last: now, links: links, show: show, stop: make(chan struct{}),
		lastUp: make([]uint64, len(links)), lastDown: make([]uint64, len(links)),
		queued: make([][2]queueLook, len(links)),
	}
	s.run.Go(func() {
		tick := time.NewTicker(sampleInterval / looksPerSample)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-tick.C:
				s.look()
				if n%looksPerSample == 0 {
					s.sample()
				}
			case <-s.stop:
				return
			}
		}
	})
	return s
}

// Close ends it. What was recorded stays.
func (s *Sampler) Close() {
	close(s.stop)
	s.run.Wait()
}

// Timeline returns what was recorded so far.
func (s *Sampler) Timeline() Timeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Timeline{Events: slices.Clone(s.events), Samples: slices.Clone(s.samples)}
}

// Elapsed is the time since the start, which the times of samples and events count from.
func (s *Sampler) Elapsed() time.Duration { return time.Since(s.start) }

// Begin starts a phase, in which what happens is recorded. In it run a probe, or nil,
// and traffic whose receivers have received so many bytes, or nil.
func (s *Sampler) Begin(phase string, probe *Probe, received func() int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.probe, s.received = phase, probe, received
	s.take() // what came before does not count
}

// End ends the phase and returns its samples.
func (s *Sampler) End() []Sample {
	s.sample()
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []Sample
	for _, sample := range s.samples {
		if sample.Phase == s.phase && !sample.Void {
			of = append(of, sample)
		}
	}
	s.phase, s.probe, s.received = "", nil, nil
	return of
}

// Count is the number of samples so far.
func (s *Sampler) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.samples)
}

// Lateness is the emulator's worst since the first of some samples, in ms.
func (s *Sampler) Lateness(first int) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (&Timeline{Samples: s.samples[first:]}).WorstLateness()
}

// Void marks samples as void.
func (s *Sampler) Void(first int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.samples[first:] {
		s.samples[first+i].Void = true
	}
}

// Event records that something was done.
func (s *Sampler) Event(what string) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := Event{Time: time.Since(s.start).Seconds(), What: what}
	s.events = append(s.events, e)
	return e
}

func (s *Sampler) sample() {
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

// look notes how full the queues are.
func (s *Sampler) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	for i, l := range s.links {
		for d := range s.queued[i] {
			n := l.Queued(Direction(d))
			q := &s.queued[i][d]
			q.sum, q.most = q.sum+n, max(q.most, n)
		}
	}
}

// takeQueue returns mean and longest queue of a link since the last call, as the time
// in milliseconds that it takes to empty them at the present rate.
func (s *Sampler) takeQueue(i int, d Direction) (q QueueSample) {
	rate := float64(s.links[i].Model(d).Rate)
	if look := &s.queued[i][d]; s.looks > 0 && rate > 0 {
		q.Mean = float64(look.sum) / float64(s.looks) * 8 / rate * 1e3
		q.Longest = float64(look.most) * 8 / rate * 1e3
	}
	s.queued[i][d] = queueLook{}
	return q
}

// take reads all counters and returns what they have counted since the last time.
func (s *Sampler) take() Sample {
	now := time.Now()
	seconds := now.Sub(s.last).Seconds()
	s.last = now
	mbps := func(bytes float64) float64 { return bytes * 8 / 1e6 / seconds }
	sample := Sample{Time: now.Sub(s.start).Seconds(), Phase: s.phase}
	for i, l := range s.links {
		up, down := l.Counters(AtoB).Bytes, l.Counters(BtoA).Bytes
		sample.Links = append(sample.Links, LinkSample{
			Up:        mbps(float64(up - s.lastUp[i])),
			Down:      mbps(float64(down - s.lastDown[i])),
			UpQueue:   s.takeQueue(i, AtoB),
			DownQueue: s.takeQueue(i, BtoA),
			Lateness:  milliseconds(l.TakeLate()),
		})
		s.lastUp[i], s.lastDown[i] = up, down
	}
	s.looks = 0
	var received int64
	if s.received != nil {
		received = s.received()
	}
	sample.Goodput = mbps(float64(received - s.lastReceived))
	s.lastReceived = received
	if s.probe != nil {
		up, down := s.probe.Take(Up), s.probe.Take(Down)
		sample.Probe = &ProbeSample{
			UpGap: milliseconds(up.Gap), DownGap: milliseconds(down.Gap),
			UpDelay: milliseconds(up.MeanDelay), DownDelay: milliseconds(down.MeanDelay),
		}
	}
	return sample
}
