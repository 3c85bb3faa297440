// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// TCP as it runs inside the tunnel: bulk flows with CUBIC and loss detection by time
// (RFC 9438, RFC 8985), which as in Linux widens the reordering window and restores the
// congestion window when what it sent again had not been lost: the copies are acknowledged,
// too (RFC 3708). Each segment and each acknowledgment is a datagram.
// So the loop that a scheduler's choices close is real: reordering costs a flow
// its window, and a flow fits itself to the path that it is on.
//
// QUIC inside the tunnel is the same in datagrams of UDP, except that reordering costs it
// more: what is three packets late is lost, however soon it comes (RFC 9002 section 6.1),
// and no loss is taken back.

const (
	innerSegment = 1250 // bytes of a segment, headers included
	innerMinRTO  = 200 * time.Millisecond
	innerAckSize = 60
	// innerPing marks the echoes, which like ICMP have no flow key.
	innerPing     = math.MaxUint64
	innerPingSize = 172
	// innerProbe marks the probes, a flow of UDP in each direction.
	innerProbe     = math.MaxUint64 - 2
	innerProbeSize = 100
	// innerMarkAt is where a segment says that it was marked, innerEcho what its receiver adds
	// to the number of those that an acknowledgment names.
	innerMarkAt = 16
	innerEcho   = 1 << 63
	// innerTick is how often the timers of the flows are looked at.
	innerTick = 2 * time.Millisecond
	// innerAckEvery is how many segments in order one acknowledgment is for, as by GRO.
	innerAckEvery = 8
)

// innerTCP is the traffic of some flows from one end of a connection to the other.
type innerTCP struct {
	from, to *Conn

	mu    sync.Mutex
	flows []*innerFlow
	pings []time.Duration // round-trip times of the pings that were answered
	call  uint64          // flow of UDP that the pings belong to; 0: none, they are of ICMP
	ecn   bool            // the segments can be marked; set before start
	// What is known of the probes that came: at to, and at from.
	probed [2]innerSilence
	epoch  time.Time
	stop   chan struct{}
}

type innerSeg struct {
	sent  time.Duration
	acked bool
	lost  bool // to be sent again
	again bool // was sent again
	pn    uint64
	came  uint64 // pn of the copy that arrived first, which timestamps tell (RFC 7323)
}

type innerSent struct {
	seq uint64
	at  time.Duration
	pn  uint64
}

// innerFlow is one flow, both of its ends.
type innerFlow struct {
	key   uint64
	class sched.Class // ClassUDP: of QUIC
	// The sender.
	cc            *congestion.Cubic
	before        congestion.Cubic // the last loss
	doubtful      int              // segments sent again since then that may not have been lost
	reorder       int              // factor of the reordering window
	segs          map[uint64]*innerSeg
	order         []innerSent // what is in flight, as it was sent
	una, next     uint64
	inFlight      int // segments
	lost          []uint64
	again         map[uint64]bool // sent again, and maybe in vain
	newest        time.Duration   // when the newest segment acknowledged was sent
	sent, largest uint64          // packet numbers: the last, and the largest acknowledged
	srtt, rttvar  time.Duration
	minRTT        time.Duration
	timerFrom     time.Duration
	backoff       int
	limit         uint64 // of segments, for flows that end
	timeouts      int
	retransmitted int
	// The receiver.
	expected  uint64
	early     map[uint64]bool
	received  []uint64 // since the last acknowledgment
	bytes     int      // in order
	echo      bool     // a mark, with the next acknowledgment
	marked    int      // segments
	reordered int      // segments that came after a later one, and were not repeated
	highest   uint64
}

// startInnerTCP starts n bulk flows. The caller stops them.
func startInnerTCP(from, to *Conn, n int) *innerTCP { return startInner(from, to, n, sched.ClassTCP) }

// startInner starts n bulk flows: of QUIC, if the class is ClassUDP, else of TCP.
func startInner(from, to *Conn, n int, class sched.Class) *innerTCP {
	it := newInner(from, to, n, class)
	it.start()
	return it
}

// newInner returns what startInner starts.
func newInner(from, to *Conn, n int, class sched.Class) *innerTCP {
	it := &innerTCP{from: from, to: to, epoch: time.Now(), stop: make(chan struct{})}
	for i := range n {
		it.flows = append(it.flows, &innerFlow{
			key: uint64(i+1) * 0x9e3779b97f4a7c15, class: class, cc: congestion.NewCubic(innerSegment), segs: map[uint64]*innerSeg{},
			early: map[uint64]bool{}, again: map[uint64]bool{}, minRTT: math.MaxInt64, reorder: 1, limit: math.MaxUint64,
		})
	}
	return it
}

