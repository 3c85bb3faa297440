// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/tls"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// handleDatagram processes one received datagram: one packet, or several coalesced ones.
func (c *Conn) handleDatagram(m *rxMsg, d []byte) {
	if c.closing.phase != notClosing {
		c.receiveClosing(m, d)
		return
	}
	c.authentic, c.datagramSize = false, len(d)
	c.handlePackets(m, d, false)
	if !c.authentic {
		c.maybeReset(d)
	}
}

// handlePackets processes the packets of a datagram. credited says that it was
// counted for the amplification limit before.
func (c *Conn) handlePackets(m *rxMsg, d []byte, credited bool) {
	size := len(d)
	var dcid []byte
	for first := true; len(d) > 0; first = false {
		if d[0]&wire.HeaderForm == 0 {
			c.handleShort(m, d, size, &credited)
			return
		}
		h, n, ok := wire.ParseLongHeader(d)
		if !ok {
			c.dropped(dropMalformed, d)
			return
		}
		if first {
			dcid = h.DstConnID
			c.credit(m, size, &credited)
		} else if !bytes.Equal(dcid, h.DstConnID) { // R9000-12.2-3
			c.dropped(dropUnknownCID, d)
			return
		}
		c.handleLong(m, d[:n], &h, size)
		if c.closing.phase != notClosing {
			return
		}
		d = d[n:]
	}
}

// credit counts the bytes of a datagram that is attributed to path 0 for the
// amplification limit, before anything is decrypted. // R9000-8.1-2
func (c *Conn) credit(m *rxMsg, size int, done *bool) {
	if *done || len(c.paths) == 0 {
		return
	}
	*done = true
	p := c.paths[0]
	p.stats.bytesReceived += uint64(size)
	if m.src == p.remote {
		p.ampReceived += size
	}
	if !p.validated {
		p.loss.setAmplificationBlocked(false)
	}
}

// handleLong processes a long header packet.
func (c *Conn) handleLong(m *rxMsg, pkt []byte, h *wire.LongHeader, datagramSize int) {
	switch h.Type {
	case wire.VersionNegotiation:
		c.handleVersionNegotiation(pkt, h)
		return
	case wire.Retry:
		c.handleRetry(pkt, h)
		return
	case wire.Initial, wire.Handshake, wire.ZeroRTT:
	default: // other versions are not ours // R9000-5.2.1-1
		c.dropped(dropVersion, pkt)
		return
	}
	if h.FirstByte&wire.FixedBit == 0 && !c.localParams.greaseQUICBit { // R9000-17.2-1 R9287-3-2
		c.dropped(dropMalformed, pkt)
		return
	}
	if h.Type == wire.ZeroRTT {
		c.handleZeroRTT(m, pkt, h)
		return
	}
	sp, ls := initialSpace, c.initial
	if h.Type == wire.Handshake {
		sp, ls = handshakeSpace, c.handshake
	} else if !c.isClient && datagramSize < minInitialSize { // R9000-14.1-2
		c.dropped(dropMalformed, pkt)
		return
	}
	if ls == nil || len(c.paths) == 0 || c.paths[0].id != 0 {
		c.dropped(dropNoKeys, pkt)
		return
	}
	p := c.paths[0]
	if m.src != p.remote {
		// The handshake does not migrate. // R9000-9-5
		c.dropped(dropAddress, pkt)
		return
	}
	if c.gotPeerSCID && !bytes.Equal(h.SrcConnID, c.peerSCID) { // R9000-7.2-3 R9000-7.2-5
		c.dropped(dropUnknownCID, pkt)
		return
	}
	if ls.read == nil {
		c.keepEarly(m, pkt)
		return
	}
	_, truncated, pnLen, ok := ls.read.unprotectHeader(&c.open, pkt, h.PNOffset)
	if !ok {
		c.dropped(dropMalformed, pkt)
		return
	}
	pn := packetNumber(wire.DecodePacketNumber(int64(ls.space.acks.largest()), truncated, pnLen))
	payload, ok := ls.read.open(&c.open, pkt, h.PNOffset+pnLen, 0, uint64(pn))
	if !ok {
		c.dropped(dropDecrypt, pkt)
		return
	}
	if ls.space.acks.isDuplicate(pn) {
		c.dropped(dropDuplicate, pkt)
		return
	}
	if pkt[0]&wire.LongReservedBits != 0 { // R9000-17.2-3
		c.startClose(c.turnTime, &TransportError{Code: ProtocolViolation, Reason: "reserved header bits are set"})
		return
	}
	if h.Type == wire.Initial && len(h.Token) > 0 && c.isClient { // R9000-17.2.2-2
		c.startClose(c.turnTime, &TransportError{Code: ProtocolViolation, Reason: "token in an Initial packet of the server"})
		return
	}
	c.notePeerSCID(h)
	if !c.isClient { // a client's kernel chooses the address, which may change
		c.setTuple(p, tuple{sock: m.sock, remote: m.src, local: m.dst})
	}
	c.received(p)
	if c.qlog != nil {
		c.qlog.received(p, packetInfo{typ: h.Type, number: pn, pnLen: pnLen, size: len(pkt), header: h}, payload)
	}
	if sp == handshakeSpace && !c.isClient {
		c.validateAddress(c.turnTime, p) // R9000-8.1-3
		c.discardSpace(initialSpace)     // R9001-4.9.1-2
	}
	eliciting, err := c.handleFrames(c.turnTime, p, sp, h.Type, payload, nil)
	if err != nil {
		c.startClose(c.turnTime, err)
		return
	}
	ls.space.acks.received(m.at, pn, eliciting, m.ecn)
	c.replayEarly()
}

