// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Random operations: both ends of a connection, without their loops, in one goroutine
// and virtual time, on links on which anything happens, while the applications do
// anything. A sequence is given by its seed. After each operation the invariants of
// random_invariants_test.go hold; at the end the links work again, and everything arrives
// exactly once, or the connection has ended for a reason.

var (
	sequences     = flag.Int("sequences", 0, "how many random sequences of operations to run, 0: as many as ordinary tests do")
	firstSequence = flag.Uint64("first-sequence", 1, "seed of the first one; the others follow")
	showSequence  = flag.Bool("show-sequence", false, "print the operations of random sequences")
)

// randomSeeds are sequences that failed once. They always run first.
const randomSeeds = "testdata/random-seeds"

func TestRandomOperations(t *testing.T) {
	if *sequences > 0 {
		runSequences(t, *firstSequence, *sequences)
		return
	}
	f, err := os.Open(randomSeeds)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		seed, _, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		runSequences(t, n, 1)
	}
	n := 100
	if raceDetector { // there is one goroutine, nearly always
		n = 20
	}
	runSequences(t, 1, n)
}

func TestManyRandomOperations(t *testing.T) {
	longSimulation(t)
	if *sequences == 0 {
		runSequences(t, 101, 1900)
	}
}

// TestRandomOperationsRepeat: a seed says everything, or the stored ones would mean nothing.
func TestRandomOperationsRepeat(t *testing.T) {
	for seed := range uint64(5) {
		first, _ := runSequence(t, seed+1)
		if second, _ := runSequence(t, seed+1); second != first {
			t.Errorf("sequence %d differs from itself", seed+1)
		}
	}
}

// runSequences runs n sequences, and gives up after some failures.
func runSequences(t *testing.T, first uint64, n int) {
	t.Helper()
	failed := 0
	for seed := first; seed < first+uint64(n) && failed < 10; seed++ {
		if _, err := runSequence(t, seed); err != nil {
			failed++
			t.Errorf("sequence %d: %v", seed, err)
		}
	}
	if failed > 0 {
		t.Logf("-run '^TestRandomOperations$' -v -sequences 1 -show-sequence -first-sequence N repeats a sequence; add it to %s", randomSeeds)
	}
}

// runSequence runs one sequence, and returns a fingerprint of all packets.
func runSequence(t *testing.T, seed uint64) (trace uint64, err error) {
	session := earlySession(t)
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if e := recover(); e != nil {
				fmt.Fprintf(os.Stderr, "sequence %d: %v\n%s", seed, e, debug.Stack())
				panic(e)
			}
		}()
		early := seed%5 == 2 // by the seed alone, as the rest of a sequence is not to change with it
		r := newRandomRun(t, seed, randomTLS(), func(cfg *Config) { cfg.AllowEarlyData = early })
		if early {
			r.useSession(session)
		}
		err = r.run()
		r.cleanup()
		if err == nil {
			err = r.checkReleased()
		}
		trace = r.net.trace
	})
	return trace, err
}

// randomEnd is one end of the connection.
type randomEnd struct {
	r       *randomRun
	name    string
	e       *Endpoint
	c       *Conn
	peer    *randomEnd
	wake    instant // when the next turn is due
	stalled instant // no turn before
	ended   bool    // its loop is over
	held    bool    // it does not run any more, and gets nothing
	spins   int     // turns since something was sent or received, or time has passed
	spunAt  instant

	streams   []*randomOpStream
	byID      map[uint64]*randomOpStream
	datagrams map[uint64]int // sent by the other end, and not received yet: their sizes
	nextDgram uint64
	bad       error // of the datagrams received
	abandoned bool  // it has abandoned paths
	early     bool  // the client uses 0-RTT, if it can
	cids      map[localCIDKey]randomCIDUse
}

// randomRun is one sequence.
type randomRun struct {
	t    *testing.T
	rng  *rand.Rand
	now  instant
	net  *randomNet
	ends [2]*randomEnd // client, server
	buf  []byte

	base struct{ packets, chunks, tx int64 } // of the pools

	// What the applications and the links did, which excuses what follows from it.
	closed    bool // an application has closed the connection
	vanished  bool // an end has gone without a word
	abandoned bool // paths were abandoned or removed
	bothSides bool // by both ends, which may leave each with another one
}