func (it *innerTCP) start() {
	it.to.SetDatagramHandler(innerReceiver{it})
	it.from.SetDatagramHandler(innerSender{it})
	go it.run()
}

// startFlows connects over all links and starts bulk flows of TCP, up or down, once the MTU
// is known. The client's paths are a, b, and so on.
func (n *testNet) startFlows(t *testing.T, flows int, up bool) (client, server *Conn, it *innerTCP) {
	t.Helper()
	client, server = n.connect(t)
	client.LabelPath(0, "a")
	n.addPaths(t, client, server)
	if err := client.WaitMTU(context.Background()); err != nil {
		t.Fatal(err)
	}
	if up {
		return client, server, startInnerTCP(client, server, flows)
	}
	return client, server, startInnerTCP(server, client, flows)
}

func (it *innerTCP) now() time.Duration { return time.Since(it.epoch) + time.Second }

// run starts the flows and looks after their timers.
func (it *innerTCP) run() {
	// Not at a multiple of the links' grid.
	for tick := time.NewTicker(innerTick + 77); ; {
		it.mu.Lock()
		now := it.now()
		for _, f := range it.flows {
			if rto := f.rto(); f.inFlight > 0 && now-f.timerFrom >= rto {
				f.timeout(now)
			}
			it.transmit(now, f)
		}
		it.acknowledge(1)
		it.mu.Unlock()
		select {
		case <-tick.C:
		case <-it.stop:
			return
		}
	}
}

func (it *innerTCP) close() { close(it.stop) }

func (f *innerFlow) rto() time.Duration {
	rto := time.Second
	if f.srtt > 0 {
		rto = max(innerMinRTO, f.srtt+4*f.rttvar)
	}
	return rto << min(f.backoff, 6)
}

func (f *innerFlow) timeout(now time.Duration) {
	f.timeouts++
	f.backoff++
	f.timerFrom = now
	f.lost = f.lost[:0]
	for s := f.una; s < f.next; s++ {
		if g := f.segs[s]; !g.acked {
			g.lost = true
			f.lost = append(f.lost, s)
		}
	}
	f.inFlight, f.doubtful = 0, -1<<30
	clear(f.again)
	f.cc.Lost(congestion.Loss{Now: now, Bytes: innerSegment, SentTime: now})
	f.cc.PersistentCongestion(now)
}

// transmit sends what the window of f allows.
func (it *innerTCP) transmit(now time.Duration, f *innerFlow) {
	var bufs []*PacketBuf
	for f.inFlight < max(1, f.cc.Window()/innerSegment) && len(bufs) < 64 {
		var s uint64
		if len(f.lost) > 0 {
			s, f.lost = f.lost[0], f.lost[1:]
			if g := f.segs[s]; g == nil || !g.lost {
				continue
			}
			f.retransmitted++
			f.again[s] = true
		} else if s = f.next; s < f.limit {
			f.next++
			f.segs[s] = &innerSeg{}
		} else {
			break
		}
		f.sent++
		*f.segs[s] = innerSeg{sent: now, again: f.segs[s].lost, pn: f.sent, came: f.segs[s].came}
		f.order = append(f.order, innerSent{s, now, f.sent})
		if f.inFlight++; f.inFlight == 1 {
			f.timerFrom = now
		}
		f.cc.PacketSent(now, innerSegment, f.inFlight*innerSegment, false)
		b := it.packet(f.key, f.class, innerSegment, s, 0, f.sent)
		if it.ecn {
			b.Mark = func(p []byte) { p[innerMarkAt] = 1 }
		}
		bufs = append(bufs, b)
	}
	if len(bufs) > 0 {
		it.from.SendDatagrams(bufs)
	}
}

func (it *innerTCP) packet(key uint64, class sched.Class, n int, fields ...uint64) *PacketBuf {
	b := NewPacketBuf()
	b.Flow, b.Class = key, class
	p := binary.BigEndian.AppendUint64(b.Space()[:0], key)
	for _, v := range fields {
		p = binary.BigEndian.AppendUint64(p, v)
	}
	b.SetLen(max(n, len(p)))
	return b
}

func (it *innerTCP) flow(key uint64) *innerFlow {
	for _, f := range it.flows {
		if f.key == key {
			return f
		}
	}
	return nil
}

// innerReceiver takes the segments.
type innerReceiver struct{ *innerTCP }