// notePeerSCID takes the connection id that the server chose. // R9000-7.2-4
func (c *Conn) notePeerSCID(h *wire.LongHeader) {
	if c.gotPeerSCID {
		return
	}
	c.gotPeerSCID = true
	c.peerSCID = append([]byte(nil), h.SrcConnID...)
	c.ids[0].remote[0].id = makeConnID(h.SrcConnID)
}

// handleShort processes a 1-RTT packet, which takes the rest of the datagram.
func (c *Conn) handleShort(m *rxMsg, pkt []byte, size int, credited *bool) {
	if len(pkt) < 1+localCIDLen {
		c.dropped(dropMalformed, pkt)
		return
	}
	s := c.byCID[localCIDKey(pkt[1:1+localCIDLen])]
	if s == nil {
		c.dropped(dropUnknownCID, pkt)
		return
	}
	if pkt[0]&wire.FixedBit == 0 && !c.localParams.greaseQUICBit { // R9000-17.3.1-1 R9287-3-2
		c.dropped(dropMalformed, pkt)
		return
	}
	if s.id == 0 {
		c.credit(m, size, credited)
	}
	if c.appKeys.read == nil || !c.complete { // R9001-5.7-1 R9001-5.7-2
		c.keepEarly(m, pkt)
		return
	}
	now := c.turnTime
	p := s.path
	if p == nil {
		if p = c.tryNewPath(now, m, s, pkt); p == nil {
			return
		}
	} else if s.id != 0 {
		*credited = true
		p.stats.bytesReceived += uint64(size)
		if m.src == p.remote {
			p.ampReceived += size
		}
	}
	payload, pn, ok, err := c.openShort(now, p, pkt)
	if err != nil {
		c.startClose(now, err)
		return
	}
	if !ok {
		return
	}
	c.acceptShort(now, m, p, pkt, payload, pn, size)
}

// openShort removes the protection of a 1-RTT packet of p.
func (c *Conn) openShort(now instant, p *pathState, pkt []byte) (payload []byte, pn packetNumber, ok bool, err error) {
	const pnOff = 1 + localCIDLen
	first, truncated, pnLen, ok := c.appKeys.read.unprotectHeader(&c.open, pkt, pnOff)
	if !ok {
		c.dropped(dropMalformed, pkt)
		return nil, 0, false, nil
	}
	pn = packetNumber(wire.DecodePacketNumber(int64(p.space.acks.largest()), truncated, pnLen))
	payload, ok, err = c.openApp(now, p, pkt, pnOff+pnLen, pn, first&wire.KeyPhase != 0)
	if err != nil {
		return nil, 0, false, err
	}
	if !ok {
		c.dropped(dropDecrypt, pkt)
		if c.appKeys.failed++; c.appKeys.failed > integrityLimit { // R9001-6.6-2
			return nil, 0, false, &TransportError{Code: AEADLimitReached, Reason: "too many packets that do not decrypt"}
		}
		return nil, 0, false, nil
	}
	if p.space.acks.isDuplicate(pn) { // R9000-12.3-4
		c.dropped(dropDuplicate, pkt)
		return nil, 0, false, nil
	}
	if pkt[0]&wire.ShortReservedBits != 0 { // R9000-17.3.1-2
		return nil, 0, false, &TransportError{Code: ProtocolViolation, Reason: "reserved header bits are set"}
	}
	return payload, pn, true, nil
}

