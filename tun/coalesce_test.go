// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// write returns what c makes of the packets, one slice per write.
func (c *coalescer) write(packets ...[]byte) (writes [][]byte) {
	c.plan(packets, 0)
	for i := range c.runs {
		writes = append(writes, slices.Clone(c.build(i)))
	}
	return writes
}

// series is count packets of a flow that belong together.
func (s spec) series(count int) (specs []spec) {
	for i := range count {
		next := s
		next.id += uint16(i)
		next.seq += uint32(i * s.payload)
		next.fill += uint8(i * 31)
		specs = append(specs, next)
	}
	return specs
}

func render(specs []spec) (packets [][]byte) {
	for _, s := range specs {
		packets = append(packets, s.bytes())
	}
	return packets
}

// TestCoalesce gives three packets that belong together to the coalescer, the second
// one changed, and looks at how they are written: as 3 of 1, or as how many.
func TestCoalesce(t *testing.T) {
	tcp := spec{ttl: 64, tos: 2, id: 0xfffe, seq: 0xfffffff0, ack: 7, flags: tcpACK, window: 500, options: timestamps, payload: 1000}
	tcp6 := tcp
	tcp6.v6, tcp6.label = true, 77
	udp := spec{udp: true, ttl: 64, id: 0xffff, payload: 1000}
	udp6 := udp
	udp6.v6 = true
	all := []spec{tcp, tcp6, udp, udp6}
	together, apart := []int{3}, []int{1, 1, 1}
	for _, test := range []struct {
		name string
		base []spec
		edit func(*spec)
		want []int
	}{
		{"nothing", all, func(*spec) {}, together},
		{"TTL", all, func(s *spec) { s.ttl-- }, apart},
		{"TOS", all, func(s *spec) { s.tos = 0xb8 }, apart},
		{"congestion experienced", all, func(s *spec) { s.tos |= 3 }, apart},
		{"shorter", all, func(s *spec) { s.payload-- }, []int{2, 1}},
		{"longer", []spec{tcp, tcp6}, func(s *spec) { s.payload++ }, apart},
		{"longer", []spec{udp, udp6}, func(s *spec) { s.payload++ }, []int{1, 2}},
		{"empty", all, func(s *spec) { s.payload = 0 }, apart},
		{"wrong checksum", all, func(s *spec) { s.bad = true }, apart},
		{"wrong IPv4 checksum", []spec{tcp, udp}, func(s *spec) { s.badIP = true }, apart},
		{"IPv4 options", []spec{tcp, udp}, func(s *spec) { s.ipOptions = []byte{1, 1, 1, 0} }, apart},
		{"first fragment", []spec{tcp, udp}, func(s *spec) { s.fragment = 0x2000 }, apart},
		{"later fragment", []spec{tcp, udp}, func(s *spec) { s.fragment = 0x0010 }, apart},
		{"reserved IPv4 flag", []spec{tcp, udp}, func(s *spec) { s.fragment = 0x8000 }, apart},
		{"fragmentable", []spec{tcp, udp}, func(s *spec) { s.fragmentable = true }, apart},
		{"id, not fragmentable", []spec{tcp, udp}, func(s *spec) { s.id += 5 }, together},
		{"extension header", []spec{tcp6, udp6}, func(s *spec) { s.extension = []byte{6, 0, 1, 4, 0, 0, 0, 0} }, apart},
		{"flow label", []spec{tcp6, udp6}, func(s *spec) { s.label++ }, apart},
		{"no checksum", []spec{udp}, func(s *spec) { s.noChecksum = true }, apart},
		{"other protocol", []spec{tcp, tcp6}, func(s *spec) { s.udp = true }, apart},
		{"gap", []spec{tcp, tcp6}, func(s *spec) { s.seq++ }, apart},
		{"repetition", []spec{tcp, tcp6}, func(s *spec) { s.seq -= 1000 }, apart},
		{"acknowledgment", []spec{tcp, tcp6}, func(s *spec) { s.ack++ }, apart},
		{"window", []spec{tcp, tcp6}, func(s *spec) { s.window++ }, apart},
		{"urgent pointer", []spec{tcp, tcp6}, func(s *spec) { s.urg++ }, apart},
		{"options", []spec{tcp, tcp6}, func(s *spec) { s.options = slices.Clone(timestamps); s.options[11]++ }, apart},
		{"no options", []spec{tcp, tcp6}, func(s *spec) { s.options = nil }, apart},
		{"PSH", []spec{tcp, tcp6}, func(s *spec) { s.flags |= tcpPSH }, []int{2, 1}},
		{"FIN", []spec{tcp, tcp6}, func(s *spec) { s.flags |= tcpFIN }, apart},
		{"SYN", []spec{tcp, tcp6}, func(s *spec) { s.flags |= 2 }, apart},
		{"RST", []spec{tcp, tcp6}, func(s *spec) { s.flags |= 4 }, apart},
		{"URG", []spec{tcp, tcp6}, func(s *spec) { s.flags |= 0x20 }, apart},
		{"ECE", []spec{tcp, tcp6}, func(s *spec) { s.flags |= 0x40 }, apart},
		{"CWR", []spec{tcp, tcp6}, func(s *spec) { s.flags |= 0x80 }, apart},
		{"no ACK", []spec{tcp, tcp6}, func(s *spec) { s.flags = 0 }, apart},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, base := range test.base {
				specs := base.series(3)
				test.edit(&specs[1])
				packets := render(specs)
				c := newCoalescer(true, true)
				var counts []int
				var back [][]byte
				for i, w := range c.write(packets...) {
					counts = append(counts, c.runs[i].count)
					back = append(back, splitAll(w)...)
				}
				if !slices.Equal(counts, test.want) {
					t.Errorf("%+v: written as %v, want %v", specs[1], counts, test.want)
				}
				wantSame(t, "cut again", canonical(back), canonical(packets))
			}
		})
	}
}

