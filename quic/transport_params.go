// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Ids of transport parameters that are not plain integers: RFC 9000 section 18.2 and
// RFC 9287. initial_max_path_id has its ids in wire.CodePoints.
const (
	paramOriginalDstConnID      = 0x00
	paramStatelessResetToken    = 0x02
	paramDisableActiveMigration = 0x0c
	paramPreferredAddress       = 0x0d
	paramInitialSrcConnID       = 0x0f
	paramRetrySrcConnID         = 0x10
	paramGreaseQUICBit          = 0x2ab2
)

// transportParams are the transport parameters of one side. defaultTransportParams or
// parseTransportParams make them; they do not change afterwards.
type transportParams struct {
	originalDstConnID   []byte    // server; nil: absent
	statelessResetToken *[16]byte // server; nil: absent
	initialSrcConnID    []byte    // nil: absent
	retrySrcConnID      []byte    // server; nil: absent
	preferredAddress    *preferredAddress

	maxIdleTimeoutMs               uint64 // 0: none
	maxUDPPayloadSize              uint64 // bytes
	initialMaxData                 uint64 // bytes
	initialMaxStreamDataBidiLocal  uint64 // bytes, for streams opened by the side that sends this
	initialMaxStreamDataBidiRemote uint64 // bytes, for streams opened by the side that receives this
	initialMaxStreamDataUni        uint64 // bytes
	initialMaxStreamsBidi          uint64
	initialMaxStreamsUni           uint64
	ackDelayExponent               uint64
	maxAckDelayMs                  uint64
	activeConnIDLimit              uint64 // per path with multipath: RMP21-2.2-1
	maxDatagramFrameSize           uint64 // bytes, type and length included; 0: no datagrams

	disableActiveMigration bool
	greaseQUICBit          bool

	reserved reservedParam // to be sent

	initialMaxPathID   maxPathIDParam // of draft-21
	initialMaxPathID15 maxPathIDParam // of draft-15
}

// maxPathIDParam is an initial_max_path_id. Zero is not the same as absent: it enables
// multipath without further paths for now. RMP21-2.1-7
type maxPathIDParam struct {
	has bool
	v   uint32
}

// preferredAddress is another address of the server. The port of an address family that
// it does not offer is 0.
type preferredAddress struct {
	ipv4, ipv6 netip.AddrPort
	connID     []byte // sequence number 1
	resetToken [16]byte
}

// intParam describes a transport parameter whose value is one integer.
type intParam struct {
	id                uint64
	name              string
	field             func(*transportParams) *uint64
	absent            uint64 // value when the parameter is absent
	smallest, largest uint64 // values that are valid
}

var intParams = [...]intParam{
	{0x01, "max_idle_timeout", func(p *transportParams) *uint64 { return &p.maxIdleTimeoutMs }, 0, 0, wire.MaxVarint},
	{0x03, "max_udp_payload_size", func(p *transportParams) *uint64 { return &p.maxUDPPayloadSize }, 65527, 1200, wire.MaxVarint}, // R9000-18.2-1
	{0x04, "initial_max_data", func(p *transportParams) *uint64 { return &p.initialMaxData }, 0, 0, wire.MaxVarint},
	{0x05, "initial_max_stream_data_bidi_local", func(p *transportParams) *uint64 { return &p.initialMaxStreamDataBidiLocal }, 0, 0, wire.MaxVarint},
	{0x06, "initial_max_stream_data_bidi_remote", func(p *transportParams) *uint64 { return &p.initialMaxStreamDataBidiRemote }, 0, 0, wire.MaxVarint},
	{0x07, "initial_max_stream_data_uni", func(p *transportParams) *uint64 { return &p.initialMaxStreamDataUni }, 0, 0, wire.MaxVarint},
	{0x08, "initial_max_streams_bidi", func(p *transportParams) *uint64 { return &p.initialMaxStreamsBidi }, 0, 0, wire.MaxStreamCount},
	{0x09, "initial_max_streams_uni", func(p *transportParams) *uint64 { return &p.initialMaxStreamsUni }, 0, 0, wire.MaxStreamCount},
	{0x0a, "ack_delay_exponent", func(p *transportParams) *uint64 { return &p.ackDelayExponent }, 3, 0, 20},                      // R9000-18.2-2
	{0x0b, "max_ack_delay", func(p *transportParams) *uint64 { return &p.maxAckDelayMs }, 25, 0, 1<<14 - 1},                      // R9000-18.2-3
	{0x0e, "active_connection_id_limit", func(p *transportParams) *uint64 { return &p.activeConnIDLimit }, 2, 2, wire.MaxVarint}, // R9000-18.2-4
	{0x20, "max_datagram_frame_size", func(p *transportParams) *uint64 { return &p.maxDatagramFrameSize }, 0, 0, wire.MaxVarint},
}

