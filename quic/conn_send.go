// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

const (
	// pnLen is the length of the packet numbers that we send: always enough. // R9000-17.1-1 R9000-17.1-2
	pnLen = 4
	// maxFrameDatagrams bounds the DATAGRAM frames of one packet.
	maxFrameDatagrams = 32
	// padWithin is how much shorter than the segments of the open run a packet may be to
	// be padded, which is cheaper than starting another run.
	padWithin = 64
)

// send builds and sends what is due. It returns when to send again without further
// input, unset for never.
func (c *Conn) send(now instant) (wake instant) {
	if c.closing.phase != notClosing {
		c.sendClosing(now)
		return 0
	}
	if c.initial != nil || c.handshake != nil {
		c.sendHandshake(now)
	}
	if c.complete && c.appKeys.write != nil || c.sendsEarly() {
		wake = c.sendApp(now)
		c.sentBufs.release()
	}
	for _, p := range c.paths {
		if len(p.batch.runs) > 0 {
			if c.flush(now, p) {
				wake = now
			}
		} else {
			p.batch.release()
		}
	}
	if c.exhausted {
		c.drop(now, &TransportError{Code: NoError, Reason: "packet numbers used up"})
	}
	return wake
}

// sendApp is the sender loop of 1-RTT packets: the scheduler is asked for each
// packet. Each path has one open batch.
func (c *Conn) sendApp(now instant) (wake instant) {
	c.maybeUpdateKeys(now)
	for _, p := range c.paths {
		c.sendPathBound(now, p)
	}
	c.refreshViews(now)
	c.dgrams.beginTurn()
	var skip [sched.WorkDatagram]bool // kinds that must wait, besides datagrams
	starved := true                   // the loop ended for lack of work
	for len(c.views) > 0 {
		w, ok := c.nextWork(now, &skip)
		if !ok {
			break
		}
		i := c.pick(now, w)
		n := 0
		if i >= 0 {
			n = c.writeWork(now, c.viewPaths[i], w.Kind)
		}
		if n == 0 {
			// No head-of-line blocking: only this kind, or this flow, waits.
			starved = starved && i >= 0
			if w.Kind == sched.WorkDatagram {
				c.dgrams.skip()
			} else {
				skip[w.Kind] = true
			}
			if c.allBlocked() {
				starved = false
				break
			}
			continue
		}
		c.scheduler.Sent(time.Duration(now), w, c.picked, n)
		c.refreshView(now, i)
	}
	c.sendAcks(now)
	return c.sendLimits(now, starved)
}

// nextWork returns what is to be sent next, except the kinds to skip.
func (c *Conn) nextWork(now instant, skip *[sched.WorkDatagram]bool) (sched.Work, bool) {
	if !skip[sched.WorkControl] && c.hasControl() {
		return sched.Work{Kind: sched.WorkControl, Size: minInitialSize}, true
	}
	if !skip[sched.WorkStream] && c.hasStreamData() {
		return sched.Work{Kind: sched.WorkStream, Size: minInitialSize}, true
	}
	for {
		b := c.dgrams.peek(now)
		if b == nil {
			return sched.Work{}, false
		}
		if c.fitsAnyPath(b.Len()) {
			return sched.Work{Kind: sched.WorkDatagram, Class: b.Class, Flow: b.Flow, Size: b.Len(), Age: now.sub(b.queued)}, true
		}
		c.dgrams.pop().Release()
		c.tooLargeDatagrams++
	}
}

// writeWork sends one packet of the given kind on p. It returns its size, 0 if
// nothing was sent.
func (c *Conn) writeWork(now instant, p *pathState, kind sched.WorkKind) int {
	if kind == sched.WorkDatagram {
		return c.writeDatagrams(now, p)
	}
	return c.writeFrames(now, p, kind == sched.WorkStream)
}

// sendLimits tells the paths why sending ended, and returns when pacing lets it go on.
func (c *Conn) sendLimits(now instant, starved bool) (wake instant) {
	for i, p := range c.viewPaths {
		reason := c.views[i].Blocked
		switch {
		case reason == sched.BlockedCwnd || reason == sched.BlockedPacing:
			p.loss.sendingEnded(windowFull)
		case starved || reason == sched.NotBlocked: // what waits is not for this path
			p.loss.sendingEnded(outOfWork)
		default:
			p.loss.sendingEnded(turnOver)
		}
		if starved || p.sockBlocked {
			continue
		}
		if c.batchFull(p) {
			wake = now // the rest goes in the next turn
		} else if reason == sched.BlockedPacing {
			_, at := p.loss.sendLimit(now, p.mtu.size)
			p.loss.pacer.Wait(at.since())
			wake = earliest(wake, max(at, now+1))
		}
	}
	return wake
}

