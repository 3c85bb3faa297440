// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/tls"
	"errors"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Resumption and 0-RTT: RFC 9001 section 4.6, RFC 9000 section 7.4.1.

// Err0RTTRejected is the error of streams that were opened before the end of the
// handshake when the server has not accepted 0-RTT: it has seen nothing of them. The
// connection goes on, and streams may be opened anew.
var Err0RTTRejected = errors.New("quic: the server rejected 0-RTT")

// zeroRTT is the state of 0-RTT. Owned by the loop.
type zeroRTT struct {
	wanted     bool             // client: the application sends early
	remembered *transportParams // client: the server's limits, of an earlier connection
	write      *keys            // client: while 0-RTT packets may be sent
	offered    bool             // client: write was there
	rejected   bool             // client
	end        packetNumber     // client, once rejected or ended: the first number after those of 0-RTT packets

	read      *keys   // server: while 0-RTT packets are accepted
	accepted  bool    // server
	readUntil instant // server: when read is dropped, unset before a 1-RTT packet came
}

// rememberedParams are the transport parameters by which 0-RTT is sent. Others of the
// earlier connection are not kept. // R9000-7.4.1-1 RMP21-2.1-6
var rememberedParams = [...]func(*transportParams) *uint64{
	func(p *transportParams) *uint64 { return &p.initialMaxData },
	func(p *transportParams) *uint64 { return &p.initialMaxStreamDataBidiLocal },
	func(p *transportParams) *uint64 { return &p.initialMaxStreamDataBidiRemote },
	func(p *transportParams) *uint64 { return &p.initialMaxStreamDataUni },
	func(p *transportParams) *uint64 { return &p.initialMaxStreamsBidi },
	func(p *transportParams) *uint64 { return &p.initialMaxStreamsUni },
	func(p *transportParams) *uint64 { return &p.activeConnIDLimit },
	func(p *transportParams) *uint64 { return &p.maxDatagramFrameSize },
}

// remembered returns p with nothing but rememberedParams.
func (p *transportParams) remembered() transportParams {
	q := defaultTransportParams()
	for _, field := range rememberedParams {
		*field(&q) = *field(p)
	}
	return q
}

// covers says that no limit of p is lower than that of old, by which 0-RTT was sent.
func (p *transportParams) covers(old *transportParams) bool {
	for _, field := range rememberedParams {
		if *field(p) < *field(old) {
			return false
		}
	}
	return true
}

// resuming decides whether 0-RTT is used with a session that is about to be resumed.
func (c *Conn) resuming(s *tls.SessionState) {
	if !s.EarlyData {
		return
	}
	t, ok := findTicketInfo(s.Extra)
	switch {
	case !ok:
		s.EarlyData = false
	case c.isClient:
		s.EarlyData = c.zeroRTT.wanted
		c.zeroRTT.remembered = &t.params
	default: // R9000-7.4.1-2 R9221-3-6
		s.EarlyData = c.cfg.AllowEarlyData && c.localParams.covers(&t.params) && c.e.useTicket(t)
	}
}

// setEarlyKeys installs the keys of 0-RTT packets: from now on the client sends them,
// or the server accepts them.
func (c *Conn) setEarlyKeys(k *keys) {
	z := &c.zeroRTT
	if !c.isClient {
		z.read, z.accepted = k, true
		c.used0RTT.Store(true)
		c.e.handOver(c)
		return
	}
	z.write, z.offered = k, true
	if c.qlog != nil {
		c.qlog.parametersRestored(z.remembered)
	}
	c.setPeerLimits(z.remembered)
	close(c.earlyC)
}

// setPeerLimits applies limits of the peer to streams and datagrams.
func (c *Conn) setPeerLimits(p *transportParams) {
	c.streams.setPeerParams(p)
	if c.cfg.Datagrams {
		c.peerDatagram.Store(int64(p.maxDatagramFrameSize))
	}
}

// earlyRejected gives up what was sent in 0-RTT packets. // R9001-4.6.2-2
func (c *Conn) earlyRejected() {
	z := &c.zeroRTT
	if !z.offered {
		return
	}
	p := c.paths[0]
	z.write, z.rejected, z.end = nil, true, p.space.next
	if c.qlog != nil {
		c.qlog.keysDiscarded("0rtt", false)
	}
	p.loss.discardSent(0, z.end-1, func(spaceID, frameRecord, fate) {})
	c.streams.restart(Err0RTTRejected)
	c.peerDatagram.Store(0)
}

// endEarly ends the sending of 0-RTT packets with the handshake. // R9000-17.2.3-1 R9001-5.6-2
func (c *Conn) endEarly() error {
	z := &c.zeroRTT
	if !z.offered {
		return nil
	}
	z.write = nil
	if c.qlog != nil && !z.rejected {
		c.qlog.keysDiscarded("0rtt", false)
	}
	if !z.rejected {
		z.end = c.paths[0].space.next
		if !c.peerParams.covers(z.remembered) { // R9221-3-7
			return &TransportError{Code: ProtocolViolation, Reason: "0-RTT accepted with lower limits than before"}
		}
		c.used0RTT.Store(true)
	}
	c.setPeerLimits(c.peerParams)
	return nil
}

// sendsEarly says that path 0 carries data of the application although the handshake is
// not complete: a client's in 0-RTT packets, a server's in answer to them.
func (c *Conn) sendsEarly() bool {
	return !c.complete && len(c.paths) > 0 && (c.zeroRTT.write != nil || c.zeroRTT.accepted && c.appKeys.write != nil)
}