// defaultTransportParams are the values that hold for parameters that are absent.
func defaultTransportParams() (p transportParams) {
	for i := range intParams {
		*intParams[i].field(&p) = intParams[i].absent
	}
	return p
}

// maxIdleTimeout is 0 when this side has none.
func (p *transportParams) maxIdleTimeout() time.Duration {
	return time.Duration(min(p.maxIdleTimeoutMs, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

func (p *transportParams) maxAckDelay() time.Duration {
	return time.Duration(p.maxAckDelayMs) * time.Millisecond
}

// append appends the encoding of p, without parameters that have their default value.
// Each parameter is written in one place: R9000-7.4-2.
func (p *transportParams) append(b []byte) []byte {
	b = appendBytesParam(b, paramOriginalDstConnID, p.originalDstConnID)
	if p.statelessResetToken != nil {
		b = appendBytesParam(b, paramStatelessResetToken, p.statelessResetToken[:])
	}
	b = appendBytesParam(b, paramInitialSrcConnID, p.initialSrcConnID)
	b = appendBytesParam(b, paramRetrySrcConnID, p.retrySrcConnID)
	for i := range intParams {
		if v := *intParams[i].field(p); v != intParams[i].absent {
			b = appendIntParam(b, intParams[i].id, v)
		}
	}
	if p.disableActiveMigration {
		b = appendBytesParam(b, paramDisableActiveMigration, []byte{})
	}
	if p.greaseQUICBit {
		b = appendBytesParam(b, paramGreaseQUICBit, []byte{})
	}
	b = appendBytesParam(b, p.reserved.id, p.reserved.value)
	if p.preferredAddress != nil {
		b = appendBytesParam(b, paramPreferredAddress, p.preferredAddress.append(nil))
	}
	if p.initialMaxPathID.has { // its type keeps it below 2^32: RMP21-2.1-1
		b = appendIntParam(b, wire.Draft21.TransportParameter, uint64(p.initialMaxPathID.v))
	}
	if p.initialMaxPathID15.has {
		b = appendIntParam(b, wire.Draft15.TransportParameter, uint64(p.initialMaxPathID15.v))
	}
	return b
}

func appendIntParam(b []byte, id, v uint64) []byte {
	b = wire.AppendVarint(b, id)
	b = wire.AppendVarint(b, uint64(wire.SizeVarint(v)))
	return wire.AppendVarint(b, v)
}

// appendBytesParam appends nothing for nil.
func appendBytesParam(b []byte, id uint64, v []byte) []byte {
	if v == nil {
		return b
	}
	b = wire.AppendVarint(b, id)
	b = wire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// parseTransportParams reads the parameters of the peer, which do not alias b. Whatever
// the parameters alone can violate is a *TransportError with TRANSPORT_PARAMETER_ERROR;
// the rest is for checkConnIDs.
func parseTransportParams(b []byte, fromServer bool) (transportParams, error) {
	p := defaultTransportParams()
	var ids []uint64
	for len(b) > 0 {
		id, value, n := consumeParam(b)
		if n < 0 {
			return p, paramError("cut short")
		}
		b = b[n:]
		ids = append(ids, id)
		if err := p.parseOne(id, value, fromServer); err != nil {
			return p, err
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != len(ids) { // R9000-7.4-3
		return p, paramError("a parameter occurs twice")
	}
	if p.preferredAddress != nil && p.initialSrcConnID != nil && len(p.initialSrcConnID) == 0 { // R9000-18.2-6
		return p, paramError("preferred_address from a server without connection ids")
	}
	return p, nil
}

func consumeParam(b []byte) (id uint64, value []byte, n int) {
	id, idLen := wire.ConsumeVarint(b)
	if idLen < 0 {
		return 0, nil, -1
	}
	length, lengthLen := wire.ConsumeVarint(b[idLen:])
	start := idLen + lengthLen
	if lengthLen < 0 || length > uint64(len(b)-start) {
		return 0, nil, -1
	}
	n = start + int(length)
	return id, b[start:n], n
}

// parseOne stores one parameter; unknown ones are ignored. R9000-7.4-1, R9000-7.4.2-1
func (p *transportParams) parseOne(id uint64, value []byte, fromServer bool) error {
	switch id { // R9000-18.2-5
	case paramOriginalDstConnID, paramStatelessResetToken, paramPreferredAddress, paramRetrySrcConnID:
		if !fromServer {
			return paramError("parameter 0x%x from a client", id)
		}
	}
	switch id {
	case paramOriginalDstConnID:
		return parseConnIDParam(&p.originalDstConnID, value)
	case paramInitialSrcConnID:
		return parseConnIDParam(&p.initialSrcConnID, value)
	case paramRetrySrcConnID:
		return parseConnIDParam(&p.retrySrcConnID, value)
	case paramStatelessResetToken:
		if len(value) != wire.ResetTokenLen { // R9000-18.2-7
			return paramError("stateless_reset_token of %d bytes", len(value))
		}
		token := [16]byte(value)
		p.statelessResetToken = &token
		return nil
	case paramPreferredAddress:
		return p.parsePreferredAddress(value)
	case paramDisableActiveMigration: // R9000-18.2-7
		return parseFlagParam(&p.disableActiveMigration, "disable_active_migration", value)
	case paramGreaseQUICBit: // R9287-3-1
		return parseFlagParam(&p.greaseQUICBit, "grease_quic_bit", value)
	case wire.Draft21.TransportParameter:
		return parseMaxPathIDParam(&p.initialMaxPathID, value)
	case wire.Draft15.TransportParameter:
		return parseMaxPathIDParam(&p.initialMaxPathID15, value)
	}
	for i := range intParams {
		if ip := &intParams[i]; ip.id == id {
			return parseIntParam(ip.field(p), ip.name, value, ip.smallest, ip.largest)
		}
	}
	return nil
}

func parseIntParam(dst *uint64, name string, value []byte, smallest, largest uint64) error {
	v, n := wire.ConsumeVarint(value)
	if n != len(value) || n <= 0 {
		return paramError("%s is not one integer", name)
	}
	if v < smallest || v > largest {
		return paramError("%s is %d", name, v)
	}
	*dst = v
	return nil
}

func parseMaxPathIDParam(dst *maxPathIDParam, value []byte) error {
	var v uint64
	if err := parseIntParam(&v, "initial_max_path_id", value, 0, wire.MaxPathID); err != nil { // RMP21-2.1-2
		return err
	}
	*dst = maxPathIDParam{has: true, v: uint32(v)}
	return nil
}

func parseConnIDParam(dst *[]byte, value []byte) error {
	if len(value) > wire.MaxConnIDLen {
		return paramError("connection id of %d bytes", len(value))
	}
	*dst = append([]byte{}, value...)
	return nil
}

func parseFlagParam(dst *bool, name string, value []byte) error {
	if len(value) > 0 {
		return paramError("%s has a value", name)
	}
	*dst = true
	return nil
}

// Offsets in preferred_address, RFC 9000 figure 22.
const (
	preferredIPv6    = 4 + 2
	preferredConnID  = preferredIPv6 + 16 + 2
	preferredMinSize = preferredConnID + 1 + wire.ResetTokenLen
)

func (p *transportParams) parsePreferredAddress(v []byte) error {
	if len(v) < preferredMinSize || len(v) != preferredMinSize+int(v[preferredConnID]) {
		return paramError("preferred_address of %d bytes", len(v))
	}
	if n := v[preferredConnID]; n == 0 || n > wire.MaxConnIDLen { // R9000-18.2-6
		return paramError("preferred_address with a connection id of %d bytes", n)
	}
	tail := v[preferredConnID+1:]
	tokenAt := len(tail) - wire.ResetTokenLen
	p.preferredAddress = &preferredAddress{
		ipv4:       netip.AddrPortFrom(netip.AddrFrom4([4]byte(v)), binary.BigEndian.Uint16(v[4:])),
		ipv6:       netip.AddrPortFrom(netip.AddrFrom16([16]byte(v[preferredIPv6:])), binary.BigEndian.Uint16(v[preferredIPv6+16:])),
		connID:     bytes.Clone(tail[:tokenAt]),
		resetToken: [16]byte(tail[tokenAt:]),
	}
	return nil
}

func (a *preferredAddress) append(b []byte) []byte {
	ip4, ip6 := [4]byte{}, [16]byte{}
	if a.ipv4.IsValid() {
		ip4 = a.ipv4.Addr().As4()
	}
	if a.ipv6.IsValid() {
		ip6 = a.ipv6.Addr().As16()
	}
	b = binary.BigEndian.AppendUint16(append(b, ip4[:]...), a.ipv4.Port())
	b = binary.BigEndian.AppendUint16(append(b, ip6[:]...), a.ipv6.Port())
	b = append(append(b, byte(len(a.connID))), a.connID...)
	return append(b, a.resetToken[:]...)
}

// checkConnIDs authenticates the connection ids of the handshake: the peer must have
// announced in p the Source Connection ID of its Initial packets and, if it is the
// server, originalDst, the Destination Connection ID of our first packet, and retrySrc,
// the Source Connection ID of its Retry packet, nil without one.
func (p *transportParams) checkConnIDs(fromServer bool, src, originalDst, retrySrc []byte) error {
	if p.initialSrcConnID == nil || !bytes.Equal(p.initialSrcConnID, src) { // R9000-7.3-1, R9000-7.3-5
		return paramError("initial_source_connection_id is absent or wrong")
	}
	if !fromServer {
		return nil
	}
	if p.originalDstConnID == nil || !bytes.Equal(p.originalDstConnID, originalDst) { // R9000-7.3-2, R9000-7.3-6
		return paramError("original_destination_connection_id is absent or wrong")
	}
	// R9000-7.3-3, R9000-7.3-4, R9000-7.3-6
	if (p.retrySrcConnID == nil) != (retrySrc == nil) || !bytes.Equal(p.retrySrcConnID, retrySrc) {
		return paramError("retry_source_connection_id does not match the Retry packet")
	}
	return nil
}

// negotiateMultipath returns the code points that both sides announced, those of
// draft-21 if there is a choice, and the largest path id that the peer permits at first.
// cp is nil when there is none: no multipath. RMP21-2-1
func negotiateMultipath(local, peer *transportParams) (cp *wire.CodePoints, peerMax uint32) {
	switch {
	case local.initialMaxPathID.has && peer.initialMaxPathID.has:
		return &wire.Draft21, peer.initialMaxPathID.v
	case local.initialMaxPathID15.has && peer.initialMaxPathID15.has:
		return &wire.Draft15, peer.initialMaxPathID15.v
	}
	return nil, 0
}

// paramError is a violation by the peer. Transport parameters come in CRYPTO frames.
func paramError(format string, args ...any) error {
	return &TransportError{
		Code:      TransportParameterError,
		FrameType: uint64(wire.FrameTypeCrypto),
		Reason:    "transport parameters: " + fmt.Sprintf(format, args...),
	}
}