// beginPacket starts a 1-RTT packet of up to size bytes on p in c.w. It returns
// false if it cannot be sent now.
func (c *Conn) beginPacket(p *pathState, size int) bool {
	if len(p.ids.remote) == 0 || p.sockBlocked {
		return false
	}
	if p.space.next > wire.MaxVarint { // R9000-12.3-3
		c.exhausted = true
		return false
	}
	buf := p.batch.begin(size)
	if buf == nil {
		return false
	}
	var b []byte
	if c.zeroRTT.write != nil {
		b, c.lenOff = c.appendZeroRTTHeader(buf, p)
	} else {
		b = wire.AppendShortHeader(buf, p.ids.remote[0].id.bytes(), c.appKeys.phase, pnLen)
		c.greaseQUICBit(b)
	}
	b = wire.AppendPacketNumber(b, uint64(p.space.next), pnLen)
	c.hdrLen = len(b)
	c.w.cp = c.cp
	c.w.reset(b, size-aeadTagLen)
	return true
}

// empty says that nothing was added to the packet begun.
func (c *Conn) empty() bool { return len(c.w.buf) == c.hdrLen }

// endPacket seals the packet begun and adds it to the batch. It returns its size.
func (c *Conn) endPacket(now instant, p *pathState, to tuple, flags sentFlags) int {
	return c.endPacketFrom(now, p, to, flags, c.w.buf[c.hdrLen:])
}

// endPacketFrom is endPacket for frames that are elsewhere than behind the header.
func (c *Conn) endPacketFrom(now instant, p *pathState, to tuple, flags sentFlags, frames []byte) int {
	pn := p.space.next
	k := c.zeroRTT.write
	if k != nil {
		wire.SetLength(c.w.buf, c.lenOff, pnLen+len(frames)+aeadTagLen)
	} else {
		k = c.appKeys.write
		c.appKeys.sealed++
		c.appKeys.sentPhase = true
	}
	if c.qlog != nil {
		c.qlog.sent(p, packetInfo{number: pn, probe: flags&sentMTUProbe != 0}, c.w.buf[:c.hdrLen], frames)
	}
	pkt := k.sealFrom(&c.seal, c.w.buf, c.hdrLen, pnLen, frames, c.nonceID(p), uint64(pn))
	var ecn udpio.ECN
	if to == p.tuple {
		ecn, flags = p.ecnMark(c.w.inFlight, flags)
	}
	c.packetBuilt(now, p, to, appSpace, len(pkt), flags)
	p.batch.commit(len(pkt), to, ecn, pn)
	return len(pkt)
}

// packetBuilt accounts for the packet in c.w, which goes to the addresses to.
func (c *Conn) packetBuilt(now instant, p *pathState, to tuple, sp spaceID, size int, flags sentFlags) {
	w := &c.w
	if w.ackEliciting {
		flags |= sentAckEliciting
		p.lastSent = now
		if !c.sentSinceReceive { // RFC 9000 section 10.1
			c.sentSinceReceive, c.idleFrom = true, now
		}
	}
	if w.inFlight {
		flags |= packetInFlight
	}
	p.loss.packetSent(now, sp, sentPacket{size: uint16(size), flags: flags}, w.recs)
	if sp == appSpace && p.space.next == p.skips.at {
		p.loss.leaveOut(now)
		p.skips.choose(p.space.next, c.rand.Float64())
	}
	if !p.validated && to.remote == p.remote {
		p.ampSent += size
	}
	p.stats.packetsSent++
	p.stats.bytesSent += uint64(size)
	p.sentLately.add(now, size)
}

// sendPathBound sends what only p can carry: challenges and responses, probes.
func (c *Conn) sendPathBound(now instant, p *pathState) {
	if p.phase >= pathAbandoning || len(p.ids.remote) == 0 {
		return
	}
	if p.responseDue {
		c.sendResponse(now, p)
	}
	if p.challengeDue {
		c.sendChallenge(now, p)
	}
	if p.prevCheckDue && p.prevValid {
		c.sendPrevCheck(now, p)
	}
	if c.preferred.due && p.id == 0 {
		c.sendPreferredChallenge(now, p)
	}
	if !p.validated {
		p.loss.setAmplificationBlocked(p.ampAllowance() < minInitialSize)
	}
	for p.probePings > 0 {
		if !c.sendPing(now, p) {
			break
		}
		p.probePings--
	}
	if p.phase == pathActive || p.phase == pathSuspect {
		for p.space.ptoProbes > 0 && c.sendProbe(now, p) {
			p.space.ptoProbes--
		}
		c.sendMTUProbes(now, p)
	}
}

// pathPacketSize is the size of a packet that must be expanded to 1200 bytes, or
// what the amplification limit leaves.
func (p *pathState) pathPacketSize() int { return min(minInitialSize, p.ampAllowance()) }

