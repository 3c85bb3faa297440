// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

// recorder is a datagram handler that keeps what it gets.
type recorder struct {
	mu      sync.Mutex
	got     []string
	flushed int // len(got) at the last flush
}

func (r *recorder) HandleDatagram(b []byte) {
	r.mu.Lock()
	r.got = append(r.got, string(b))
	r.mu.Unlock()
}

func (r *recorder) FlushDatagrams() {
	r.mu.Lock()
	r.flushed = len(r.got)
	r.mu.Unlock()
}

// want checks what has come after all is delivered.
func (r *recorder) want(t *testing.T, want ...string) {
	t.Helper()
	time.Sleep(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.got, want) {
		t.Errorf("datagrams %q, want %q", r.got, want)
	}
	if r.flushed != len(r.got) {
		t.Errorf("%d of %d datagrams flushed", r.flushed, len(r.got))
	}
}

func datagram(s string) *quic.PacketBuf {
	b := quic.NewPacketBuf()
	b.SetLen(copy(b.Space(), s))
	return b
}

// tunnelHandler answers with 200, takes datagrams and holds the stream open.
func tunnelHandler(r quic.DatagramHandler, streams chan<- *RequestStream) func(*Request, *RequestStream) {
	return func(_ *Request, st *RequestStream) {
		if r != nil {
			st.SetDatagramHandler(r)
		}
		st.WriteResponse(&Response{Status: 200})
		if streams != nil {
			streams <- st
		}
		io.Copy(io.Discard, st)
	}
}

func TestDatagrams(t *testing.T) {
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		var toServer [2]recorder
		var toClient recorder
		streams := make(chan *RequestStream, 2)
		go (&Server{Handler: func(req *Request, st *RequestStream) {
			tunnelHandler(&toServer[st.id/4], streams)(req, st)
		}}).Serve(server)
		c, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		_, first, err := c.Do(t.Context(), connectIP())
		if err != nil {
			t.Fatal(err)
		}
		<-streams
		_, s, err := c.Do(t.Context(), connectIP())
		if err != nil {
			t.Fatal(err)
		}
		st := <-streams
		if first.id == s.id { // R9114-4.1-1
			t.Error("two requests on a stream")
		}
		s.SetDatagramHandler(&toClient)
		if n := s.MaxDatagramSize(); n < 1100 || n != client.MaxDatagramPayload()-1 {
			t.Errorf("MaxDatagramSize is %d", n)
		}
		s.SendDatagrams([]*quic.PacketBuf{datagram("a"), datagram("")})
		first.SendDatagrams([]*quic.PacketBuf{datagram("b")})
		s.SendDatagrams([]*quic.PacketBuf{datagram("c")})
		st.SendDatagrams([]*quic.PacketBuf{datagram("d")})
		toServer[0].want(t, "b")
		toServer[1].want(t, "a", "", "c")
		toClient.want(t, "d")

		// Nothing is sent behind the end of the sending side. // R9297-2.1-3
		s.CloseWrite()
		s.SendDatagrams([]*quic.PacketBuf{datagram("late")})
		toServer[1].want(t, "a", "", "c")
		if n := s.DroppedDatagrams(); n != 1 {
			t.Errorf("%d dropped", n)
		}
	})
}

// TestDatagramsNeedSettings: nothing is sent before the peer's SETTINGS allow it.
func TestDatagramsNeedSettings(t *testing.T) { // R9297-2.1.1-2
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		streams := make(chan *RequestStream, 1)
		go (&Server{Handler: tunnelHandler(nil, streams)}).Serve(server)
		p := peer{t, client}
		var got recorder
		client.SetDatagramHandler(&got)
		p.bidi(connectHeaders)
		st := <-streams
		st.SendDatagrams([]*quic.PacketBuf{datagram("early")})
		got.want(t)
		p.uni("00 0402 3301")
		p.wantOpen()
		st.SendDatagrams([]*quic.PacketBuf{datagram("allowed")})
		got.want(t, "\x00allowed")
		if n := st.DroppedDatagrams(); n != 1 {
			t.Errorf("%d dropped", n)
		}
	})
}

