// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/quic"
)

// NextProto is the ALPN token of HTTP/3.
const NextProto = "h3"

// The types of unidirectional streams (RFC 9114 section 6.2, RFC 9204 section 4.2).
const (
	streamControl      = 0x00
	streamPush         = 0x01
	streamQPACKEncoder = 0x02
	streamQPACKDecoder = 0x03
)

// conn is what both ends of an HTTP/3 connection have in common: the control
// stream and the QPACK streams of both directions, and the datagrams.
type conn struct {
	qc        *quic.Conn
	server    bool
	datagrams datagramRouter

	// The peer's SETTINGS, valid once gotSettings is closed.
	settings    Settings
	gotSettings chan struct{}

	// canSendDatagrams: SETTINGS_H3_DATAGRAM was sent and received. // R9297-2.1.1-2
	canSendDatagrams atomic.Bool

	mu           sync.Mutex
	control      *quic.Stream    // ours
	seen         map[uint64]bool // types of the peer's critical streams
	peerGoAway   uint64          // identifier of the peer's last GOAWAY, MaxVarint before
	peerMaxPush  uint64
	goAwaySent   uint64 // first request stream that we refuse, MaxVarint before
	nextIncoming uint64 // above every request stream that was accepted
	running      int    // requests being served
}

func newConn(qc *quic.Conn, server bool) *conn {
	c := &conn{
		qc:          qc,
		server:      server,
		gotSettings: make(chan struct{}),
		seen:        make(map[uint64]bool),
		peerGoAway:  MaxVarint,
		goAwaySent:  MaxVarint,
	}
	c.datagrams.init(c)
	qc.SetDatagramHandler(&c.datagrams)
	return c
}

// open opens our control and QPACK streams. SETTINGS goes out at once, whatever
// the peer does. // R9114-6.2.1-1 R9114-3.2-2 R9114-7.2.4.2-1
func (c *conn) open(ctx context.Context) error {
	for _, first := range [][]byte{
		appendSettings([]byte{streamControl}),
		{streamQPACKEncoder},
		{streamQPACKDecoder},
	} {
		s, err := c.qc.OpenUniStream(ctx)
		if err != nil {
			return err
		}
		if first[0] == streamControl {
			c.mu.Lock()
			c.control = s
			c.mu.Unlock()
		}
		if _, err := s.Write(first); err != nil {
			return err
		}
	}
	return nil
}

// accept takes the streams that the peer opens until the connection ends.
func (c *conn) accept(bidi func(*quic.Stream)) error {
	for {
		s, err := c.qc.AcceptStream(context.Background())
		if err != nil {
			return err
		}
		if s.IsUni() {
			go c.serveUni(s)
		} else {
			bidi(s)
		}
	}
}

// abort closes the connection when err is one that demands it.
func (c *conn) abort(err error) {
	if e, ok := errors.AsType[*ConnError](err); ok {
		c.qc.CloseWithError(uint64(e.Code), e.Reason)
	}
}

// serveUni reads a unidirectional stream of the peer to its end.
func (c *conn) serveUni(s *quic.Stream) {
	r := newFrameReader(s)
	typ, err := readVarint(r.r)
	if err != nil {
		return // the peer may give a stream up before its type is known // R9114-6.2-4
	}
	switch typ {
	case streamControl, streamQPACKEncoder, streamQPACKDecoder:
		c.abort(c.serveCritical(typ, r))
	case streamPush:
		if c.server {
			c.abort(&ConnError{ErrStreamCreation, "push stream from a client"}) // R9114-6.2.2-1
		} else {
			c.abort(&ConnError{ErrID, "push stream without MAX_PUSH_ID"}) // R9114-4.6-1
		}
	default:
		s.StopSending(uint64(ErrStreamCreation)) // R9114-6.2-3 R9114-9-1
	}
}

// serveCritical reads the control stream or a QPACK stream. It may neither come
// twice nor end before the connection.
func (c *conn) serveCritical(typ uint64, r *tlvReader) error {
	c.mu.Lock()
	again := c.seen[typ]
	c.seen[typ] = true
	c.mu.Unlock()
	if again {
		return &ConnError{ErrStreamCreation, "second critical stream of a type"} // R9114-6.2.1-3 R9204-4.2-1
	}
	var err error
	switch typ {
	case streamControl:
		err = c.serveControl(r)
	case streamQPACKEncoder:
		err = serveQPACKEncoder(r.r)
	case streamQPACKDecoder:
		err = serveQPACKDecoder(r.r)
	}
	_, reset := errors.AsType[*quic.StreamError](err)
	if reset || err == io.EOF || err == io.ErrUnexpectedEOF {
		return &ConnError{ErrClosedCriticalStream, ""} // R9114-6.2.1-4 R9204-4.2-2
	}
	return err
}

