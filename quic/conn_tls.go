// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

const (
	ackDelayExponent = 3
	// maxDatagramFrameSize that we announce. // R9221-3-5
	maxDatagramFrameSize = 65535
	// maxPacketSize is the largest packet that we build: a PacketBuf with its headers.
	maxPacketSize = packetBufSize
	// maxEarlyPackets bounds packets kept until their keys arrive; of those larger than
	// maxPacketSize none is.
	maxEarlyPackets = 16
)

// longSpace is an Initial or Handshake packet number space with its keys and
// CRYPTO stream.
type longSpace struct {
	space       space
	crypto      cryptoStream
	read, write *keys
}

type earlyPacket struct {
	msg  rxMsg
	data []byte
}

// setInitialKeys derives the keys of Initial packets. // R9001-5.2-1
func (c *Conn) setInitialKeys(dcid []byte) {
	client, server := initialKeys(dcid)
	if c.isClient {
		c.initial.read, c.initial.write = server, client
	} else {
		c.initial.read, c.initial.write = client, server
	}
	if c.qlog != nil {
		c.qlog.keysChanged("initial", true)
		c.qlog.keysChanged("initial", false)
	}
}

// startTLS begins the handshake.
func (c *Conn) startTLS(now instant) {
	c.startQlog()
	c.setLocalParams()
	qc := &tls.QUICConfig{TLSConfig: c.tlsConfig(), EnableSessionEvents: true}
	if c.isClient {
		c.tls = tls.QUICClient(qc)
	} else {
		c.tls = tls.QUICServer(qc)
	}
	if c.isClient {
		c.tls.SetTransportParameters(c.localParams.append(nil))
	}
	if err := c.tls.Start(context.Background()); err != nil {
		c.tlsFailed(now, err)
		return
	}
	if err := c.tlsEvents(now); err != nil {
		c.startClose(now, err)
	}
}

// setLocalParams decides our transport parameters.
func (c *Conn) setLocalParams() {
	p := defaultTransportParams()
	p.initialSrcConnID = c.ids[0].local[0].id[:]
	p.maxIdleTimeoutMs = uint64(c.cfg.MaxIdleTimeout.Milliseconds())
	p.initialMaxData = uint64(c.cfg.ConnReceiveWindow)
	p.initialMaxStreamDataBidiLocal = uint64(c.cfg.StreamReceiveWindow)
	p.initialMaxStreamDataBidiRemote = uint64(c.cfg.StreamReceiveWindow)
	p.initialMaxStreamDataUni = uint64(c.cfg.StreamReceiveWindow)
	p.initialMaxStreamsBidi = uint64(c.cfg.MaxIncomingStreams)
	p.initialMaxStreamsUni = uint64(c.cfg.MaxIncomingUniStreams)
	p.ackDelayExponent = ackDelayExponent
	p.maxAckDelayMs = uint64(maxAckDelay.Milliseconds())
	p.activeConnIDLimit = activeCIDLimit
	if !c.isClient {
		p.originalDstConnID = c.originalDCID
		p.retrySrcConnID = c.retrySCID
		token := c.e.resetKey.token(c.ids[0].local[0].id[:])
		p.statelessResetToken = &token
		p.preferredAddress = c.makePreferredAddress()
		p.disableActiveMigration = c.cfg.DisableActiveMigration
	}
	p.greaseQUICBit = !c.cfg.FixedQUICBit
	p.reserved = newReservedParam(c.rand)
	if c.cfg.Datagrams {
		p.maxDatagramFrameSize = maxDatagramFrameSize
	}
	if n := c.cfg.InitialMaxPathID; n >= 0 {
		p.initialMaxPathID = maxPathIDParam{has: true, v: uint32(n)}
		p.initialMaxPathID15 = p.initialMaxPathID
	}
	c.localParams = p
	if c.qlog != nil {
		c.qlog.parametersSet("local", &p)
	}
}