// tryNewPath opens a path for the first packet with a connection id of an unused
// path id, if it decrypts.
func (c *Conn) tryNewPath(now instant, m *rxMsg, s *idState, pkt []byte) *pathState {
	if c.isClient || !c.multipath || s.abandoned() {
		c.dropped(dropUnknownCID, pkt)
		return nil
	}
	// Nothing is changed before the packet is authentic: a copy is opened first.
	probe := pathState{id: s.id, keyPhaseRecv: noPacket}
	probe.space.init(appSpace)
	c.probeBuf = append(c.probeBuf[:0], pkt...)
	if _, _, ok, err := c.openShort(now, &probe, c.probeBuf); !ok || err != nil {
		return nil
	}
	if len(s.remote) == 0 {
		c.abandonPath(now, s, c.cp.NoCIDAvailableForPath, "the peer opened it without a connection id for us")
		return nil
	}
	p := c.acceptPath(now, s, tuple{sock: m.sock, remote: m.src, local: m.dst})
	p.ampReceived = len(pkt)
	p.stats.bytesReceived += uint64(len(pkt))
	return p
}

// acceptShort processes the frames of an authentic 1-RTT packet.
func (c *Conn) acceptShort(now instant, m *rxMsg, p *pathState, pkt, payload []byte, pn packetNumber, size int) {
	at := tuple{sock: m.sock, remote: m.src, local: m.dst}
	if c.isClient && !c.isServer(p, m.src) { // R9000-9-5
		c.dropped(dropAddress, pkt)
		return
	}
	c.received(p)
	if c.qlog != nil {
		i := packetInfo{typ: wire.OneRTT, number: pn, pnLen: 1 + int(pkt[0]&wire.PacketNumberLength), size: len(pkt), keyPhase: c.appKeys.updates}
		if pkt[0]&wire.KeyPhase != 0 != c.appKeys.phase {
			i.keyPhase-- // reordered around a key update
		}
		c.qlog.received(p, i, payload)
	}
	c.appReceived(now)
	p.seenLocal = m.dst
	c.pathHeard(now, p)
	c.probingOnly = true
	eliciting, err := c.handleFrames(now, p, appSpace, wire.OneRTT, payload, &at)
	if err != nil {
		c.startClose(now, err)
		return
	}
	p.space.acks.received(m.at, pn, eliciting, m.ecn)
	moves := int64(pn) > p.largestRecvNonProbing && !c.probingOnly // R9000-9.3-2
	if moves {
		p.largestRecvNonProbing = int64(pn)
	}
	if !c.isClient && at != p.tuple && !c.heardAtPreferred(now, p, at, size, moves) && moves {
		c.addressChanged(now, p, at, size)
	}
}

// received notes an authentic packet, for statistics and the idle time-out.
func (c *Conn) received(p *pathState) {
	c.authentic = true
	p.stats.packetsReceived++
	c.lastReceived = c.turnTime
	c.idleFrom = c.turnTime
	c.sentSinceReceive = false
}

// maybeReset checks whether a datagram without any packet that could be opened is a
// stateless reset of the peer; its header may be a long one. // R9000-10.3-4 R9000-10.3.1-1 R9000-10.3.1-3
func (c *Conn) maybeReset(d []byte) {
	if c.e.table.lookupToken(d) == c {
		if c.qlog != nil {
			c.qlog.statelessReset(d)
		}
		c.enterDraining(c.turnTime, &StatelessResetError{})
	}
}

// dropped counts a received packet that is not processed, at the beginning of pkt.
func (c *Conn) dropped(r dropReason, pkt []byte) {
	c.drops[r]++
	if c.qlog != nil {
		c.qlog.dropped(r, pkt)
	}
}

// keepEarly keeps a packet whose keys are not there yet.
func (c *Conn) keepEarly(m *rxMsg, pkt []byte) {
	if len(c.early) >= maxEarlyPackets || len(pkt) > maxPacketSize || c.complete {
		c.dropped(dropNoKeys, pkt)
		return
	}
	c.drops[dropNoKeys]++
	if c.qlog != nil {
		c.qlog.buffered(pkt)
	}
	e := earlyPacket{msg: *m, data: append([]byte(nil), pkt...)}
	e.msg.data = nil
	c.early = append(c.early, e)
}

// replayEarly processes the packets that waited for keys.
func (c *Conn) replayEarly() {
	if len(c.early) == 0 {
		return
	}
	ready := c.complete || c.handshake != nil && c.handshake.read != nil
	if !ready {
		return
	}
	early := c.early
	c.early = nil
	for i := range early {
		e := &early[i]
		if e.data[0]&wire.HeaderForm == 0 && !c.complete {
			c.early = append(c.early, *e)
			continue
		}
		c.handlePackets(&e.msg, e.data, true)
		if c.closing.phase != notClosing {
			c.early = nil
			return
		}
	}
}

