// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// Path MTU: RFC 9000 section 14.3, with the search of RFC 8899. A path starts at 1200
// bytes of UDP payload. When it is validated two probes go out together: of what an
// inner IPv6 packet of 1280 bytes needs, and of the largest datagram that interface and
// peer take. If that one is lost, the largest size that passes is searched by halves.
// A path carries what was confirmed. Each probe is followed by a PING, whose
// acknowledgment tells at once that a probe is lost.

const (
	// ipv6ProbeSize is the UDP payload that carries an inner packet of 1280 bytes with
	// room for the largest headers of ours (RFC 9484 section 7.2).
	ipv6ProbeSize = 1312
	// defaultInterfaceMTU is assumed when the interface's is unknown.
	defaultInterfaceMTU = 1500
	// mtuProbeTries is MAX_PROBES of RFC 8899 section 5.1.2.
	mtuProbeTries = 3
	// mtuStep is how exact the search is, in bytes: RFC 8899 section 5.3.2 leaves it open,
	// and each further halving costs up to three lost packets.
	mtuStep = 8
	// blackholeLosses is how many large packets in a row may be lost before the size is
	// put to the test again: a full queue loses as many. Where there are fewer packets,
	// such as those of one TCP connection inside, blackholeTime without one that arrives
	// does it too.
	blackholeLosses = 8
	blackholeTime   = time.Second
	// mtuRaiseAfter is PMTU_RAISE_TIMER of RFC 8899 section 5.1.1; where IPv6 inside the
	// tunnel waits for a larger size it is shorter.
	mtuRaiseAfter     = 600 * time.Second
	mtuRaiseAfterIPv6 = time.Minute
)

type mtuProbe struct {
	size  int // 0: none
	tries int
	sent  instant // of the newest try, unset when none is in flight
}

type mtuPhase uint8

const (
	mtuIdle      mtuPhase = iota // the path is not validated yet
	mtuFirst                     // the two probes together
	mtuSearching                 // between them
	mtuComplete                  // until raise
)

type mtuState struct {
	phase   mtuPhase
	size    int // largest UDP payload confirmed, in bytes
	max     int // what the interface and the peer allow
	peerMax int // the peer's max_udp_payload_size
	failed  int // smallest size that did not pass in this search; above max: none
	rest    int // size when the search began, which the tunnel keeps to until its end
	probes  [2]mtuProbe
	raise   instant // when the search begins anew, unset if it cannot find more

	confirm mtuProbe // of the present size, when it is in doubt; size 0: it is not
	shrunk  bool     // the size went back to 1200 after it was larger
}

// init starts at the size that every path must carry. // R9000-14.2-1
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

// start makes the first probes due. peerMax is the peer's max_udp_payload_size.
func (m *mtuState) start(peerMax int) {
	if m.phase != mtuIdle {
		return
	}
	m.peerMax = peerMax
	m.max = min(m.max, peerMax)
	m.first()
}

// first makes the two probes due that go out together.
func (m *mtuState) first() {
	m.phase, m.raise, m.failed = mtuFirst, 0, m.max+1
	m.probes = [2]mtuProbe{}
	for i, size := range [...]int{ipv6ProbeSize, m.max} {
		if size > m.size && size <= m.max && (i == 0 || size != ipv6ProbeSize) {
			m.probes[i].size = size
		}
	}
	m.next()
}

// next goes on when no probe is left: with the next size of the search, or to its end.
func (m *mtuState) next() {
	if m.phase == mtuIdle || m.phase == mtuComplete || m.probes[0].size != 0 || m.probes[1].size != 0 {
		return
	}
	if m.phase == mtuFirst {
		m.phase, m.rest = mtuSearching, m.size
	}
	high := min(m.failed-1, m.max) // the largest that may pass
	switch {
	case high == m.max && high > m.size:
		m.probes[0].size = high
	case high-m.size >= mtuStep:
		m.probes[0].size = m.size + (high-m.size+1)/2
	default:
		m.phase = mtuComplete
	}
}