// handleCrypto processes a CRYPTO frame of the given level.
func (c *Conn) handleCrypto(now instant, level tls.QUICEncryptionLevel, s *cryptoStream, f *wire.Frame) error {
	if err := s.handleFrame(f); err != nil {
		return err
	}
	for {
		b := s.peek()
		if len(b) == 0 {
			return nil
		}
		if level < c.readLevel { // R9001-4.1.3-1 R9001-4.1.3-2
			return &TransportError{Code: ProtocolViolation, Reason: "new handshake data at an old encryption level"}
		}
		n, typ := s.messages.next(b)
		b = b[:n]
		err := c.checkMessage(level, s, b, typ)
		if err != nil {
			return err
		}
		if c.tls == nil && typ != 0 {
			return c.tlsError(tls.AlertError(unexpectedMessage))
		}
		if c.tls != nil {
			err = c.tls.HandleData(level, b)
		}
		s.advance(len(b))
		if err != nil {
			return c.tlsError(err)
		}
		if c.tls == nil {
			continue
		}
		if err := c.tlsEvents(now); err != nil {
			return err
		}
	}
}

// unexpectedMessage is the TLS alert unexpected_message.
const unexpectedMessage = 10

// dropTLS ends the use of crypto/tls after a server's handshake: no message of a client
// is expected any more, and the memory of its state is a tenth of an idle connection's.
func (c *Conn) dropTLS() {
	c.tls.Close()
	c.tls = nil
}

// A messageScanner finds the TLS messages in the bytes of one encryption level, so
// that crypto/tls is given one at a time: it reports what is misplaced with errors
// that QUIC does not want.
type messageScanner struct {
	header [4]byte // type and length of the message that begins
	have   int     // bytes of header
	body   int     // bytes left of the message that follows it
}

// atEnd says that what next was called for last ends a message.
func (m *messageScanner) atEnd() bool { return m.have == 0 && m.body == 0 }

// next returns how many of the next bytes end the present message, all if none do, and
// the type of the message whose header they complete, 0 if none.
func (m *messageScanner) next(b []byte) (n int, typ byte) {
	for n < len(b) {
		if m.body > 0 {
			k := min(m.body, len(b)-n)
			m.body -= k
			n += k
		} else {
			m.header[m.have] = b[n]
			m.have++
			n++
			if m.have < len(m.header) {
				continue
			}
			m.have, typ = 0, m.header[0]
			m.body = int(m.header[1])<<16 | int(m.header[2])<<8 | int(m.header[3])
		}
		if m.body == 0 {
			break
		}
	}
	return n, typ
}

// checkMessage refuses what crypto/tls would let pass, or refuse with another error, in
// b, the next bytes of a message, whose header they complete if typ is not 0.
func (c *Conn) checkMessage(level tls.QUICEncryptionLevel, s *cryptoStream, b []byte, typ byte) error {
	switch {
	case level == tls.QUICEncryptionLevelInitial && !c.isClient:
		at := s.in.readOffset()
		if at <= sessionIDAt && sessionIDAt-at < uint64(len(b)) && b[sessionIDAt-at] != 0 { // R9001-8.4-2
			return &TransportError{Code: ProtocolViolation, Reason: "ClientHello with a legacy_session_id"}
		}
	case level == tls.QUICEncryptionLevelApplication:
		if err := checkPostHandshake(typ); err != nil {
			return err
		}
		if c.isClient && c.ticket.take(b, s.messages.atEnd()) {
			return &TransportError{Code: ProtocolViolation, Reason: "max_early_data_size is not 0xffffffff"}
		}
	}
	return nil
}

// sessionIDAt is where the length of legacy_session_id is in the stream of a client's
// CRYPTO frames, which begins with its ClientHello: behind type and length of the
// message, version and random (RFC 8446 section 4.1.2).
const sessionIDAt = 4 + 2 + 32

