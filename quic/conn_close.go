// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// closePhase is how far the end of a connection has come (RFC 9000 section 10.2).
type closePhase uint8

const (
	notClosing closePhase = iota
	closing               // CONNECTION_CLOSE is sent, and again for what still arrives
	draining              // the peer has closed: nothing is sent
)

type closeState struct {
	phase    closePhase
	err      error
	until    instant
	due      bool // CONNECTION_CLOSE is to be sent
	received int  // datagrams since, for the rate of answers
	quit     bool // end as soon as CONNECTION_CLOSE is sent
	ended    bool // the loop ends
}

// startClose closes the connection with err, which the peer is told.
func (c *Conn) startClose(now instant, err error) {
	if c.closing.phase != notClosing {
		return
	}
	c.closing = closeState{phase: closing, err: err, due: true, until: now.add(3 * c.largestPTO()), quit: c.closing.quit} // R9000-10.2-1 RMP21-2.6-1
	c.finish(err)
}

// peerClosed processes CONNECTION_CLOSE. // RMP21-2.6-2
func (c *Conn) peerClosed(now instant, f *wire.Frame) {
	var err error = &TransportError{Code: TransportErrorCode(f.ErrorCode), FrameType: f.TriggerType, Reason: string(f.Data), Remote: true}
	if f.Type == wire.FrameTypeApplicationClose {
		err = &ApplicationError{Code: f.ErrorCode, Reason: string(f.Data), Remote: true}
	}
	c.enterDraining(now, err)
}

// enterDraining ends the connection without a word. // R9000-10.2.2-1
func (c *Conn) enterDraining(now instant, err error) {
	if c.closing.phase == draining {
		return
	}
	quit := c.closing.quit
	c.closing = closeState{phase: draining, err: err, until: now.add(3 * c.largestPTO()), quit: quit, ended: quit}
	c.finish(err)
}

// drop ends the connection and forgets it at once, as after an idle time-out.
func (c *Conn) drop(now instant, err error) {
	c.enterDraining(now, err)
	c.closing.ended = true
}

// finish tells the application, once.
func (c *Conn) finish(err error) {
	c.errMu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	c.errMu.Unlock()
	if !first {
		return
	}
	close(c.doneC)
	if c.qlog != nil {
		c.qlog.closed(err)
	}
	c.streams.closeAll(err)
}

// receiveClosing handles a datagram after the end: CONNECTION_CLOSE is repeated,
// ever more seldom; the peer's own ends the waiting. // R9000-10.2.1-1 R9000-10.2.1-2 R9000-11.1-1
func (c *Conn) receiveClosing(m *rxMsg, d []byte) {
	c.dropped(dropClosing, d)
	if c.closing.phase != closing {
		return
	}
	if len(c.paths) > 0 {
		c.paths[0].ampReceived += len(d) // R9000-10.2.1-3
	}
	n := c.closing.received + 1
	c.closing.received = n
	c.closing.due = c.closing.due || n&(n-1) == 0
}

// sendClosing sends CONNECTION_CLOSE, if it is due, and what a full socket has kept back,
// unless the peer has closed.
func (c *Conn) sendClosing(now instant) {
	if c.closing.phase == closing && c.closing.due {
		c.closing.due = false
		c.buildClosing(now)
	}
	for _, p := range c.paths {
		if c.closing.phase == closing {
			c.flush(now, p)
		} else {
			p.batch.release()
		}
	}
	c.closing.ended = c.closing.ended || c.closing.quit
}

// buildClosing makes CONNECTION_CLOSE for every path that may work, so that the peer
// learns of it even if one of them has just died.
func (c *Conn) buildClosing(now instant) {
	if !c.confirmed && len(c.paths) > 0 { // R9000-10.2.3-2 R9000-10.2.3-3
		c.sendHandshakeDatagram(now, c.paths[0])
	}
	if !c.complete || c.appKeys.write == nil {
		return
	}
	for _, p := range c.paths {
		c.closing.due = c.closing.due || p.sockBlocked
		size := p.pathPacketSize() // R9000-10.2.1-3
		if p.phase >= pathAbandoning || size < minPathPacket || !c.beginPacket(p, size) {
			continue
		}
		c.appendClose(&c.w, appSpace)
		c.endPacket(now, p, p.tuple, 0)
	}
}

// appendClose adds the CONNECTION_CLOSE frame for a packet of space sp.
func (c *Conn) appendClose(w *packetWriter, sp spaceID) {
	switch err := c.closing.err.(type) {
	case *ApplicationError:
		if sp == appSpace { // R9000-10.2.3-1 R9000-12.5-1
			w.appendApplicationClose(err.Code, err.Reason)
		} else { // R9000-10.2.3-4 R9000-10.2.3-5
			w.appendConnectionClose(ApplicationErrorCode, 0, "")
		}
	case *TransportError:
		w.appendConnectionClose(err.Code, err.FrameType, err.Reason)
	default:
		w.appendConnectionClose(InternalError, 0, "")
	}
}

// idleTimeout is how long the peer may be silent. // RMP21-5.9-1
func (c *Conn) idleTimeout() time.Duration {
	d := c.cfg.MaxIdleTimeout
	if c.peerParams != nil {
		if peer := c.peerParams.maxIdleTimeout(); peer > 0 && peer < d {
			d = peer
		}
	}
	return max(d, 3*c.largestPTO())
}

// idleDeadline is when the connection ends for silence of the peer.
func (c *Conn) idleDeadline() instant { return c.idleFrom.add(c.idleTimeout()) }

// handshakeTimedOut says that the handshake has taken too long.
func (c *Conn) handshakeTimedOut(now instant) bool {
	return c.handshakeEnd != 0 && now >= c.handshakeEnd
}
