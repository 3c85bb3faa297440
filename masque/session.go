// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// PacketHandler receives inner packets. Its calls never overlap; they come on the
// loop of the QUIC connection and must not block.
type PacketHandler interface {
	HandlePacket(b []byte) // one IP packet, the handler's, also to change, until FlushPackets returns
	FlushPackets()         // end of a receive batch
}

// Session is one end of an IP tunnel (RFC 9484): inner packets in datagrams, and
// the addresses and routes that the ends tell each other. It lives as long as its
// request stream. All methods are safe for concurrent use.
type Session struct {
	stream *http3.RequestStream
	client bool
	policy atomic.Pointer[policy]

	sent, received counters
	icmp           icmpLimiter
	icmpWriter     atomic.Pointer[func([]byte)]

	config  config
	changed chan struct{}

	endOnce sync.Once
	done    chan struct{}
	err     error // set before done is closed
}

func newSession(st *http3.RequestStream, client bool) *Session {
	s := &Session{
		stream:  st,
		client:  client,
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	s.icmp.init(time.Now())
	s.config.init(s)
	go s.run()
	return s
}

// run reads capsules until the stream ends.
func (s *Session) run() {
	for {
		c, err := s.stream.ReadCapsule(knownCapsule)
		if err == nil {
			if err = s.config.handleCapsule(c); err == nil {
				continue
			}
			if e, ok := err.(*http3.StreamError); ok {
				s.stream.Cancel(e.Code)
			}
		}
		s.end(err)
		return
	}
}

// end closes the session; the first reason counts.
func (s *Session) end(err error) {
	s.endOnce.Do(func() {
		s.err = err
		s.stream.Close() // R9484-4.1-4
		close(s.done)
	})
}

// Close ends the tunnel in order.
func (s *Session) Close() { s.end(ErrClosed) }

// Done is closed when the tunnel has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is the reason of the end: io.EOF when the peer closed the tunnel in order,
// nil while it is alive.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Conn is the QUIC connection below.
func (s *Session) Conn() *quic.Conn { return s.stream.Conn() }

// MTU is the size in bytes of the largest inner packet that the tunnel carries
// now, 0 while that is not known.
func (s *Session) MTU() int {
	return max(0, s.stream.MaxDatagramSize()-len(contextIPPacket))
}

// Stats returns the counters.
func (s *Session) Stats() Stats {
	return Stats{s.sent.snapshot(), s.received.snapshot(), s.icmp.sent.Load()}
}

// SetHandler sets the receiver of inner packets, once. What has arrived before is
// delivered now, as far as it was kept.
func (s *Session) SetHandler(h PacketHandler) {
	s.stream.SetDatagramHandler(&receiver{s: s, h: h})
}

// SetICMPWriter sets the receiver of ICMP errors about packets given to Send; they
// belong on the interface that those packets came from. f is called by Send on its
// goroutine; b is f's to keep. Without it no errors are made.
func (s *Session) SetICMPWriter(f func(b []byte)) { s.icmpWriter.Store(&f) }