// checkPostHandshake refuses messages that must not follow the handshake.
func checkPostHandshake(typ byte) error {
	const certificateRequest, keyUpdate = 13, 24
	switch typ {
	case keyUpdate: // R9001-6-1
		return &TransportError{Code: CryptoErrorBase + 10, Reason: "TLS KeyUpdate message"}
	case certificateRequest: // R9001-4.4-2
		return &TransportError{Code: ProtocolViolation, Reason: "CertificateRequest after the handshake"}
	}
	return nil
}

// tlsEvents takes what crypto/tls has for us.
func (c *Conn) tlsEvents(now instant) error {
	for {
		ev := c.tls.NextEvent()
		switch ev.Kind {
		case tls.QUICNoEvent:
			if c.complete && !c.isClient {
				c.dropTLS()
			}
			return nil
		case tls.QUICSetReadSecret:
			if err := c.setSecret(ev, true); err != nil {
				return err
			}
		case tls.QUICSetWriteSecret:
			if err := c.setSecret(ev, false); err != nil {
				return err
			}
		case tls.QUICWriteData:
			switch ev.Level {
			case tls.QUICEncryptionLevelInitial:
				c.initial.crypto.write(ev.Data)
			case tls.QUICEncryptionLevelHandshake:
				c.handshake.crypto.write(ev.Data)
			case tls.QUICEncryptionLevelApplication:
				c.appCrypto.write(ev.Data)
			}
		case tls.QUICResumeSession:
			c.resuming(ev.SessionState)
		case tls.QUICStoreSession:
			if err := c.storeSession(ev.SessionState); err != nil {
				return c.tlsError(err)
			}
		case tls.QUICRejectedEarlyData:
			c.earlyRejected()
		case tls.QUICTransportParameters:
			if err := c.setPeerParams(now, ev.Data); err != nil {
				return err
			}
		case tls.QUICTransportParametersRequired:
			c.tls.SetTransportParameters(c.localParams.append(nil))
		case tls.QUICHandshakeDone:
			if err := c.handshakeComplete(now); err != nil {
				return err
			}
		case tls.QUICErrorEvent:
			return c.tlsError(ev.Err)
		}
	}
}

// tlsError turns an error of crypto/tls into CRYPTO_ERROR. // R9001-4.8-1
func (c *Conn) tlsError(err error) error {
	if te, ok := errors.AsType[*TransportError](err); ok {
		return te
	}
	code := CryptoErrorBase + 80 // internal_error
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		code = CryptoErrorBase + TransportErrorCode(alert)
	}
	return &TransportError{Code: code, FrameType: uint64(wire.FrameTypeCrypto), Reason: err.Error(), Err: err}
}

func (c *Conn) tlsFailed(now instant, err error) { c.startClose(now, c.tlsError(err)) }

// setSecret installs keys.
func (c *Conn) setSecret(ev tls.QUICEvent, read bool) error {
	if read && ev.Level != tls.QUICEncryptionLevelEarly {
		c.readLevel = ev.Level
	}
	k, err := newKeys(ev.Suite, ev.Data)
	if err != nil {
		return &TransportError{Code: InternalError, Reason: err.Error()}
	}
	if c.qlog != nil {
		c.qlog.keysChanged(qlogLevels[ev.Level], read)
	}
	switch ev.Level {
	case tls.QUICEncryptionLevelEarly:
		c.setEarlyKeys(k)
	case tls.QUICEncryptionLevelHandshake:
		if c.handshake == nil {
			return nil
		}
		if read {
			c.handshake.read = k
		} else {
			c.handshake.write = k
			c.paths[0].loss.setHandshakeKeys()
		}
	case tls.QUICEncryptionLevelApplication:
		if read {
			c.appKeys.setRead(k)
		} else {
			c.appKeys.setWrite(k)
		}
	}
	return nil
}