func newRandomRun(t *testing.T, seed uint64, tlsConfig *tls.Config, change func(*Config)) *randomRun {
	time.Sleep(sessionAge)
	r := &randomRun{t: t, rng: rand.New(rand.NewPCG(seed, 0x72616e646f6d))}
	r.base.packets, r.base.chunks, r.base.tx = packetBufsOut.Load(), rxChunksOut.Load(), txBuffersOut.Load()
	r.net = newRandomNet(r.rng, func() instant { return r.now }, r.logf)
	for i, name := range []string{"client", "server"} {
		cfg := r.randomConfig()
		cfg.TLS = tlsConfig
		if change != nil {
			change(cfg)
		}
		e := NewEndpoint(cfg)
		r.ends[i] = &randomEnd{r: r, name: name, e: e, byID: make(map[uint64]*randomOpStream), datagrams: make(map[uint64]int), cids: make(map[localCIDKey]randomCIDUse)}
	}
	client, server := r.ends[0], r.ends[1]
	client.peer, server.peer = server, client
	r.now = client.e.now()
	for i := range 1 + r.rng.IntN(3) {
		r.net.addLink(fmt.Sprintf("link%d", i))
	}
	for _, l := range r.net.links {
		client.addSocket(l.socket)
	}
	server.addSocket(r.net.server)
	return r
}

// randomConfig is drawn from what configurations can be, with small limits more often
// than others.
func (r *randomRun) randomConfig() *Config {
	cfg := &Config{
		Datagrams:             r.rng.IntN(8) > 0,
		MaxIncomingStreams:    int64(1 + r.rng.IntN(20)),
		MaxIncomingUniStreams: int64(1 + r.rng.IntN(20)),
		StreamReceiveWindow:   1000 << r.rng.IntN(8),
		ConnReceiveWindow:     2000 << r.rng.IntN(8),
		CongestionControl:     CongestionControl(r.rng.IntN(int(numCongestionControls))),
		InitialMaxPathID:      []int{-1, 0, 1, 2, 8, 8, 8, 64}[r.rng.IntN(8)],
		FixedQUICBit:          r.rng.IntN(4) == 0,
		NewScheduler:          r.randomScheduler(),
		MaxIdleTimeout:        []time.Duration{0, 0, 10 * time.Second, 40 * time.Second}[r.rng.IntN(4)],
	}
	if r.rng.IntN(3) == 0 {
		cfg.KeepAlive = time.Duration(1+r.rng.IntN(20)) * time.Second
	}
	return cfg
}

func (r *randomRun) randomScheduler() func() sched.Scheduler {
	return []func() sched.Scheduler{
		func() sched.Scheduler { return sched.NewWLB() },
		func() sched.Scheduler { return sched.NewWLBUDPPin() },
		sched.NewMinRTT, sched.NewBackup,
	}[r.rng.IntN(4)]
}

// addSocket does what Endpoint.AddSocket does, without a reader.
func (end *randomEnd) addSocket(s *randomSocket) {
	end.e.sockets = append(end.e.sockets, &endpointSocket{Socket: s, e: end.e})
}

// randomPayload is the payload of a datagram of n bytes, which begins with its number.
func randomPayload(b []byte, num uint64) {
	for i := range b {
		b[i] = byte(num>>(8*(i&7))) ^ byte(i&^7)
	}
}

// HandleDatagram checks that each datagram of the other end comes at most once.
func (end *randomEnd) HandleDatagram(b []byte) {
	if len(b) < 8 {
		return // too short for a number
	}
	var num uint64
	for i := range 8 {
		num |= uint64(b[i]) << (8 * i)
	}
	size, ok := end.datagrams[num]
	delete(end.datagrams, num)
	want := make([]byte, size)
	randomPayload(want, num)
	if !ok || string(b) != string(want) {
		end.bad = fmt.Errorf("%s: datagram %d of %d bytes was not sent, or came before", end.name, num, len(b))
	}
}

func (end *randomEnd) FlushDatagrams() {}

// dial makes both connections, as Endpoint.Dial and the reader of the server do.
func (r *randomRun) dial() error {
	begin := func(end *randomEnd, c *Conn) {
		end.c, c.handler = c, end
		c.zeroRTT.wanted = end.early
		end.e.table.add(c.ids[0].local[0].id, c)
		c.startTLS(r.now)
	}
	client, server := r.ends[0], r.ends[1]
	begin(client, newClientConn(client.e, client.e.cfg, client.e.sockets[0], serverAddr))
	client.c.paths[0].label = r.net.links[0].label
	if err := r.turn(client); err != nil {
		return err
	}
	h, _, ok := wire.ParseLongHeader(r.net.first)
	if !ok {
		return errors.New("no Initial packet")
	}
	c := newServerConn(server.e, server.e.cfg, server.e.sockets[0], r.net.links[0].socket.public, serverAddr.Addr(),
		firstInitial{dcid: h.DstConnID, scid: h.SrcConnID, originalDCID: h.DstConnID})
	server.e.table.addInitial(c.originalDCID, c)
	server.e.handshakes += 10 * maxHandshakes // there are no other connections
	begin(server, c)
	return r.turn(server)
}

