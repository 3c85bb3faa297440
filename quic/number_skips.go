// SPDX-License-Identifier: Apache-2.0

package quic

const (
	// The first packet number of a path that is left out comes after minSkipPeriod packets,
	// on average, each further one after twice as many, up to maxSkipPeriod: a peer that
	// acknowledges what it has not received gains most at the start. Each makes an honest
	// peer send one acknowledgment at once (RFC 9000 section 13.2.1).
	minSkipPeriod = 512
	maxSkipPeriod = 1 << 17
)

// numberSkips chooses the packet numbers of a path's 1-RTT packets that are left out, so
// that a peer that acknowledges packets before they come is found out (RFC 9000 section
// 21.4).
type numberSkips struct {
	period int
	at     packetNumber // to be left out next
}

// choose chooses the next number to be left out, after number next. random is from 0 to
// below 1, and nothing that the peer can foresee.
func (s *numberSkips) choose(next packetNumber, random float64) {
	s.period = min(max(2*s.period, minSkipPeriod), maxSkipPeriod)
	s.at = next + packetNumber(float64(s.period)*(0.5+random))
}