// serveControl reads the peer's control stream.
func (c *conn) serveControl(r *tlvReader) error {
	typ, err := r.next()
	if err != nil {
		return err
	}
	if typ != frameSettings {
		return &ConnError{ErrMissingSettings, ""} // R9114-6.2.1-2
	}
	if r.left > maxSettingsSize {
		return &ConnError{ErrExcessiveLoad, "SETTINGS too large"}
	}
	b, err := r.value(maxSettingsSize)
	if err != nil {
		return err
	}
	if c.settings, err = parseSettings(b); err != nil {
		return err
	}
	c.canSendDatagrams.Store(c.settings.Datagrams)
	close(c.gotSettings)
	for {
		if typ, err = r.next(); err != nil {
			return err
		}
		if err = c.handleControlFrame(typ, r); err != nil {
			return err
		}
	}
}

// handleControlFrame handles a frame on the control stream after SETTINGS.
func (c *conn) handleControlFrame(typ uint64, r *tlvReader) error {
	switch typ {
	case frameGoAway, frameMaxPushID, frameCancelPush:
	default:
		if knownFrame(typ) {
			// R9114-7.2.1-1 R9114-7.2.2-1 R9114-7.2.4-1 R9114-7.2.5-2 R9114-7.2.8-2
			return unexpectedFrame("frame on the control stream")
		}
		return nil // R9114-7.2.8-1
	}
	if r.left == 0 || r.left > 8 {
		return &ConnError{ErrFrame, "frame length differs from its identifier"} // R9114-7.1-1
	}
	b, err := r.value(8)
	if err != nil {
		return err
	}
	id, n := ConsumeVarint(b)
	if n != len(b) {
		return &ConnError{ErrFrame, "frame length differs from its identifier"}
	}
	switch typ {
	case frameGoAway:
		return c.handleGoAway(id)
	case frameMaxPushID:
		return c.handleMaxPushID(id)
	}
	return &ConnError{ErrID, "CANCEL_PUSH for a push that is not allowed"} // R9114-7.2.3-2
}

func (c *conn) handleGoAway(id uint64) error {
	if !c.server && id%4 != 0 {
		return &ConnError{ErrID, "GOAWAY without a request stream id"} // R9114-7.2.6-1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id > c.peerGoAway {
		return &ConnError{ErrID, "GOAWAY identifier rises"} // R9114-5.2-3
	}
	c.peerGoAway = id
	return nil
}

// handleMaxPushID only checks the frame: we never push.
func (c *conn) handleMaxPushID(id uint64) error {
	if !c.server {
		return unexpectedFrame("MAX_PUSH_ID from a server") // R9114-7.2.7-1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id < c.peerMaxPush {
		return &ConnError{ErrID, "MAX_PUSH_ID falls"} // R9114-7.2.7-3
	}
	c.peerMaxPush = id
	return nil
}

// serveQPACKEncoder reads the instructions of the peer's encoder. Our table has
// capacity 0, so the only one that is allowed sets just that.
func serveQPACKEncoder(r io.ByteReader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0x20 { // R9204-4.3.1-1 R9204-3.2.2-1 R9204-3.1-2
			return &ConnError{ErrQPACKEncoderStream, "instruction for a dynamic table of capacity 0"}
		}
	}
}

// serveQPACKDecoder reads the instructions of the peer's decoder. We insert
// nothing, so there is nothing to acknowledge, but a stream may be cancelled.
func serveQPACKDecoder(r io.ByteReader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b&0xc0 != 0x40 { // R9204-4.4.1-1 R9204-4.4.3-1
			return &ConnError{ErrQPACKDecoderStream, "acknowledgment of nothing"}
		}
		if b&0x3f != 0x3f {
			continue
		}
		// The stream id goes on in groups of 7 bits; a 62-bit value has 9 at most.
		for n := 0; ; n++ {
			if b, err = r.ReadByte(); err != nil {
				return err
			}
			if b&0x80 == 0 {
				break
			}
			if n == 9 {
				return &ConnError{ErrQPACKDecoderStream, "stream id too large"}
			}
		}
	}
}

// receivedSettings waits for the peer's SETTINGS.
func (c *conn) receivedSettings(ctx context.Context) (Settings, error) {
	select {
	case <-c.gotSettings:
		return c.settings, nil
	case <-c.qc.Done():
		return Settings{}, c.qc.Err()
	case <-ctx.Done():
		return Settings{}, ctx.Err()
	}
}

// checkFieldSectionSize fails for a field section above the peer's limit, if that
// is known by now. // R9114-4.2.2-1
func (c *conn) checkFieldSectionSize(fields []Field) error {
	select {
	case <-c.gotSettings:
		if fieldSectionSize(fields) > c.settings.MaxFieldSectionSize {
			return errors.New("http3: header larger than the peer accepts")
		}
	default:
	}
	return nil
}

// sendGoAway tells the peer the first identifier that we do not handle any more.
func (c *conn) sendGoAway(id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id >= c.goAwaySent { // R9114-5.2-2
		return nil
	}
	c.goAwaySent = id
	_, err := c.control.Write(AppendVarint(appendFrameHeader(nil, frameGoAway, uint64(SizeVarint(id))), id))
	return err
}
