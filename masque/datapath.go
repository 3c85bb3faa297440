// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// contextIPPacket is context id 0, which an IP packet follows. It is the only one
// that is used; others would be even for a client and odd for a proxy. // R9484-6-2
var contextIPPacket = []byte{0}

// minMTU6 is the smallest MTU of a link for IPv6 (RFC 8200 section 5).
const minMTU6 = 1280

// policy is what addresses and routes allow in the packets of the two directions.
// It is immutable; a nil list allows everything.
type policy struct {
	peerSources prefixSet   // sources of received packets
	ours        prefixSet   // sources of sent and destinations of received packets
	routes      *routeTable // destinations of sent packets
}

// prefixSet is a short list of prefixes.
type prefixSet []netip.Prefix

func (s prefixSet) contains(a netip.Addr) bool {
	for i := range s {
		if s[i].Contains(a) {
			return true
		}
	}
	return false
}

// checkReceived checks a packet from the peer. // R9484-11-1
func (p *policy) checkReceived(b []byte, h *ipHeader) DropReason {
	if r := parsePacket(b, h); r != notDropped {
		return r
	}
	if p.peerSources != nil && !p.peerSources.contains(h.src) {
		return DropSource
	}
	if p.ours != nil && !p.ours.contains(h.dst) {
		return DropDestination
	}
	return notDropped
}

// checkSent checks a packet for the peer.
func (p *policy) checkSent(b []byte, h *ipHeader) DropReason {
	if r := parsePacket(b, h); r != notDropped {
		return r
	}
	if p.ours != nil && !p.ours.contains(h.src) {
		return DropSource
	}
	if p.routes != nil && !p.routes.allows(b, h) {
		return DropNoRoute
	}
	return notDropped
}

// receiver is the datagram handler of a session. Its calls never overlap.
type receiver struct {
	s     *Session
	h     PacketHandler
	seen  bool // a datagram has come
	tally tally
	ip    ipHeader
}

func (r *receiver) HandleDatagram(b []byte) {
	if !r.seen {
		r.seen = true
		r.s.config.firstDatagram()
	}
	id, n := http3.ConsumeVarint(b)
	if n < 0 || id != 0 {
		r.tally.Dropped[DropUnknownContext]++ // R9484-6-1
		return
	}
	b = b[n:]
	if reason := r.s.policy.Load().checkReceived(b, &r.ip); reason != notDropped {
		r.tally.Dropped[reason]++ // R9484-7.2-5
		return
	}
	r.tally.Packets++
	r.tally.Bytes += uint64(len(b))
	r.h.HandlePacket(b)
}

func (r *receiver) FlushDatagrams() {
	r.s.received.add(&r.tally)
	r.h.FlushPackets()
}

// Send sends each buffer, one inner packet, to the peer. It takes ownership of the
// buffers and may change the slice. Packets that cannot be sent are dropped and
// counted, and their senders told by ICMP where that makes sense.
func (s *Session) Send(bufs []*quic.PacketBuf) {
	var t tally
	var ip ipHeader
	p, mtu := s.policy.Load(), s.MTU()
	n := 0
	for _, b := range bufs {
		pkt := b.Bytes()
		reason := p.checkSent(pkt, &ip)
		if reason == notDropped && mtu > 0 && len(pkt) > mtu {
			reason = DropTooBig
		}
		if reason != notDropped {
			t.Dropped[reason]++
			s.answer(pkt, reason, mtu)
			b.Release()
			continue
		}
		t.Packets++
		t.Bytes += uint64(len(pkt))
		copy(b.Prepend(len(contextIPPacket)), contextIPPacket)
		bufs[n] = b
		n++
	}
	s.sent.add(&t)
	if n > 0 {
		s.stream.SendDatagrams(bufs[:n])
	}
}

// answer tells the sender of a packet why Send dropped it. // R9484-10.1-1 R9484-7.2.1-1
func (s *Session) answer(pkt []byte, reason DropReason, mtu int) {
	var kind icmpError
	switch reason {
	case DropTooBig:
		// IPv6 cannot be told of less than 1280 bytes.
		if kind = icmpTooBig; pkt[0]>>4 == 6 && mtu < minMTU6 {
			return
		}
	case DropNoRoute:
		kind = icmpNoRoute
	case DropSource:
		kind = icmpSourceProhibited
	default:
		return
	}
	f := s.icmpWriter.Load()
	if f == nil || !s.icmp.allow(time.Now()) {
		return
	}
	if b := appendICMPError(nil, pkt, kind, mtu); b != nil {
		s.icmp.sent.Add(1)
		(*f)(b)
	}
}

// icmpLimiter is the token bucket that RFC 4443 section 2.4 (f) asks for.
type icmpLimiter struct {
	sent atomic.Uint64

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

const (
	icmpBurst = 50
	icmpRate  = 100 // a second
)

func (l *icmpLimiter) init(now time.Time) { l.tokens, l.last = icmpBurst, now }

func (l *icmpLimiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = min(icmpBurst, l.tokens+now.Sub(l.last).Seconds()*icmpRate)
	l.last = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
