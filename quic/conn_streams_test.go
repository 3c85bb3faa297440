// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func TestStreamsExchange(t *testing.T) {
	client := clientTest(t)
	server := newStreamsTest(t, true, testStreamsConfig, generousLimits)
	s := client.open(false)
	s.Write([]byte("ping"))
	s.CloseWrite()
	for _, f := range client.frames() {
		server.receive(f)
	}
	peer := server.accept()
	wantRead(t, peer, "ping")
	peer.Write([]byte("pong"))
	peer.Close()
	for _, f := range server.frames() {
		client.receive(f)
	}
	wantRead(t, s, "pong")
	client.settle(fateAcked)
	server.settle(fateAcked)
	client.frames()
	if len(client.st.streams) != 0 || len(server.st.streams) != 0 {
		t.Errorf("streams left: client %d, server %d", len(client.st.streams), len(server.st.streams))
	}
}

func TestStreamsTakeTurns(t *testing.T) {
	ts := clientTest(t)
	for range 3 {
		ts.open(true).Write(make([]byte, 5000))
	}
	var order []uint64
	for range 6 {
		for _, f := range ts.packet(testPacketSize).frames {
			order = append(order, streamNum(f.StreamID))
		}
	}
	for i, num := range order[:6] {
		if num != uint64(i%3) {
			t.Fatalf("streams sent in the order %v", order)
		}
	}
}

func TestLostDataGoesFirst(t *testing.T) {
	ts := clientTest(t)
	a, b := ts.open(true), ts.open(true)
	a.Write([]byte("aaa"))
	ts.frames()
	b.Write([]byte("bbb"))
	ts.st.hasData()
	ts.settle(fateLost)
	f := ts.packet(testPacketSize).frames
	if len(f) != 2 || f[0].StreamID != a.ID() || f[1].StreamID != b.ID() {
		t.Errorf("sent %+v", f)
	}
}

func TestTokenHolderIsWokenOnce(t *testing.T) {
	ts := clientTest(t)
	s := ts.opened(false)
	woken := ts.woken
	for range 100 {
		s.Write([]byte("abc"))
	}
	s.CloseWrite()
	if n := ts.woken - woken; n != 1 {
		t.Errorf("woken %d times, want once until it has looked", n)
	}
	ts.frames()
	s.Reset(0)
	if n := ts.woken - woken; n != 2 {
		t.Errorf("woken %d times, want again after it has looked", n)
	}
}

// A randomPeer is one side of TestStreamsRandom: an application that uses its
// streams at random, and packets that are lost, duplicated and reordered.
type randomPeer struct {
	*streamsTest
	rng     *rand.Rand
	streams []*randomStream
	flying  []testPacket // sent, not arrived
}

type randomStream struct {
	*Stream
	written, read uint64
	ended         bool // no more writing
	finished      bool // no more reading
}

const randomStreamSize = 20_000

func (p *randomPeer) act() {
	if s := p.accept(); s != nil {
		p.streams = append(p.streams, &randomStream{Stream: s, ended: !s.canSend})
	}
	if p.rng.IntN(30) == 0 && len(p.streams) < 30 {
		if t := streamType(p.rng.IntN(2)); p.st.box.opened[t] < p.st.box.limit[t] {
			s := p.open(t == uniStream)
			p.streams = append(p.streams, &randomStream{Stream: s, finished: !s.canRecv})
		}
	}
	if len(p.streams) == 0 {
		return
	}
	s := p.streams[p.rng.IntN(len(p.streams))]
	switch p.rng.IntN(6) {
	case 0, 1:
		p.write(s)
	case 2, 3, 4:
		p.read(s)
	case 5:
		if p.rng.IntN(20) == 0 && s.canRecv {
			s.StopSending(7)
			s.finished = true
		} else if p.rng.IntN(20) == 0 && s.canSend {
			s.Reset(8)
			s.ended = true
		}
	}
}

func (p *randomPeer) write(s *randomStream) {
	if s.ended {
		return
	}
	n := p.rng.IntN(min(3000, int(randomStreamSize-s.written)) + 1)
	n, err := s.Write(patternBytes(s.ID(), s.written, n))
	s.written += uint64(n)
	if err != nil || s.written == randomStreamSize {
		s.CloseWrite()
		s.ended = true
	}
}

func (p *randomPeer) read(s *randomStream) {
	if s.finished {
		return
	}
	b := make([]byte, p.rng.IntN(3000)+1)
	s.mu.Lock()
	n, err := s.tryRead(b)
	credit := s.recv.takeCredit()
	s.mu.Unlock()
	p.st.box.consume(credit)
	p.st.box.post(s.Stream)
	checkPattern(p.t, s.ID(), s.read, b[:n]) // R9000-2.2-1
	s.read += uint64(n)
	if err != nil {
		if err == io.EOF && s.read != randomStreamSize {
			p.t.Fatalf("stream %d ends after %d bytes", s.ID(), s.read)
		}
		s.finished = true
	}
}

// send builds a packet, and checks that no byte differs from an earlier transmission.
func (p *randomPeer) send() {
	pkt := p.packet(100 + p.rng.IntN(1200))
	p.sent = nil
	if len(pkt.frames) > 0 {
		p.flying = append(p.flying, pkt)
	}
	for _, f := range ofType(pkt.frames, wire.FrameTypeStream) {
		checkPattern(p.t, f.StreamID, f.Offset, f.Data) // R9000-2.2-2
	}
}

