// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Version1 is the QUIC version of RFC 9000.
const Version1 = 1

// Bits of the first byte of a packet.
const (
	HeaderForm = 0x80 // 1: long header
	FixedBit   = 0x40 // 1 unless the receiver announced grease_quic_bit
	KeyPhase   = 0x04 // short header, under header protection

	// PacketNumberLength is the length of the packet number less 1, under header protection.
	PacketNumberLength = 0x03

	LongReservedBits  = 0x0c // under header protection, as the short header's
	ShortReservedBits = 0x18
)

// PacketType is the kind of a packet. The first four are numbered as in the first byte of
// a long header.
type PacketType uint8

const (
	Initial PacketType = iota
	ZeroRTT
	Handshake
	Retry
	VersionNegotiation
	OneRTT
	// UnknownVersion is a long header packet of a version that is not Version1.
	UnknownVersion
)

var packetTypeNames = [...]string{
	Initial:            "Initial",
	ZeroRTT:            "0-RTT",
	Handshake:          "Handshake",
	Retry:              "Retry",
	VersionNegotiation: "Version Negotiation",
	OneRTT:             "1-RTT",
	UnknownVersion:     "packet of an unknown version",
}

func (t PacketType) String() string { return packetTypeNames[t] }

// LongHeader is what can be read of a long header packet before header protection is
// removed. Its slices alias the datagram.
type LongHeader struct {
	Type      PacketType
	FirstByte byte // as received; the low four bits are protected or, in Retry and Version Negotiation, unused
	Version   uint32
	DstConnID []byte
	SrcConnID []byte
	Token     []byte // Initial, Retry

	// Initial, ZeroRTT, Handshake: the packet number starts at offset PNOffset of the
	// packet, which ends Length bytes further on.
	PNOffset, Length int

	versions []byte // Version Negotiation
}

// ParseLongHeader reads the header of the long header packet at the start of b, the rest
// of a datagram. n is the length of the packet; another one may follow it. ok is false
// when the packet is to be dropped without reaction: malformed, cut short, or of version
// 1 with a connection id of more than 20 bytes. Of UnknownVersion only version and
// connection ids are read, and n is all of b. The caller checks FixedBit, as only it
// knows whether grease_quic_bit was announced, and which types, versions and connection
// ids make sense for it.
func ParseLongHeader(b []byte) (h LongHeader, n int, ok bool) {
	if len(b) < 5 || b[0]&HeaderForm == 0 {
		return h, 0, false
	}
	h.FirstByte = b[0]
	h.Version = binary.BigEndian.Uint32(b[1:])
	r := reader{b: b[5:]}
	h.DstConnID = r.bytes(uint64(r.byte()))
	h.SrcConnID = r.bytes(uint64(r.byte()))
	if r.failed {
		return h, 0, false
	}
	switch h.Version {
	case 0: // R8999-6-1: the other bits of the first byte are not looked at
		h.Type = VersionNegotiation
		h.versions = r.rest()
		return h, len(b), len(h.versions) > 0 && len(h.versions)%4 == 0 // R8999-6-2
	case Version1:
	default: // R9000-17.2-4
		h.Type = UnknownVersion
		return h, len(b), true
	}
	if len(h.DstConnID) > MaxConnIDLen || len(h.SrcConnID) > MaxConnIDLen { // R9000-17.2-2
		return h, 0, false
	}
	h.Type = PacketType(b[0] >> 4 & 3)
	switch h.Type {
	case Retry: // R9000-17.2.5-1: the low four bits are not looked at
		if len(r.b) < retryTagLen {
			return h, 0, false
		}
		h.Token = r.bytes(uint64(len(r.b) - retryTagLen))
		return h, len(b), true
	case Initial:
		h.Token = r.bytes(r.varint())
	}
	length := r.varint()
	if r.failed || length > uint64(len(r.b)) {
		return h, 0, false
	}
	h.Length = int(length)
	h.PNOffset = len(b) - len(r.b)
	return h, h.PNOffset + h.Length, true
}

// SupportedVersions returns the versions that a Version Negotiation packet offers.
func (h *LongHeader) SupportedVersions() []uint32 {
	versions := make([]uint32, 0, len(h.versions)/4)
	for b := h.versions; len(b) >= 4; b = b[4:] {
		versions = append(versions, binary.BigEndian.Uint32(b))
	}
	return versions
}

// DstConnID returns the Destination Connection ID of the packet at the start of a
// datagram and whether its header is long, using nothing but the invariants of RFC 8999:
// the id has shortLen bytes in a short header and any length in a long one. ok is false
// when the datagram is too short to hold it.
func DstConnID(b []byte, shortLen int) (connID []byte, long, ok bool) {
	if len(b) == 0 {
		return nil, false, false
	}
	start, n := 1, shortLen
	if b[0]&HeaderForm != 0 {
		if len(b) < 6 {
			return nil, true, false
		}
		long, start, n = true, 6, int(b[5])
	}
	if len(b) < start+n {
		return nil, long, false
	}
	return b[start : start+n : start+n], long, true
}

// longLengthSize is the size in bytes of the Length field that AppendLongHeader leaves
// room for: enough for 16383 bytes.
const longLengthSize = 2

// AppendLongHeader appends the header of an Initial, ZeroRTT or Handshake packet up to
// the packet number, which is to have pnLen bytes. The Length field is left to be filled
// in by SetLength(b, lengthOffset). Only an Initial has a token.
func AppendLongHeader(b []byte, typ PacketType, version uint32, dstConnID, srcConnID, token []byte, pnLen int) (out []byte, lengthOffset int) {
	b = appendInvariants(b, HeaderForm|FixedBit|byte(typ)<<4|byte(pnLen-1), version, dstConnID, srcConnID)
	if typ == Initial {
		b = AppendVarint(b, uint64(len(token)))
		b = append(b, token...)
	}
	return append(b, 0, 0), len(b)
}

// SetLength fills in the Length field at lengthOffset of a long header: the number of
// bytes of packet number, payload and AEAD tag, at most 16383.
func SetLength(b []byte, lengthOffset, length int) {
	AppendVarintN(b[:lengthOffset], uint64(length), longLengthSize)
}

// AppendShortHeader appends the header of a 1-RTT packet up to the packet number, which
// is to have pnLen bytes. The spin bit is not used: R9000-17.4-1.
func AppendShortHeader(b, dstConnID []byte, keyPhase bool, pnLen int) []byte {
	first := FixedBit | byte(pnLen-1)
	if keyPhase {
		first |= KeyPhase
	}
	return append(append(b, first), dstConnID...)
}

// AppendVersionNegotiation appends the answer to a packet of an unknown version with
// these connection ids, which may have up to 255 bytes each.
//
// R9000-17.2.1-1, R8999-6-3
func AppendVersionNegotiation(b, receivedDstConnID, receivedSrcConnID []byte, versions []uint32) []byte {
	b = appendInvariants(b, HeaderForm|FixedBit, 0, receivedSrcConnID, receivedDstConnID)
	for _, v := range versions {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// appendInvariants appends the part of a long header that all versions share.
func appendInvariants(b []byte, first byte, version uint32, dstConnID, srcConnID []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, first), version)
	b = append(append(b, byte(len(dstConnID))), dstConnID...)
	return append(append(b, byte(len(srcConnID))), srcConnID...)
}
