// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"encoding/binary"
	"slices"
	"testing"
)

var timestamps = []byte{1, 1, 8, 10, 0, 1, 2, 3, 0, 4, 5, 6}

func TestSplit(t *testing.T) {
	tcp := spec{ttl: 64, tos: 2, id: 0xfffe, seq: 0xffffff00, ack: 7, flags: tcpACK | tcpPSH, window: 500, options: timestamps, payload: 5000}
	udp := spec{udp: true, ttl: 64, id: 9, payload: 5000}
	with := func(s spec, edit func(*spec)) spec {
		edit(&s)
		return s
	}
	v6 := func(s *spec) { s.v6, s.label = true, 0x1234 }
	for _, test := range []struct {
		name    string
		spec    spec
		segSize int
		packets int
	}{
		{"TCP", tcp, 1348, 4},
		{"TCP, equal sizes", tcp, 1250, 4},
		{"TCP, one byte left", tcp, 4999, 2},
		{"TCP, fewer bytes than a segment", tcp, 6000, 1},
		{"TCP, odd sizes", tcp, 777, 7},
		{"TCP, bytes", with(tcp, func(s *spec) { s.payload = 90 }), 1, 90},
		{"TCP, FIN", with(tcp, func(s *spec) { s.flags |= tcpFIN }), 1348, 4},
		{"TCP, ECE", with(tcp, func(s *spec) { s.flags |= 0x40 }), 1348, 4},
		{"TCP, IPv4 options", with(tcp, func(s *spec) { s.ipOptions = []byte{1, 1, 1, 0} }), 1348, 4},
		{"TCP, fragmentable", with(tcp, func(s *spec) { s.fragmentable = true }), 1348, 4},
		{"TCP, longest", with(tcp, func(s *spec) { s.payload = maxPacketLen - 52 }), 1348, 49},
		{"TCP over IPv6", with(tcp, v6), 1328, 4},
		{"TCP over IPv6, extension header", with(with(tcp, v6), func(s *spec) { s.extension = []byte{6, 0, 1, 4, 0, 0, 0, 0} }), 1328, 4},
		{"TCP over IPv6, longest", with(with(tcp, v6), func(s *spec) { s.payload = maxPacketLen - 32 }), 1328, 50},
		{"UDP", udp, 1200, 5},
		{"UDP, odd sizes", udp, 333, 16},
		{"UDP over IPv6", with(udp, v6), 1200, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.spec.segments(test.segSize)
			if len(want) != test.packets {
				t.Fatalf("the test makes %d packets", len(want))
			}
			wantSame(t, "split", splitAll(test.spec.super(test.segSize)), want)
		})
	}
}

func TestSplitSingle(t *testing.T) {
	plain := make([]byte, vnetHeaderLen) // all zero: a packet that is complete
	icmp := append(slices.Clone(plain), 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 8, 0, 0, 0, 0, 0, 0, 0)
	wantSame(t, "ICMP", splitAll(icmp), [][]byte{icmp[vnetHeaderLen:]})
	for _, s := range []spec{
		{payload: 100, ttl: 1, flags: tcpACK},
		{v6: true, payload: 101, ttl: 1},
		{udp: true, payload: 33},
		{udp: true, v6: true},
	} {
		b := s.super(1)
		b[1] = gsoNone
		wantSame(t, "partial checksum", splitAll(b), [][]byte{s.bytes()})
		b = append(slices.Clone(plain), s.bytes()...)
		b[len(b)-1] ^= 1
		wantSame(t, "complete and wrong checksum", splitAll(b), [][]byte{b[vnetHeaderLen:]})
	}
}