// canonical returns copies of the packets in which the ids that mean nothing are zero.
func canonical(packets [][]byte) (out [][]byte) {
	for _, p := range packets {
		p = slices.Clone(p)
		if len(p) >= ipv4HeaderLen && p[0] == 0x45 && p[ipv4Fragment] == 0x40 && naiveSum(p[:ipv4HeaderLen]) == 0xffff {
			clear(p[ipv4ID : ipv4ID+2])
			clear(p[ipv4Checksum : ipv4Checksum+2])
			binary.BigEndian.PutUint16(p[ipv4Checksum:], ^naiveSum(p[:ipv4HeaderLen]))
		}
		out = append(out, p)
	}
	return out
}

// Fragmentable packets keep their ids, so these must be what cutting gives.
func TestCoalesceFragmentable(t *testing.T) {
	specs := spec{udp: true, fragmentable: true, id: 0xfffe, payload: 100}.series(4)
	c := newCoalescer(true, true)
	writes := c.write(render(specs)...)
	if len(writes) != 1 {
		t.Fatalf("%d writes, want 1", len(writes))
	}
	wantSame(t, "cut again", splitAll(writes[0]), render(specs))
	specs[2].id = specs[1].id
	if writes = c.write(render(specs)...); len(writes) != 3 {
		t.Fatalf("with an id that is not the next: %d writes, want 3", len(writes))
	}
}

// A device without offload for a protocol gets its packets one by one.
func TestCoalesceNotGranted(t *testing.T) {
	tcp := render(spec{flags: tcpACK, payload: 100}.series(2))
	udp := render(spec{udp: true, payload: 100}.series(2))
	for _, o := range []Offloads{{}, {TCP: true}, {UDP: true}, {TCP: true, UDP: true}} {
		want := 4
		if o.TCP {
			want--
		}
		if o.UDP {
			want--
		}
		if n := len(newCoalescer(o.TCP, o.UDP).write(slices.Concat(tcp, udp)...)); n != want {
			t.Errorf("%+v: %d writes, want %d", o, n, want)
		}
	}
}

