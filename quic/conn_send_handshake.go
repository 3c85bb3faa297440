// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// maxHandshakeBurst bounds the datagrams of the handshake sent in one turn.
const maxHandshakeBurst = 10

// maxTokenLen bounds the tokens of a server that a client takes, in bytes: beside a
// larger one an Initial packet would have little room for the handshake.
const maxTokenLen = 768

// longPacket is an Initial, Handshake or coalesced 0-RTT packet that is built and not sealed yet.
type longPacket struct {
	sp     spaceID
	space  *space
	key    *keys
	start  int // offset in the datagram
	hdrLen int // of the header, packet number included
	lenOff int // offset of the Length field in the packet
	w      packetWriter
}

// sendHandshake sends Initial and Handshake packets, coalesced, on path 0.
func (c *Conn) sendHandshake(now instant) {
	if len(c.paths) == 0 || c.paths[0].id != 0 {
		return
	}
	p := c.paths[0]
	for range maxHandshakeBurst {
		if p.sockBlocked || c.sendHandshakeDatagram(now, p) == 0 {
			return
		}
	}
}

// sendHandshakeDatagram builds one datagram. It returns its size, 0 if nothing was due.
func (c *Conn) sendHandshakeDatagram(now instant, p *pathState) int {
	limit := min(minInitialSize, p.ampAllowance())
	p.loss.setAmplificationBlocked(limit < minInitialSize)
	if limit < minInitialSize { // R9000-8.1-1
		return 0
	}
	buf := p.batch.begin(minInitialSize)
	if buf == nil {
		return 0
	}
	n, size := 0, 0
	pad := false
	for sp := range appSpace {
		lp := &c.long[n]
		if !c.buildLong(now, p, sp, lp, buf[size:size:limit]) {
			continue
		}
		size += len(lp.w.buf) + aeadTagLen
		// R9000-8.1-4 R9000-14.1-1
		pad = pad || sp == initialSpace && (c.isClient || lp.w.ackEliciting)
		lp.start = size - len(lp.w.buf) - aeadTagLen
		n++
	}
	if n == 0 {
		return 0
	}
	if lp := &c.long[n]; c.buildZeroRTT(now, p, lp, buf[size:size:limit]) {
		lp.start = size
		size += len(lp.w.buf) + aeadTagLen
		n++
	}
	if last := &c.long[n-1]; pad && size < minInitialSize {
		last.w.padTo(len(last.w.buf) + minInitialSize - size)
		size = minInitialSize
	}
	inFlight := false
	for i := range n {
		inFlight = inFlight || c.long[i].w.inFlight
	}
	ecn, flags := p.ecnMark(inFlight, 0)
	handshakeSent := false
	for i := range n {
		lp := &c.long[i]
		pkt := lp.w.buf
		wire.SetLength(pkt, lp.lenOff, len(pkt)-lp.hdrLen+pnLen+aeadTagLen)
		if c.qlog != nil {
			c.qlog.sent(p, packetInfo{number: lp.space.next}, pkt[:lp.hdrLen], pkt[lp.hdrLen:])
		}
		out := lp.key.seal(&c.seal, pkt, lp.hdrLen, pnLen, 0, uint64(lp.space.next))
		c.w.recs, c.w.ackEliciting, c.w.inFlight = lp.w.recs, lp.w.ackEliciting, lp.w.inFlight
		c.packetBuilt(now, p, p.tuple, lp.sp, len(out), flags)
		handshakeSent = handshakeSent || lp.sp == handshakeSpace
	}
	p.batch.commit(size, p.tuple, ecn, noPacket)
	p.batch.open = false
	if handshakeSent && c.isClient { // R9001-4.9.1-1
		c.discardSpace(initialSpace)
	}
	return size
}

// buildLong writes the frames that are due in space sp into buf. It returns false
// if there are none.
func (c *Conn) buildLong(now instant, p *pathState, sp spaceID, lp *longPacket, buf []byte) bool {
	ls, typ := c.initial, wire.Initial
	if sp == handshakeSpace {
		ls, typ = c.handshake, wire.Handshake
	}
	if ls == nil || ls.write == nil || cap(buf) < 128 {
		return false
	}
	probe := ls.space.ptoProbes > 0
	if probe && !ls.crypto.hasData() {
		// Probes carry what the peer may lack.
		ls.crypto.resend()
	}
	reason, _ := p.loss.sendLimit(now, minInitialSize)
	data := ls.crypto.hasData() && (probe || reason == sched.NotBlocked)
	if !probe && !data && !ls.space.acks.due(now) && !(c.closing.phase != notClosing) {
		return false
	}
	*lp = longPacket{sp: sp, space: &ls.space, key: ls.write, w: packetWriter{recs: lp.w.recs}}
	var token []byte
	if typ == wire.Initial {
		token = c.token // R9000-8.1.2-1 R9000-8.1.3-1
	}
	b, lenOff := wire.AppendLongHeader(buf[:0], typ, version1, c.ids[0].remote[0].id.bytes(), c.ids[0].local[0].id[:], token, pnLen)
	c.greaseQUICBit(b)
	b = wire.AppendPacketNumber(b, uint64(ls.space.next), pnLen)
	lp.hdrLen, lp.lenOff = len(b), lenOff
	lp.w.reset(b, cap(buf)-aeadTagLen)
	if c.closing.phase != notClosing {
		c.appendClose(&lp.w, sp)
		return true
	}
	a := &ls.space.acks
	if a.pending() && lp.w.appendAck(0, a.frameRanges(), a.ecnCounts()) {
		a.sent()
	}
	if data {
		ls.crypto.appendData(&lp.w)
	}
	if probe {
		ls.space.ptoProbes--
		if !lp.w.ackEliciting { // R9000-8.1-5
			lp.w.appendPing()
		}
	}
	return len(lp.w.buf) > lp.hdrLen
}

// fateFor prepares fateFunc for packets of p.
func (c *Conn) fateFor(p *pathState) fateFunc {
	c.fatePath = p
	return c.fateFunc
}
