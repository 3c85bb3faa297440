// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// Path MTU: a path starts at 1200 bytes of UDP payload. When it is validated, two
// probes go out together: of what an inner IPv6 packet of 1280 bytes needs, and of
// the interface's MTU (RFC 9000 section 14.4). A path carries what was confirmed.

const (
	// ipv6ProbeSize is the UDP payload that carries an inner packet of 1280 bytes with
	// room for the largest headers of ours (RFC 9484 section 7.2).
	ipv6ProbeSize = 1312
	// defaultInterfaceMTU is assumed when the interface's is unknown.
	defaultInterfaceMTU = 1500
	mtuProbeTries       = 3
	// blackholeLosses is how many large packets in a row may be lost before the size is
	// put to the test again: a full queue loses as many.
	blackholeLosses = 8
	// mtuRaiseAfter is when sizes that were given up are tried again.
	mtuRaiseAfter = time.Minute
)

type mtuProbe struct {
	size  int
	tries int
	sent  instant // of the newest try, unset when none is in flight
	done  bool    // confirmed or given up
}

type mtuState struct {
	size    int // largest UDP payload confirmed, in bytes
	max     int // what the interface allows
	probes  [2]mtuProbe
	started bool
	raise   instant // when sizes given up are probed again, unset while there are none

	confirm mtuProbe // of the present size, when it is in doubt; size 0: it is not
	shrunk  bool     // the size went back to 1200 after it was larger
}

// init starts at the size that every path must carry.
func (m *mtuState) init(interfaceMTU int, v6 bool) {
	*m = mtuState{size: minInitialSize, max: interfacePayload(interfaceMTU, v6)}
}

// interfacePayload is the largest UDP payload that fits interfaceMTU, 0 for unknown.
func interfacePayload(interfaceMTU int, v6 bool) int {
	if interfaceMTU <= 0 {
		interfaceMTU = defaultInterfaceMTU
	}
	overhead := 28 // IPv4 and UDP headers
	if v6 {
		overhead = 48
	}
	return min(interfaceMTU-overhead, maxPacketSize)
}

// start makes the probes due. peerMax is the peer's max_udp_payload_size.
func (m *mtuState) start(peerMax int) {
	if m.started {
		return
	}
	m.started = true
	m.max = min(m.max, peerMax)
	m.probeAll()
}

// probeAll makes the probes of all sizes due that are not confirmed. Without a
// second size the second probe has size 0, and is never due.
func (m *mtuState) probeAll() {
	sizes := [...]int{ipv6ProbeSize, m.max}
	if sizes[0] == sizes[1] {
		sizes[1] = 0
	}
	for i, size := range sizes {
		m.probes[i] = mtuProbe{size: size, done: size <= m.size || size > m.max}
	}
}

// due is the size of the next probe to be sent now, or 0.
func (m *mtuState) due() int {
	if m.confirm.size != 0 && m.confirm.sent == 0 {
		return m.confirm.size
	}
	for i := range m.probes {
		if p := &m.probes[i]; m.started && !p.done && p.sent == 0 {
			return p.size
		}
	}
	return 0
}

// probeSent notes that the probe of the given size is in flight.
func (m *mtuState) probeSent(now instant, size int) {
	if p := &m.confirm; p.size == size && p.sent == 0 {
		p.sent = now
		p.tries++
		return
	}
	for i := range m.probes {
		if p := &m.probes[i]; p.size == size && !p.done {
			p.sent = now
			p.tries++
			return
		}
	}
}

// acked notes that a packet of the given size arrived.
func (m *mtuState) acked(size int) {
	if size >= m.confirm.size {
		m.confirm = mtuProbe{}
	}
	m.size = max(m.size, min(size, m.max))
	for i := range m.probes {
		if p := &m.probes[i]; p.size <= m.size {
			p.done = true
		}
	}
}

// doubt puts the present size to the test.
func (m *mtuState) doubt() {
	if m.confirm.size == 0 && m.size > minInitialSize {
		m.confirm = mtuProbe{size: m.size}
	}
}

// lost repeats the probe, or gives it up.
func (m *mtuState) lost(size int) {
	if p := &m.confirm; p.size == size && p.sent != 0 {
		if p.sent = 0; p.tries >= mtuProbeTries {
			m.blackhole()
		}
		return
	}
	for i := range m.probes {
		p := &m.probes[i]
		if p.size != size || p.done || p.sent == 0 {
			continue
		}
		p.sent = 0
		p.done = p.tries >= mtuProbeTries
	}
}

// tooLong notes that the kernel refused a packet of the given size. interfaceMax is
// what the interface permits now, as far as it tells.
func (m *mtuState) tooLong(size, interfaceMax int) {
	m.max = max(minInitialSize, min(m.max, size-1, interfaceMax))
	if m.size > m.max || size <= m.size { // what was confirmed does not hold any more
		m.blackhole()
		return
	}
	for i := range m.probes {
		if p := &m.probes[i]; p.size > m.max {
			p.done = true
		}
	}
}

// timeout is when the oldest probe in flight counts as lost; nothing else may
// follow it that could show its loss.
func (m *mtuState) timeout(pto time.Duration) (t instant) {
	if m.confirm.sent != 0 {
		t = m.confirm.sent.add(pto)
	}
	for i := range m.probes {
		if p := &m.probes[i]; !p.done && p.sent != 0 {
			t = earliest(t, p.sent.add(pto))
		}
	}
	return t
}

// expire treats probes that were not answered in time as lost.
func (m *mtuState) expire(now instant, pto time.Duration) {
	if p := &m.confirm; p.sent != 0 && now >= p.sent.add(pto) {
		m.lost(p.size)
	}
	for i := range m.probes {
		if p := &m.probes[i]; !p.done && p.sent != 0 && now >= p.sent.add(pto) {
			m.lost(p.size)
		}
	}
}

// blackhole goes back to what every path carries, and probes again.
func (m *mtuState) blackhole() {
	m.size, m.shrunk = minInitialSize, true
	m.confirm = mtuProbe{}
	m.probeAll()
}

// retry makes the probes that were given up due again once in a while.
func (m *mtuState) retry(now instant) {
	given := false
	for i := range m.probes {
		p := &m.probes[i]
		given = given || p.done && p.size > m.size && p.size <= m.max
	}
	switch {
	case !given:
		m.raise = 0
	case m.raise == 0:
		m.raise = now.add(mtuRaiseAfter)
	case now >= m.raise:
		m.raise = 0
		for i := range m.probes {
			if p := &m.probes[i]; p.size > m.size && p.size <= m.max {
				*p = mtuProbe{size: p.size}
			}
		}
	}
}

// unknown says that the path carried more once, and that it is being found out what
// it carries now.
func (m *mtuState) unknown() bool { return m.shrunk && !m.settled() }

// settled says that nothing more is to be learned for now.
func (m *mtuState) settled() bool {
	return m.started && m.probes[0].done && m.probes[1].done
}
