// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"container/heap"
	"math"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// A ccSim is a number of senders that share a link, as loss recovery and congestion
// control see it: no packets are written, so a second at 100 Mbit/s takes
// milliseconds. Acknowledgments return after the link's delay, for every other
// packet.
type ccSim struct {
	t      testing.TB
	now    instant
	link   *quictest.Link
	flows  []*ccFlow
	events ccEvents
	order  int
	queue  ccAverage // bytes in the link's queue, at each arrival there
}

// ccAverage is a mean.
type ccAverage struct{ sum, n float64 }

func (a *ccAverage) mean() float64 { return a.sum / max(a.n, 1) }

// ccFlow is a sender that always has data, unless limit is set, and its receiver.
type ccFlow struct {
	loss  lossState
	space space
	start instant
	limit float64 // bytes/s that the application sends, 0 for any number

	got       []wire.Range
	ecn       wire.ECNCounts // of what arrived
	unacked   int
	ackDue    instant
	delivered int // bytes that arrived
	sent      int
	wake      instant
}

type ccEventKind uint8

const (
	ccArrive ccEventKind = iota
	ccAcked
	ccWake
	ccAckTimer
)

type ccEvent struct {
	at     instant
	order  int
	kind   ccEventKind
	flow   *ccFlow
	pn     packetNumber
	ranges []wire.Range
	mark   uint8          // of a packet
	ecn    wire.ECNCounts // of an acknowledgment
}

type ccEvents []ccEvent

func (h ccEvents) Len() int { return len(h) }
func (h ccEvents) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h ccEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *ccEvents) Push(x any)   { *h = append(*h, x.(ccEvent)) }
func (h *ccEvents) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

const (
	ccPacket    = 1472
	ccIPPacket  = ccPacket + 28
	ccAckDelay  = 25 * ms
	ccAckRanges = 32
)

// newCCSim has one flow for each controller named. The RTT is that of the link.
func newCCSim(t testing.TB, link quictest.LinkConfig, ccs ...CongestionControl) *ccSim {
	s := &ccSim{t: t, now: testStart, link: quictest.NewLink(link)}
	for _, cc := range ccs {
		s.add(cc, 0)
	}
	return s
}

// add adds a flow that begins at time d.
func (s *ccSim) add(cc CongestionControl, d time.Duration) *ccFlow {
	f := &ccFlow{start: at(d)}
	cfg := lossConfig{maxDatagram: ccPacket, newController: cc.newController}
	cfg.spaces[appSpace] = &f.space
	f.loss.init(cfg)
	f.loss.maxAckDelay = ccAckDelay
	s.flows = append(s.flows, f)
	s.push(ccEvent{at: f.start, kind: ccWake, flow: f})
	return f
}

func (s *ccSim) push(e ccEvent) {
	e.order = s.order
	s.order++
	heap.Push(&s.events, e)
}

// run goes on until time d after the beginning.
func (s *ccSim) run(d time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= at(d) {
		e := heap.Pop(&s.events).(ccEvent)
		s.now = e.at
		f := e.flow
		switch e.kind {
		case ccArrive:
			s.arrive(f, e.pn, e.mark)
			continue
		case ccAckTimer:
			if f.ackDue == e.at {
				s.sendAck(f)
			}
			continue
		case ccAcked:
			ack := ackFrame(s.t, e.ranges...)
			ack.HasECN, ack.ECN = true, e.ecn
			if _, err := f.loss.handleAck(s.now, appSpace, ack, 0, true, noFate); err != nil {
				s.t.Fatal(err)
			}
		case ccWake:
			if f.wake == e.at {
				f.wake = 0
			}
			f.loss.expired(s.now, noFate)
		}
		s.send(f)
	}
	s.now = at(d)
}

func noFate(spaceID, frameRecord, fate) {}