// due is the size of the next probe to be sent now, or 0.
func (m *mtuState) due() int {
	for _, p := range [...]*mtuProbe{&m.confirm, &m.probes[0], &m.probes[1]} {
		if p.size != 0 && p.sent == 0 {
			return p.size
		}
	}
	return 0
}

// probeSent notes that the probe of the given size, which was due, is in flight.
func (m *mtuState) probeSent(now instant, size int) {
	for _, p := range [...]*mtuProbe{&m.confirm, &m.probes[0], &m.probes[1]} {
		if p.size == size && p.sent == 0 {
			p.sent = now
			p.tries++
			return
		}
	}
}

// acked notes that a probe of the given size arrived.
func (m *mtuState) acked(size int) {
	m.arrived(size)
	m.size = max(m.size, min(size, m.max))
	if m.failed <= m.size {
		m.failed = m.max + 1
	}
	for i := range m.probes {
		if m.probes[i].size <= m.size {
			m.probes[i] = mtuProbe{}
		}
	}
	m.next()
}

// arrived notes that a packet of the given size did.
func (m *mtuState) arrived(size int) {
	if size >= m.confirm.size {
		m.confirm = mtuProbe{}
	}
}

// doubt puts the present size to the test.
func (m *mtuState) doubt() {
	if m.confirm.size == 0 && m.size > minInitialSize {
		m.confirm = mtuProbe{size: m.size}
	}
}

// lost repeats the probe, or gives its size up.
func (m *mtuState) lost(size int) {
	if p := &m.confirm; p.size == size && p.sent != 0 {
		if p.sent = 0; p.tries == mtuProbeTries {
			m.blackhole()
		}
		return
	}
	for i := range m.probes {
		p := &m.probes[i]
		if p.size != size || p.sent == 0 {
			continue
		}
		if p.sent = 0; p.tries == mtuProbeTries {
			m.failed = min(m.failed, size)
			*p = mtuProbe{}
		}
	}
	m.next()
}

// interrupted takes the probes in flight as not sent: they are given up with the path,
// and not for their size.
func (m *mtuState) interrupted() {
	for _, p := range [...]*mtuProbe{&m.confirm, &m.probes[0], &m.probes[1]} {
		if p.sent != 0 {
			p.sent = 0
			p.tries--
		}
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
		if m.probes[i].size > m.max {
			m.probes[i] = mtuProbe{}
		}
	}
	m.next()
}

// blackhole goes back to what every path carries, and searches anew.
func (m *mtuState) blackhole() {
	m.size, m.rest, m.shrunk = minInitialSize, minInitialSize, true
	m.confirm = mtuProbe{}
	if m.phase != mtuIdle {
		m.first()
	}
}

// retryDue says that it is time for another search: once in a while, where there may be
// more to be found.
func (m *mtuState) retryDue(now instant) bool {
	switch {
	case m.phase != mtuComplete || m.size >= m.max:
		m.raise = 0
	case m.raise == 0 && m.size < ipv6ProbeSize:
		m.raise = now.add(mtuRaiseAfterIPv6)
	case m.raise == 0:
		m.raise = now.add(mtuRaiseAfter)
	default:
		return now >= m.raise
	}
	return false
}

// retry begins another search. interfaceMax is as for tooLong.
func (m *mtuState) retry(interfaceMax int) {
	m.raise, m.phase, m.rest = 0, mtuSearching, m.size
	m.max = max(m.size, min(interfaceMax, m.peerMax))
	m.failed = m.max + 1
	m.next()
}

// tunnelSize is the size that the tunnel's MTU goes by: it does not follow each step of
// a search.
func (m *mtuState) tunnelSize() int {
	if m.phase == mtuSearching {
		return m.rest
	}
	return m.size
}

// unknown says that the path carried more once, and that it is being found out whether
// it carries what IPv6 needs now.
func (m *mtuState) unknown() bool { return m.shrunk && m.phase == mtuFirst && m.probes[0].size != 0 }

// settled says that the first two probes have ended.
func (m *mtuState) settled() bool { return m.phase >= mtuSearching }