func TestSplitMalformed(t *testing.T) {
	good := spec{ttl: 64, flags: tcpACK, payload: 3000}.super(1400)
	good6 := spec{v6: true, flags: tcpACK, payload: 2980}.super(1400)
	header := func(edit func(*vnetHeader)) func([]byte) []byte {
		return func(b []byte) []byte {
			var h vnetHeader
			h.parse(b)
			edit(&h)
			h.put(b)
			return b
		}
	}
	ip := func(i int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[vnetHeaderLen+i] = v; return b }
	}
	for name, edit := range map[string]func([]byte) []byte{
		"empty":                  func([]byte) []byte { return nil },
		"vnet header cut":        func(b []byte) []byte { return b[:vnetHeaderLen-1] },
		"vnet header only":       func(b []byte) []byte { return b[:vnetHeaderLen] },
		"IP header cut":          func(b []byte) []byte { return b[:vnetHeaderLen+19] },
		"cut":                    func(b []byte) []byte { return b[:len(b)-1] },
		"IP version":             ip(0, 0x55),
		"IPv4 header length":     ip(0, 0x44),
		"no checksum":            header(func(h *vnetHeader) { h.flags = 0 }),
		"segment size":           header(func(h *vnetHeader) { h.gsoSize = 0 }),
		"kind":                   header(func(h *vnetHeader) { h.gsoType = 3 }),
		"kind of the other IP":   header(func(h *vnetHeader) { h.gsoType ^= gsoTCPv4 ^ gsoTCPv6 }),
		"transport inside of IP": header(func(h *vnetHeader) { h.csumStart = 16 }),
		"transport behind":       header(func(h *vnetHeader) { h.csumStart = 65000 }),
		"transport at the end":   header(func(h *vnetHeader) { h.csumStart = 3021 }),
		"checksum elsewhere":     header(func(h *vnetHeader) { h.csumOffset = 8 }),
		"single, checksum behind": header(func(h *vnetHeader) {
			h.gsoType, h.csumStart, h.csumOffset = gsoNone, 65535, 65535
		}),
	} {
		for _, b := range [][]byte{good, good6} {
			if name == "IPv4 header length" && &b[0] == &good6[0] {
				continue
			}
			if got := splitAll(edit(slices.Clone(b))); got != nil {
				t.Errorf("%s: %d packets, want none", name, len(got))
			}
		}
	}
	for name, edit := range map[string]func([]byte) []byte{
		"TCP header length too short": ip(20+tcpDataOffset, 0x40),
		"no payload":                  func([]byte) []byte { return spec{flags: tcpACK}.super(1400) },
	} {
		if got := splitAll(edit(slices.Clone(good))); got != nil {
			t.Errorf("%s: %d packets, want none", name, len(got))
		}
	}
}

// A packet that does not fit is skipped; the next one is what it would have been.
func TestSplitShortBuffer(t *testing.T) {
	s := spec{ttl: 64, id: 3, flags: tcpACK, payload: 1500}
	want := s.segments(1000)
	var sp splitter
	if !sp.start(s.super(1000)) {
		t.Fatal("start failed")
	}
	dst := make([]byte, 1039)
	if n := sp.take(dst); n != 0 {
		t.Fatalf("took %d bytes into a buffer of %d", n, len(dst))
	}
	wantSame(t, "after the skip", [][]byte{dst[:sp.take(dst)]}, want[1:])
	if sp.more() {
		t.Error("there is more than two packets")
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(spec{flags: tcpACK, payload: 300, options: timestamps}.super(100))
	f.Add(spec{v6: true, flags: tcpACK, payload: 300}.super(100))
	f.Add(spec{udp: true, payload: 300}.super(100))
	f.Add(spec{udp: true, v6: true, payload: 300}.super(301))
	single := spec{udp: true, payload: 30}.super(100)
	single[1] = gsoNone
	f.Add(single)
	f.Fuzz(func(t *testing.T, b []byte) {
		packets := splitAll(b)
		if packets == nil {
			return
		}
		var h vnetHeader
		h.parse(b)
		pkt := b[vnetHeaderLen:]
		if h.gsoType == gsoNone {
			if len(packets) != 1 || len(packets[0]) != len(pkt) {
				t.Fatalf("one packet became %d", len(packets))
			}
			return
		}
		headers := int(h.csumStart) + udpHeaderLen
		if h.gsoType != gsoUDP {
			headers = int(h.csumStart) + int(pkt[h.csumStart+tcpDataOffset]>>4)*4
		}
		var payload []byte
		for i, p := range packets {
			if n := len(p) - headers; n != int(h.gsoSize) && (i < len(packets)-1 || n <= 0 || n > int(h.gsoSize)) {
				t.Fatalf("packet %d of %d has %d bytes of payload, want %d", i, len(packets), n, h.gsoSize)
			}
			payload = append(payload, p[headers:]...)
			if p[0]>>4 == 4 {
				if n := int(binary.BigEndian.Uint16(p[ipv4TotalLen:])); n != len(p) {
					t.Fatalf("packet %d of %d bytes says %d", i, len(p), n)
				}
				if c := naiveSum(p[:int(p[0]&15)*4]); c != 0xffff {
					t.Fatalf("packet %d: sum of the IPv4 header %#x", i, c)
				}
			}
		}
		if string(payload) != string(pkt[headers:]) {
			t.Fatal("the payload has changed")
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	for name, s := range map[string]spec{
		"TCP": {ttl: 64, flags: tcpACK, options: timestamps, payload: 46 * 1348},
		"UDP": {udp: true, ttl: 64, payload: 46 * 1348},
	} {
		b.Run(name, func(b *testing.B) {
			in := s.super(1348)
			work, dst := make([]byte, len(in)), make([]byte, 2000)
			var sp splitter
			b.ReportAllocs()
			packets := 0
			for b.Loop() {
				copy(work, in)
				sp.start(work)
				for sp.more() {
					sp.take(dst)
					packets++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
