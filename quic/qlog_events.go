// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// A qlogSink makes events of draft-ietf-quic-qlog-quic-events of what the core tells it.
// Conn.qlog is nil without a log: that check is all that it costs then. Owned by the token holder.
//
// The "tuple" of an event is the path id, whatever addresses the path has;
// quic:tuple_assigned tells them. Secrets and the contents of streams, datagrams and tokens
// are not logged.
type qlogSink struct {
	c     *Conn
	h     slog.Handler
	frame wire.Frame // scratch

	// 0-RTT and 1-RTT packets share their numbers: these are the first ones of 1-RTT packets.
	oneRTTFrom packetNumber
	sentOneRTT bool

	state string // as of quic:connection_state_updated
	paths []*qlogPath
}

// startQlog begins the log of the connection, if one is wanted.
func (c *Conn) startQlog() {
	if c.cfg.Qlog == nil {
		return
	}
	h := c.cfg.Qlog(c.originalDCID, c.isClient)
	if h == nil || !h.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	q := &qlogSink{c: c, h: h}
	c.qlog = q
	p := c.paths[0]
	q.emit("quic:connection_started", p,
		slog.Attr{Key: "local", Value: endpointInfo(localAddr(p.tuple), nil)},
		slog.Attr{Key: "remote", Value: endpointInfo(p.remote, nil)})
	side := "server_versions"
	if c.isClient {
		side = "client_versions"
	}
	q.emit("quic:version_information", nil, slog.Any(side, versionList(supportedVersions)), slog.String("chosen_version", versionString(version1)))
	q.stateChanged("attempted")
	q.newPath(p)
	q.keysChanged("initial", true)
	q.keysChanged("initial", false)
}

// close ends the log.
func (q *qlogSink) close() {
	q.stateChanged("closed")
	if closer, ok := q.h.(io.Closer); ok {
		closer.Close()
	}
}

// emit hands an event over, of path p or, with nil, of the connection.
func (q *qlogSink) emit(name string, p *pathState, data ...slog.Attr) {
	r := slog.NewRecord(q.c.e.timeAt(q.c.turnTime), slog.LevelInfo, name, 0)
	if p != nil {
		r.AddAttrs(slog.String("tuple", tupleID(p)))
	}
	r.AddAttrs(data...)
	q.h.Handle(context.Background(), r) // what becomes of the log is no matter of the connection
}

func tupleID(p *pathState) string { return strconv.FormatUint(uint64(p.id), 10) }

// stateChanged notes the progress of the connection.
func (q *qlogSink) stateChanged(state string) {
	if state == q.state {
		return
	}
	data := []slog.Attr{slog.String("new", state)}
	if q.state != "" {
		data = append(data, slog.String("old", q.state))
	}
	q.state = state
	q.emit("quic:connection_state_updated", nil, data...)
}

// closed tells why the connection has ended.
func (q *qlogSink) closed(err error) {
	var data []slog.Attr
	initiator := func(remote bool) {
		side := "local"
		if remote {
			side = "remote"
		}
		data = append(data, slog.String("initiator", side))
	}
	trigger, reason := "unspecified", ""
	switch err := err.(type) {
	case *TransportError:
		initiator(err.Remote)
		name, code := transportErrorName(err.Code)
		data = append(data, slog.String("connection_error", name))
		if name == "unknown" {
			data = append(data, slog.Uint64("error_code", code))
		}
		trigger, reason = "error", err.Reason
		if err.Code == NoError {
			trigger = "application"
		}
	case *ApplicationError:
		initiator(err.Remote)
		data = append(data, slog.String("application_error", "unknown"), slog.Uint64("error_code", err.Code))
		trigger, reason = "application", err.Reason
	case *IdleTimeoutError:
		initiator(false)
		trigger = "idle_timeout"
	case *HandshakeTimeoutError:
		initiator(false)
		trigger, reason = "aborted", err.Error()
	case *StatelessResetError:
		initiator(true)
		trigger = "stateless_reset"
	case *VersionNegotiationError:
		initiator(false)
		trigger = "version_mismatch"
	}
	if reason != "" {
		data = append(data, slog.String("reason", reason))
	}
	q.emit("quic:connection_closed", nil, append(data, slog.String("trigger", trigger))...)
}

