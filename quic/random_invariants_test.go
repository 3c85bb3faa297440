// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// What holds between two turns of a connection, whatever happened.

// randomCIDUse is what a connection id of ours was issued for.
type randomCIDUse struct {
	path PathID
	seq  uint64
}

// check checks the invariants of both ends.
func (r *randomRun) check() error {
	for _, end := range r.ends {
		if end.ended || end.held {
			continue
		}
		for _, f := range []func(*randomEnd) error{
			(*randomEnd).checkPaths, (*randomEnd).checkRings, (*randomEnd).checkIDs, (*randomEnd).checkContent,
			(*randomEnd).checkFlow, (*randomEnd).checkTimers, (*randomEnd).checkBounds,
		} {
			if err := f(end); err != nil {
				return fmt.Errorf("%s: %w", end.name, err)
			}
		}
		if !end.peer.ended && !end.peer.held {
			if err := end.checkAgainstPeer(); err != nil {
				return fmt.Errorf("%s: %w", end.name, err)
			}
		}
	}
	return r.checkPools()
}

// checkPools: what is out of the pools is where it belongs.
func (r *randomRun) checkPools() error {
	packets, chunks, tx := r.base.packets, r.base.chunks, r.base.tx
	for _, end := range r.ends {
		if end.ended {
			continue
		}
		packets += int64(end.c.dgrams.packets + len(end.c.mb.in.dgrams))
		chunks += int64(len(end.c.mb.in.chunks))
		for _, p := range end.c.paths {
			if p.batch.buf == nil {
				continue
			}
			tx++
			if !end.held && (len(p.batch.runs) == 0 || !p.sockBlocked) {
				return fmt.Errorf("%s: path %d is %v, holds a transmit buffer with %d runs; blocked %v", end.name, p.id, p.phase, len(p.batch.runs), p.sockBlocked)
			}
		}
	}
	for _, x := range []struct {
		name      string
		got, want int64
	}{
		{"PacketBuf", packetBufsOut.Load(), packets}, {"rxChunk", rxChunksOut.Load(), chunks}, {"transmit buffer", txBuffersOut.Load(), tx},
	} {
		if x.got != x.want {
			return fmt.Errorf("%d of type %s are out, %d are known", x.got, x.name, x.want)
		}
	}
	return nil
}

// checkPaths: the states of paths and path ids fit together.
func (end *randomEnd) checkPaths() error {
	c := end.c
	for i, p := range c.paths {
		s := p.ids
		switch {
		case i > 0 && c.paths[i-1].id >= p.id:
			return errors.New("paths are not in order")
		case s == nil || s.path != p || s.id != p.id || c.pathID(p.id) != s:
			return fmt.Errorf("path %d and its id know nothing of each other", p.id)
		case p.phase > pathGone || p.phase == pathGone:
			return fmt.Errorf("path %d is %v and still there", p.id, p.phase)
		case s.abandon.isSet() != (p.phase >= pathAbandoning):
			return fmt.Errorf("path %d is %v, abandoned by us: %v", p.id, p.phase, s.abandon.isSet())
		case s.peerAbandoned && p.phase != pathDraining:
			return fmt.Errorf("path %d is %v, abandoned by the peer", p.id, p.phase)
		case p.doubted && (p.phase == pathProbing || p.phase == pathDead):
			return fmt.Errorf("path %d is %v and doubted", p.id, p.phase)
		case p.phase == pathActive && !p.validated && p.challengeEnd == 0:
			return fmt.Errorf("path %d is active, and its address is not validated", p.id)
		case p.limited && !p.validated && p.ampSent > 3*p.ampReceived: // R9000-8-1
			return fmt.Errorf("path %d: %d bytes sent, %d received before validation", p.id, p.ampSent, p.ampReceived)
		case p.phase >= pathAbandoning && len(s.remote) > 0:
			return fmt.Errorf("path %d is %v, and has connection ids of the peer", p.id, p.phase)
		case p.mtu.size < minInitialSize || p.mtu.size > max(p.mtu.max, minInitialSize):
			return fmt.Errorf("path %d: MTU %d, at most %d", p.id, p.mtu.size, p.mtu.max)
		}
	}
	for i, s := range c.ids {
		if i > 0 && c.ids[i-1].id >= s.id {
			return errors.New("path ids are not in order")
		}
		if s.path != nil && !slices.Contains(c.paths, s.path) {
			return fmt.Errorf("path id %d has a path that is not there", s.id)
		}
		if s.id >= c.nextPathID {
			return fmt.Errorf("path id %d, the next one is %d", s.id, c.nextPathID)
		}
	}
	return nil
}

