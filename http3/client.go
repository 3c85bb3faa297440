// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"context"
	"errors"
	"io"

	"github.com/mqvpn/mqvpn/quic"
)

// Errors of Do that say that the request was not sent.
var (
	ErrGoingAway        = errors.New("http3: the server takes no new requests")
	ErrNoConnectSupport = errors.New("http3: the server does not support extended CONNECT")
)

// ClientConn is the client's end of an HTTP/3 connection. It is safe for
// concurrent use.
type ClientConn struct{ c *conn }

// NewClientConn starts HTTP/3 on a QUIC connection whose handshake is complete.
// The connection is not used for anything else from now on.
func NewClientConn(ctx context.Context, qc *quic.Conn) (*ClientConn, error) {
	c := newConn(qc, false)
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	go c.accept(func(*quic.Stream) {
		c.abort(&ConnError{ErrStreamCreation, "bidirectional stream from a server"}) // R9114-6.1-1
	})
	return &ClientConn{c}, nil
}

// Conn is the QUIC connection below.
func (cc *ClientConn) Conn() *quic.Conn { return cc.c.qc }

// ReceivedSettings waits for the server's SETTINGS.
func (cc *ClientConn) ReceivedSettings(ctx context.Context) (Settings, error) {
	return cc.c.receivedSettings(ctx)
}

// Close ends the connection in order.
func (cc *ClientConn) Close() { cc.c.qc.CloseWithError(uint64(ErrNoError), "") } // R9114-5.2-4

// Do sends a request and waits for the header of its final response. The stream
// of a CONNECT stays open for sending; any other request has no content. The
// caller reads the stream to its end or closes it. When ctx ends before the
// response is there the request is cancelled; afterwards ctx has no effect.
func (cc *ClientConn) Do(ctx context.Context, req *Request) (*Response, *RequestStream, error) {
	c := cc.c
	fields, err := req.fields()
	if err != nil {
		return nil, nil, err
	}
	if req.isExtendedConnect() { // R8441-3-2
		settings, err := c.receivedSettings(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !settings.EnableConnectProtocol {
			return nil, nil, ErrNoConnectSupport
		}
	}
	if c.goneAway() {
		return nil, nil, ErrGoingAway
	}
	qs, err := c.qc.OpenStream(ctx) // R9114-4.1-1
	if err != nil {
		return nil, nil, err
	}
	s := newRequestStream(c, qs)
	s.method = req.Method
	if !req.isExtendedConnect() {
		s.use = datagramsRefused
	}
	c.datagrams.add(s)
	stop := context.AfterFunc(ctx, func() { s.Cancel(ErrRequestCancelled) }) // R9114-4.1.1-3
	resp, err := s.roundTrip(fields)
	if !stop() {
		return nil, nil, context.Cause(ctx)
	}
	if err != nil {
		s.Cancel(ErrRequestCancelled)
		return nil, nil, err
	}
	return resp, s, nil
}

// goneAway tells whether the server has sent GOAWAY. // R9114-5.2-1
func (c *conn) goneAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peerGoAway != MaxVarint
}

// roundTrip sends the header of a request and reads that of its response.
func (s *RequestStream) roundTrip(fields []Field) (*Response, error) {
	err := s.writeHeaders(fields)
	// A server may answer without having read the request. // R9114-4.1-8
	if e, ok := errors.AsType[*quic.StreamError](err); err != nil && !(ok && e.Remote && ErrorCode(e.Code) == ErrNoError) {
		return nil, err
	}
	if s.method != "CONNECT" {
		s.CloseWrite() // R9114-4.1-5
	}
	for {
		fields, err := s.readHeaders()
		if err == io.EOF {
			err = malformed("no response")
		}
		if err != nil {
			return nil, s.fail(err)
		}
		resp, err := parseResponse(fields)
		if err != nil {
			return nil, s.fail(err) // R9114-4.1.2-3
		}
		if resp.Status < 200 {
			continue
		}
		s.expectResponse(resp)
		return resp, nil
	}
}

// expectResponse prepares the reading side for what follows a final response.
func (s *RequestStream) expectResponse(resp *Response) {
	switch {
	case s.method == "CONNECT" && resp.Status < 300:
		s.tunnel = true
	case s.method == "HEAD" || resp.Status == 304:
		s.expect = 0
	default:
		s.expect, _ = contentLength(resp.Header)
	}
}