// A super-packet is not longer than the kernel takes.
func TestCoalesceLimits(t *testing.T) {
	c := newCoalescer(true, true)
	for _, test := range []struct {
		spec spec
		want []int
	}{
		{spec{flags: tcpACK, payload: 1460}, []int{44, 44, 12}},
		{spec{v6: true, flags: tcpACK, payload: 1440}, []int{45, 45, 10}},
		{spec{udp: true, payload: 1000}, []int{64, 36}},
		{spec{udp: true, payload: 30000}, slices.Repeat([]int{2}, 50)},
		{spec{flags: tcpACK, payload: 1}, []int{100}},
	} {
		packets := render(test.spec.series(100))
		var counts []int
		var back [][]byte
		for i, w := range c.write(packets...) {
			counts = append(counts, c.runs[i].count)
			back = append(back, splitAll(w)...)
		}
		if !slices.Equal(counts, test.want) {
			t.Errorf("%+v: written as %v, want %v", test.spec, counts, test.want)
		}
		wantSame(t, "cut again", canonical(back), canonical(packets))
	}
}

// Flows that take turns are sorted into a super-packet each.
func TestCoalesceInterleaved(t *testing.T) {
	var packets [][]byte
	const flows, each = 16, 5
	for i := range each {
		for flow := range flows {
			packets = append(packets, spec{flow: uint8(flow), flags: tcpACK, payload: 10}.series(each)[i].bytes())
		}
	}
	// Of two flows that share a slot, none is coalesced: with a random seed that
	// happens to some.
	if n := len(newCoalescer(true, true).write(packets...)); n < flows || n > len(packets)/2 {
		t.Errorf("%d packets of %d flows took %d writes", len(packets), flows, n)
	}
}

// source is where random choices come from: a generator, or the input of a fuzzer.
type source interface{ IntN(n int) int }

// bytesSource makes choices of the bytes that a fuzzer gives it, then all zero.
type bytesSource struct{ left []byte }

func (s *bytesSource) IntN(n int) int {
	if len(s.left) == 0 {
		return 0
	}
	b := s.left[0]
	s.left = s.left[1:]
	return int(b) % n
}

// traffic makes packets of a few flows, most of which belong together.
func traffic(r source, count int) (packets [][]byte) {
	flows := make([]spec, 4)
	for i := range flows {
		flows[i] = spec{
			flow: uint8(i), v6: i&1 != 0, udp: i&2 != 0, ttl: 64, tos: uint8(r.IntN(3)), flags: tcpACK,
			fragmentable: r.IntN(2) == 0, seq: uint32(-r.IntN(3000)), id: uint16(-r.IntN(10)), payload: 1 + r.IntN(40),
		}
	}
	for range count {
		f := &flows[r.IntN(len(flows))]
		s := *f
		switch r.IntN(24) {
		case 0:
			s.bad = true
		case 1:
			s.badIP = true
		case 2:
			s.ttl -= uint8(r.IntN(2))
		case 3:
			s.tos ^= uint8(r.IntN(4))
		case 4:
			s.flags ^= 1 << r.IntN(8)
		case 5:
			s.flags |= tcpPSH
		case 6:
			s.payload = r.IntN(60)
		case 7:
			s.payload = r.IntN(s.payload)
		case 8:
			s.seq += uint32(r.IntN(100)) - 50
		case 9:
			s.ack++
		case 10:
			s.options = timestamps
		case 11:
			s.ipOptions, s.extension = []byte{1, 1, 1, 0}, []byte{6, 0, 1, 4, 0, 0, 0, 0}
		case 12:
			s.fragment = uint16(r.IntN(3)) << 13
		case 13:
			s.noChecksum = true
		case 14:
			s.id += uint16(r.IntN(3))
		case 15:
			s.label++
		}
		f.seq, f.id = s.seq+uint32(s.payload), s.id+1
		f.fill = uint8(r.IntN(256))
		p := s.bytes()
		switch r.IntN(40) {
		case 0:
			p[9], p[6] = 1, protoICMPv6 // another protocol for either version
		case 1:
			p = p[:r.IntN(len(p)+1)]
		case 2:
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		}
		packets = append(packets, p)
	}
	return packets
}

