// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

// Server answers the requests of HTTP/3 connections.
type Server struct {
	// Handler answers one request, on a goroutine of its own: it calls
	// WriteResponse or Respond once and returns when the request is done with; the
	// stream is then closed. nil answers everything with NotFound.
	Handler func(*Request, *RequestStream)

	mu    sync.Mutex
	conns map[*conn]struct{}
	idle  chan struct{} // made by Shutdown, closed and replaced when a request ends
	down  bool
}

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = errors.New("http3: server closed")

// headerTime is how long the header of a request may take to arrive.
const headerTime = 10 * time.Second

// maxRunning bounds the handlers that run at once for a connection: those of cancelled
// requests, whose streams are closed, no longer count among its streams. It is above the
// streams that quic lets a peer have open by default.
const maxRunning = 128

// Serve answers the requests of a connection whose handshake is complete, until
// the connection ends. It returns the reason.
func (s *Server) Serve(qc *quic.Conn) error {
	c := newConn(qc, true)
	if err := c.open(context.Background()); err != nil {
		return err
	}
	if !s.track(c) {
		qc.CloseWithError(uint64(ErrNoError), "")
		return ErrServerClosed
	}
	defer s.untrack(c)
	return c.accept(func(qs *quic.Stream) {
		st := newRequestStream(c, qs)
		if !c.admit(qs.ID()) { // R9114-4.1.1-1
			st.Cancel(ErrRequestRejected)
			return
		}
		c.datagrams.add(st)
		go s.serveRequest(st)
	})
}

// admit tells whether a request may be served, and counts it; after GOAWAY new ones may
// not, nor while too many run.
func (c *conn) admit(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id >= c.goAwaySent {
		return false
	}
	c.nextIncoming = max(c.nextIncoming, id+4)
	if c.running == maxRunning {
		return false
	}
	c.running++
	return true
}

func (s *Server) serveRequest(st *RequestStream) {
	defer s.requestEnded()
	defer func() {
		st.c.mu.Lock()
		st.c.running--
		st.c.mu.Unlock()
	}()
	st.qs.SetReadDeadline(time.Now().Add(headerTime))
	req, err := st.readRequest()
	st.qs.SetReadDeadline(time.Time{})
	if err != nil {
		st.fail(err)
		st.Cancel(ErrRequestCancelled)
		return
	}
	handler := s.Handler
	if handler == nil {
		handler = NotFound
	}
	handler(req, st)
	if !st.hasResponded() {
		st.Cancel(ErrInternal)
		return
	}
	st.Close() // R9114-4.1-6
}

// readRequest reads the header of a request.
func (s *RequestStream) readRequest() (*Request, error) {
	fields, err := s.readHeaders()
	if err == io.EOF {
		err = &StreamError{ErrRequestIncomplete, "no request"} // R9114-4.1-7
	}
	if err != nil {
		return nil, err
	}
	req, err := parseRequest(fields)
	if err != nil {
		return nil, err
	}
	s.method = req.Method
	if s.tunnel = req.isConnect(); !s.tunnel {
		s.expect, _ = contentLength(req.Header)
	}
	if !req.isExtendedConnect() {
		s.deliver.Lock()
		s.use = datagramsRefused
		s.deliver.Unlock()
		for _, b := range s.c.datagrams.takeEarly(s.quarterID()) {
			s.datagramCapsule(b)
		}
	}
	return req, nil
}

// WriteResponse sends the header of the final response.
func (s *RequestStream) WriteResponse(r *Response) error {
	fields, err := r.fields()
	if err != nil {
		return err
	}
	s.writeMu.Lock()
	again := s.responded
	s.responded = true
	s.writeMu.Unlock()
	if again {
		return errors.New("http3: second response")
	}
	return s.writeHeaders(fields)
}

func (s *RequestStream) hasResponded() bool {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	return s.responded
}

// Respond sends a whole response and closes the sending side. The body is left
// out in the answer to HEAD.
func (s *RequestStream) Respond(status int, contentType string, body []byte) error {
	err := s.WriteResponse(&Response{Status: status, Header: Header{
		{"content-type", contentType},
		{"content-length", strconv.Itoa(len(body))},
	}})
	if err == nil && s.method != "HEAD" {
		_, err = s.Write(body)
	}
	s.CloseWrite()
	return err
}

const notFoundPage = `<!DOCTYPE html>
<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>
`

// NotFound answers a request as a web server without content does.
func NotFound(req *Request, s *RequestStream) {
	status := 404
	if req.isExtendedConnect() {
		status = 501 // R9220-3-2
	}
	s.Respond(status, "text/html; charset=utf-8", []byte(notFoundPage))
}

func (s *Server) track(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) untrack(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.requestEnded()
}

// requestEnded wakes a waiting Shutdown.
func (s *Server) requestEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// shutdownLinger is how long a connection without requests stays for its last
// response to arrive: closing it would drop what is under way.
const shutdownLinger = time.Second

// Shutdown takes no new requests, waits until those that run have ended and their
// responses have had time to arrive, or ctx is done, and closes all connections.
// R9114-5.2-4
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.down = true
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		next := c.nextIncoming
		c.mu.Unlock()
		c.sendGoAway(next)
	}
	s.waitIdle(ctx)
	linger, cancel := context.WithTimeout(ctx, shutdownLinger)
	defer cancel()
	for _, c := range conns {
		select {
		case <-c.qc.Done():
		case <-linger.Done():
		}
		c.qc.CloseWithError(uint64(ErrNoError), "")
	}
}

// waitIdle waits until no request runs, or ctx is done.
func (s *Server) waitIdle(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		running := 0
		for c := range s.conns {
			running += c.datagrams.open()
		}
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle := s.idle
		s.mu.Unlock()
		if running == 0 {
			return
		}
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
}
