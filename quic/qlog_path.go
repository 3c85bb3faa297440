// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// A qlogPath is what the log says of one path: what has changed is told at the end of the
// turn, all of it together. Owned by the token holder.
type qlogPath struct {
	q *qlogSink
	p *pathState

	metrics       qlogMetrics
	congestion    string // state
	ecn           string // state
	mtu           int
	remote, local netip.AddrPort
	connID        connID // of the peer, in use
	haveConnID    bool
}

// qlogMetrics are the metrics of quic:recovery_metrics_updated.
type qlogMetrics struct {
	minRTT, smoothedRTT, latestRTT, variation time.Duration
	ptoCount, window, inFlight                int
	pacingRate                                uint64 // bits/s
}

// turnEnded tells what a turn has changed.
func (q *qlogSink) turnEnded() {
	c := q.c
	for _, l := range q.paths {
		l.changed()
	}
	switch {
	case c.closing.phase == closing:
		q.stateChanged("closing")
	case c.closing.phase == draining:
		q.stateChanged("draining")
	case c.confirmed:
		q.stateChanged("handshake_confirmed")
	case c.complete:
		q.stateChanged("handshake_complete")
	case c.handshake != nil && c.handshake.write != nil:
		q.stateChanged("handshake_started")
	}
}

func (l *qlogPath) changed() {
	l.tupleChanged()
	l.mtuChanged()
	l.metricsChanged()
	l.stateChanged("quic:congestion_state_updated", &l.congestion, l.p.loss.cc.State())
	l.stateChanged("quic:ecn_state_updated", &l.ecn, l.p.loss.ecn.phase.String())
}

// stateChanged tells a new state, if it is one.
func (l *qlogPath) stateChanged(name string, old *string, state string) {
	if state == *old {
		return
	}
	data := []slog.Attr{slog.String("new", state)}
	if *old != "" {
		data = append(data, slog.String("old", *old))
	}
	*old = state
	l.q.emit(name, l.p, data...)
}

// tupleChanged tells new addresses and connection ids.
func (l *qlogPath) tupleChanged() {
	p := l.p
	if p.phase >= pathAbandoning {
		return
	}
	remote, local := p.remote, localAddr(p.tuple)
	var id connID
	if len(p.ids.remote) > 0 {
		id = p.ids.remote[0].id
	}
	if remote == l.remote && local == l.local && id == l.connID {
		return
	}
	if l.haveConnID && id != l.connID && len(p.ids.remote) > 0 {
		l.q.emit("quic:connection_id_updated", p, slog.String("initiator", "remote"), slog.Any("old", slices.Clone(l.connID.bytes())), slog.Any("new", slices.Clone(id.bytes())))
	}
	l.remote, l.local, l.connID, l.haveConnID = remote, local, id, true
	var ours []byte
	if len(p.ids.local) > 0 {
		ours = slices.Clone(p.ids.local[0].id[:])
	}
	l.q.emit("quic:tuple_assigned", p, slog.String("tuple_id", tupleID(p)),
		slog.Attr{Key: "tuple_remote", Value: endpointInfo(remote, slices.Clone(id.bytes()))},
		slog.Attr{Key: "tuple_local", Value: endpointInfo(local, ours)})
}

func (l *qlogPath) mtuChanged() {
	m := &l.p.mtu
	if m.size == l.mtu {
		return
	}
	data := []slog.Attr{slog.Int("new", m.size), slog.Bool("done", m.settled())}
	if l.mtu != 0 {
		data = append(data, slog.Int("old", l.mtu))
	}
	l.mtu = m.size
	l.q.emit("quic:mtu_updated", l.p, data...)
}

// metricsChanged tells those metrics that have changed.
func (l *qlogPath) metricsChanged() {
	s, old := &l.p.loss, l.metrics
	m := qlogMetrics{ptoCount: s.ptoCount, window: s.cc.Window(), inFlight: s.inFlight}
	if s.rtt.hasSample() {
		m.minRTT, m.smoothedRTT, m.latestRTT, m.variation = s.rtt.min, s.rtt.smoothed, s.rtt.latest, s.rtt.variation
		m.pacingRate = uint64(8 * s.cc.PacingRate(s.rtt.smoothed))
	}
	if m == old {
		return
	}
	l.metrics = m
	var data []slog.Attr
	addRTT := func(key string, v, old time.Duration) {
		if v != old {
			data = append(data, slog.Duration(key, v))
		}
	}
	add := func(key string, v, old uint64) {
		if v != old {
			data = append(data, slog.Uint64(key, v))
		}
	}
	addRTT("min_rtt", m.minRTT, old.minRTT)
	addRTT("smoothed_rtt", m.smoothedRTT, old.smoothedRTT)
	addRTT("latest_rtt", m.latestRTT, old.latestRTT)
	addRTT("rtt_variance", m.variation, old.variation)
	add("pto_count", uint64(m.ptoCount), uint64(old.ptoCount))
	add("congestion_window", uint64(m.window), uint64(old.window))
	add("bytes_in_flight", uint64(m.inFlight), uint64(old.inFlight))
	add("pacing_rate", m.pacingRate, old.pacingRate)
	l.q.emit("quic:recovery_metrics_updated", l.p, data...)
}

// lost tells that a packet is given up. It has a trigger if that says something about the
// network: as many count as lost, and the MTU probes. A packet of acknowledgments only is
// never lost: the peer need not tell that it came. RFC 9002 section 6.1.
func (l *qlogPath) lost(sp spaceID, pn packetNumber, flags sentFlags, trigger string) {
	if flags&(packetInFlight|sentAckEliciting) == 0 {
		return
	}
	if flags&packetInFlight == 0 || flags&sentDiscarded != 0 { // sent to another address, or into a silence
		trigger = ""
	}
	typ := [...]string{initialSpace: "initial", handshakeSpace: "handshake", appSpace: "1RTT"}[sp]
	if sp == appSpace && l.p.id == 0 && pn < l.q.oneRTTFrom {
		typ = "0RTT"
	}
	data := []slog.Attr{slog.Group("header", slog.String("packet_type", typ), slog.Int64("packet_number", int64(pn)))}
	if flags&sentMTUProbe != 0 {
		data = append(data, slog.Bool("is_mtu_probe_packet", true))
	}
	if trigger != "" {
		data = append(data, slog.String("trigger", trigger))
	}
	l.q.emit("quic:packet_lost", l.p, data...)
}