// minPathPacket is the smallest allowance with which a path-bound packet is tried.
const minPathPacket = 64

// sendResponse answers a PATH_CHALLENGE where it came from. // R9000-8.2.2-2 R9000-8.2.2-5 R9000-8.2.2-6
func (c *Conn) sendResponse(now instant, p *pathState) {
	if p.responseTo == c.preferred.to && p.responseTo != p.tuple && !c.isClient {
		c.sendPreferredResponse(now, p)
		return
	}
	if p.responseTo.sock != p.sock { // nobody moves a path to another port of ours
		p.responseDue = false
		return
	}
	// A client does not fix its own address, which every packet has.
	to, size := p.responseTo, min(minInitialSize, p.responseRoom)
	onPath := to.remote == p.remote
	if onPath {
		to, size = p.tuple, p.pathPacketSize()
	}
	if size < minPathPacket || !c.beginPacket(p, size) {
		return
	}
	p.responseDue = false
	c.w.appendPathResponse(p.response)
	if onPath {
		if p.challengeDue {
			c.w.appendPathChallenge(c.newChallenge(now, p, size >= minInitialSize)) // R9000-8.2.1-3
		}
		c.appendAcks(now, p)
		// A packet on an active path is not only probing. // R9000-9.3.3-2
		c.w.appendPing()
	}
	c.w.padTo(c.w.limit)
	c.endPacket(now, p, to, 0)
}

// sendChallenge validates the current address of p. // R9000-8.2.1-2
func (c *Conn) sendChallenge(now instant, p *pathState) {
	size := p.pathPacketSize()
	if size < minPathPacket || !c.beginPacket(p, size) {
		return
	}
	c.w.appendPathChallenge(c.newChallenge(now, p, size >= minInitialSize))
	c.appendAcks(now, p)
	c.w.padTo(c.w.limit)
	c.endPacket(now, p, p.tuple, 0)
}

// sendPrevCheck challenges the address that p had before. // R9000-9.3.3-1
func (c *Conn) sendPrevCheck(now instant, p *pathState) {
	if !c.beginPacket(p, minInitialSize) {
		return
	}
	p.prevCheckDue = false
	p.prevCheckTries++
	p.prevChallenge = [8]byte(randomCID())
	c.w.appendPathChallenge(p.prevChallenge)
	c.w.padTo(c.w.limit)
	c.endPacket(now, p, p.prev, 0)
}

// sendPing sends a small packet with PING, outside the window. On a dead path it takes
// along what the peer must know if no path is there for that: what we send may arrive.
func (c *Conn) sendPing(now instant, p *pathState) bool {
	size := min(minInitialSize, p.ampAllowance())
	if size < minPathPacket || !c.beginPacket(p, size) {
		return false
	}
	c.w.appendPing()
	c.appendAcks(now, p)
	last := p.phase == pathDead && c.confirmed && !slices.ContainsFunc(c.paths, (*pathState).usable)
	if last {
		c.appendControl(p)
	}
	c.endPacket(now, p, p.tuple, 0)
	if last {
		c.resendElsewhere(p) // with the next probe, or on the first path that works
	}
	return true
}

// sendProbe sends a PTO probe: new or repeated content if there is some, else PING. It
// has a size that every path carries, so that it arrives also if the path's MTU has
// shrunk. // R9002-6.2.4-1 R9002-6.2.4-2
func (c *Conn) sendProbe(now instant, p *pathState) bool {
	size := min(minInitialSize, p.ampAllowance())
	if size < minPathPacket || !c.beginPacket(p, size) {
		return false
	}
	c.appendAcks(now, p)
	if !c.otherPathAnswers(p) { // or what the peer lacks goes there: RMP21-5.7-1
		c.appendControl(p)
		c.streams.appendData(&c.w)
	}
	if !c.w.ackEliciting {
		c.w.appendPing()
	}
	c.endPacket(now, p, p.tuple, 0)
	return true
}

// sendMTUProbes sends the probes that are due, and a PING behind them. // R9000-14.4-1
func (c *Conn) sendMTUProbes(now instant, p *pathState) {
	sent := false
	for size := p.mtu.due(); size != 0 && p.validated; size = p.mtu.due() {
		if !c.beginPacket(p, size) {
			break
		}
		c.w.appendPing()
		c.w.padTo(c.w.limit)
		c.w.recs = append(c.w.recs, frameRecord{kind: recordMTUProbe, a: uint64(size), b: uint64(p.loss.ownSince)})
		p.mtu.probeSent(now, size)
		c.endPacket(now, p, p.tuple, sentMTUProbe)
		sent = true
	}
	if sent {
		c.sendPing(now, p)
	}
}

