// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// What the applications and the links do in a random sequence.

// randomOpStream is one end of a stream, as its application sees it.
type randomOpStream struct {
	s           *Stream
	wrote, read uint64
	finished    bool // CloseWrite
	reset       bool // by us
	stopped     bool // by us
	readErr     error
	writeErr    error
}

// rejected says that the stream was opened in 0-RTT, which the server has rejected: it
// never was there.
func (a *randomOpStream) rejected() bool { return a.s.connErr == Err0RTTRejected }

// randomOps are the operations, with how often they happen.
var randomOps = []struct {
	weight int
	name   string
	do     func(r *randomRun, end *randomEnd) error
}{
	{20, "wait", (*randomRun).opWait},
	{10, "open", (*randomRun).opOpen},
	{20, "write", (*randomRun).opWrite},
	{15, "read", (*randomRun).opRead},
	{4, "finish", (*randomRun).opFinish},
	{2, "reset", (*randomRun).opReset},
	{2, "stop", (*randomRun).opStop},
	{10, "datagrams", (*randomRun).opDatagrams},
	{6, "loss", (*randomRun).opLoss},
	{5, "hole", (*randomRun).opHole},
	{3, "reorder", (*randomRun).opReorder},
	{3, "duplicate", (*randomRun).opDuplicate},
	{2, "corrupt", (*randomRun).opCorrupt},
	{3, "mtu", (*randomRun).opMTU},
	{3, "rate", (*randomRun).opRate},
	{3, "full", (*randomRun).opFull},
	{2, "refuse", (*randomRun).opRefuse},
	{4, "rebind", (*randomRun).opRebind},
	{2, "stall", (*randomRun).opStall},
	{8, "path", (*randomRun).opOpenPath},
	{4, "abandon", (*randomRun).opAbandon},
	{2, "remove", (*randomRun).opRemove},
	{3, "standby", (*randomRun).opStandby},
	{3, "priority", (*randomRun).opPriority},
	{3, "link down", (*randomRun).opLinkDown},
	{3, "link up", (*randomRun).opLinkUp},
	{3, "replace socket", (*randomRun).opReplaceSocket},
	{4, "key update", (*randomRun).opKeyUpdate},
	{2, "scheduler", (*randomRun).opScheduler},
	{1, "keep-alive", (*randomRun).opKeepAlive},
}

// run executes the sequence.
func (r *randomRun) run() error {
	if r.rng.IntN(3) == 0 { // a handshake on a bad link
		for range 1 + r.rng.IntN(3) {
			for _, f := range []func(*randomRun, *randomEnd) error{(*randomRun).opLoss, (*randomRun).opDuplicate, (*randomRun).opReorder, (*randomRun).opCorrupt} {
				if r.rng.IntN(2) == 0 {
					f(r, r.ends[0])
				}
			}
		}
	}
	if err := r.dial(); err != nil {
		return err
	}
	if r.rng.IntN(4) > 0 {
		if err := r.advance(time.Duration(r.rng.IntN(1000)) * time.Millisecond); err != nil {
			return err
		}
	}
	weights := 0
	for _, op := range randomOps {
		weights += op.weight
	}
	for range 5 + r.rng.IntN(60) {
		n, i := r.rng.IntN(weights), 0
		for ; n >= randomOps[i].weight; i++ {
			n -= randomOps[i].weight
		}
		end := r.ends[r.rng.IntN(2)]
		r.logf("%s: %s", end.name, randomOps[i].name)
		if err := randomOps[i].do(r, end); err != nil {
			return fmt.Errorf("%s: %w", randomOps[i].name, err)
		}
		if err := r.between(); err != nil {
			return fmt.Errorf("%s: %w", randomOps[i].name, err)
		}
	}
	if r.rng.IntN(15) == 0 {
		if err := r.endEarly(r.ends[r.rng.IntN(2)]); err != nil {
			return err
		}
	}
	return r.settle()
}

// between lets a little time pass after an operation.
func (r *randomRun) between() error {
	if r.rng.IntN(2) == 0 {
		if err := r.advance(time.Duration(r.rng.IntN(30)) * time.Millisecond); err != nil {
			return err
		}
	} else if err := r.advance(0); err != nil {
		return err
	}
	for _, end := range r.ends {
		if r.rng.IntN(3) > 0 {
			end.accept()
		}
	}
	return r.check()
}

func (r *randomRun) opWait(*randomEnd) error {
	d := time.Duration(1+r.rng.IntN(1000)) * time.Millisecond
	switch r.rng.IntN(40) {
	case 0:
		d *= 70
	case 1, 2, 3:
		d *= 10
	}
	return r.advance(d)
}

