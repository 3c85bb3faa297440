// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"time"
)

// PathStats describes one path.
type PathStats struct {
	ID     PathID
	Label  string
	State  string        // phase of the life cycle
	Since  time.Duration // time in that phase
	Reason string        // why the path is not used; empty while it is
	Local  netip.AddrPort
	Remote netip.AddrPort
	Backup bool // the peer asked not to use it

	SRTT, RTTVar, MinRTT, LatestRTT time.Duration
	Cwnd, InFlight                  int     // bytes
	Rate                            float64 // delivery rate, bytes/s
	Loss                            float64 // fraction of packets, lately
	MTU                             int     // UDP payload in bytes

	BytesSent, BytesReceived     uint64 // UDP payload
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64
	DatagramsSent                uint64
	TimesDead                    uint64
	SendErrors                   uint64
	LastReceived                 time.Duration // time since the last packet; 0 before the first
}

// ConnStats describes a connection.
type ConnStats struct {
	Multipath           bool
	KeyUpdates          int
	DatagramsSent       uint64 // DATAGRAM frames
	DatagramsReceived   uint64
	DatagramsDropped    uint64 // by the bounds of the queues
	DatagramsDelayed    uint64 // dropped because they had waited too long
	DatagramsTooLarge   uint64
	QueuedDatagrams     int
	PacketsDropped      uint64 // received, and not processed
	MaxDatagramPayload  int
	ReceiveQueueDropped uint64
	Paths               []PathStats
}

// Stats describes the connection and its paths. After the end it is empty.
func (c *Conn) Stats() (st ConnStats) {
	c.do(func(now instant) { st = c.stats(now) })
	return st
}

func (c *Conn) stats(now instant) ConnStats {
	st := ConnStats{
		Multipath:          c.multipath,
		KeyUpdates:         c.appKeys.updates,
		DatagramsSent:      c.datagramsSent,
		DatagramsReceived:  c.datagramsReceived,
		DatagramsDropped:   c.dgrams.dropped,
		DatagramsDelayed:   c.dgrams.delayed,
		DatagramsTooLarge:  c.tooLargeDatagrams,
		QueuedDatagrams:    c.dgrams.packets,
		MaxDatagramPayload: c.MaxDatagramPayload(),
	}
	c.mb.mu.Lock()
	st.ReceiveQueueDropped = c.mb.rxDropped
	st.DatagramsDropped += c.mb.sendDropped
	c.mb.mu.Unlock()
	for _, n := range c.drops {
		st.PacketsDropped += n
	}
	for _, p := range c.paths {
		st.Paths = append(st.Paths, c.pathStats(now, p))
	}
	return st
}

func (c *Conn) pathStats(now instant, p *pathState) PathStats {
	local := p.sock.LocalAddr()
	if p.seenLocal.IsValid() {
		local = netip.AddrPortFrom(p.seenLocal, local.Port())
	}
	ps := PathStats{
		ID: p.id, Label: p.label,
		State:  p.phase.String(),
		Since:  now.sub(p.since),
		Local:  local,
		Remote: p.remote,
		Backup: p.ids.peerBackup,

		Cwnd: p.loss.cc.Window(), InFlight: p.loss.inFlight,
		Rate: p.loss.rate.rate(), Loss: p.loss.lossFraction,
		MTU: p.mtu.size,

		BytesSent: p.stats.bytesSent, BytesReceived: p.stats.bytesReceived,
		PacketsSent: p.stats.packetsSent, PacketsReceived: p.stats.packetsReceived,
		PacketsLost:   p.loss.packetsLost,
		DatagramsSent: p.stats.datagramsSent,
		TimesDead:     p.stats.timesDead,
		SendErrors:    p.stats.sendErrors,
	}
	if p.loss.rtt.hasSample() {
		ps.SRTT, ps.RTTVar = p.loss.rtt.smoothed, p.loss.rtt.variation
		ps.MinRTT, ps.LatestRTT = p.loss.rtt.min, p.loss.rtt.latest
	}
	if p.lastRecv != 0 {
		ps.LastReceived = now.sub(p.lastRecv)
	}
	switch {
	case p.phase != pathActive:
		ps.Reason = p.why
	case p.doubted:
		ps.Reason = "waiting for an acknowledgment"
	}
	return ps
}
