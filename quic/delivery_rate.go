// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// deliveryRate estimates how many bytes/s a path delivers. Each packet remembers
// how much had been delivered when it was sent; its acknowledgment closes a sample.
// Samples taken while there was too little to send are lower bounds.
type deliveryRate struct {
	delivered     uint64  // bytes acknowledged so far
	deliveredTime instant // when that last grew
	firstSent     instant // when the newest packet acknowledged was sent
	lost          uint32  // bytes that were lost as a signal of congestion, modulo 2³²
	// limitedUntil is what delivered will be when the last packet sent before the
	// sender ran out of work is acknowledged. Only beyond it are the packets sent
	// since then as dense as the path allows; a path begins without work.
	limitedUntil uint64

	best windowedMax
}

// packetSent takes the snapshot for a packet to be sent.
func (d *deliveryRate) packetSent(now instant, inFlight int, p *sentPacket) {
	if inFlight == 0 {
		d.firstSent, d.deliveredTime = now, now
	}
	p.delivered, p.deliveredTime, p.firstSent = d.delivered, d.deliveredTime, d.firstSent
	p.lost, p.inFlight = d.lost, uint32(inFlight)+uint32(p.size)
	if d.delivered <= d.limitedUntil {
		p.flags |= sentAppLimited
	}
}

// limited notes that the sender ran out of work with inFlight bytes in flight.
func (d *deliveryRate) limited(inFlight int) { d.limitedUntil = d.delivered + uint64(inFlight) }

// acked takes the sample that the acknowledgment of p closes, after all packets
// of the ACK frame have been added to delivered. p is the one of them that was
// sent last. It returns the rate in bytes/s, 0 for none.
func (d *deliveryRate) acked(now instant, p *sentPacket, rtt *rttState) float64 {
	d.deliveredTime, d.firstSent = now, p.time
	// The slower one of sending and acknowledging: either may be compressed. In
	// less than a round trip nothing can be measured.
	interval := max(p.time.sub(p.firstSent), now.sub(p.deliveredTime))
	if !rtt.hasSample() || interval <= 0 || interval < rtt.min {
		return 0
	}
	rate := float64(d.delivered-p.delivered) / interval.Seconds()
	// A limited sample says nothing while nothing is known: the little that was sent
	// would pass for all that the path can carry.
	if p.flags&sentAppLimited == 0 || d.rate() > 0 && rate > d.rate() {
		d.best.update(now, rate, 10*rtt.smoothed)
	}
	return rate
}

// rate is the largest sample of the last ten round trips in bytes/s, 0 for unknown.
func (d *deliveryRate) rate() float64 { return d.best.values[0].v }

// windowedMax keeps the maximum of the values of a sliding window, by three
// candidates: the best one, and the best ones after it in the later parts of the
// window. Owned by its embedder.
type windowedMax struct {
	values [3]timedValue
}

type timedValue struct {
	v  float64
	at instant
}

func (m *windowedMax) update(now instant, v float64, window time.Duration) {
	n := timedValue{v, now}
	switch {
	case v >= m.values[0].v || now.sub(m.values[2].at) > window:
		m.values = [3]timedValue{n, n, n}
		return
	case v >= m.values[1].v:
		m.values[1], m.values[2] = n, n
	case v >= m.values[2].v:
		m.values[2] = n
	}
	switch age := now.sub(m.values[0].at); {
	case age > window:
		m.values = [3]timedValue{m.values[1], m.values[2], n}
		if now.sub(m.values[0].at) > window {
			m.values = [3]timedValue{m.values[1], n, n}
		}
	case m.values[1].at == m.values[0].at && age > window/4:
		m.values[1], m.values[2] = n, n
	case m.values[2].at == m.values[1].at && age > window/2:
		m.values[2] = n
	}
}
