// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// What a client that speaks HTTP/3 can make a server hold.

// raceDetector is set by race_test.go: with it memory cannot be measured.
var raceDetector bool

// hostile runs play against a server, and checks that the connection goes on and that both
// ends together hold at most limit bytes more afterwards.
func hostile(t *testing.T, limit int, play func(p peer)) {
	t.Helper()
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		t.Helper()
		go (&Server{Handler: reading}).Serve(server)
		p := peer{t, client}
		p.settings()
		p.wantOpen()
		before := quictest.HeapInUse()
		play(p)
		p.wantOpen()
		grown := quictest.HeapInUse() - before
		t.Logf("%d bytes", grown)
		if !raceDetector && grown > limit {
			t.Errorf("holds %d bytes more", grown)
		}
		if types, _ := p.readFrames(p.request()); len(types) == 0 {
			t.Error("no answer to a request")
		}
	})
}

// request sends a whole request.
func (p peer) request() *quic.Stream {
	p.t.Helper()
	s := p.bidi(getHeaders)
	s.CloseWrite()
	return s
}

// repeat writes b n times, with pauses.
func repeat(p peer, s *quic.Stream, b []byte, n int, pause time.Duration) {
	p.t.Helper()
	for range n {
		if _, err := s.Write(b); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(pause)
	}
}

// TestUnknownFramesWithoutEnd: frames of unknown types are skipped, however many and however
// large, on the control stream as long as it lasts, before a header for its time.
func TestUnknownFramesWithoutEnd(t *testing.T) {
	many := make([]byte, 0, 30_000)
	for len(many) < 30_000 {
		many = append(appendFrameHeader(many, 0x21, 100), make([]byte, 100)...)
	}
	huge := appendFrameHeader(nil, 0x40, MaxVarint)
	hostile(t, 1<<20, func(p peer) {
		s, err := p.qc.OpenStream(context.Background())
		if err != nil {
			p.t.Fatal(err)
		}
		repeat(p, s, many, 50, 0)
		repeat(p, s, many[:1], 1, headerTime)
		p.wantReset(s, ErrRequestCancelled)
		s = p.bidi(getHeaders)
		s.Write(huge) // in the content of a request
		repeat(p, s, many, 50, 0)
	})
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		go (&Server{Handler: reading}).Serve(server)
		p := peer{t, client}
		control := p.settings()
		p.wantOpen()
		before := quictest.HeapInUse()
		repeat(p, control, many, 50, 0)
		repeat(p, control, huge, 1, 0)
		repeat(p, control, many, 50, 0)
		repeat(p, control, many[:1], 50, 3*time.Second)
		p.wantOpen()
		if grown := quictest.HeapInUse() - before; !raceDetector && grown > 1<<20 {
			t.Errorf("holds %d bytes more", grown)
		}
	})
}

// TestHeaderWithoutEnd: a field section must not announce more than our limit; one within it
// must arrive in its time, and takes the memory that has arrived.
func TestHeaderWithoutEnd(t *testing.T) {
	hostile(t, 2<<20, func(p peer) {
		for _, size := range []uint64{maxFieldSectionSize + 1, MaxVarint} {
			s := p.bidi("")
			s.Write(appendFrameHeader(nil, frameHeaders, size))
			p.wantReset(s, ErrExcessiveLoad)
		}
		var streams []*quic.Stream
		for range 90 {
			s := p.bidi("")
			s.Write(append(appendFrameHeader(nil, frameHeaders, maxFieldSectionSize), make([]byte, maxFieldSectionSize-1)...))
			streams = append(streams, s)
		}
		time.Sleep(headerTime)
		for _, s := range streams {
			p.wantReset(s, ErrRequestCancelled)
		}
	})
}

// TestStreamsOfUnknownType: unidirectional streams of unknown types are stopped, however many
// come; those without a type hold a goroutine each, as many as the limit permits.
func TestStreamsOfUnknownType(t *testing.T) {
	hostile(t, 1<<20, func(p peer) {
		for range 2000 {
			p.uni("4042 00")
		}
		for range 70 {
			p.uni("80") // the first of four bytes
		}
	})
}

// TestSlowStreams: a byte every three seconds on as many streams as the limit permits. Without
// a header they are given up in time, and with one they hold a handler each.
func TestSlowStreams(t *testing.T) {
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		var handlers atomic.Int64
		go (&Server{Handler: func(req *Request, st *RequestStream) {
			handlers.Add(1)
			defer handlers.Add(-1)
			reading(req, st)
		}}).Serve(server)
		p := peer{t, client}
		before := quictest.HeapInUse()
		var headers, contents []*quic.Stream
		for range 45 {
			s := p.bidi("01 7fff") // a header of 16383 bytes
			headers = append(headers, s)
			s = p.bidi(getHeaders + "00 7fff") // content
			contents = append(contents, s)
		}
		for range 3 {
			for _, s := range append(headers, contents...) {
				s.Write([]byte{0})
			}
			time.Sleep(3 * time.Second)
		}
		time.Sleep(2 * time.Second)
		for _, s := range headers {
			p.wantReset(s, ErrRequestCancelled)
		}
		for range 20 {
			for _, s := range contents {
				if _, err := s.Write([]byte{0}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second)
		}
		if n := handlers.Load(); n != int64(len(contents)) {
			t.Errorf("%d handlers", n)
		}
		if grown := quictest.HeapInUse() - before; !raceDetector && grown > 2<<20 {
			t.Errorf("holds %d bytes more", grown)
		} else {
			t.Logf("%d bytes", grown)
		}
		p.wantOpen()
	})
}
