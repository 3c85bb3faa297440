// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/internal/inline"
	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// readBatchSize is the number of messages of one ReadBatch; with GRO each holds up
// to 64 datagrams.
const readBatchSize = 32

// endpointSocket is one socket of an Endpoint: its reader goroutine, and the
// connections that wait for room in its send buffer.
type endpointSocket struct {
	Socket
	e      *Endpoint
	opener initialOpener // of the reader

	mu      sync.Mutex
	waiting []*Conn
	parked  bool
}

// readLoop reads until the socket is closed.
func (es *endpointSocket) readLoop() {
	ms := make([]udpio.Received, readBatchSize)
	for i := range ms {
		ms[i].Buf = make([]byte, rxChunkSize)
	}
	var touched []*Conn
	for {
		n, err := es.ReadBatch(ms)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Transient errors, such as ICMP errors that the kernel reports.
			time.Sleep(time.Millisecond)
			continue
		}
		now := es.e.now()
		touched = touched[:0]
		size := 0
		for i := range ms[:n] {
			touched = es.e.deliver(es, &ms[i], now, touched)
			size += ms[i].N
		}
		if len(touched) == 1 && n <= inline.MaxPackets() && size <= inline.MaxPackets()*defaultInterfaceMTU {
			touched[0].receiveHere()
		} else {
			for _, c := range touched {
				c.notify()
			}
		}
		clear(touched)
	}
}

// deliver puts the datagrams of m into the mailboxes of their connections, runs of
// datagrams for one connection together. It returns touched plus the connections
// that must be woken.
func (e *Endpoint) deliver(es *endpointSocket, m *udpio.Received, now instant, touched []*Conn) []*Conn {
	data, seg := m.Buf[:m.N], m.SegSize
	if seg <= 0 || seg > len(data) {
		seg = len(data)
	}
	msg := rxMsg{segSize: seg, sock: es, src: m.Src, dst: m.Dst, ecn: m.ECN, at: now}
	for len(data) > 0 {
		first := data[:min(seg, len(data))]
		run := len(first)
		cid, long, ok := wire.DstConnID(first, localCIDLen)
		for ok && !long && run < len(data) {
			// A short header with the same connection id goes to the same connection.
			d := data[run:min(run+seg, len(data))]
			if len(d) < 1+localCIDLen || d[0]&0x80 != 0 || !bytes.Equal(d[1:1+localCIDLen], cid) {
				break
			}
			run += len(d)
		}
		var c *Conn
		if ok {
			c = e.table.lookup(cid, long)
		}
		if c == nil {
			c = e.unmatched(es, first, cid, long, ok, m.Src, m.Dst)
			run = len(first)
		}
		if c != nil {
			msg.data = data[:run]
			c.mb.putReceived(msg)
			if len(touched) == 0 || touched[len(touched)-1] != c {
				touched = append(touched, c)
			}
		}
		data = data[run:]
	}
	return touched
}

// unmatched handles a datagram that belongs to no known connection: a stateless
// reset of one of ours, the start of a new one, or something to be answered
// without state. It returns the connection that the datagram is for, or nil. ok is
// false if d is too short for its connection id.
func (e *Endpoint) unmatched(es *endpointSocket, d, cid []byte, long, ok bool, src netip.AddrPort, dst netip.Addr) *Conn {
	if c := e.table.lookupToken(d); c != nil || !ok { // R9000-10.3.1-1
		return c
	}
	if !long {
		e.sendReset(es, d, cid, src, dst)
		return nil
	}
	if e.cfg == nil {
		return nil
	}
	h, n, ok := wire.ParseLongHeader(d)
	if !ok {
		return nil
	}
	if h.Version != version1 {
		// R9000-5.2.2-1 R9000-5.2.2-2 R9000-6.1-1
		if h.Version != 0 && len(d) >= minInitialSize && e.mayRefuse() {
			out := wire.AppendVersionNegotiation(nil, h.DstConnID, h.SrcConnID, append(slices.Clip(supportedVersions), reservedVersion()))
			es.send(out, src, dst)
		}
		return nil
	}
	// R9000-14.1-2 R9000-7.2-1 R9000-5.2.2-4
	if h.Type != wire.Initial || h.FirstByte&wire.FixedBit == 0 && e.cfg.FixedQUICBit || len(d) < minInitialSize || len(h.DstConnID) < localCIDLen || len(h.DstConnID) > maxCIDLen {
		return nil
	}
	return e.startHandshake(es, d, &h, n, src, dst)
}