// earlyAcked says that an acknowledgment is of a 0-RTT packet that the server has
// rejected: it cannot have processed it.
func (c *Conn) earlyAcked(p *pathState, f *wire.Frame) bool {
	if !c.zeroRTT.rejected || p.id != 0 {
		return false
	}
	ranges := f.Ranges
	for {
		lo, _, ok := ranges.Next()
		if !ok {
			return false
		}
		if packetNumber(lo) < c.zeroRTT.end {
			return true
		}
	}
}

// handleZeroRTT processes a 0-RTT packet.
func (c *Conn) handleZeroRTT(m *rxMsg, pkt []byte, h *wire.LongHeader) {
	z := &c.zeroRTT
	switch {
	case c.isClient: // R9001-5.6-1
		c.dropped(dropVersion, pkt)
		return
	case len(c.paths) == 0 || c.paths[0].id != 0 || z.read == nil && c.peerParams != nil: // R9001-4.6.2-1
		c.dropped(dropNoKeys, pkt)
		return
	case m.src != c.paths[0].remote: // R9000-9-5
		c.dropped(dropAddress, pkt)
		return
	case !bytes.Equal(h.SrcConnID, c.peerSCID):
		c.dropped(dropUnknownCID, pkt)
		return
	case z.read == nil && !c.cfg.AllowEarlyData: // there will be no keys
		c.dropped(dropNoKeys, pkt)
		return
	case z.read == nil:
		c.keepEarly(m, pkt)
		return
	}
	p := c.paths[0]
	_, truncated, pnLen, ok := z.read.unprotectHeader(&c.open, pkt, h.PNOffset)
	if !ok {
		c.dropped(dropMalformed, pkt)
		return
	}
	pn := packetNumber(wire.DecodePacketNumber(int64(p.space.acks.largest()), truncated, pnLen))
	payload, ok := z.read.open(&c.open, pkt, h.PNOffset+pnLen, 0, uint64(pn))
	if !ok {
		c.dropped(dropDecrypt, pkt)
		return
	}
	if p.space.acks.isDuplicate(pn) {
		c.dropped(dropDuplicate, pkt)
		return
	}
	if pkt[0]&wire.LongReservedBits != 0 { // R9000-17.2-3
		c.startClose(c.turnTime, &TransportError{Code: ProtocolViolation, Reason: "reserved header bits are set"})
		return
	}
	c.received(p)
	if c.qlog != nil {
		c.qlog.received(p, packetInfo{typ: wire.ZeroRTT, number: pn, pnLen: pnLen, size: len(pkt), header: h}, payload)
	}
	c.streams.early = true
	eliciting, err := c.handleFrames(c.turnTime, p, appSpace, wire.ZeroRTT, payload, &tuple{sock: m.sock, remote: m.src, local: m.dst})
	c.streams.early = false
	if err != nil {
		c.startClose(c.turnTime, err)
		return
	}
	p.space.acks.received(m.at, pn, eliciting, m.ecn)
}

// appReceived starts the time after which no 0-RTT packets are expected any more: a
// 1-RTT packet has come. // R9001-4.9.3-1
func (c *Conn) appReceived(now instant) {
	if z := &c.zeroRTT; z.read != nil && z.readUntil == 0 {
		z.readUntil = now.add(3 * c.largestPTO())
	}
}

// expireEarly drops the keys of 0-RTT packets in time.
func (c *Conn) expireEarly(now instant) {
	z := &c.zeroRTT
	if z.readUntil == 0 || now < z.readUntil {
		return
	}
	z.read, z.readUntil = nil, 0
	if c.qlog != nil {
		c.qlog.keysDiscarded("0rtt", true)
	}
}

// buildZeroRTT writes stream data for a 0-RTT packet into buf, behind an Initial packet
// in the same datagram. It returns false if there is none.
func (c *Conn) buildZeroRTT(now instant, p *pathState, lp *longPacket, buf []byte) bool {
	if c.zeroRTT.write == nil || cap(buf) < 128 || !c.hasStreamData() {
		return false
	}
	if reason, _ := p.loss.sendLimit(now, cap(buf)); reason != 0 {
		return false
	}
	*lp = longPacket{sp: appSpace, space: &p.space, key: c.zeroRTT.write, w: packetWriter{recs: lp.w.recs}}
	var b []byte
	b, lp.lenOff = c.appendZeroRTTHeader(buf[:0], p)
	b = wire.AppendPacketNumber(b, uint64(p.space.next), pnLen)
	lp.hdrLen = len(b)
	lp.w.reset(b, cap(buf)-aeadTagLen)
	c.streams.appendControl(&lp.w)
	c.streams.appendData(&lp.w)
	return len(lp.w.buf) > lp.hdrLen
}

func (c *Conn) appendZeroRTTHeader(b []byte, p *pathState) (out []byte, lenOff int) {
	return wire.AppendLongHeader(b, wire.ZeroRTT, version1, p.ids.remote[0].id.bytes(), p.ids.local[0].id[:], nil, pnLen)
}

// appHeaderLen is the size of the header, packet number included, of the packets with
// which p carries data of the application now.
func (c *Conn) appHeaderLen(p *pathState) int {
	n := 1 + int(p.ids.remote[0].id.n) + pnLen
	if c.zeroRTT.write != nil {
		n += 4 + 1 + 1 + localCIDLen + 2 // version, lengths of both ids, our id, Length
	}
	return n
}
