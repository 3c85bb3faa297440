// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// countingSocket takes everything and keeps nothing.
type countingSocket struct {
	Socket
	sent int
}

func (s *countingSocket) WriteBatch(runs []udpio.Run) (int, error) {
	s.sent += len(runs)
	return len(runs), nil
}
func (s *countingSocket) MTU() int                  { return 1500 }
func (s *countingSocket) LocalAddr() netip.AddrPort { return testServerAddr }

// floodKinds make datagrams that a server gets from somebody who wants it to work. Each
// changes d a little, so that no two are equal.
func floodKinds() map[string]func() func(n uint64) []byte {
	return map[string]func() func(n uint64) []byte{
		"random": func() func(uint64) []byte {
			d := make([]byte, 1200)
			rand.Read(d)
			return func(n uint64) []byte { binary.BigEndian.PutUint64(d, n*0x9e3779b97f4a7c15); return d }
		},
		// An Initial whose keys are others.
		"forged": func() func(uint64) []byte {
			d := initialTo([]byte("whatever"), nil)
			return func(n uint64) []byte { binary.BigEndian.PutUint64(d[6:], n); return d }
		},
		// An Initial that opens, of which there are too many.
		"initial": func() func(uint64) []byte {
			var ds [256][]byte
			for i := range ds {
				cid := make([]byte, 8)
				rand.Read(cid)
				ds[i] = initialTo(cid, nil)
			}
			return func(n uint64) []byte { return ds[n%256] }
		},
		"token": func() func(uint64) []byte {
			token := make([]byte, 60)
			token[0] = retryTokenKind
			d := initialTo([]byte("whatever"), token)
			return func(n uint64) []byte { binary.BigEndian.PutUint64(d[6:], n); return d }
		},
		"version": func() func(uint64) []byte {
			d := initialTo([]byte("whatever"), nil)
			d[1] = 0xab
			return func(n uint64) []byte { binary.BigEndian.PutUint64(d[6:], n); return d }
		},
		"short": func() func(uint64) []byte {
			d := make([]byte, 100)
			d[0] = wire.FixedBit
			return func(n uint64) []byte { binary.BigEndian.PutUint64(d[1:], n); return d }
		},
	}
}

func newFloodedEndpoint(b *testing.B) (*Endpoint, *endpointSocket, *countingSocket) {
	cert, _ := testCert()
	e := NewEndpoint(&Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"test"}, MinVersion: tls.VersionTLS13}})
	b.Cleanup(func() { e.Close() })
	s := &countingSocket{}
	return e, &endpointSocket{Socket: s, e: e}, s
}

// BenchmarkFlood is the cost of one datagram that belongs to no connection, without
// system calls.
func BenchmarkFlood(b *testing.B) {
	for name, kind := range floodKinds() {
		b.Run(name, func(b *testing.B) {
			e, es, s := newFloodedEndpoint(b)
			e.limits.initials = rateLimit{perSecond: 1e9, burst: 1e9}
			e.limits.refusals = e.limits.initials
			if name == "initial" {
				e.handshakes = retryAbove
				defer func() { e.handshakes = 0 }()
			}
			next := kind()
			m := udpio.Received{Src: testClientAddr, Dst: testServerAddr.Addr()}
			n := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				n++
				m.Buf = next(n)
				m.N = len(m.Buf)
				e.deliver(es, &m, e.now(), nil)
			}
			b.ReportMetric(float64(s.sent)/float64(b.N), "answers/op")
		})
	}
}