// startHandshake answers the first Initial of a client, whose packet is the first n
// bytes of d: with a connection, or without state. What costs least is looked at first.
func (e *Endpoint) startHandshake(es *endpointSocket, d []byte, h *wire.LongHeader, n int, src netip.AddrPort, dst netip.Addr) *Conn {
	first := firstInitial{dcid: h.DstConnID, scid: h.SrcConnID, originalDCID: h.DstConnID}
	if len(h.Token) > 0 {
		original, verdict := e.tokens.checkRetry(time.Now(), src, h.Token, h.DstConnID)
		switch verdict {
		case tokenValid: // R9000-8.1.2-2
			first.originalDCID, first.retried, first.validated = original, true, true
		case tokenInvalid: // R9000-8.1.2-3
			e.refuse(es, h, InvalidToken, src, dst)
			return nil
		case tokenUnknown: // R9000-8.1.3-5
			first.validated = e.useNewToken(src.Addr(), h.Token)
		}
	}
	if !first.validated {
		allowed, retry := e.mayTry()
		if retry && allowed {
			scid := randomCID() // R9000-17.2.5.1-1
			token := e.tokens.makeRetry(time.Now(), src, h.DstConnID, scid[:])
			es.send(wire.AppendRetry(nil, h.SrcConnID, scid[:], token, h.DstConnID), src, dst)
		}
		if retry || !allowed {
			return nil
		}
	}
	if !es.opener.opensAsInitial(d, h, n) {
		return nil
	}
	c := newServerConn(e, e.cfg, es, src, dst, first)
	if err := e.start(c); err != nil {
		e.refuse(es, h, ConnectionRefused, src, dst)
		return nil
	}
	return c
}

// mayTry says whether the endpoint may spend work on an Initial of an address that is
// not validated, and whether that is to be validated by a Retry first.
func (e *Endpoint) mayTry() (allowed, retry bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.limits.initials.allow(e.now()), e.cfg.RequireToken || e.handshakes >= retryAbove
}

// mayRefuse says whether an attempt to connect may be refused now, or must be ignored.
func (e *Endpoint) mayRefuse() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.limits.refusals.allow(e.now())
}

// refuse ends the attempt that begins with the Initial packet of h.
func (e *Endpoint) refuse(es *endpointSocket, h *wire.LongHeader, code TransportErrorCode, src netip.AddrPort, dst netip.Addr) {
	if e.mayRefuse() {
		es.send(appendInitialClose(nil, h, code), src, dst)
	}
}

// useNewToken says that token, of NEW_TOKEN, shows that the client is at addr. It does so
// once.
func (e *Endpoint) useNewToken(addr netip.Addr, token []byte) bool {
	id, issued, v := e.tokens.checkNew(time.Now(), addr, token)
	if v != tokenValid {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.usedTokens.use(id, issued)
}

// sendReset answers a packet of an unknown connection with a stateless reset.
func (e *Endpoint) sendReset(es *endpointSocket, d, cid []byte, src netip.AddrPort, dst netip.Addr) {
	e.mu.Lock()
	ok := !e.closed && e.limits.resets.allow(e.now())
	e.mu.Unlock()
	if !ok {
		return
	}
	if out := e.resetKey.appendStatelessReset(nil, cid, len(d)); out != nil {
		es.send(out, src, dst)
	}
}

// send sends one datagram without a connection; if the socket is busy it is lost.
func (es *endpointSocket) send(b []byte, to netip.AddrPort, from netip.Addr) {
	es.WriteBatch([]udpio.Run{{Data: b, SegSize: len(b), Dst: to, Src: from}})
}

// notifyWritable wakes c when the socket can be written again.
func (es *endpointSocket) notifyWritable(c *Conn) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.waiting = append(es.waiting, c)
	if es.parked {
		return
	}
	es.parked = true
	go func() {
		es.WaitWritable()
		es.mu.Lock()
		conns := es.waiting
		es.waiting, es.parked = nil, false
		es.mu.Unlock()
		for _, c := range conns {
			c.command(func(instant) { c.socketWritable(es) })
		}
	}()
}