// accept takes the streams that the other end has opened.
func (end *randomEnd) accept() {
	box := &end.c.streams.box
	for len(box.incoming) > 0 {
		s, err := box.accept(end.r.t.Context())
		if err != nil {
			return
		}
		end.addStream(s)
	}
}

func (end *randomEnd) addStream(s *Stream) *randomOpStream {
	a := &randomOpStream{s: s}
	end.streams = append(end.streams, a)
	end.byID[s.id] = a
	return a
}

// open opens a stream, nil if that is not permitted now.
func (end *randomEnd) open(t streamType) *randomOpStream {
	box := &end.c.streams.box
	if box.err != nil || box.opened[t] >= box.limit[t] {
		return nil
	}
	s, err := box.open(end.r.t.Context(), t)
	if err != nil {
		return nil
	}
	return end.addStream(s)
}

func (r *randomRun) opOpen(end *randomEnd) error {
	for range 1 + r.rng.IntN(4) {
		if a := end.open(streamType(r.rng.IntN(2))); a != nil && r.rng.IntN(2) == 0 {
			r.write(end, a, r.rng.IntN(5000))
		}
	}
	return nil
}

// some returns a random stream of end, nil if it has none.
func (r *randomRun) some(end *randomEnd) *randomOpStream {
	if len(end.streams) == 0 {
		return nil
	}
	// The newest ones more often.
	n := len(end.streams)
	return end.streams[max(n-1-r.rng.IntN(8), r.rng.IntN(n))]
}

// content is byte off of what end sends on stream id.
func (end *randomEnd) content(id, off uint64) byte {
	return byte(off) ^ byte(off>>8)*29 ^ byte(id)*31 ^ end.name[0]
}

func (r *randomRun) scratch(n int) []byte {
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	return r.buf[:n]
}

// write writes up to n bytes, as far as there is room.
func (r *randomRun) write(end *randomEnd, a *randomOpStream, n int) {
	s := a.s
	if s.writeErr() != nil {
		return
	}
	b := r.scratch(min(n, s.send.room()))
	for i := range b {
		b[i] = end.content(s.id, a.wrote+uint64(i))
	}
	k, err := s.Write(b)
	a.wrote += uint64(k)
	a.writeErr = err
}

func (r *randomRun) opWrite(end *randomEnd) error {
	if a := r.some(end); a != nil {
		r.write(end, a, r.rng.IntN(1+1<<r.rng.IntN(18)))
	}
	return nil
}

// hasNews says that Read would not wait.
func (s *Stream) hasNews() bool {
	p := &s.recv
	return s.canRecv && !p.stopped && (p.reset || p.atEnd() || p.buf.contiguous() > p.buf.readOffset() || s.connErr != nil)
}

// read reads up to n bytes, as far as they are there.
func (r *randomRun) read(end *randomEnd, a *randomOpStream, n int) error {
	if n == 0 || a.readErr != nil || !a.s.hasNews() {
		return nil
	}
	b := r.scratch(n)
	k, err := a.s.Read(b)
	for i, v := range b[:k] {
		if v != end.peer.content(a.s.id, a.read+uint64(i)) {
			return fmt.Errorf("%s: stream %d differs at %d", end.name, a.s.id, a.read+uint64(i))
		}
	}
	a.read += uint64(k)
	a.readErr = err
	return nil
}

func (r *randomRun) opRead(end *randomEnd) error {
	if a := r.some(end); a != nil {
		return r.read(end, a, r.rng.IntN(1+1<<r.rng.IntN(18)))
	}
	return nil
}

func (r *randomRun) opFinish(end *randomEnd) error {
	if a := r.some(end); a != nil && a.s.canSend {
		a.finished = true
		a.s.CloseWrite()
	}
	return nil
}

func (r *randomRun) opReset(end *randomEnd) error {
	if a := r.some(end); a != nil && a.s.canSend {
		a.reset = true
		a.s.Reset(7)
	}
	return nil
}

func (r *randomRun) opStop(end *randomEnd) error {
	if a := r.some(end); a != nil && a.s.canRecv {
		a.stopped = true
		a.s.StopSending(8)
	}
	return nil
}

func (r *randomRun) opDatagrams(end *randomEnd) error {
	if end.ended || !end.e.cfg.Datagrams {
		return nil
	}
	bufs := make([]*PacketBuf, 1+r.rng.IntN(1+1<<r.rng.IntN(8)))
	FillPacketBufs(bufs)
	flow, size := uint64(r.rng.IntN(4)), 8+r.rng.IntN(MaxPacketPayload-8)
	if r.rng.IntN(2) == 0 {
		size = 8 + r.rng.IntN(200)
	}
	for _, b := range bufs {
		randomPayload(b.Space()[:size], end.nextDgram)
		b.SetLen(size)
		b.Flow, b.Class = flow, sched.Class(r.rng.IntN(4))
		end.peer.datagrams[end.nextDgram] = size
		end.nextDgram++
	}
	end.c.SendDatagrams(bufs)
	return nil
}