func (it innerReceiver) HandleDatagram(b []byte) {
	it.mu.Lock()
	defer it.mu.Unlock()
	switch binary.BigEndian.Uint64(b) {
	case innerPing:
		it.ping(it.to, binary.BigEndian.Uint64(b[8:]))
		return
	case innerProbe:
		it.probed[0].heard(it.now())
		return
	}
	f, s := it.flow(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])
	if f == nil {
		return
	}
	f.received = append(f.received, s)
	if b[innerMarkAt] != 0 {
		f.marked++
		f.echo = true
	}
	if s < f.expected || f.early[s] {
		return
	}
	if g := f.segs[s]; g != nil {
		g.came = binary.BigEndian.Uint64(b[24:])
		if s < f.highest && g.sent < it.now()-2*time.Second {
			f.reordered++
		}
	}
	f.highest = max(f.highest, s)
	f.early[s] = true
	for f.early[f.expected] {
		delete(f.early, f.expected)
		f.expected++
		f.bytes += innerSegment
	}
}

func (it innerReceiver) FlushDatagrams() {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.acknowledge(innerAckEvery)
}

// acknowledge tells the senders what has come, as soon as that is some segments or one out
// of order.
func (it *innerTCP) acknowledge(some int) {
	var bufs []*PacketBuf
	for _, f := range it.flows {
		if len(f.early) == 0 && len(f.received) < some {
			continue
		}
		for len(f.received) > 0 {
			n := min(len(f.received), 100)
			head := []uint64{f.expected, uint64(n)}
			if f.echo {
				head[1], f.echo = head[1]|innerEcho, false
			}
			bufs = append(bufs, it.packet(f.key+1, f.class, innerAckSize, append(head, f.received[:n]...)...))
			f.received = f.received[:copy(f.received, f.received[n:])]
		}
	}
	if len(bufs) > 0 {
		it.to.SendDatagrams(bufs)
	}
}

// innerSender takes the acknowledgments.
type innerSender struct{ *innerTCP }

func (it innerSender) HandleDatagram(b []byte) {
	it.mu.Lock()
	defer it.mu.Unlock()
	now := it.now()
	switch binary.BigEndian.Uint64(b) {
	case innerPing:
		it.pings = append(it.pings, now-time.Duration(binary.BigEndian.Uint64(b[8:])))
		return
	case innerProbe:
		it.probed[1].heard(now)
		return
	}
	f := it.flow(binary.BigEndian.Uint64(b) - 1)
	if f == nil {
		return
	}
	una, n := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	marked := n&innerEcho != 0
	acked := 0
	var newest, rtt time.Duration
	take := func(s uint64) {
		g := f.segs[s]
		if g == nil || g.acked {
			return
		}
		if !g.lost {
			f.inFlight--
		}
		early := g.again && g.came != g.pn // it was an earlier copy that arrived
		if g.lost || early {
			delete(f.again, s)
			f.spurious()
		}
		g.acked, g.lost = true, false
		acked++
		if g.sent > newest && !early {
			newest, rtt = g.sent, now-g.sent
			f.largest = max(f.largest, g.pn)
		}
	}
	for i := range n &^ innerEcho {
		s := binary.BigEndian.Uint64(b[24+8*i:])
		if g := f.segs[s]; f.again[s] && (g == nil || g.acked) { // both copies have arrived
			delete(f.again, s)
			f.spurious()
		}
		take(s)
	}
	for ; f.una < una; f.una++ {
		take(f.una)
		delete(f.segs, f.una)
	}
	if marked {
		f.cc.Lost(congestion.Loss{Now: now, SentTime: newest, ECN: true})
		f.doubtful = -1 << 30 // the window of before is not restored
	}
	if acked > 0 {
		f.acknowledged(now, acked, newest, rtt)
	}
	it.transmit(now, f)
}

func (innerSender) FlushDatagrams() {}

// spurious notes that a segment sent again, or about to be, had not been lost.
func (f *innerFlow) spurious() {
	if f.doubtful--; f.doubtful == 0 {
		*f.cc = f.before
	}
	f.reorder = min(f.reorder+1, 16)
}

// overdue says that o counts as lost.
func (f *innerFlow) overdue(o innerSent) bool {
	if f.class == sched.ClassUDP { // RFC 9002 section 6.1
		return o.pn+3 <= f.largest || o.at < f.newest-f.srtt/8
	}
	return o.at < f.newest-min(f.minRTT/4*time.Duration(f.reorder), f.srtt) // RFC 8985
}