// network delivers or loses one packet in flight to the other side.
func (p *randomPeer) network(to *randomPeer, lossless bool) {
	if len(p.flying) == 0 {
		return
	}
	i := p.rng.IntN(min(len(p.flying), 10))
	pkt := p.flying[i]
	p.flying = append(p.flying[:i], p.flying[i+1:]...)
	lost := !lossless && p.rng.IntN(4) == 0
	if !lost {
		for range 1 + p.rng.IntN(2) {
			for _, f := range pkt.frames {
				to.receive(f)
			}
		}
	}
	if lost || !lossless && p.rng.IntN(5) == 0 { // also reported lost when only late
		p.report(pkt, fateLost)
	}
	if !lost {
		p.report(pkt, fateAcked)
	}
}

func (p *randomPeer) report(pkt testPacket, f fate) {
	for _, r := range pkt.recs {
		p.st.handleFate(r, f)
	}
}

func (p *randomPeer) finished() bool {
	for _, s := range p.streams {
		if !s.ended || !s.finished {
			return false
		}
	}
	return len(p.st.box.incoming) == 0
}

// TestStreamsRandom has two applications exchange streams, some of which are reset
// or stopped, over a bad network with small windows. In the end every stream is
// complete, both sides agree on what flow control has counted, and nothing is held.
func TestStreamsRandom(t *testing.T) {
	for seed := range uint64(10) {
		var peers [2]*randomPeer
		limits := transportParams{initialMaxData: 20_000, initialMaxStreamsBidi: 5, initialMaxStreamsUni: 4,
			initialMaxStreamDataBidiLocal: 6000, initialMaxStreamDataBidiRemote: 6000, initialMaxStreamDataUni: 6000}
		for i := range peers {
			cfg := streamsConfig{maxBidi: 5, maxUni: 4, streamWindow: 6000, connWindow: 20_000}
			peers[i] = &randomPeer{streamsTest: newStreamsTest(t, i == 1, cfg, limits), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		}
		idle := 0
		for step := 0; idle < 100; step++ {
			if step > 300_000 {
				t.Fatalf("seed %d: stuck", seed)
			}
			idle++
			for i, p := range peers {
				p.act()
				p.send()
				p.network(peers[1-i], step > 100_000)
				if len(p.flying) > 0 || !p.finished() || len(p.streams) < 10 {
					idle = 0
				}
			}
		}
		for i, p := range peers {
			other := peers[1-i]
			if n := len(p.st.streams); n > 0 {
				t.Errorf("seed %d: %d streams left", seed, n)
			}
			if p.st.flow.sent != other.st.flow.received {
				t.Errorf("seed %d: %d bytes sent, %d received", seed, p.st.flow.sent, other.st.flow.received)
			}
			if consumed := p.st.box.consumed.Load(); consumed != p.st.flow.received {
				t.Errorf("seed %d: %d bytes received, %d given back", seed, p.st.flow.received, consumed)
			}
			for _, s := range p.streams {
				if n := s.send.buf.pipe.chunksHeld() + s.recv.buf.pipe.chunksHeld(); n > 0 {
					t.Errorf("seed %d: stream %d holds %d chunks", seed, s.ID(), n)
				}
			}
		}
	}
}

func TestStreamDataDoesNotAllocate(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(true)
	data := make([]byte, 1000)
	var w packetWriter
	buf := make([]byte, 0, 1200)
	step := func() {
		s.Write(data)
		w.reset(buf, 1200)
		ts.st.appendControl(&w)
		ts.st.appendData(&w)
		for _, r := range w.recs {
			ts.st.handleFate(r, fateAcked)
		}
	}
	for range 100 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n >= 1 { // below 1: the pool may be emptied
		t.Errorf("%v allocations a packet", n)
	}
}

func BenchmarkStreamData(b *testing.B) {
	var st streamsState
	st.init(false, streamsConfig{wake: func() {}})
	st.setPeerParams(&generousLimits)
	s, err := st.open(b.Context(), true)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1150)
	var w packetWriter
	buf := make([]byte, 0, 1200)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		s.Write(data)
		w.reset(buf, 1200)
		st.appendData(&w)
		for _, r := range w.recs {
			st.handleFate(r, fateAcked)
		}
	}
}

// FuzzStreamsFrames hands in whatever frames a peer can send. Nothing may panic, and
// what is held must stay within the limits that we told.
func FuzzStreamsFrames(f *testing.F) {
	f.Add([]byte("\x0a\x01\x03abc\x04\x01\x00\x03"))
	f.Add([]byte("\x0f\x09\x04\x02xy\x05\x01\x07\x11\x01\x40\xff\x10\x08\x12\x09\x15\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ts := clientTest(t)
		local := ts.opened(false)
		local.Write([]byte("abc"))
		for len(b) > 0 {
			var f wire.Frame
			n, perr := f.Parse(b, nil)
			if perr != wire.ParseOK {
				return
			}
			b = b[n:]
			switch f.Type {
			case wire.FrameTypeStream, wire.FrameTypeResetStream, wire.FrameTypeStopSending,
				wire.FrameTypeMaxData, wire.FrameTypeMaxStreamData, wire.FrameTypeMaxStreams,
				wire.FrameTypeDataBlocked, wire.FrameTypeStreamDataBlocked, wire.FrameTypeStreamsBlocked:
			default:
				continue
			}
			if err := ts.st.handleFrame(&f); err != nil {
				ts.st.closeAll(err)
				return
			}
			ts.frames()
			if len(ts.st.streams) > 21 || ts.st.flow.received > 3000+ts.st.box.consumed.Load() {
				t.Fatalf("%d streams, %d bytes received", len(ts.st.streams), ts.st.flow.received)
			}
		}
		ts.settle(fateLost)
		ts.frames()
		ts.settle(fateAcked)
	})
}