// writeFrames sends one packet of control frames and, if stream is set, stream data.
func (c *Conn) writeFrames(now instant, p *pathState, stream bool) int {
	if !c.beginPacket(p, min(p.mtu.size, p.ampAllowance())) {
		return 0
	}
	c.appendAcks(now, p)
	c.appendControl(p)
	c.appCrypto.appendData(&c.w)
	if stream {
		c.streams.appendData(&c.w)
	}
	if c.empty() {
		return 0
	}
	return c.endPacket(now, p, p.tuple, 0)
}

// writeDatagrams sends the datagram that dgrams.peek returned, together with others
// of its bucket that fit, in a packet of the open run if possible.
func (c *Conn) writeDatagrams(now instant, p *pathState) int {
	first := c.dgrams.more()
	overhead := c.appHeaderLen(p) + aeadTagLen
	need := overhead + 1 + first.Len()
	size := p.mtu.size
	ecn, _ := p.ecnMark(true, 0)
	seg := p.batch.segment(ecn)
	if seg >= need && seg < size {
		size = seg
	}
	if size = min(size, p.ampAllowance()); size < need || !c.beginPacket(p, size) {
		return 0
	}
	bufs := append(c.dgramBufs[:0], c.dgrams.pop())
	total := need // the last frame has no length
	for len(bufs) < maxFrameDatagrams {
		b := c.dgrams.more()
		if b == nil {
			break
		}
		last := bufs[len(bufs)-1].Len()
		grown := total + wire.SizeDatagramHeader(last) - 1 + 1 + b.Len()
		if grown > size || wire.SizeDatagramHeader(last)+last > c.peerDatagramLimit() {
			break
		}
		total = grown
		bufs = append(bufs, c.dgrams.pop())
	}
	if seg != 0 && total < seg && seg-total <= padWithin {
		c.w.padTo(len(c.w.buf) + seg - total)
	}
	c.dgramBufs = bufs
	c.datagramsSent += uint64(len(bufs))
	p.stats.datagramsSent += uint64(len(bufs))
	if len(bufs) == 1 && c.empty() {
		// Sealing is the copy.
		n := c.endPacketFrom(now, p, p.tuple, 0, c.w.loneDatagram(bufs[0]))
		c.sentBufs.add(bufs[0])
		bufs[0] = nil
		return n
	}
	for i, b := range bufs {
		c.w.appendDatagram(b.Bytes(), i == len(bufs)-1)
		c.sentBufs.add(b)
		bufs[i] = nil
	}
	return c.endPacket(now, p, p.tuple, 0)
}

// ackPath is the path on which the acknowledgments of p travel: p itself, so that
// each side can tell whether both directions work, unless it is in doubt; also if the peer
// wants no data there, for the paths that it prefers may have failed without our noticing.
func (c *Conn) ackPath(p *pathState) *pathState {
	if (p.phase == pathActive || p.phase == pathProbing) && len(p.ids.remote) > 0 {
		return p
	}
	var best *pathState
	for _, q := range c.paths {
		if q.usable() && q.phase == pathActive && (best == nil || q.loss.rtt.smoothed < best.loss.rtt.smoothed) {
			best = q
		}
	}
	if (best == nil || best.doubted) && p.phase < pathAbandoning && len(p.ids.remote) > 0 {
		return p // the peer's packets arrive there, at least
	}
	return best
}

// appendAcks adds to the packet begun on p the acknowledgments that belong there
// and that would tell something.
func (c *Conn) appendAcks(now instant, p *pathState) {
	for _, q := range c.paths {
		if q.space.acks.pending() && c.ackPath(q) == p {
			c.appendAck(now, q)
		}
	}
}

// appendAck adds the acknowledgment of the packets received on p.
func (c *Conn) appendAck(now instant, p *pathState) bool {
	a := &p.space.acks
	delay := uint64(a.delay(now)/time.Microsecond) >> ackDelayExponent
	var ok bool
	if c.multipath { // RMP21-2.3-1
		ok = c.w.appendPathAck(p.id, delay, a.frameRanges(), a.ecnCounts())
	} else {
		ok = c.w.appendAck(delay, a.frameRanges(), a.ecnCounts())
	}
	if ok {
		a.sent()
	}
	return ok
}

// sendAcks sends the acknowledgments that are due and found no place, unpaced and
// outside the window. // R9002-7.7-2
func (c *Conn) sendAcks(now instant) {
	for _, q := range c.paths {
		if !q.space.acks.due(now) {
			continue
		}
		p := c.ackPath(q)
		if p == nil || p.ampAllowance() < minPathPacket {
			continue
		}
		if !c.beginPacket(p, min(p.mtu.size, p.ampAllowance())) {
			continue
		}
		c.appendAcks(now, p)
		if !c.empty() {
			c.endPacket(now, p, p.tuple, 0)
		}
	}
}