// send sends what congestion control allows.
func (s *ccSim) send(f *ccFlow) {
	var next instant
	for {
		probe := f.space.ptoProbes > 0
		if f.limit > 0 && !probe {
			if due := f.start.add(time.Duration(float64(f.sent) / f.limit * 1e9)); due > s.now {
				next = earliest(next, due)
				f.loss.sendingEnded(outOfWork)
				break
			}
		}
		if why, when := f.loss.sendLimit(s.now, ccPacket); why != sched.NotBlocked && !probe {
			next = earliest(next, when)
			f.loss.sendingEnded(windowFull)
			break
		}
		if probe {
			f.space.ptoProbes--
		}
		pn := f.space.next
		p, mark := sentPacket{size: ccPacket, flags: inFlightPacket}, udpio.NotECT
		if f.loss.ecn.marks() {
			p.flags |= sentECT
			mark = udpio.ECT0
		}
		f.loss.packetSent(s.now, appSpace, p, nil)
		f.sent += ccPacket
		arrival, ecn, drop := s.link.AdmitECN(s.now.since(), ccIPPacket, uint8(mark))
		queued, _ := s.link.Queued(s.now.since())
		s.queue.sum += float64(queued)
		s.queue.n++
		if drop == quictest.NotDropped {
			s.push(ccEvent{at: instant(arrival), kind: ccArrive, flow: f, pn: pn, mark: ecn})
		}
	}
	next = earliest(next, f.loss.timer())
	if next != 0 && (f.wake == 0 || next < f.wake) {
		f.wake = max(next, s.now+1)
		s.push(ccEvent{at: f.wake, kind: ccWake, flow: f})
	}
}

// arrive notes a packet at the receiver.
func (s *ccSim) arrive(f *ccFlow, pn packetNumber, mark uint8) {
	f.delivered += ccPacket
	switch udpio.ECN(mark) {
	case udpio.ECT0:
		f.ecn.ECT0++
	case udpio.CE:
		f.ecn.CE++
	}
	n := uint64(pn)
	last := len(f.got) - 1
	gap := last >= 0 && n != f.got[last].Hi+1
	if last < 0 || gap {
		f.got = append(f.got, wire.Range{Lo: n, Hi: n})
		if len(f.got) > ccAckRanges {
			f.got = f.got[1:]
		}
	} else {
		f.got[last].Hi = n
	}
	f.unacked++
	switch {
	case f.unacked >= 2 || gap:
		s.sendAck(f)
	case f.unacked == 1:
		f.ackDue = s.now.add(ccAckDelay)
		s.push(ccEvent{at: f.ackDue, kind: ccAckTimer, flow: f})
	}
}

func (s *ccSim) sendAck(f *ccFlow) {
	f.unacked, f.ackDue = 0, 0
	ranges := append([]wire.Range(nil), f.got...)
	s.push(ccEvent{at: s.now.add(s.link.Config().Delay), kind: ccAcked, flow: f, ranges: ranges, ecn: f.ecn})
}

// rates runs until to, and returns what each flow delivered from from on, as a
// fraction of the link, and the mean queue in that time as a duration.
func (s *ccSim) rates(from, to time.Duration) (share []float64, queue time.Duration) {
	s.run(from)
	before := make([]int, len(s.flows))
	for i, f := range s.flows {
		before[i] = f.delivered
	}
	s.queue = ccAverage{}
	s.run(to)
	rate := float64(s.link.Config().Rate) / 8 * ccPacket / ccIPPacket
	for i, f := range s.flows {
		share = append(share, float64(f.delivered-before[i])/(to-from).Seconds()/rate)
	}
	return share, time.Duration(s.queue.mean() / float64(s.link.Config().Rate) * 8e9)
}

// jain is the fairness index of shares: 1 if all are the same.
func jain(shares []float64) float64 {
	var sum, squares float64
	for _, x := range shares {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// ccLink is a link whose queue is a bandwidth-delay product times depth.
func ccLink(rate int64, rtt time.Duration, depth, loss float64) quictest.LinkConfig {
	bdp := float64(rate) / 8 * rtt.Seconds()
	return quictest.LinkConfig{Rate: rate, Delay: rtt / 2, QueueBytes: int(math.Max(bdp*depth, 15_000)), Loss: loss, Seed: 7}
}