func (r *randomRun) link() *randomLink { return r.net.links[r.rng.IntN(len(r.net.links))] }

func (r *randomRun) opLoss(*randomEnd) error {
	loss, burst := []float64{0, 0, 0.01, 0.1, 0.3, 0.6}[r.rng.IntN(6)], float64(r.rng.IntN(10))
	r.net.faults = r.net.faults || loss > 0
	r.link().change(func(cfg *quictest.LinkConfig) { cfg.Loss, cfg.LossBurst = loss, burst })
	return nil
}

func (r *randomRun) opHole(*randomEnd) error {
	l := r.link()
	r.net.faults = true
	switch r.rng.IntN(4) {
	case 0:
		l.up.SetBlackhole(true)
	case 1:
		l.down.SetBlackhole(true)
	default:
		l.setHole(!l.hole)
	}
	if r.rng.IntN(2) == 0 { // short
		err := r.advance(time.Duration(r.rng.IntN(3000)) * time.Millisecond)
		l.setHole(false)
		return err
	}
	return nil
}

func (r *randomRun) opReorder(*randomEnd) error {
	jitter, reorder := time.Duration(r.rng.IntN(1<<r.rng.IntN(8)))*time.Millisecond, r.rng.IntN(2) == 0
	r.link().change(func(cfg *quictest.LinkConfig) { cfg.Jitter, cfg.Reorder = jitter, reorder })
	return nil
}

func (r *randomRun) opDuplicate(*randomEnd) error {
	r.link().dup = r.rng.Float64() * 0.5
	return nil
}

func (r *randomRun) opCorrupt(*randomEnd) error {
	r.net.faults = true
	r.link().flip = r.rng.Float64() * 0.3
	return nil
}

func (r *randomRun) opMTU(*randomEnd) error {
	mtu := []int{0, 1500, 1228, 1280, 1240 + r.rng.IntN(260), 1000}[r.rng.IntN(6)]
	l := r.link()
	if r.rng.IntN(3) == 0 { // the interface knows
		l.socket.mtu = max(mtu, 1228)
	} else {
		r.net.faults = r.net.faults || mtu != 0
		l.change(func(cfg *quictest.LinkConfig) { cfg.MTU = mtu })
	}
	return nil
}

func (r *randomRun) opRate(*randomEnd) error {
	rate, queue := int64(200e3)<<r.rng.IntN(10), 5000<<r.rng.IntN(8)
	r.net.faults = true
	r.link().change(func(cfg *quictest.LinkConfig) { cfg.Rate, cfg.QueueBytes = rate, queue })
	return nil
}

// opFull fills the send buffer of a socket for a while.
func (r *randomRun) opFull(*randomEnd) error {
	s := r.link().socket
	if r.rng.IntN(4) == 0 {
		s = r.net.server
	}
	s.setFull(true)
	r.net.faults = true
	err := r.advance(time.Duration(r.rng.IntN(1<<r.rng.IntN(12))) * time.Millisecond)
	if err == nil {
		err = r.check()
	}
	s.setFull(false)
	return errors.Join(err, r.awake())
}

// awake lets goroutines other than this one do what they can.
func (r *randomRun) awake() error { return r.call(r.ends[0], func() {}) }

// opRefuse has the kernel refuse what is sent on a link for a while.
func (r *randomRun) opRefuse(*randomEnd) error {
	l := r.link()
	l.socket.refuse = []error{syscall.ENETUNREACH, syscall.EPERM}[r.rng.IntN(2)]
	r.net.faults = true
	err := r.advance(time.Duration(r.rng.IntN(1000)) * time.Millisecond)
	l.socket.refuse = nil
	return err
}

func (r *randomRun) opRebind(*randomEnd) error {
	r.net.faults = true
	r.net.rebind(r.link().socket, r.rng.IntN(2) == 0)
	return nil
}

// opStall keeps the loop of an end from running for a while.
func (r *randomRun) opStall(end *randomEnd) error {
	end.stalled = r.now.add(time.Duration(r.rng.IntN(1<<r.rng.IntN(12))) * time.Millisecond)
	return nil
}

