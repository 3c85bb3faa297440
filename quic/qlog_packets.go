// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// qlogPacketTypes are the packet types of the drafts.
var qlogPacketTypes = [...]string{
	wire.Initial:            "initial",
	wire.ZeroRTT:            "0RTT",
	wire.Handshake:          "handshake",
	wire.Retry:              "retry",
	wire.VersionNegotiation: "version_negotiation",
	wire.OneRTT:             "1RTT",
	wire.UnknownVersion:     "unknown",
}

// packetInfo is what the log says of a packet besides its frames.
type packetInfo struct {
	typ      wire.PacketType
	number   packetNumber
	pnLen    int
	keyPhase int
	size     int // bytes, header and AEAD tag included
	header   *wire.LongHeader
	probe    bool // of the path MTU
}

// header is a PacketHeader.
func (i *packetInfo) attrs() []slog.Attr {
	data := []slog.Attr{slog.String("packet_type", qlogPacketTypes[i.typ])}
	switch i.typ {
	case wire.OneRTT:
		data = append(data, slog.Int("key_phase", i.keyPhase))
		fallthrough
	case wire.Initial, wire.Handshake, wire.ZeroRTT:
		data = append(data, slog.Int("packet_number_length", i.pnLen), slog.Int64("packet_number", int64(i.number)))
	}
	h := i.header
	if h == nil {
		return data
	}
	if len(h.Token) > 0 {
		data = append(data, slog.Group("token", slog.Group("raw", slog.Int("length", len(h.Token)))))
	}
	if h.Length > 0 {
		data = append(data, slog.Int("length", h.Length))
	}
	return append(data, slog.String("version", versionString(h.Version)),
		slog.Int("scil", len(h.SrcConnID)), slog.Any("scid", slices.Clone(h.SrcConnID)),
		slog.Int("dcil", len(h.DstConnID)), slog.Any("dcid", slices.Clone(h.DstConnID)))
}

// sent tells of a packet about to be sealed. header is its header, and frames are its
// payload.
func (q *qlogSink) sent(p *pathState, i packetInfo, header, frames []byte) {
	i.pnLen = pnLen
	i.size = len(header) + len(frames) + aeadTagLen
	if header[0]&wire.HeaderForm != 0 {
		// Neither length nor connection ids are there in another form.
		h, _, ok := wire.ParseLongHeader(slices.Concat(header, make([]byte, len(frames)+aeadTagLen)))
		if ok {
			i.header, i.typ = &h, h.Type
		}
	} else {
		i.typ, i.keyPhase = wire.OneRTT, q.c.appKeys.updates
		if p.id == 0 && !q.sentOneRTT {
			q.sentOneRTT, q.oneRTTFrom = true, i.number
		}
	}
	data := q.packet(&i, frames, ackDelayExponent)
	if i.probe {
		data = append(data, slog.Bool("is_mtu_probe_packet", true))
	}
	q.emit("quic:packet_sent", p, data...)
}

// received tells of an authentic packet, before its frames take effect.
func (q *qlogSink) received(p *pathState, i packetInfo, frames []byte) {
	exponent := uint64(ackDelayExponent)
	if q.c.peerParams != nil {
		exponent = q.c.peerParams.ackDelayExponent
	}
	q.emit("quic:packet_received", p, q.packet(&i, frames, exponent)...)
}

// packet is the data of quic:packet_sent and quic:packet_received.
func (q *qlogSink) packet(i *packetInfo, frames []byte, ackDelayExponent uint64) []slog.Attr {
	data := make([]slog.Attr, 0, 4)
	data = append(data, slog.Attr{Key: "header", Value: slog.GroupValue(i.attrs()...)})
	if i.size > 0 {
		data = append(data, slog.Group("raw", slog.Int("length", i.size), slog.Int("payload_length", len(frames))))
	}
	if frames != nil {
		data = append(data, slog.Any("frames", q.frames(frames, ackDelayExponent, i.typ)))
	}
	return data
}

// qlogDropTriggers are the triggers of quic:packet_dropped.
var qlogDropTriggers = [numDropReasons]string{
	dropMalformed:  "invalid",
	dropNoKeys:     "key_unavailable",
	dropDecrypt:    "decryption_failure",
	dropDuplicate:  "duplicate",
	dropUnknownCID: "connection_unknown",
	dropVersion:    "unsupported",
	dropAddress:    "rejected",
	dropClosing:    "general",
}