// checkRings: bytes in flight and the counts of packets are what the sent packets say.
func (end *randomEnd) checkRings() error {
	for _, p := range end.c.paths {
		inFlight := 0
		for sp, s := range p.loss.spaces {
			if s == nil {
				continue
			}
			outstanding, records := 0, 0
			for pn := s.sent.first; pn < s.sent.end; pn++ {
				q := s.sent.at(pn)
				records += int(q.nrec)
				if q.resolved() {
					continue
				}
				if q.flags&packetInFlight != 0 {
					inFlight += int(q.size)
				}
				if q.flags&sentAckEliciting != 0 {
					outstanding++
					if pn < s.eliciting {
						return fmt.Errorf("path %d: packet %d is not resolved, below %d", p.id, pn, s.eliciting)
					}
				}
				if pn < s.scan {
					return fmt.Errorf("path %d: packet %d is not resolved, and loss detection is at %d", p.id, pn, s.scan)
				}
			}
			switch {
			case outstanding != s.outstanding:
				return fmt.Errorf("path %d, %v: %d packets outstanding, counted %d", p.id, spaceID(sp), outstanding, s.outstanding)
			case records != int(s.sent.recEnd-s.sent.recFirst):
				return fmt.Errorf("path %d, %v: %d records, counted %d", p.id, spaceID(sp), records, s.sent.recEnd-s.sent.recFirst)
			case s.sent.end != s.next:
				return fmt.Errorf("path %d, %v: next is %d, behind %d", p.id, spaceID(sp), s.next, s.sent.end)
			case s.largestAcked >= s.next:
				return fmt.Errorf("path %d, %v: acknowledged up to %d, next is %d", p.id, spaceID(sp), s.largestAcked, s.next)
			}
			if err := checkRanges(&s.acks); err != nil {
				return fmt.Errorf("path %d, %v: %w", p.id, spaceID(sp), err)
			}
		}
		l := &p.loss
		switch {
		case inFlight != l.inFlight:
			return fmt.Errorf("path %d: %d bytes in flight, counted %d", p.id, inFlight, l.inFlight)
		case l.cc.Window() < l.maxDatagram:
			return fmt.Errorf("path %d: window of %d bytes", p.id, l.cc.Window())
		case l.lossFraction < 0 || l.lossFraction > 1 || math.IsNaN(l.lossFraction):
			return fmt.Errorf("path %d: loss fraction %v", p.id, l.lossFraction)
		case l.rate.rate() < 0 || math.IsNaN(l.rate.rate()) || math.IsInf(l.rate.rate(), 0):
			return fmt.Errorf("path %d: rate %v", p.id, l.rate.rate())
		case l.rtt.smoothed < 0 || l.rtt.min < 0 || l.rtt.variation < 0 || l.rtt.min == 0 && l.rtt.hasSample() && !end.peer.held:
			return fmt.Errorf("path %d: RTT %+v", p.id, l.rtt)
		}
	}
	return nil
}

func checkRanges(a *ackState) error {
	if len(a.ranges) > maxAckRanges {
		return fmt.Errorf("%d ranges of packets received", len(a.ranges))
	}
	for i, g := range a.ranges {
		if g.Lo > g.Hi || i > 0 && g.Lo <= a.ranges[i-1].Hi+1 {
			return fmt.Errorf("ranges %v", a.ranges)
		}
	}
	return nil
}