// transportErrorName is the name of an error in the qlog drafts.
func transportErrorName(code TransportErrorCode) (name string, number uint64) {
	switch {
	case code < TransportErrorCode(len(transportErrorNames)):
		return strings.ToLower(transportErrorNames[code]), uint64(code)
	case code >= CryptoErrorBase && code < CryptoErrorBase+0x100:
		return fmt.Sprintf("crypto_error_0x%x", uint64(code)), uint64(code)
	}
	return "unknown", uint64(code)
}

// versionNegotiated tells what a Version Negotiation packet offers.
func (q *qlogSink) versionNegotiated(pkt []byte, h *wire.LongHeader, offered []uint32) {
	q.received(q.c.paths[0], packetInfo{typ: wire.VersionNegotiation, size: len(pkt), header: h}, nil)
	q.emit("quic:version_information", nil,
		slog.Any("client_versions", versionList(supportedVersions)), slog.Any("server_versions", versionList(offered)))
}

func versionString(v uint32) string { return fmt.Sprintf("%08x", v) }

func versionList(versions []uint32) (s []string) {
	for _, v := range versions {
		s = append(s, versionString(v))
	}
	return s
}

// handshakeComplete tells what TLS has negotiated.
func (q *qlogSink) handshakeComplete(st *tls.ConnectionState) {
	q.emit("quic:alpn_information", nil, slog.Group("chosen_alpn", slog.String("string_value", st.NegotiatedProtocol)))
	q.emit("quic:parameters_set", nil,
		slog.String("tls_cipher", strings.TrimPrefix(tls.CipherSuiteName(st.CipherSuite), "TLS_")), slog.Bool("resumption_allowed", st.DidResume))
}

// parametersSet tells the transport parameters of one side.
func (q *qlogSink) parametersSet(initiator string, p *transportParams) {
	data := append([]slog.Attr{slog.String("initiator", initiator)}, paramAttrs(p)...)
	for _, id := range []struct {
		key   string
		value []byte
	}{
		{"original_destination_connection_id", p.originalDstConnID},
		{"initial_source_connection_id", p.initialSrcConnID},
		{"retry_source_connection_id", p.retrySrcConnID},
	} {
		if id.value != nil {
			data = append(data, slog.Any(id.key, id.value))
		}
	}
	if a := p.preferredAddress; a != nil {
		data = append(data, slog.Group("preferred_address",
			slog.String("ip_v4", a.ipv4.Addr().String()), slog.Int("port_v4", int(a.ipv4.Port())),
			slog.String("ip_v6", a.ipv6.Addr().String()), slog.Int("port_v6", int(a.ipv6.Port())),
			slog.Any("connection_id", a.connID), slog.Any("stateless_reset_token", a.resetToken[:])))
	}
	data = append(data, slog.Bool("disable_active_migration", p.disableActiveMigration), slog.Bool("grease_quic_bit", p.greaseQUICBit))
	m := p.initialMaxPathID
	if !m.has {
		m = p.initialMaxPathID15
	}
	if m.has {
		data = append(data, slog.Uint64("initial_max_path_id", uint64(m.v)))
	}
	if p.reserved.value != nil {
		data = append(data, slog.Any("unknown_parameters", []slog.Value{
			slog.GroupValue(slog.Uint64("id", p.reserved.id), slog.Any("value", p.reserved.value)),
		}))
	}
	q.emit("quic:parameters_set", nil, data...)
}

// parametersRestored tells the limits of an earlier connection, by which 0-RTT is sent.
func (q *qlogSink) parametersRestored(p *transportParams) {
	var data []slog.Attr
	for _, field := range rememberedParams {
		for i := range intParams {
			if ip := &intParams[i]; ip.field(p) == field(p) {
				data = append(data, slog.Uint64(ip.name, *ip.field(p)))
			}
		}
	}
	q.emit("quic:parameters_restored", nil, data...)
}

// paramAttrs are the parameters that are integers.
func paramAttrs(p *transportParams) (data []slog.Attr) {
	for i := range intParams {
		data = append(data, slog.Uint64(intParams[i].name, *intParams[i].field(p)))
	}
	return data
}