// turn does what the loop of a connection does.
func (r *randomRun) turn(end *randomEnd) error {
	for n := 0; ; n++ {
		select {
		case <-end.c.mb.wake:
		default:
		}
		end.c.turns.state.Store(tokenHeld)
		sent := r.net.sent
		end.hastenSkips()
		wake := end.c.turn(r.now)
		end.wake = wake
		if r.net.sent != sent || r.now.sub(end.spunAt) > time.Millisecond {
			end.spins, end.spunAt = 0, r.now
		}
		if end.spins++; end.spins > 300 {
			return fmt.Errorf("%s: the loop spins, and nothing is sent", end.name)
		}
		if end.c.closing.ended {
			r.endLoop(end)
			return nil
		}
		if wake == 0 {
			return fmt.Errorf("%s: no timer", end.name)
		}
		if wake > r.now && !end.called() {
			return end.bad
		}
	}
}

// hastenSkips has packet numbers left out more often than in earnest: a sequence sends few
// packets.
func (end *randomEnd) hastenSkips() {
	for _, p := range end.c.paths {
		if next := p.space.next; p.skips.at > next+64 {
			p.skips.at = next + 3 + next%29
		}
	}
}

// endLoop does what the loop does at its end.
func (r *randomRun) endLoop(end *randomEnd) {
	end.c.end()
	close(end.c.loopDone)
	end.ended = true
}

// called says that somebody wants a turn, which this goroutine runs: it holds the
// connection all the time.
func (end *randomEnd) called() bool {
	return end.c.turns.state.Load() == tokenPending || len(end.c.mb.wake) > 0
}

// due says that end has something to do now.
func (end *randomEnd) due() bool {
	return !end.ended && !end.held && end.stalled <= end.r.now && (end.wake <= end.r.now || end.called())
}

// advance lets time pass.
func (r *randomRun) advance(d time.Duration) error {
	for end := r.now.add(d); ; {
		next := end
		if at, ok := r.net.flying.Next(); ok {
			next = min(next, instant(at))
		}
		for _, e := range r.ends {
			if !e.ended && !e.held {
				next = min(next, max(e.wake, e.stalled))
			}
		}
		if next > r.now {
			time.Sleep(next.sub(r.now))
			r.now = next
		}
		r.deliver()
		idle := true
		for _, e := range r.ends {
			if e.due() {
				idle = false
				if err := r.turn(e); err != nil {
					return err
				}
			}
		}
		if idle && r.now >= end {
			return nil
		}
	}
}

// deliver does what the readers of the sockets do.
func (r *randomRun) deliver() {
	for {
		p, ok := r.net.flying.Pop(r.now.since())
		if !ok {
			return
		}
		end := r.ends[0]
		if p.to == r.net.server {
			end = r.ends[1]
		}
		if !p.to.closed && !end.held {
			end.receive(p)
		}
	}
}

// receive does what the reader of a socket does with a datagram.
func (end *randomEnd) receive(p randomPacket) {
	m := udpio.Received{Buf: p.data, N: len(p.data), SegSize: len(p.data), Src: p.from, Dst: p.to.addr.Addr(), ECN: p.ecn}
	for _, c := range end.e.deliver(end.e.socket(p.to), &m, end.r.now, nil) {
		c.notify()
	}
	end.spins = 0
}

// call has the application of end do f, which waits for the loop.
func (r *randomRun) call(end *randomEnd, f func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	synctest.Wait()
	for !end.ended && end.called() {
		if err := r.turn(end); err != nil {
			return err
		}
		synctest.Wait()
	}
	select {
	case <-done:
		return nil
	default:
		return fmt.Errorf("%s: a call of the application does not return", end.name)
	}
}

// cleanup ends what is left.
func (r *randomRun) cleanup() {
	for _, end := range r.ends {
		if end.c != nil && !end.ended {
			r.endLoop(end)
		}
	}
	for _, l := range r.net.links {
		l.socket.Close()
	}
	r.net.server.Close()
	synctest.Wait()
}

// checkReleased checks that nothing is held when both ends are over.
func (r *randomRun) checkReleased() error {
	for name, n := range map[string]int64{
		"PacketBuf":       packetBufsOut.Load() - r.base.packets,
		"rxChunk":         rxChunksOut.Load() - r.base.chunks,
		"transmit buffer": txBuffersOut.Load() - r.base.tx,
	} {
		if n != 0 {
			return fmt.Errorf("%d of type %s were not released", n, name)
		}
	}
	for _, end := range r.ends {
		if t := &end.e.table; len(t.byCID)+len(t.initial)+len(t.byToken) > 0 {
			return fmt.Errorf("%s: connection ids or tokens are left in the table: %d, %d, %d", end.name, len(t.byCID), len(t.initial), len(t.byToken))
		}
		if n := len(end.e.conns); n > 0 {
			return fmt.Errorf("%s: %d connections are left", end.name, n)
		}
	}
	return nil
}

// logf prints what happens.
func (r *randomRun) logf(format string, args ...any) {
	if *showSequence {
		fmt.Printf("%12.6f "+format+"\n", append([]any{r.now.since().Seconds()}, args...)...)
	}
}