// setPeerParams checks and applies the peer's transport parameters.
func (c *Conn) setPeerParams(now instant, b []byte) error {
	p, err := parseTransportParams(b, c.isClient)
	if err != nil {
		return err
	}
	if err := p.checkConnIDs(c.isClient, c.peerSCID, c.originalDCID, c.retrySCID); err != nil {
		return err
	}
	c.peerParams = &p
	if c.qlog != nil {
		c.qlog.parametersSet("remote", &p)
	}
	if cp, peerMax := negotiateMultipath(&c.localParams, &p); cp != nil { // RMP21-2-1
		if len(c.peerSCID) == 0 { // RMP21-2.1-4
			return &TransportError{Code: ProtocolViolation, Reason: "multipath with an empty connection id"}
		}
		c.multipath, c.cp = true, cp
		c.localMaxPathID = PathID(c.cfg.InitialMaxPathID)
		c.ackedMaxPathID = c.localMaxPathID
		c.peerMaxPathID, c.peerInitialMaxPathID = peerMax, peerMax
	}
	if p.statelessResetToken != nil {
		r := &c.ids[0].remote[0]
		r.token, r.hasToken = *p.statelessResetToken, true
		c.useRemoteCID(c.ids[0])
	}
	if p.preferredAddress != nil {
		c.keepPreferredCID(p.preferredAddress)
	}
	for _, q := range c.paths {
		q.loss.setMaxAckDelay(p.maxAckDelay())
	}
	c.peerGrease = p.greaseQUICBit && !c.cfg.FixedQUICBit // R9287-3.1-3
	if !c.zeroRTT.offered {                               // or else they hold once it is known whether 0-RTT is accepted
		c.setPeerLimits(&p)
	}
	return nil
}

// handshakeComplete is called when TLS has finished on our side.
func (c *Conn) handshakeComplete(now instant) error {
	st := c.tls.ConnectionState()
	c.tlsState.Store(&st)
	if c.peerParams == nil {
		return &TransportError{Code: CryptoErrorBase + 109, Reason: "no transport parameters"} // R9001-8.2-1
	}
	if err := c.endEarly(); err != nil {
		return err
	}
	c.complete = true
	c.handshakeEnd = 0
	if c.qlog != nil {
		c.qlog.handshakeComplete(&st)
	}
	c.validate(now, c.paths[0]) // a client need not wait for the confirmation to send data
	if c.multipath {
		c.addPathIDs()
	} else {
		c.issueCIDs(c.ids[0])
	}
	if !c.isClient {
		c.doneFrame.set() // R9001-4.1.2-1
		c.controlDue = true
		c.confirm(now)
		c.handshakeSeen = true
		c.e.handshakeEnded(c, true)
		if err := c.sendTicket(); err != nil {
			return c.tlsError(err)
		}
	}
	close(c.handshakeDone)
	c.updateMaxDatagram()
	return nil
}

// confirm ends the handshake. // R9001-4.1.2-2
func (c *Conn) confirm(now instant) {
	if c.confirmed {
		return
	}
	c.confirmed = true
	c.discardSpace(handshakeSpace)     // R9001-4.9.2-1
	c.long = [len(c.long)]longPacket{} // which would keep the spaces in memory
	for _, p := range c.paths {
		p.loss.setConfirmed()
	}
	close(c.confirmedC)
	c.pathsWanted = true
	c.tryPreferredAddress(now)
}

// discardSpace drops the keys and the recovery state of a handshake space. // R9002-6.4-1
func (c *Conn) discardSpace(sp spaceID) {
	ls := &c.initial
	if sp == handshakeSpace {
		ls = &c.handshake
		c.discardSpace(initialSpace)
	}
	if *ls == nil {
		return
	}
	(*ls).crypto.discard()
	*ls = nil
	if c.qlog != nil {
		c.qlog.keysDiscarded(qlogLevels[levels[sp]], true)
		c.qlog.keysDiscarded(qlogLevels[levels[sp]], false)
	}
	if len(c.paths) > 0 && c.paths[0].id == 0 {
		c.paths[0].loss.discardSpace(sp)
	}
}

// peerMaxUDPPayload is the largest UDP payload that the peer takes.
func (c *Conn) peerMaxUDPPayload() int {
	if c.peerParams == nil {
		return minInitialSize
	}
	return int(min(c.peerParams.maxUDPPayloadSize, maxPacketSize))
}