func (r *randomRun) opOpenPath(*randomEnd) error {
	client, l := r.ends[0], r.link()
	if l.socket.closed {
		return nil
	}
	for _, p := range client.c.paths {
		if p.label == l.label && p.phase < pathAbandoning {
			return nil
		}
	}
	if slices.ContainsFunc(client.c.wishes, func(w pathWish) bool { return w.label == l.label }) {
		return nil
	}
	return r.call(client, func() { client.c.OpenPath(l.socket, serverAddr, l.label) })
}

// somePath returns the id of a path of end.
func (r *randomRun) somePath(end *randomEnd) (PathID, bool) {
	if len(end.c.paths) == 0 {
		return 0, false
	}
	return end.c.paths[r.rng.IntN(len(end.c.paths))].id, true
}

// abandons notes that end abandons a path.
func (r *randomRun) abandons(end *randomEnd) {
	end.abandoned, r.abandoned = true, true
	r.bothSides = end.abandoned && end.peer.abandoned
}

func (r *randomRun) opAbandon(end *randomEnd) error {
	id, ok := r.somePath(end)
	if !ok {
		return nil
	}
	if len(end.c.paths) == 1 && r.rng.IntN(20) > 0 {
		return nil // mostly that ends the connection
	}
	r.abandons(end)
	return r.call(end, func() { end.c.AbandonPath(id) })
}

func (r *randomRun) opRemove(*randomEnd) error {
	client, label := r.ends[0], r.link().label
	r.abandons(client)
	return r.call(client, func() { client.c.RemovePath(label) })
}

func (r *randomRun) opStandby(end *randomEnd) error {
	id, ok := r.somePath(end)
	if !ok {
		return nil
	}
	backup := r.rng.IntN(2) == 0
	return r.call(end, func() { end.c.SetPathBackup(id, backup) })
}

func (r *randomRun) opPriority(*randomEnd) error {
	client, label, priority := r.ends[0], r.link().label, sched.Priority(r.rng.IntN(int(sched.PriorityNever)+1))
	return r.call(client, func() { client.c.SetPathPriority(label, priority) })
}

func (r *randomRun) opLinkDown(*randomEnd) error {
	client, l := r.ends[0], r.link()
	r.net.faults = true
	if r.rng.IntN(2) == 0 {
		l.setHole(true)
	}
	return r.call(client, func() { client.c.LinkDown(l.label) })
}

func (r *randomRun) opLinkUp(*randomEnd) error {
	client, l := r.ends[0], r.link()
	l.setHole(false)
	return r.call(client, func() { client.c.LinkUp(l.label) })
}

func (r *randomRun) opReplaceSocket(*randomEnd) error { return r.replaceSocket(r.link()) }

// replaceSocket gives l another address, for the application to use.
func (r *randomRun) replaceSocket(l *randomLink) error {
	client, old := r.ends[0], l.socket
	r.net.faults = true
	r.abandons(client)
	s := r.net.newSocket(l)
	client.addSocket(s)
	gone := r.rng.IntN(2) == 0 && client.c.confirmed // the old one fails before
	if gone {
		r.net.close(old)
	}
	return r.call(client, func() {
		err := client.c.ReplacePathSocket(l.label, s)
		if err == errNoPath {
			err = client.c.OpenPath(s, serverAddr, l.label)
		}
		if err != nil && !gone { // as before
			l.socket = old
			old = s
		}
		client.e.RemoveSocket(old)
		r.net.close(old)
	})
}

// replaceLost has the application try again what did not succeed when a socket failed.
func (r *randomRun) replaceLost() error {
	for _, p := range slices.Clone(r.ends[0].c.paths) {
		if p.phase < pathAbandoning && p.sock.Socket.(*randomSocket).closed {
			if err := r.replaceSocket(p.sock.Socket.(*randomSocket).link); err != nil {
				return err
			}
		}
	}
	return nil
}

// opKeyUpdate has the next packet begin a key update, if one is permitted.
func (r *randomRun) opKeyUpdate(end *randomEnd) error {
	end.c.appKeys.sealed = end.c.keyUpdateAfter
	return nil
}

func (r *randomRun) opScheduler(end *randomEnd) error {
	s := r.randomScheduler()()
	return r.call(end, func() { end.c.SetScheduler(s) })
}

func (r *randomRun) opKeepAlive(end *randomEnd) error {
	end.c.SetKeepAlive(time.Duration(r.rng.IntN(20)) * time.Second)
	return nil
}

// endEarly ends the connection before everything is delivered.
func (r *randomRun) endEarly(end *randomEnd) error {
	if end.ended {
		return nil
	}
	if r.rng.IntN(2) == 0 {
		r.logf("%s closes", end.name)
		r.closed = true
		end.c.CloseWithError(1, "enough")
	} else {
		r.logf("%s vanishes", end.name)
		r.vanished = true
		r.endLoop(end)
	}
	return nil
}
