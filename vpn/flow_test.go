// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"slices"
	"testing"

	"github.com/mqvpn/mqvpn/quic/sched"
)

func edit(pkt []byte, f func(p []byte)) []byte {
	p := slices.Clone(pkt)
	f(p)
	return p
}

func TestFlowKey(t *testing.T) {
	const a4, b4, a6, b6 = "10.0.0.2", "192.0.2.9", "fd00::2", "2001:db8::9"
	ports := udp(1000, 2000, "data")
	udp4, tcp4 := ipPacket(a4, b4, protoUDP, ports), ipPacket(a4, b4, protoTCP, ports)
	udp6, tcp6 := ipPacket(a6, b6, protoUDP, ports), ipPacket(a6, b6, protoTCP, ports)
	frag4 := edit(udp4, func(p []byte) { p[4], p[5], p[6] = 0x12, 0x34, 0x20 })
	ext := func(next byte, header ...byte) []byte { return ipPacket(a6, b6, next, append(header, ports...)) }
	frag6 := ext(protoFragment, protoUDP, 0, 0, 1, 1, 2, 3, 4)

	groups := []struct {
		name  string
		class sched.Class
		zero  bool
		pkts  [][]byte // all of one flow
	}{
		{name: "udp4", class: sched.ClassUDP, pkts: [][]byte{udp4,
			edit(udp4, func(p []byte) { p[1], p[8], p[30] = 0xb8, 3, 'x' }),
			edit(udp4, func(p []byte) { p[6] = 0x40 }),                                                      // don't fragment
			edit(slices.Concat(udp4[:20], []byte{1, 1, 1, 1}, udp4[20:]), func(p []byte) { p[0] = 0x46 })}}, // options
		{name: "udp4 back", class: sched.ClassUDP, pkts: [][]byte{ipPacket(b4, a4, protoUDP, udp(2000, 1000, ""))}},
		{name: "udp4 other port", class: sched.ClassUDP, pkts: [][]byte{ipPacket(a4, b4, protoUDP, udp(1000, 2001, ""))}},
		{name: "tcp4", class: sched.ClassTCP, pkts: [][]byte{tcp4}},
		{name: "fragments 4", class: sched.ClassUDP, pkts: [][]byte{frag4,
			edit(frag4, func(p []byte) { p[6], p[7], p[20], p[22] = 0, 100, 9, 9 })}}, // the last one has no ports
		{name: "other fragment 4", class: sched.ClassUDP, pkts: [][]byte{edit(frag4, func(p []byte) { p[5]++ })}},
		{name: "udp6, extension headers, atomic fragment", class: sched.ClassUDP, pkts: [][]byte{udp6,
			ext(protoHopByHop, protoUDP, 0, 1, 4, 0, 0, 0, 0),
			ext(protoDestOpts, protoUDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
			ext(protoHopByHop, protoRouting, 0, 1, 4, 0, 0, 0, 0, protoUDP, 0, 0, 0, 0, 0, 0, 0),
			ext(protoAH, protoUDP, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0),
			ext(protoFragment, protoUDP, 0, 0, 0, 1, 2, 3, 4)}},
		{name: "tcp6", class: sched.ClassTCP, pkts: [][]byte{tcp6}},
		{name: "fragments 6", class: sched.ClassUDP, pkts: [][]byte{frag6,
			ext(protoFragment, protoUDP, 0, 0x05, 0, 1, 2, 3, 4)[:60]}},
		{name: "other fragment 6", class: sched.ClassUDP, pkts: [][]byte{edit(frag6, func(p []byte) { p[47]++ })}},
		{name: "no affinity", zero: true, pkts: [][]byte{
			nil, {0x45}, udp4[:19], udp4[:27], udp6[:39], udp6[:47],
			edit(udp4, func(p []byte) { p[0] = 0x44 }),          // header length below 20
			edit(udp4, func(p []byte) { p[0] = 0x4f }),          // header longer than the packet
			edit(udp4, func(p []byte) { p[0] = 0x55 }),          // version 5
			edit(udp4, func(p []byte) { p[9] = 1 }),             // ICMP
			edit(frag4, func(p []byte) { p[9] = 1 }),            // a fragment of ICMP
			edit(udp6, func(p []byte) { p[6] = 58 }),            // ICMPv6
			edit(udp6, func(p []byte) { p[6] = 59 }),            // no next header
			ext(protoHopByHop, protoUDP, 255, 0, 0, 0, 0, 0, 0), // header longer than the packet
			ext(protoHopByHop, protoHopByHop, 0, 0, 0, 0, 0, 0, 0)[:48],
		}},
	}
	seen := map[uint64]string{}
	for _, g := range groups {
		first, _ := flowKey(g.pkts[0])
		for i, p := range g.pkts {
			key, class := flowKey(p)
			if key != first || class != g.class {
				t.Errorf("%s, packet %d: key %x class %d, want key %x class %d", g.name, i, key, class, first, g.class)
			}
			if (key == 0) != g.zero {
				t.Errorf("%s, packet %d: key is %x", g.name, i, key)
			}
		}
		if other := seen[first]; other != "" {
			t.Errorf("%s and %s have the same key", g.name, other)
		}
		seen[first] = g.name
	}
}

func TestFlowKeyAllocs(t *testing.T) {
	pkt := ipPacket("10.0.0.2", "192.0.2.9", protoTCP, udp(1, 2, "data"))
	if n := testing.AllocsPerRun(100, func() { flowKey(pkt) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFlowKey(b *testing.B) {
	pkt := ipPacket("10.0.0.2", "192.0.2.9", protoTCP, udp(1, 2, "data"))
	b.ReportAllocs()
	for b.Loop() {
		flowKey(pkt)
	}
}

func FuzzFlowKey(f *testing.F) {
	f.Add(ipPacket("10.0.0.2", "192.0.2.9", protoTCP, udp(1, 2, "data")))
	f.Add(ipPacket("fd00::2", "fd00::3", protoHopByHop, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, udp(1, 2, "")...)))
	f.Fuzz(func(t *testing.T, pkt []byte) {
		key, class := flowKey(pkt)
		if again, _ := flowKey(slices.Clone(pkt)); again != key {
			t.Error("the key is not a function of the packet")
		}
		if (key == 0) != (class == sched.ClassOther) {
			t.Errorf("key %x with class %d", key, class)
		}
	})
}