// handleVersionNegotiation ends the attempt of a client. // R9000-6.2-1 R9000-6.2-2 R9000-6.2-3
func (c *Conn) handleVersionNegotiation(pkt []byte, h *wire.LongHeader) {
	if !c.isClient || c.gotPeerSCID || c.retrySCID != nil || !bytes.Equal(h.SrcConnID, c.originalDCID) {
		c.dropped(dropVersion, pkt)
		return
	}
	versions := h.SupportedVersions()
	for _, v := range versions {
		if v == version1 {
			return
		}
	}
	if len(versions) == 0 { // R8999-6-2
		return
	}
	if c.qlog != nil {
		c.qlog.versionNegotiated(pkt, h, versions)
	}
	c.enterDraining(c.turnTime, &VersionNegotiationError{Offered: versions})
}

// handleRetry starts again with the server's token. // R9000-17.2.5.2-1
func (c *Conn) handleRetry(pkt []byte, h *wire.LongHeader) {
	if !c.isClient || c.gotPeerSCID || c.retrySCID != nil || len(h.Token) == 0 || len(h.Token) > maxTokenLen ||
		bytes.Equal(h.SrcConnID, c.originalDCID) || !wire.VerifyRetry(pkt, c.originalDCID) {
		c.dropped(dropVersion, pkt) // R9000-17.2.5.2-2 R9000-17.2.5.2-3 R9000-17.2.5.2-4
		return
	}
	if c.qlog != nil {
		c.qlog.received(c.paths[0], packetInfo{typ: wire.Retry, size: len(pkt), header: h}, nil)
	}
	c.retrySCID = append([]byte{}, h.SrcConnID...)
	c.token = append([]byte(nil), h.Token...)
	c.ids[0].remote[0].id = makeConnID(c.retrySCID)
	c.setInitialKeys(c.retrySCID)
	// The same ClientHello goes out again, with the next packet number. // R9000-17.2.5.3-1 R9000-17.2.5.3-2
	c.fatePath = c.paths[0]
	c.paths[0].loss.discardAllInFlight(c.fateFunc)
}

// levels maps spaces to encryption levels.
var levels = [...]tls.QUICEncryptionLevel{tls.QUICEncryptionLevelInitial, tls.QUICEncryptionLevelHandshake, tls.QUICEncryptionLevelApplication}

// handleFrames processes the payload of one packet, which came from at.
func (c *Conn) handleFrames(now instant, p *pathState, sp spaceID, pt wire.PacketType, payload []byte, at *tuple) (eliciting bool, err error) {
	if len(payload) == 0 { // R9000-12.4-1
		return false, &TransportError{Code: ProtocolViolation, Reason: "packet without frames"}
	}
	f := &c.frame
	for len(payload) > 0 {
		n, perr := f.Parse(payload, c.cp)
		if perr != 0 {
			return false, &TransportError{Code: TransportErrorCode(perr.TransportCode()), FrameType: f.WireType, Reason: perr.String()}
		}
		if !f.Type.AllowedIn(pt) { // R9000-12.4-2 RMP21-4-2
			return false, &TransportError{Code: ProtocolViolation, FrameType: f.WireType, Reason: f.Type.String() + " in a packet of type " + pt.String()}
		}
		eliciting = eliciting || f.Type.AckEliciting()
		c.probingOnly = c.probingOnly && f.Type.Probing()
		payload = payload[n:]
		if sp == appSpace {
			err = c.handleAppFrame(now, p, f, at)
		} else {
			err = c.handleHandshakeFrame(now, p, sp, f)
		}
		if err != nil {
			return false, withFrameType(err, f)
		}
		if c.closing.phase != notClosing {
			return false, nil
		}
	}
	return eliciting, nil
}

// withFrameType names the frame on the wire in a TransportError that lacks it.
func withFrameType(err error, f *wire.Frame) error {
	if te, ok := err.(*TransportError); ok && (te.FrameType == 0 || te.FrameType == uint64(f.Type)) {
		te.FrameType = f.WireType
	}
	return err
}