// checkIDs: connection ids are within their limits, none comes back, and those that were
// retired are gone.
func (end *randomEnd) checkIDs() error {
	c := end.c
	if c.closing.phase != notClosing {
		return nil // nothing is put right any more
	}
	locals, tokens := 0, 0
	for _, s := range c.ids {
		locals += len(s.local)
		if len(s.local) > max(cidsPerPath, 1) {
			return fmt.Errorf("path id %d: %d connection ids issued", s.id, len(s.local))
		}
		for i, l := range s.local {
			use := randomCIDUse{s.id, l.seq}
			known, again := end.cids[l.id]
			switch {
			case again && known != use:
				return fmt.Errorf("path id %d: connection id %x of %+v came back", s.id, l.id, known)
			case c.byCID[l.id] != s || end.e.table.byCID[l.id] != c:
				return fmt.Errorf("path id %d: connection id %x is not in the tables", s.id, l.id)
			case l.seq >= s.nextLocal || i > 0 && s.local[i-1].seq >= l.seq:
				return fmt.Errorf("path id %d: sequence number %d, the next one is %d", s.id, l.seq, s.nextLocal)
			}
			end.cids[l.id] = use
		}
		if len(s.remote) > activeCIDLimit {
			return fmt.Errorf("path id %d: %d connection ids of the peer", s.id, len(s.remote))
		}
		for i, q := range s.remote {
			if q.seq < s.retirePriorTo || q.seq >= s.largestRemote || s.retired.contains(q.seq) {
				return fmt.Errorf("path id %d: connection id %d of the peer should be retired", s.id, q.seq)
			}
			for _, o := range s.remote[:i] {
				if o.seq == q.seq || o.id == q.id {
					return fmt.Errorf("path id %d: connection id %d of the peer is there twice", s.id, q.seq)
				}
			}
		}
		if len(s.retire) > maxRetirements {
			return fmt.Errorf("path id %d: %d retirements", s.id, len(s.retire))
		}
		if s.path != nil && len(s.remote) > 0 && s.remote[0].hasToken {
			tokens++
			if end.e.table.byToken[s.remote[0].token] != c && !end.peer.held {
				return fmt.Errorf("path id %d: the token of the connection id in use is not known", s.id)
			}
		}
	}
	if n := len(c.retiredCIDs); n > keptRetiredCIDs || locals != len(c.byCID) || locals+n != len(end.e.table.byCID) {
		return fmt.Errorf("%d connection ids and %d retired ones, in the tables %d and %d", locals, n, len(c.byCID), len(end.e.table.byCID))
	}
	if tokens != len(end.e.table.byToken) && !end.peer.held { // a peer may give the same one twice
		return fmt.Errorf("%d reset tokens, in the table %d", tokens, len(end.e.table.byToken))
	}
	return nil
}

// randomContent is one piece of control information, in a transmission.
type randomContent struct {
	kind       recordKind
	id, a      uint64
	generation uint32
}

// randomFlying is what packets that may still arrive carry.
type randomFlying struct {
	control map[randomContent]bool
	streams map[uint64]*rangeset[uint64]
	crypto  [numSpaces]rangeset[uint64]
}

// flying collects what is in flight on the paths that are judged by time-outs: what the
// others carried must have been taken back.
func (c *Conn) flying() *randomFlying {
	fl := &randomFlying{control: make(map[randomContent]bool), streams: make(map[uint64]*rangeset[uint64])}
	for _, p := range c.paths {
		if p.phase == pathDead || p.phase >= pathAbandoning {
			continue
		}
		for sp, s := range p.loss.spaces {
			for pn := packetNumber(0); s != nil && pn < s.sent.end; pn++ {
				if pn = max(pn, s.sent.first); pn == s.sent.end || s.sent.at(pn).resolved() {
					continue
				}
				head, tail := s.sent.recordsOf(s.sent.at(pn))
				for _, rec := range slices.Concat(head, tail) {
					fl.add(spaceID(sp), rec)
				}
			}
		}
	}
	return fl
}

func (fl *randomFlying) add(sp spaceID, rec frameRecord) {
	switch rec.kind {
	case recordCrypto:
		fl.crypto[sp].add(rec.a, rec.a+rec.b)
		return
	case recordStream:
		set := fl.streams[rec.id]
		if set == nil {
			set = new(rangeset[uint64])
			fl.streams[rec.id] = set
		}
		set.add(rec.a, rec.a+rec.b)
		if !rec.fin {
			return
		}
	}
	fl.control[contentOf(rec)] = true
}