// keysChanged tells that keys of TLS are in use; level is one of qlogLevels.
func (q *qlogSink) keysChanged(level string, read bool) {
	q.emit("quic:key_updated", nil, slog.String("key_type", q.keyType(level, read)), slog.String("trigger", "tls"))
}

func (q *qlogSink) keysDiscarded(level string, read bool) {
	q.emit("quic:key_discarded", nil, slog.String("key_type", q.keyType(level, read)), slog.String("trigger", "tls"))
}

// keyPhaseChanged tells of a key update in both directions.
func (q *qlogSink) keyPhaseChanged(trigger string) {
	for _, read := range []bool{true, false} {
		q.emit("quic:key_updated", nil, slog.String("key_type", q.keyType("1rtt", read)),
			slog.Int("key_phase", q.c.appKeys.updates), slog.String("trigger", trigger))
	}
}

// oldKeysDiscarded tells that the read keys of the phase before are dropped.
func (q *qlogSink) oldKeysDiscarded() {
	q.emit("quic:key_discarded", nil, slog.String("key_type", q.keyType("1rtt", true)), slog.Int("key_phase", q.c.appKeys.updates-1))
}

func (q *qlogSink) keyType(level string, read bool) string {
	side := "server"
	if q.c.isClient != read {
		side = "client"
	}
	return side + "_" + level + "_secret"
}

// qlogLevels are the encryption levels in key types.
var qlogLevels = [...]string{
	tls.QUICEncryptionLevelInitial:     "initial",
	tls.QUICEncryptionLevelEarly:       "0rtt",
	tls.QUICEncryptionLevelHandshake:   "handshake",
	tls.QUICEncryptionLevelApplication: "1rtt",
}

// phaseChanged tells why a path entered its phase; the drafts know no such event.
func (q *qlogSink) phaseChanged(p *pathState, old pathPhase) {
	message := "path " + p.phase.String()
	if p.why != "" {
		message += ": " + p.why
	}
	q.emit("loglevel:info", p, slog.String("message", message), slog.String("path_state", p.phase.String()), slog.String("old_path_state", old.String()))
	if p.phase == pathGone {
		q.emit("quic:tuple_assigned", nil, slog.String("tuple_id", tupleID(p))) // without addresses: abandoned
		q.paths = slices.DeleteFunc(q.paths, func(l *qlogPath) bool { return l.p == p })
	}
}

// newPath follows a path from now on.
func (q *qlogSink) newPath(p *pathState) {
	l := &qlogPath{q: q, p: p}
	p.loss.log = l
	q.paths = append(q.paths, l)
	l.changed()
	q.emit("quic:recovery_parameters_set", p,
		slog.Int("reordering_threshold", packetThreshold),
		slog.Float64("time_threshold", 9.0/8),
		slog.Int("timer_granularity", int(timerGranularity/time.Millisecond)),
		slog.Duration("initial_rtt", initialRTT),
		slog.Int("max_datagram_size", p.loss.maxDatagram),
		slog.Int("initial_congestion_window", p.loss.cc.Window()),
		slog.Int("persistent_congestion_threshold", persistentPTOs),
		slog.String("congestion_control", q.c.cfg.CongestionControl.String()))
}

// localAddr is our address of t, as far as it is known.
func localAddr(t tuple) netip.AddrPort {
	a := t.sock.LocalAddr()
	if t.local.IsValid() {
		a = netip.AddrPortFrom(t.local, a.Port())
	}
	return a
}

// endpointInfo is a TupleEndpointInfo.
func endpointInfo(a netip.AddrPort, connID []byte) slog.Value {
	family := "v6"
	if a.Addr().Unmap().Is4() {
		family = "v4"
	}
	data := []slog.Attr{slog.Int("port_"+family, int(a.Port()))}
	if !a.Addr().IsUnspecified() {
		data = append(data, slog.String("ip_"+family, a.Addr().Unmap().String()))
	}
	if connID != nil {
		data = append(data, slog.Any("connection_ids", []slog.Value{slog.AnyValue(connID)}))
	}
	return slog.GroupValue(data...)
}
