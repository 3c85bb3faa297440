// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/quic/sched"
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

	Priority sched.Priority // ours
	Weight   float64        // that the scheduler gives it, bytes/s; 0 if it has none
	Pins     int            // flows that the scheduler keeps on it
	Share    float64        // of the bytes sent on all paths in the last second that is complete

	SRTT, RTTVar, MinRTT, LatestRTT time.Duration
	Cwnd, InFlight                  int     // bytes
	Rate                            float64 // delivery rate, bytes/s
	Loss                            float64 // fraction of packets, lately
	MTU                             int     // UDP payload in bytes
	ECN                             string  // state of RFC 9000 appendix A.4

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
	DatagramsMarked     uint64 // by PacketBuf.Mark, instead of that
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
		DatagramsMarked:    c.dgrams.marked,
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
	sum := 0
	for _, p := range c.paths {
		st.Paths = append(st.Paths, c.pathStats(now, p))
		sum += p.sentLately.at(now)
	}
	for i, p := range c.paths {
		if sum > 0 {
			st.Paths[i].Share = float64(p.sentLately.at(now)) / float64(sum)
		}
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
		MTU: p.mtu.size, ECN: p.loss.ecn.phase.String(),

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
	u := c.scheduler.Usage(p.id)
	ps.Priority, ps.Weight, ps.Pins = p.priority, u.Weight, u.Pins
	switch {
	case p.phase != pathActive:
		ps.Reason = p.why
	case p.doubted:
		ps.Reason = "waiting for an acknowledgment"
	case p.priority == sched.PriorityNever:
		ps.Reason = "priority never"
	case p.standby() && c.betterPathLives(p):
		ps.Reason = "standby"
	}
	return ps
}

// standby says that p waits until there is no better path.
func (p *pathState) standby() bool { return p.ids.peerBackup || p.priority > sched.PriorityPrimary }

// betterPathLives says that a path in use comes before p, which is standby.
func (c *Conn) betterPathLives(p *pathState) bool {
	rank := func(q *pathState) sched.Priority {
		if q.ids.peerBackup {
			return max(q.priority, sched.PriorityBackup)
		}
		return q.priority
	}
	for _, q := range c.paths {
		if q.phase == pathActive && rank(q) < rank(p) {
			return true
		}
	}
	return false
}

// recentBytes counts bytes by the second.
type recentBytes struct {
	begin       instant // of the second that runs
	bytes, last int     // in it, and in the one before
}

func (r *recentBytes) add(now instant, n int) {
	switch d := now.sub(r.begin); {
	case d >= 2*time.Second:
		*r = recentBytes{begin: now}
	case d >= time.Second:
		*r = recentBytes{begin: r.begin.add(time.Second), last: r.bytes}
	}
	r.bytes += n
}

// at is the number in the last second that is complete at now.
func (r *recentBytes) at(now instant) int {
	switch d := now.sub(r.begin); {
	case d >= 2*time.Second:
		return 0
	case d >= time.Second:
		return r.bytes
	}
	return r.last
}