// contentOf leaves out of a record what does not tell contents apart.
func contentOf(rec frameRecord) randomContent {
	key := randomContent{kind: rec.kind, id: rec.id, generation: rec.generation}
	switch rec.kind {
	case recordNewConnectionID, recordRetireConnectionID, recordMaxStreams, recordStreamsBlocked:
		key.a = rec.a
	}
	return key
}

// checkContent: nothing that the peer has to get is forgotten. What was sent and is not
// acknowledged is in flight somewhere, and what is due stands where the sender looks.
func (end *randomEnd) checkContent() error {
	c := end.c
	if c.closing.phase != notClosing {
		return nil
	}
	fl := c.flying()
	var forgotten error
	due := false
	follow := func(v *sentVal, kind recordKind, id, a uint64) {
		if v.state == sentInFlight && !fl.control[randomContent{kind, id, a, v.last}] {
			forgotten = fmt.Errorf("frame of kind %d, id %d, %d is neither due nor in flight", kind, id, a)
		}
		due = due || v.due()
	}
	pathID := func(s *idState) uint64 {
		if c.multipath {
			return uint64(s.id)
		}
		return 0
	}
	follow(&c.doneFrame, recordHandshakeDone, 0, 0)
	follow(&c.newTokenFrame, recordNewToken, 0, 0)
	follow(&c.maxPathID, recordMaxPathID, 0, 0)
	follow(&c.pathsBlocked, recordPathsBlocked, 0, 0)
	for _, s := range c.ids {
		id := pathID(s)
		follow(&s.abandon, recordPathAbandon, id, 0)
		follow(&s.cidsBlocked, recordPathCIDsBlocked, id, 0)
		follow(&s.ourStatus, recordPathStatus, id, 0)
		for i := range s.local {
			follow(&s.local[i].state, recordNewConnectionID, id, s.local[i].seq)
		}
		for i := range s.retire {
			follow(&s.retire[i].state, recordRetireConnectionID, id, s.retire[i].seq)
		}
	}
	if due && !c.controlDue {
		return errors.New("a control frame is due, and nobody knows")
	}
	st := &c.streams
	follow(&st.flow.max, recordMaxData, 0, 0)
	follow(&st.flow.blocked, recordDataBlocked, 0, 0)
	for t := range uint64(numStreamTypes) {
		follow(&st.remote[t].max, recordMaxStreams, 0, t)
		follow(&st.local[t].blocked, recordStreamsBlocked, 0, t)
	}
	s := st.all.head
	for range len(st.streams) {
		if err := checkStream(st, s, fl, follow); err != nil {
			return fmt.Errorf("stream %d: %w", s.id, err)
		}
		s = s.links[queueAll].next
	}
	for sp := range numSpaces {
		if crypto := c.cryptoOf(sp); crypto != nil && len(c.paths) > 0 && c.paths[0].id == 0 && c.paths[0].phase < pathDead {
			if err := checkSendBuffer(&crypto.out, &fl.crypto[sp]); err != nil {
				return fmt.Errorf("CRYPTO, %v: %w", sp, err)
			}
		}
	}
	return forgotten
}

// checkStream is checkContent for one stream.
func checkStream(st *streamsState, s *Stream, fl *randomFlying, follow func(v *sentVal, kind recordKind, id, a uint64)) error {
	if s.gone || st.streams[s.id] != s {
		return errors.New("listed, and gone")
	}
	sending := &s.send
	if s.canSend {
		follow(&sending.reset, recordResetStream, s.id, 0)
		follow(&sending.blocked, recordStreamDataBlocked, s.id, 0)
		if !sending.reset.isSet() {
			follow(&sending.fin, recordStream, s.id, 0)
			sent := fl.streams[s.id]
			if sent == nil {
				sent = new(rangeset[uint64])
			}
			if err := checkSendBuffer(&sending.buf, sent); err != nil {
				return err
			}
		}
	}
	if s.canRecv {
		follow(&s.recv.max, recordMaxStreamData, s.id, 0)
		follow(&s.recv.stop, recordStopSending, s.id, 0)
	}
	if s.posted.Load() {
		return nil // the loop has not looked yet
	}
	d := s.due()
	if d.done || d.control != st.control.contains(s) || d.lost != st.lost.contains(s) || d.fresh != st.fresh.contains(s) {
		return fmt.Errorf("due is %+v; listed: control %v, lost %v, fresh %v", d, st.control.contains(s), st.lost.contains(s), st.fresh.contains(s))
	}
	return nil
}