// handleHandshakeFrame processes a frame of an Initial or Handshake packet.
func (c *Conn) handleHandshakeFrame(now instant, p *pathState, sp spaceID, f *wire.Frame) error {
	ls := c.initial
	if sp == handshakeSpace {
		ls = c.handshake
	}
	if ls == nil {
		return nil // discarded by an earlier frame of this packet
	}
	switch f.Type {
	case wire.FrameTypeAck:
		return c.handleAck(now, p, sp, f, p)
	case wire.FrameTypeCrypto:
		return c.handleCrypto(now, levels[sp], &ls.crypto, f)
	case wire.FrameTypeConnectionClose, wire.FrameTypeApplicationClose:
		c.peerClosed(now, f)
	}
	return nil
}

// handleAppFrame processes a frame of a 1-RTT packet that came over p.
func (c *Conn) handleAppFrame(now instant, p *pathState, f *wire.Frame, at *tuple) error {
	switch f.Type {
	case wire.FrameTypePadding, wire.FrameTypePing:
	case wire.FrameTypeDatagram:
		length := len(f.Data)
		if f.WireType&1 == 0 {
			length = -1 // the frame has none
		}
		if uint64(wire.SizeDatagramHeader(length)+len(f.Data)) > c.localParams.maxDatagramFrameSize { // R9221-3-3 R9221-3-4
			return &TransportError{Code: ProtocolViolation, Reason: "DATAGRAM larger than announced"}
		}
		c.datagramsReceived++
		c.lastDatagram = now
		if p.phase == pathDead {
			c.usedWhileDead(now, p)
		}
		if c.handler != nil { // R9221-5-2
			c.handler.HandleDatagram(f.Data)
		}
	case wire.FrameTypePathAck:
		s, err := c.checkPathID(f.PathID, f.Type)
		if err != nil {
			return err
		}
		if s == nil {
			return nil
		}
		if s.path == nil {
			return &TransportError{Code: ProtocolViolation, Reason: "acknowledgment of a path that was never used"}
		}
		return c.handleAck(now, s.path, appSpace, f, p)
	case wire.FrameTypeAck: // RMP21-2.3-2
		if s := c.pathID(0); s != nil && s.path != nil {
			return c.handleAck(now, s.path, appSpace, f, p)
		}
	case wire.FrameTypeStream:
		c.lastStream = now
		if p.phase == pathDead {
			c.usedWhileDead(now, p)
		}
		return c.streams.handleFrame(f)
	case wire.FrameTypeResetStream, wire.FrameTypeStopSending,
		wire.FrameTypeMaxData, wire.FrameTypeMaxStreamData, wire.FrameTypeMaxStreams,
		wire.FrameTypeDataBlocked, wire.FrameTypeStreamDataBlocked, wire.FrameTypeStreamsBlocked:
		return c.streams.handleFrame(f)
	case wire.FrameTypeCrypto:
		return c.handleCrypto(now, tls.QUICEncryptionLevelApplication, &c.appCrypto, f)
	case wire.FrameTypeNewToken:
		if !c.isClient { // R9000-19.7-2
			return &TransportError{Code: ProtocolViolation, Reason: "NEW_TOKEN from a client"}
		}
		if len(f.Data) <= maxTokenLen {
			c.cfg.Sessions.putToken(c.serverKey(), f.Data)
		}
	case wire.FrameTypeHandshakeDone:
		if !c.isClient { // R9000-19.20-1
			return &TransportError{Code: ProtocolViolation, Reason: "HANDSHAKE_DONE from a client"}
		}
		c.confirm(now)
	case wire.FrameTypePathChallenge:
		// The newest one is answered, on the 4-tuple where it came. // R9000-8.2.2-1 R9000-8.2.2-3
		p.response, p.responseDue, p.responseTo = f.Challenge, true, *at
		p.responseRoom = 3 * c.datagramSize // R9000-8-1, if that address is not validated
	case wire.FrameTypePathResponse:
		c.handlePathResponse(now, f)
	case wire.FrameTypeConnectionClose, wire.FrameTypeApplicationClose:
		c.peerClosed(now, f)
	case wire.FrameTypeNewConnectionID, wire.FrameTypePathNewConnectionID:
		return c.handleNewConnectionID(now, f)
	case wire.FrameTypeRetireConnectionID, wire.FrameTypePathRetireConnectionID:
		return c.handleRetireConnectionID(now, f)
	case wire.FrameTypePathAbandon:
		return c.handlePathAbandon(now, f)
	case wire.FrameTypePathStatusBackup, wire.FrameTypePathStatusAvailable:
		return c.handlePathStatus(now, f)
	case wire.FrameTypeMaxPathID:
		return c.handleMaxPathID(now, f)
	case wire.FrameTypePathsBlocked:
		return c.handlePathsBlocked(now, f)
	case wire.FrameTypePathCIDsBlocked:
		return c.handlePathCIDsBlocked(now, f)
	}
	return nil
}
