// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// change returns a copy of a packet with bytes replaced at an offset.
func change(pkt []byte, at int, b ...byte) []byte {
	pkt = append([]byte(nil), pkt...)
	copy(pkt[at:], b)
	return pkt
}

func TestParsePacket(t *testing.T) {
	p4, p6 := packet4("10.0.0.1", "10.0.0.2", 60), packet6("fd00::1", "fd00::2", 60)
	for _, c := range []struct {
		name string
		pkt  []byte
		want DropReason
	}{
		{"IPv4", p4, notDropped},
		{"IPv6", p6, notDropped},
		{"IPv4 header only", packet4("10.0.0.1", "10.0.0.2", 20), notDropped},
		{"IPv6 header only", packet6("fd00::1", "fd00::2", 40), notDropped},
		{"IPv4 with options", change(p4, 0, 0x4f), notDropped},
		{"last hop", change(p4, 8, 1), notDropped},
		{"global multicast", packet4("10.0.0.1", "239.1.1.1", 60), notDropped},
		{"empty", nil, DropMalformed},
		{"version 5", change(p4, 0, 0x55), DropMalformed},
		{"short IPv4", p4[:19], DropMalformed},
		{"short IPv6", p6[:39], DropMalformed},
		{"IPv4 header of 16 bytes", change(p4, 0, 0x44), DropMalformed},
		{"IPv4 header longer than the packet", change(packet4("10.0.0.1", "10.0.0.2", 20), 0, 0x46), DropMalformed},
		{"IPv4 total length too large", change(p4, 3, 61), DropMalformed},
		{"IPv4 total length too small", change(p4, 3, 59), DropMalformed},
		{"IPv6 payload length too large", change(p6, 5, 21), DropMalformed},
		{"IPv6 payload length too small", change(p6, 5, 19), DropMalformed},
		{"TTL 0", change(p4, 8, 0), DropHopLimit},
		{"hop limit 0", change(p6, 7, 0), DropHopLimit},
		{"IPv4 link-local source", packet4("169.254.1.1", "10.0.0.2", 60), DropLinkLocal},
		{"IPv4 link-local destination", packet4("10.0.0.1", "169.254.1.1", 60), DropLinkLocal},
		{"IPv4 link-local multicast", packet4("10.0.0.1", "224.0.0.251", 60), DropLinkLocal},
		{"IPv6 link-local source", packet6("fe80::1", "fd00::2", 60), DropLinkLocal},
		{"IPv6 link-local destination", packet6("fd00::1", "fe80::1", 60), DropLinkLocal},
		{"IPv6 link-local multicast", packet6("fd00::1", "ff02::2", 60), DropLinkLocal},
		{"IPv6 interface-local multicast", packet6("fd00::1", "ff01::1", 60), DropLinkLocal},
	} {
		var h ipHeader
		if got := parsePacket(c.pkt, &h); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	var h ipHeader
	parsePacket(p6, &h)
	if !h.v6 || h.src != netip.MustParseAddr("fd00::1") || h.dst != netip.MustParseAddr("fd00::2") {
		t.Errorf("%+v", h)
	}
}

// chain makes an IPv6 packet of the given headers, each with its own type.
func chain(types []byte, headers ...[]byte) []byte {
	var body []byte
	for i, h := range headers {
		h = append([]byte(nil), h...)
		if i+1 < len(types) {
			h[0] = types[i+1]
		}
		body = append(body, h...)
	}
	pkt := packet6("fd00::1", "fd00::2", 40+len(body))
	pkt[6] = types[0]
	copy(pkt[40:], body)
	return pkt
}

func TestUpperProtocol(t *testing.T) { // R9484-4.8-1
	ext8, ext16 := make([]byte, 8), append([]byte{0, 1}, make([]byte, 14)...)
	ah12 := append([]byte{0, 1}, make([]byte, 10)...)
	first, later := make([]byte, 8), make([]byte, 8)
	binary.BigEndian.PutUint16(first[2:], 1) // more fragments
	binary.BigEndian.PutUint16(later[2:], 8)
	udp := make([]byte, 8)
	p4 := packet4("10.0.0.1", "10.0.0.2", 60)
	for _, c := range []struct {
		name     string
		pkt      []byte
		protocol uint8
		offset   int
	}{
		{"IPv4", p4, 17, 20},
		{"IPv4 with options", change(p4, 0, 0x46), 17, 24},
		{"IPv4 first fragment", change(p4, 6, 0x20, 0), 17, 20},
		{"IPv4 later fragment", change(p4, 6, 0, 1), 17, -1},
		{"IPv6", chain([]byte{17}, udp), 17, 40},
		{"no next header", chain([]byte{59}), 59, 40},
		{"Hop-by-Hop and Destination Options", chain([]byte{0, 60, 17}, ext8, ext16, udp), 17, 64},
		{"routing, mobility, HIP, Shim6", chain([]byte{43, 135, 139, 140, 6}, ext8, ext8, ext8, ext8, udp), 6, 72},
		{"authentication header", chain([]byte{51, 17}, ah12, udp), 17, 52},
		{"first fragment", chain([]byte{44, 17}, first, udp), 17, 48},
		{"later fragment", chain([]byte{44, 17}, later, udp), 17, -1},
		{"later fragment without content", chain([]byte{44, 17}, later), 17, -1},
		{"later fragment of an extension header", chain([]byte{44, 60, 17}, later, ext8), 60, -1},
		{"cut off in an extension header", chain([]byte{0, 17}, ext8[:4]), 17, -1},
		{"extension header longer than the packet", chain([]byte{60, 6}, ext16[:8]), 6, -1},
		{"nothing behind the header", chain([]byte{60}), 60, -1},
	} {
		protocol, offset := upperHeader(c.pkt)
		if protocol != c.protocol || offset != c.offset {
			t.Errorf("%s: protocol %d at %d, want %d at %d", c.name, protocol, offset, c.protocol, c.offset)
		}
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(packet4("10.0.0.1", "10.0.0.2", 60))
	f.Add(chain([]byte{0, 44, 51, 6}, make([]byte, 8), make([]byte, 8), make([]byte, 12), make([]byte, 20)))
	f.Add(synPacket(false, 1460, 0))
	f.Add(synPacket(true, 1440, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h ipHeader
		if parsePacket(b, &h) != notDropped {
			return
		}
		if _, offset := upperHeader(b); offset > len(b) {
			t.Fatalf("header at %d of %d", offset, len(b))
		}
		for kind := range icmpTypes {
			checkICMP(t, appendICMPError(nil, b, icmpError(kind), 1280))
		}
		ClampMSS(b, 1300)
		if ClampMSS(b, 1300) {
			t.Fatal("clamped twice")
		}
	})
}