// checkSendBuffer: each byte sent and not acknowledged is lost, or in flight.
func checkSendBuffer(b *sendBuffer, flying *rangeset[uint64]) error {
	if b.sent < b.pipe.start || b.sent > b.pipe.end {
		return fmt.Errorf("sent up to %d of %d to %d", b.sent, b.pipe.start, b.pipe.end)
	}
	var known rangeset[uint64]
	for _, set := range []rangeset[uint64]{b.lost, b.acked, *flying} {
		for _, g := range set {
			known.add(g.start, g.end)
		}
	}
	for _, set := range []rangeset[uint64]{b.lost, b.acked} {
		for _, g := range set {
			if g.start < b.pipe.start || g.end > b.sent {
				return fmt.Errorf("%v of what was sent, %d to %d", g, b.pipe.start, b.sent)
			}
		}
	}
	if !known.containsRange(b.pipe.start, b.sent) {
		return fmt.Errorf("of the bytes %d to %d that were sent only %v are known: lost %v, acknowledged %v, in flight %v",
			b.pipe.start, b.sent, known, b.lost, b.acked, *flying)
	}
	return nil
}

// checkFlow: the sums of flow control are those of the streams, and within the limits.
func (end *randomEnd) checkFlow() error {
	st := &end.c.streams
	if end.c.closing.phase != notClosing {
		return nil // the streams are gone
	}
	var sent, received, consumed uint64
	add := func(s *Stream) error {
		if s.canSend {
			n := s.send.buf.sent
			if s.send.reset.isSet() {
				n = s.send.finalSize
			}
			if sent += n; n > s.send.limit {
				return fmt.Errorf("stream %d: sent %d, the limit is %d", s.id, n, s.send.limit)
			}
		}
		if p := &s.recv; s.canRecv {
			received += p.highest
			consumed += p.credited
			if p.highest > p.limit || p.credited > p.highest || len(p.buf.have) > maxReceiveGaps {
				return fmt.Errorf("stream %d: received %d, read %d, the limit is %d; %d gaps", s.id, p.highest, p.credited, p.limit, len(p.buf.have))
			}
		}
		return nil
	}
	s := st.all.head
	for range len(st.streams) {
		if err := add(s); err != nil {
			return err
		}
		s = s.links[queueAll].next
	}
	for _, a := range end.streams { // those that are over
		if a.s.gone && !a.rejected() {
			if err := add(a.s); err != nil {
				return err
			}
		}
	}
	f := &st.flow
	switch {
	case sent != f.sent || f.sent > f.sendLimit:
		return fmt.Errorf("streams have sent %d bytes, counted %d, the limit is %d", sent, f.sent, f.sendLimit)
	case received != f.received || f.received > f.recvLimit:
		return fmt.Errorf("streams have received %d bytes, counted %d, the limit is %d", received, f.received, f.recvLimit)
	case consumed != st.box.consumed.Load():
		return fmt.Errorf("applications have read %d bytes, counted %d", consumed, st.box.consumed.Load())
	}
	for t, l := range st.remote {
		if l.opened > l.advertised || l.opened-l.closed > l.concurrent {
			return fmt.Errorf("type %d: %d streams of the peer, %d closed, %d permitted", t, l.opened, l.closed, l.advertised)
		}
	}
	for t, l := range st.local {
		if l.created > l.max {
			return fmt.Errorf("type %d: %d streams, %d permitted", t, l.created, l.max)
		}
	}
	return nil
}

