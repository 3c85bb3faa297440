// SPDX-License-Identifier: Apache-2.0

package wire

import "math"

const (
	// MaxStreamCount bounds MAX_STREAMS and STREAMS_BLOCKED: a stream id has 62 bits,
	// two of them for the kind of stream.
	MaxStreamCount = 1 << 60
	// MaxPathID is the largest path id: it has 32 bits in the nonce.
	MaxPathID = math.MaxUint32
	// MaxConnIDLen is the largest length of a connection id in QUIC version 1, in bytes.
	MaxConnIDLen = 20
	// ResetTokenLen is the length of a stateless reset token in bytes.
	ResetTokenLen = 16
)

// Frame is one parsed frame. Only the fields that its type names are valid: the others
// keep whatever an earlier Parse left there, so that one Frame can be used for a whole
// packet without clearing it. Byte slices alias the packet.
type Frame struct {
	Type     FrameType
	WireType uint64 // type as it was on the wire, for the Frame Type field of CONNECTION_CLOSE

	PathID        uint64 // PATH_*: at most MaxPathID
	StreamID      uint64
	Offset        uint64 // STREAM, CRYPTO
	Value         uint64 // MAX_*, *_BLOCKED: the limit (PATHS_BLOCKED too); RESET_STREAM: final size; PADDING: bytes
	Sequence      uint64 // of a connection id or path status; PATH_CIDS_BLOCKED: next connection id
	RetirePriorTo uint64
	ErrorCode     uint64
	TriggerType   uint64 // CONNECTION_CLOSE: frame type that caused the error
	Data          []byte // STREAM, CRYPTO, DATAGRAM; NEW_TOKEN: token; CONNECTION_CLOSE: reason
	ConnID        []byte
	ResetToken    [ResetTokenLen]byte
	Challenge     [8]byte // PATH_CHALLENGE, PATH_RESPONSE
	Fin           bool    // STREAM
	Uni           bool    // MAX_STREAMS, STREAMS_BLOCKED: unidirectional streams

	LargestAcked uint64    // ACK, PATH_ACK, as all that follow
	AckDelay     uint64    // as encoded: to be scaled by the peer's ack_delay_exponent
	Ranges       AckRanges // valid: no packet number below 0
	HasECN       bool
	ECN          ECNCounts // valid if HasECN
}

// Parse reads the frame at the start of b, which is the rest of a packet's payload, and
// returns its length in bytes. A run of PADDING is one frame. cp are the negotiated
// code points of multipath, nil without it. Everything that one frame alone can violate
// is checked. After an error n is 0, and of f only WireType is valid.
//
// Two formats have no length: STREAM of the types without LEN bit and DATAGRAM of
// type 0x30 take all of b.
func (f *Frame) Parse(b []byte, cp *CodePoints) (n int, err ParseError) {
	typ, n := ConsumeVarint(b)
	f.WireType = typ
	if n < 0 {
		return 0, ErrTruncated
	}
	if n != 1 && n != SizeVarint(typ) { // RFC 9000 section 12.4 permits to refuse this
		return 0, ErrTypeNotMinimal
	}
	r := reader{b: b[n:]}
	if typ <= uint64(FrameTypeDatagram)+1 {
		err = f.parseSinglePath(&r, typ)
	} else {
		err = f.parseMultipath(&r, typ, cp)
	}
	if r.failed {
		err = ErrTruncated
	}
	if err != ParseOK {
		return 0, err
	}
	return len(b) - len(r.b), ParseOK
}