// order is what must keep its order: the class of a packet, or "" for all packets of
// TCP and UDP. Packets of other protocols are a class.
func order(p []byte) string {
	var h headers
	switch h.parse(p) {
	case noFlow:
		return "none"
	case anyFlow:
		return ""
	}
	return string(p[0]>>4) + string(h.flow(p))
}

// checkRoundTrip compares the packets with what is left of them when they are
// coalesced and cut up again.
func checkRoundTrip(t *testing.T, c *coalescer, packets [][]byte) {
	t.Helper()
	before := slices.Clone(packets)
	for i := range before {
		before[i] = slices.Clone(before[i])
	}
	var back [][]byte
	total := 0
	for i, w := range c.write(packets...) {
		total += c.runs[i].count
		cut := splitAll(w)
		if len(packets[c.runs[i].first]) == 0 {
			cut = [][]byte{{}}
		}
		if len(cut) != c.runs[i].count {
			t.Fatalf("%d packets became %d", c.runs[i].count, len(cut))
		}
		back = append(back, cut...)
	}
	wantSame(t, "the caller's packets", packets, before)
	if total != len(packets) {
		t.Fatalf("%d packets written of %d", total, len(packets))
	}
	want, got := canonical(packets), canonical(back)
	classes := make(map[string]bool)
	for _, p := range packets {
		classes[order(p)] = true
	}
	of := func(class string, all [][]byte) (some [][]byte) {
		for _, p := range all {
			if o := order(p); o == class || o == "" && class != "none" {
				some = append(some, p)
			}
		}
		return some
	}
	for class := range classes {
		wantSame(t, "one flow", of(class, got), of(class, want))
	}
}

func TestCoalesceRandom(t *testing.T) {
	joined := 0
	for seed := range uint64(300) {
		// A new one each time: where two of the flows have the same slot, less is joined.
		c := newCoalescer(true, true)
		packets := traffic(rand.New(rand.NewPCG(seed, 0)), 60)
		checkRoundTrip(t, c, packets)
		joined += len(packets) - len(c.runs)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if joined < 300*15 {
		t.Errorf("only %d packets of %d were joined to others: the test shows little", joined, 300*60)
	}
}

func FuzzCoalesce(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 4 {
		b := make([]byte, 80) // short, as the fuzzer spends its time on making inputs shorter
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	c := newCoalescer(true, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		checkRoundTrip(t, c, traffic(&bytesSource{b}, min(len(b)/4, 200)))
	})
}

func TestCoalesceAllocs(t *testing.T) {
	c := newCoalescer(true, true)
	packets := traffic(rand.New(rand.NewPCG(3, 3)), 128)
	work := func() {
		c.plan(packets, 0)
		for i := range c.runs {
			c.build(i)
		}
	}
	if n := testing.AllocsPerRun(20, work); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCoalesce(b *testing.B) {
	tcp := spec{ttl: 64, flags: tcpACK, options: timestamps, payload: 1348}
	for _, test := range []struct {
		name    string
		packets [][]byte
	}{
		{"TCP", render(tcp.series(46))},
		{"UDP", render(spec{udp: true, ttl: 64, payload: 1100}.series(46))},
		{"UDP 160", render(spec{udp: true, ttl: 64, payload: 160}.series(46))},
		{"16 flows", func() (p [][]byte) {
			for flow := range 16 {
				s := tcp
				s.flow = uint8(flow)
				p = append(p, render(s.series(3))...)
			}
			return p
		}()},
		{"acknowledgments", render(spec{ttl: 64, flags: tcpACK, options: timestamps}.series(46))},
	} {
		b.Run(test.name, func(b *testing.B) {
			c := newCoalescer(true, true)
			b.ReportAllocs()
			packets := 0
			for b.Loop() {
				c.plan(test.packets, 0)
				for i := range c.runs {
					c.build(i)
				}
				packets += len(test.packets)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
