// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"net/netip"
	"testing"
)

func TestSockaddr(t *testing.T) {
	for _, text := range []string{"192.0.2.1:443", "[2001:db8::1]:65535", "0.0.0.0:0"} {
		var s sockaddr
		for i := range s {
			s[i] = 0xff
		}
		want := netip.MustParseAddrPort(text)
		s.put(want)
		if got := s.addrPort(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if got := new(sockaddr).addrPort(); got.IsValid() {
		t.Errorf("unknown family gives %v", got)
	}
}

// What is sent as control messages can be parsed; a traffic class and a packet info
// have the same form in both directions.
func TestControl(t *testing.T) {
	src := netip.MustParseAddr("2001:db8::1")
	b := appendSendControl(make([]byte, 0, controlSize), 1200, true, CE, src)
	if len(b) > controlSize {
		t.Fatalf("%d bytes, have room for %d", len(b), controlSize)
	}
	m := Received{N: 2400, SegSize: 2400}
	parseControl(b, &m)
	if m.ECN != CE || m.Dst != src || m.SegSize != 2400 {
		t.Errorf("got %+v", m)
	}
	if b := appendSendControl(b[:0], 0, false, NotECT, netip.Addr{}); len(b) != 0 {
		t.Errorf("a plain datagram has %d bytes of control messages", len(b))
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add(appendSendControl(make([]byte, 0, controlSize), 1200, true, CE, netip.MustParseAddr("2001:db8::1")))
	f.Add(appendSendControl(make([]byte, 0, controlSize), 1200, false, ECT0, netip.MustParseAddr("192.0.2.1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := Received{N: 3000, SegSize: 3000}
		parseControl(b, &m)
		if m.SegSize < 1 || m.SegSize > m.N || m.ECN > CE {
			t.Errorf("got %+v", m)
		}
	})
}