// dropped tells of a received packet that is not processed.
func (q *qlogSink) dropped(r dropReason, pkt []byte) {
	q.emit("quic:packet_dropped", nil, unprocessed(pkt, slog.String("trigger", qlogDropTriggers[r]))...)
}

// buffered tells of a received packet whose keys are not there yet.
func (q *qlogSink) buffered(pkt []byte) {
	q.emit("quic:packet_buffered", nil, unprocessed(pkt, slog.String("trigger", "keys_unavailable"))...)
}

// unprocessed describes a packet of which nothing but the invariants can be read.
func unprocessed(pkt []byte, trigger slog.Attr) []slog.Attr {
	typ := "unknown"
	if len(pkt) > 0 && pkt[0]&wire.HeaderForm == 0 {
		typ = qlogPacketTypes[wire.OneRTT]
	} else if h, _, ok := wire.ParseLongHeader(pkt); ok {
		typ = qlogPacketTypes[h.Type]
	}
	return []slog.Attr{slog.Group("header", slog.String("packet_type", typ)), slog.Group("raw", slog.Int("length", len(pkt))), trigger}
}

// statelessReset tells of a datagram that has ended the connection.
func (q *qlogSink) statelessReset(d []byte) {
	q.emit("quic:packet_received", nil, slog.Group("header", slog.String("packet_type", "stateless_reset")),
		slog.Any("stateless_reset_token", slices.Clone(d[len(d)-wire.ResetTokenLen:])),
		slog.Group("raw", slog.Int("length", len(d))))
}

// frames describes the payload of a packet. What cannot be parsed ends the list.
func (q *qlogSink) frames(b []byte, ackDelayExponent uint64, typ wire.PacketType) (list []slog.Value) {
	f := &q.frame
	for len(b) > 0 {
		n, err := f.Parse(b, q.c.cp)
		if err != wire.ParseOK {
			return append(list, slog.GroupValue(slog.String("frame_type", "unknown"), slog.Uint64("frame_type_bytes", f.WireType)))
		}
		b = b[n:]
		data := []slog.Attr{slog.String("frame_type", strings.ToLower(f.Type.String()))}
		list = append(list, slog.GroupValue(appendFrameFields(data, f, ackDelayExponent, typ)...))
	}
	return list
}