// acknowledged updates RTT and window, and finds losses.
func (f *innerFlow) acknowledged(now time.Duration, segments int, newest, rtt time.Duration) {
	f.backoff, f.timerFrom = 0, now
	if newest == 0 {
		return
	}
	f.minRTT = min(f.minRTT, rtt)
	if f.srtt == 0 {
		f.srtt, f.rttvar = rtt, rtt/2
	} else {
		f.rttvar += ((f.srtt - rtt).Abs() - f.rttvar) / 4
		f.srtt += (rtt - f.srtt) / 8
	}
	f.newest = max(f.newest, newest)
	lost, lostSent := 0, time.Duration(0)
	for len(f.order) > 0 {
		o := f.order[0]
		g := f.segs[o.seq]
		if live := g != nil && !g.acked && !g.lost && g.sent == o.at; live {
			if !f.overdue(o) {
				break
			}
			g.lost = true
			f.lost = append(f.lost, o.seq)
			f.inFlight--
			lost++
			lostSent = max(lostSent, o.at)
		}
		f.order = f.order[1:]
	}
	if lost > 0 {
		window, before := f.cc.Window(), *f.cc
		f.cc.Lost(congestion.Loss{Now: now, Bytes: lost * innerSegment, SentTime: lostSent})
		if f.cc.Window() < window {
			f.before, f.doubtful = before, 0
		}
		f.doubtful += lost
		if f.class == sched.ClassUDP {
			f.doubtful = -1 << 30
		}
	}
	f.cc.Acked(congestion.Ack{
		Now: now, Bytes: segments * innerSegment, SentTime: newest, InFlight: f.inFlight * innerSegment,
		SRTT: f.srtt, LatestRTT: rtt, MinRTT: f.minRTT,
	})
}

// ping sends an echo request or its answer, with the time of the request.
func (it *innerTCP) ping(from *Conn, at uint64) {
	b := it.packet(innerPing, sched.ClassOther, innerPingSize, at)
	b.Flow = 0
	if it.call != 0 {
		b.Flow, b.Class = it.call, sched.ClassUDP
	}
	from.SendDatagrams([]*PacketBuf{b})
}

// measurePings sends a ping every interval for d, and returns the round-trip times of those
// answered, sorted, and how many were sent.
func (it *innerTCP) measurePings(interval, d time.Duration) (rtts []time.Duration, sent int) {
	it.mu.Lock()
	it.pings = nil
	it.mu.Unlock()
	for tick := time.NewTicker(interval + 131); sent < int(d/interval); sent++ {
		<-tick.C
		it.ping(it.from, uint64(it.now()))
	}
	time.Sleep(500 * time.Millisecond)
	it.mu.Lock()
	defer it.mu.Unlock()
	rtts = slices.Clone(it.pings)
	slices.Sort(rtts)
	return rtts, sent
}

// innerSilence is for how long no probe has come.
type innerSilence struct{ last, longest time.Duration }

func (s *innerSilence) heard(now time.Duration) {
	s.longest, s.last = max(s.longest, now-s.last), now
}

// probe sends a probe in each direction every 5 ms until the flows are stopped.
func (it *innerTCP) probe() {
	tick := time.NewTicker(5*time.Millisecond + 131)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-it.stop:
			return
		}
		for _, c := range []*Conn{it.from, it.to} {
			b := it.packet(innerProbe, sched.ClassUDP, innerProbeSize)
			c.SendDatagrams([]*PacketBuf{b})
		}
	}
}

// silences are the longest times without a probe since the last call, at to and at from.
func (it *innerTCP) silences() (longest [2]time.Duration) {
	it.mu.Lock()
	defer it.mu.Unlock()
	for i := range it.probed {
		s := &it.probed[i]
		longest[i] = max(s.longest, it.now()-s.last)
		s.longest = 0
	}
	return longest
}

// delivered is how many bytes of all flows have arrived in order.
func (it *innerTCP) delivered() (n int) {
	it.mu.Lock()
	defer it.mu.Unlock()
	for _, f := range it.flows {
		n += f.bytes
	}
	return n
}

// recorder counts how often the flows change their path: innerStay packets in a row go
// elsewhere. Fewer only pass by.
type recorder struct {
	sched.Scheduler
	ids     []uint32
	flows   map[uint64]*recordedFlow
	changes int
}

type recordedFlow struct {
	home, path uint32
	run        int
}

const innerStay = 8

func (r *recorder) Pick(now time.Duration, w sched.Work, paths []sched.Path) (int, int) {
	r.ids = r.ids[:0]
	for i := range paths {
		r.ids = append(r.ids, paths[i].ID)
	}
	return r.Scheduler.Pick(now, w, paths)
}

func (r *recorder) Sent(now time.Duration, w sched.Work, i, n int) {
	r.Scheduler.Sent(now, w, i, n)
	if w.Kind != sched.WorkDatagram {
		return
	}
	if r.flows == nil {
		r.flows = map[uint64]*recordedFlow{}
	}
	f, id := r.flows[w.Flow], r.ids[i]
	if f == nil {
		f = &recordedFlow{home: id, path: id}
		r.flows[w.Flow] = f
	}
	if f.path != id {
		f.path, f.run = id, 0
	}
	if f.run++; f.run == innerStay && f.path != f.home {
		f.home = f.path
		r.changes++
	}
}
