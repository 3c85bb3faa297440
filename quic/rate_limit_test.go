// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

func TestRateLimit(t *testing.T) {
	l := rateLimit{perSecond: 1000, burst: 50}
	now := instant(time.Hour)
	passed := func(n int, every time.Duration) (passed int) {
		for range n {
			if l.allow(now) {
				passed++
			}
			now = now.add(every)
		}
		return passed
	}
	if got := passed(200, 0); got != 50 {
		t.Errorf("%d of 200 at once", got)
	}
	if got := passed(10000, 100*time.Microsecond); got < 990 || got > 1001 {
		t.Errorf("%d in a second", got)
	}
	if got := passed(1000, 2*time.Millisecond); got != 1000 {
		t.Errorf("%d of 1000 that are half of the rate", got)
	}
	l.allow(now)
	now = now.add(-time.Second) // another reader's clock is behind
	if got := passed(200, 0); got > 50 {
		t.Errorf("%d of 200 at once after the clock went back", got)
	}
}

// TestFloodAnswers: a flood of datagrams that belong to no connection, from any number of
// addresses, is answered at a bounded rate, and leaves a bounded number of connections.
func TestFloodAnswers(t *testing.T) {
	const packets = 14000 // within a second, more than any limit
	from := netip.MustParseAddrPort("10.0.2.2:7777")
	for _, tt := range []struct {
		name    string
		packet  func() []byte
		pending int // handshakes under way
		answers int // at most
		conns   int // at most
	}{
		{"Initials of another version", func() []byte {
			d := initialTo([]byte("whatever"), nil)
			binary.BigEndian.PutUint32(d[1:], 0xfaceb00c)
			return d
		}, 0, refusalsPerSecond + refusalsPerSecond/10, 0},
		{"Initials under load", func() []byte {
			dcid := make([]byte, 8)
			rand.Read(dcid)
			return initialTo(dcid, nil)
		}, retryAbove, initialsPerSecond + initialsPerSecond/4, 0},
		{"short headers", func() []byte {
			d := make([]byte, 50)
			rand.Read(d)
			d[0] = d[0]&0x3f | 0x40
			return d
		}, 0, 2 * resetsPerSecond, 0},
		{"Initials that do not open", func() []byte {
			d := initialTo([]byte("whatever"), nil)
			rand.Read(d[6:14])
			return d
		}, 0, 0, 0},
	} {
		simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
			answers := &countingSocket{}
			es := &endpointSocket{Socket: answers, e: n.server}
			n.server.mu.Lock()
			n.server.handshakes += tt.pending
			n.server.mu.Unlock()
			conns := func() int { return len(n.server.conns) }
			for range 100 {
				for range packets / 100 {
					d := tt.packet()
					n.server.deliver(es, &udpio.Received{Buf: d, N: len(d), Src: from, Dst: serverAddr.Addr()}, n.server.now(), nil)
				}
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			if answers.sent > tt.answers || answers.sent < tt.answers/2 {
				t.Errorf("%s: %d answers to %d, want %d at most", tt.name, answers.sent, packets, tt.answers)
			}
			if got := conns(); got > tt.conns {
				t.Errorf("%s: %d connections", tt.name, got)
			}
			n.server.mu.Lock()
			n.server.handshakes -= tt.pending
			n.server.mu.Unlock()
		})
	}
}