func TestDatagramsRefusedBySetting(t *testing.T) { // R9297-2.1.1-2
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		streams := make(chan *RequestStream, 1)
		go (&Server{Handler: tunnelHandler(nil, streams)}).Serve(server)
		p := peer{t, client}
		p.uni("00 0402 3300")
		p.bidi(connectHeaders)
		st := <-streams
		p.wantOpen()
		st.SendDatagrams([]*quic.PacketBuf{datagram("x")})
		if n := st.DroppedDatagrams(); n != 1 {
			t.Errorf("%d dropped", n)
		}
	})
}

// TestEarlyDatagrams: datagrams before the request, and before the handler is set,
// are kept, but only so many.
func TestEarlyDatagrams(t *testing.T) { // R9297-2.1-5
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		var got recorder
		streams := make(chan *RequestStream, 1)
		go (&Server{Handler: tunnelHandler(nil, streams)}).Serve(server)
		p := peer{t, client}
		p.wantOpen()
		for i := range maxEarlyDatagrams + 1 {
			p.datagram(fmt.Sprintf("00 61%02x", i)) // the first gives way to the last
		}
		p.datagram("05 7a") // another stream; one more gives way
		p.wantOpen()
		p.bidi(connectHeaders)
		st := <-streams
		p.datagram("00 62")
		p.wantOpen()
		st.SetDatagramHandler(&got)
		p.datagram("00 63")
		var want []string
		for i := 3; i <= maxEarlyDatagrams; i++ {
			want = append(want, "a"+string(rune(i)))
		}
		got.want(t, append(want, "b", "c")...)
	})
}

// TestDatagramForOrdinaryRequest: a request without a use for datagrams is aborted.
func TestDatagramForOrdinaryRequest(t *testing.T) { // R9297-2-2
	for _, early := range []bool{false, true} {
		withConns(t, func(t *testing.T, client, server *quic.Conn) {
			go (&Server{Handler: reading}).Serve(server)
			p := peer{t, client}
			if early {
				p.datagram("00 61")
				p.wantOpen()
			}
			s := p.bidi(getHeaders)
			p.wantOpen()
			p.datagram("00 61")
			p.wantReset(s, ErrDatagram)
			p.datagram("00 61")
			p.wantOpen()
		})
	}
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		c, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		go c.Do(t.Context(), get("/"))
		p := peer{t, server}
		p.uni("00 0402 3301")
		s := p.acceptBidi()
		p.datagram("00 61")
		p.wantStopped(s, ErrDatagram)
		p.datagram("04 61") // a stream that the client has not opened // R9297-2.1-5
		p.wantOpen()
	})
}

// TestNoDatagramsOnOrdinaryRequest: we send none either.
func TestNoDatagramsOnOrdinaryRequest(t *testing.T) { // R9297-2-1
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		dropped := make(chan uint64, 1)
		go (&Server{Handler: func(req *Request, st *RequestStream) {
			time.Sleep(time.Second)
			st.SendDatagrams([]*quic.PacketBuf{datagram("x")})
			dropped <- st.DroppedDatagrams()
			NotFound(req, st)
		}}).Serve(server)
		c, err := NewClientConn(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		_, s, err := c.Do(t.Context(), get("/"))
		if err != nil {
			t.Fatal(err)
		}
		s.SendDatagrams([]*quic.PacketBuf{datagram("x")})
		if n := <-dropped; n != 1 || s.DroppedDatagrams() != 1 {
			t.Errorf("%d and %d dropped", n, s.DroppedDatagrams())
		}
	})
}

// TestDatagramsAfterEnd: datagrams behind the end of a stream are dropped.
func TestDatagramsAfterEnd(t *testing.T) { // R9297-2.1-4
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		var got recorder
		streams := make(chan *RequestStream, 1)
		go (&Server{Handler: tunnelHandler(&got, streams)}).Serve(server)
		p := peer{t, client}
		s := p.bidi(connectHeaders)
		<-streams
		p.datagram("00 61")
		p.wantOpen()
		s.CloseWrite()
		p.wantOpen()
		p.datagram("00 62")
		p.wantOpen()
		got.want(t, "a")
	})
}