// checkTimers: whoever waits for something has a timer.
func (end *randomEnd) checkTimers() error {
	c := end.c
	if c.closing.phase != notClosing {
		if c.closing.until == 0 {
			return errors.New("closing without an end")
		}
		return nil
	}
	live := false
	for _, p := range c.paths {
		live = live || p.phase < pathAbandoning
		out := p.loss.spaces[appSpace].outstanding
		switch {
		case (p.phase == pathActive || p.phase == pathSuspect) && c.confirmed && out > 0 && !p.loss.ampBlocked && p.loss.timer() == 0:
			return fmt.Errorf("path %d is %v, has %d packets in flight and no timer", p.id, p.phase, out)
		case p.phase == pathProbing && c.complete && p.challengeEnd == 0:
			return fmt.Errorf("path %d is validated without an end", p.id)
		case p.phase == pathDead && c.isClient && !p.linkDown && p.nextProbe == 0:
			return fmt.Errorf("path %d is dead and not probed", p.id)
		case p.phase == pathSuspect && c.aliveDeadline(p) == 0:
			return fmt.Errorf("path %d is suspect without an end", p.id)
		}
	}
	for _, s := range c.ids {
		if s.abandoned() && s.goneAt == 0 && s.abandonDeadline == 0 {
			return fmt.Errorf("path id %d is abandoned without an end", s.id)
		}
	}
	if !live && c.lastPathGone == 0 && len(c.wishes) == 0 {
		return errors.New("there is no path, and no end")
	}
	return nil
}

// checkBounds: what the peer can make us hold.
func (end *randomEnd) checkBounds() error {
	c := end.c
	switch {
	case len(c.early) > maxEarlyPackets:
		return fmt.Errorf("%d packets without keys", len(c.early))
	case len(c.ids) > 2*maxPathsLimit+int(c.cfg.InitialMaxPathID)+1:
		return fmt.Errorf("%d path ids", len(c.ids))
	case c.dgrams.bytes != c.dgrams.packets*packetBufSize || c.dgrams.bytes > maxQueuedDatagramBytes:
		return fmt.Errorf("%d datagrams of %d bytes are queued", c.dgrams.packets, c.dgrams.bytes)
	case len(c.wishes) > len(end.r.net.links)+1:
		return fmt.Errorf("%d paths wait to be opened", len(c.wishes))
	}
	for _, s := range c.ids {
		if len(s.retired) > maxRetirements+activeCIDLimit {
			return fmt.Errorf("path id %d: %d ranges of retired connection ids", s.id, len(s.retired))
		}
	}
	chunks, streams := 0, 0
	s := c.streams.all.head
	for range len(c.streams.streams) {
		chunks += s.recv.buf.pipe.chunksHeld()
		streams++
		s = s.links[queueAll].next
	}
	if most := int(c.streams.flow.window/pipeChunkSize) + 2*streams; chunks > most {
		return fmt.Errorf("%d chunks of received stream data, at most %d", chunks, most)
	}
	for sp := range numSpaces {
		if crypto := c.cryptoOf(sp); crypto != nil && crypto.in.pipe.chunksHeld() > cryptoReceiveWindow/pipeChunkSize+1 {
			return fmt.Errorf("%d chunks of handshake data", crypto.in.pipe.chunksHeld())
		}
	}
	return nil
}

// checkAgainstPeer: neither end may do what the other has not permitted.
func (end *randomEnd) checkAgainstPeer() error {
	a, b := end.c, end.peer.c
	if !a.complete || !b.complete || a.closing.phase != notClosing || b.closing.phase != notClosing {
		return nil
	}
	switch {
	case a.streams.flow.sendLimit > b.streams.flow.recvLimit:
		return fmt.Errorf("limit %d, the peer permits %d", a.streams.flow.sendLimit, b.streams.flow.recvLimit)
	case a.streams.flow.sent < b.streams.flow.received:
		return fmt.Errorf("%d bytes sent, the peer received %d", a.streams.flow.sent, b.streams.flow.received)
	case a.peerMaxPathID > b.localMaxPathID:
		return fmt.Errorf("path ids up to %d, the peer permits %d", a.peerMaxPathID, b.localMaxPathID)
	}
	for t := range numStreamTypes {
		if a.streams.local[t].max > b.streams.remote[t].advertised {
			return fmt.Errorf("type %d: %d streams, the peer permits %d", t, a.streams.local[t].max, b.streams.remote[t].advertised)
		}
	}
	for _, s := range a.ids {
		if s.abandoned() {
			continue
		}
		other := b.pathID(s.id)
		for _, q := range s.remote {
			key, ok := localCIDKey{}, q.id.n == localCIDLen
			copy(key[:], q.id.bytes())
			if other == nil || !ok || b.byCID[key] != other {
				return fmt.Errorf("path id %d: the peer knows nothing of its connection id %d", s.id, q.seq)
			}
		}
	}
	return nil
}