// appendFrameFields appends what a frame has besides its type. Multipath frames, of which
// the drafts know nothing, have the fields of their specification.
func appendFrameFields(data []slog.Attr, f *wire.Frame, ackDelayExponent uint64, typ wire.PacketType) []slog.Attr {
	streamID := slog.Uint64("stream_id", f.StreamID)
	switch f.Type {
	case wire.FrameTypePadding:
		return append(data, slog.Group("raw", slog.Uint64("payload_length", f.Value)))
	case wire.FrameTypeAck, wire.FrameTypePathAck:
		return appendAckFields(data, f, ackDelayExponent, typ)
	case wire.FrameTypeResetStream:
		return append(data, streamID, slog.String("error", "unknown"), slog.Uint64("error_code", f.ErrorCode), slog.Uint64("final_size", f.Value))
	case wire.FrameTypeStopSending:
		return append(data, streamID, slog.String("error", "unknown"), slog.Uint64("error_code", f.ErrorCode))
	case wire.FrameTypeCrypto:
		return append(data, slog.Uint64("offset", f.Offset), rawLength(f.Data))
	case wire.FrameTypeNewToken:
		return append(data, slog.Group("token", slog.String("type", "resumption"), rawLength(f.Data)))
	case wire.FrameTypeStream:
		return append(data, streamID, slog.Uint64("offset", f.Offset), slog.Bool("fin", f.Fin), rawLength(f.Data))
	case wire.FrameTypeDatagram:
		return append(data, rawLength(f.Data))
	case wire.FrameTypeMaxData:
		return append(data, slog.Uint64("maximum", f.Value))
	case wire.FrameTypeMaxStreamData:
		return append(data, streamID, slog.Uint64("maximum", f.Value))
	case wire.FrameTypeMaxStreams:
		return append(data, slog.String("stream_type", streamTypeName(f.Uni)), slog.Uint64("maximum", f.Value))
	case wire.FrameTypeDataBlocked:
		return append(data, slog.Uint64("limit", f.Value))
	case wire.FrameTypeStreamDataBlocked:
		return append(data, streamID, slog.Uint64("limit", f.Value))
	case wire.FrameTypeStreamsBlocked:
		return append(data, slog.String("stream_type", streamTypeName(f.Uni)), slog.Uint64("limit", f.Value))
	case wire.FrameTypeNewConnectionID, wire.FrameTypePathNewConnectionID:
		if f.Type == wire.FrameTypePathNewConnectionID {
			data = append(data, pathIDField(f))
		}
		return append(data, slog.Uint64("sequence_number", f.Sequence), slog.Uint64("retire_prior_to", f.RetirePriorTo),
			slog.Int("connection_id_length", len(f.ConnID)), slog.Any("connection_id", slices.Clone(f.ConnID)))
	case wire.FrameTypeRetireConnectionID:
		return append(data, slog.Uint64("sequence_number", f.Sequence))
	case wire.FrameTypePathChallenge, wire.FrameTypePathResponse:
		return append(data, slog.Any("data", slices.Clone(f.Challenge[:])))
	case wire.FrameTypeConnectionClose, wire.FrameTypeApplicationClose:
		return appendCloseFields(data, f)
	case wire.FrameTypePathAbandon:
		return append(data, pathIDField(f), slog.String("error", strings.ToLower(abandonCodeName(f.ErrorCode))), slog.Uint64("error_code", f.ErrorCode))
	case wire.FrameTypePathStatusBackup, wire.FrameTypePathStatusAvailable, wire.FrameTypePathRetireConnectionID:
		return append(data, pathIDField(f), slog.Uint64("sequence_number", f.Sequence))
	case wire.FrameTypePathCIDsBlocked:
		return append(data, pathIDField(f), slog.Uint64("next_sequence_number", f.Sequence))
	case wire.FrameTypeMaxPathID, wire.FrameTypePathsBlocked:
		return append(data, slog.Uint64("maximum_path_id", f.Value))
	}
	return data
}

func pathIDField(f *wire.Frame) slog.Attr { return slog.Uint64("path_id", f.PathID) }

// rawLength is the length of a frame's data, which is what the drafts want of frames that
// have a Length field.
func rawLength(data []byte) slog.Attr { return slog.Group("raw", slog.Int("length", len(data))) }

func streamTypeName(uni bool) string {
	if uni {
		return "unidirectional"
	}
	return "bidirectional"
}

func appendAckFields(data []slog.Attr, f *wire.Frame, ackDelayExponent uint64, typ wire.PacketType) []slog.Attr {
	if f.Type == wire.FrameTypePathAck {
		data = append(data, pathIDField(f))
	}
	if typ == wire.OneRTT { // elsewhere it has no meaning: RFC 9000 section 13.2.5
		data = append(data, slog.Duration("ack_delay", scaleAckDelay(f.AckDelay, ackDelayExponent)))
	}
	var acked [][]uint64
	ranges := f.Ranges
	for {
		lo, hi, ok := ranges.Next()
		if !ok {
			break
		}
		if lo == hi {
			acked = append(acked, []uint64{lo})
		} else {
			acked = append(acked, []uint64{lo, hi})
		}
	}
	slices.Reverse(acked)
	data = append(data, slog.Any("acked_ranges", acked))
	if f.HasECN {
		data = append(data, slog.Uint64("ect1", f.ECN.ECT1), slog.Uint64("ect0", f.ECN.ECT0), slog.Uint64("ce", f.ECN.CE))
	}
	return data
}

func appendCloseFields(data []slog.Attr, f *wire.Frame) []slog.Attr {
	space, name, code := "application", "unknown", f.ErrorCode
	if f.Type == wire.FrameTypeConnectionClose {
		space = "transport"
		name, code = transportErrorName(TransportErrorCode(f.ErrorCode))
	}
	data = append(data, slog.String("error_space", space), slog.String("error", name))
	if name == "unknown" {
		data = append(data, slog.Uint64("error_code", code))
	}
	if len(f.Data) > 0 {
		data = append(data, slog.String("reason", string(f.Data)))
	}
	if space == "transport" && f.TriggerType != 0 {
		data = append(data, slog.Uint64("trigger_frame_type", f.TriggerType))
	}
	return data
}