// TestDatagramCapsules: both forms of a datagram reach the same handler.
func TestDatagramCapsules(t *testing.T) { // R9297-3.5-1
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		var got recorder
		type result struct {
			capsule Capsule
			err     error
		}
		results := make(chan result, 10)
		go (&Server{Handler: func(_ *Request, st *RequestStream) {
			st.SetDatagramHandler(&got)
			st.WriteResponse(&Response{Status: 200})
			for {
				c, err := st.ReadCapsule(onlyType1)
				results <- result{c, err}
				if err != nil {
					return
				}
			}
		}}).Serve(server)
		p := peer{t, client}
		s := p.bidi(connectHeaders)
		p.datagram("00 61")
		p.wantOpen()
		// A datagram, an unknown capsule and a known one, cut across DATA frames.
		p.write(s, "0003 000262") // R9297-3.2-1
		p.write(s, "0005 63 1702ffff 0003 010264 0001 65")
		got.want(t, "a", "bc")
		if r := <-results; r.err != nil || r.capsule.Type != 1 || string(r.capsule.Value) != "de" {
			t.Errorf("capsule %+v", r)
		}
		p.write(s, "0002 0105")
		s.CloseWrite()
		p.wantReset(s, ErrMessage) // R9297-3.3-2
		if r := <-results; !isMalformed(r.err) {
			t.Errorf("truncated capsule: %v", r.err)
		}
	})
}

// TestWriteCapsule: capsules arrive as they were written, and the end is clean.
func TestWriteCapsule(t *testing.T) {
	handler := func(_ *Request, st *RequestStream) {
		st.WriteResponse(&Response{Status: 200})
		st.WriteCapsule(1, []byte("x"))
		st.WriteCapsule(2, []byte("unknown"))
		st.WriteCapsule(1, []byte(strings.Repeat("y", maxCapsuleSize)))
	}
	withHTTP(t, handler, func(t *testing.T, c *ClientConn, _ *Server) {
		_, s, err := c.Do(t.Context(), connectIP())
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, maxCapsuleSize} {
			if c, err := s.ReadCapsule(onlyType1); err != nil || len(c.Value) != size {
				t.Errorf("%d bytes, %v", len(c.Value), err)
			}
		}
		if _, err := s.ReadCapsule(onlyType1); err != io.EOF {
			t.Errorf("end: %v", err)
		}
	})
}

type discard struct{}

func (discard) HandleDatagram([]byte) {}
func (discard) FlushDatagrams()       {}

// TestHandleDatagramAllocs: the way to the handler allocates nothing.
func TestHandleDatagramAllocs(t *testing.T) {
	r, b := routerForTest()
	if n := testing.AllocsPerRun(100, func() {
		r.HandleDatagram(b)
		r.FlushDatagrams()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// routerForTest is a router with two streams and a datagram for the second.
func routerForTest() (*datagramRouter, []byte) {
	c := &conn{server: true}
	r := &c.datagrams
	r.init(c)
	r.limit = func() uint64 { return 100 }
	for i := range uint64(2) {
		s := &RequestStream{c: c, id: 4 * i, use: datagramsPossible, handler: discard{}}
		r.add(s)
	}
	return r, append([]byte{1}, make([]byte, 1300)...)
}

func BenchmarkHandleDatagram(b *testing.B) {
	r, d := routerForTest()
	b.ReportAllocs()
	for b.Loop() {
		for range 32 {
			r.HandleDatagram(d)
		}
		r.FlushDatagrams()
	}
}

func FuzzHandleDatagram(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add([]byte{0x40, 0x09, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _ := routerForTest()
		if _, n := ConsumeVarint(b); n < 0 {
			return // closes the connection, which is not there
		}
		if id, _ := ConsumeVarint(b); id >= r.limit() {
			return // neither
		}
		r.HandleDatagram(b)
		r.FlushDatagrams()
	})
}