// parseSinglePath reads the fields of a frame of RFC 9000 or RFC 9221.
func (f *Frame) parseSinglePath(r *reader, typ uint64) ParseError {
	f.Type = FrameType(typ)
	f.PathID = 0 // which is what these frames mean: RMP21-3.2-3
	switch f.Type {
	case FrameTypePadding:
		n := 0
		for n < len(r.b) && r.b[n] == 0 {
			n++
		}
		r.b = r.b[n:]
		f.Value = uint64(n) + 1
	case FrameTypePing, FrameTypeHandshakeDone:
	case FrameTypeAck, FrameTypeAck + 1:
		f.Type = FrameTypeAck
		return f.parseAck(r, typ&1 != 0)
	case FrameTypeResetStream:
		f.StreamID = r.varint()
		f.ErrorCode = r.varint()
		f.Value = r.varint()
	case FrameTypeStopSending:
		f.StreamID = r.varint()
		f.ErrorCode = r.varint()
	case FrameTypeCrypto:
		f.Offset = r.varint()
		f.Data = r.bytes(r.varint())
		return f.checkOffset() // R9000-19.6-1
	case FrameTypeNewToken:
		f.Data = r.bytes(r.varint())
		if len(f.Data) == 0 { // R9000-19.7-1
			return ErrEmptyToken
		}
	case 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f:
		f.Type = FrameTypeStream
		return f.parseStream(r, typ)
	case FrameTypeMaxData, FrameTypeDataBlocked:
		f.Value = r.varint()
	case FrameTypeMaxStreamData, FrameTypeStreamDataBlocked:
		f.StreamID = r.varint()
		f.Value = r.varint()
	case FrameTypeMaxStreams, FrameTypeMaxStreams + 1, FrameTypeStreamsBlocked, FrameTypeStreamsBlocked + 1:
		f.Type &^= 1
		f.Uni = typ&1 != 0
		f.Value = r.varint()
		if f.Value > MaxStreamCount { // R9000-19.11-1, R9000-19.14-1
			return ErrStreamCount
		}
	case FrameTypeNewConnectionID:
		return f.parseConnID(r)
	case FrameTypeRetireConnectionID:
		f.Sequence = r.varint()
	case FrameTypePathChallenge, FrameTypePathResponse:
		copy(f.Challenge[:], r.bytes(uint64(len(f.Challenge))))
	case FrameTypeConnectionClose:
		f.ErrorCode = r.varint()
		f.TriggerType = r.varint()
		f.Data = r.bytes(r.varint())
	case FrameTypeApplicationClose:
		f.ErrorCode = r.varint()
		f.Data = r.bytes(r.varint())
	case FrameTypeDatagram:
		f.Data = r.rest()
	case FrameTypeDatagram + 1:
		f.Type = FrameTypeDatagram
		f.Data = r.bytes(r.varint())
	default:
		return ErrUnknownType // R9000-12.4-3
	}
	return ParseOK
}

// parseMultipath reads the fields of a frame of the multipath extension.
func (f *Frame) parseMultipath(r *reader, typ uint64, cp *CodePoints) ParseError {
	mp, known := cp.find(typ)
	if !known {
		return ErrUnknownType // R9000-12.4-3
	}
	f.Type = multipathTypes[mp]
	switch mp {
	case mpMaxPathID, mpPathsBlocked:
		f.Value = r.varint()
		if f.Value > MaxPathID { // RMP21-4.6-3
			return ErrPathID
		}
		return ParseOK
	}
	f.PathID = r.varint()
	if f.PathID > MaxPathID { // no limit can permit it: RMP21-4-3
		return ErrPathID
	}
	switch mp {
	case mpPathAck, mpPathAckECN:
		return f.parseAck(r, mp == mpPathAckECN)
	case mpPathAbandon:
		f.ErrorCode = r.varint()
	case mpPathStatusBackup, mpPathStatusAvailable, mpPathRetireConnectionID, mpPathCIDsBlocked:
		f.Sequence = r.varint()
	case mpPathNewConnectionID:
		return f.parseConnID(r)
	}
	return ParseOK
}

// parseAck reads ACK and PATH_ACK from Largest Acknowledged on.
func (f *Frame) parseAck(r *reader, ecn bool) ParseError {
	f.LargestAcked = r.varint()
	f.AckDelay = r.varint()
	if err := f.Ranges.parse(r, f.LargestAcked); err != ParseOK {
		return err
	}
	f.HasECN = ecn
	if ecn { // R9000-19.3-1
		f.ECN.ECT0 = r.varint()
		f.ECN.ECT1 = r.varint()
		f.ECN.CE = r.varint()
	}
	return ParseOK
}

// Bits of the type of a STREAM frame.
const (
	streamFin    = 0x01
	streamLength = 0x02
	streamOffset = 0x04
)

func (f *Frame) parseStream(r *reader, typ uint64) ParseError {
	f.Fin = typ&streamFin != 0
	f.StreamID = r.varint()
	f.Offset = 0
	if typ&streamOffset != 0 {
		f.Offset = r.varint()
	}
	if typ&streamLength != 0 {
		f.Data = r.bytes(r.varint())
	} else {
		f.Data = r.rest()
	}
	return f.checkOffset() // R9000-19.8-2
}

func (f *Frame) checkOffset() ParseError {
	if f.Offset > MaxVarint-uint64(len(f.Data)) {
		return ErrOffset
	}
	return ParseOK
}

// parseConnID reads NEW_CONNECTION_ID and PATH_NEW_CONNECTION_ID from Sequence Number on.
// RMP21-4.4-3
func (f *Frame) parseConnID(r *reader) ParseError {
	f.Sequence = r.varint()
	f.RetirePriorTo = r.varint()
	length := r.byte()
	if r.failed {
		return ErrTruncated
	}
	if length < 1 || length > MaxConnIDLen { // R9000-19.15-1
		return ErrConnIDLength
	}
	if f.RetirePriorTo > f.Sequence { // R9000-19.15-3
		return ErrRetirePriorTo
	}
	f.ConnID = r.bytes(uint64(length))
	copy(f.ResetToken[:], r.bytes(ResetTokenLen))
	return ParseOK
}
