// SPDX-License-Identifier: Apache-2.0

package wire

// MaxControlFrameSize is the largest size in bytes of a frame whose size does not depend
// on data or on the number of ranges: all but ACK, PATH_ACK, CRYPTO, STREAM, DATAGRAM,
// NEW_TOKEN and CONNECTION_CLOSE. It is that of PATH_NEW_CONNECTION_ID: type 4, path id 8,
// sequence and Retire Prior To 8 each, length 1, connection id 20, token 16.
const MaxControlFrameSize = 4 + 8 + 8 + 8 + 1 + MaxConnIDLen + ResetTokenLen

// appendType appends a frame type below 0x40.
func appendType(b []byte, t FrameType) []byte { return append(b, byte(t)) } // R9000-12.4-4

// AppendPadding appends n bytes of PADDING.
func AppendPadding(b []byte, n int) []byte { return append(b, make([]byte, n)...) }

// AppendPing appends PING.
func AppendPing(b []byte) []byte { return appendType(b, FrameTypePing) }

// AppendHandshakeDone appends HANDSHAKE_DONE.
func AppendHandshakeDone(b []byte) []byte { return appendType(b, FrameTypeHandshakeDone) }

// AppendAck appends ACK. delay is already scaled by our ack_delay_exponent. ranges is not
// empty, in ascending order, with at least one packet number between two ranges; ecn is
// nil when marks are not reported.
func AppendAck(b []byte, delay uint64, ranges []Range, ecn *ECNCounts) []byte {
	t := FrameTypeAck
	if ecn != nil {
		t++
	}
	return appendAckFields(appendType(b, t), delay, ranges, ecn)
}

// SizeAck is the size in bytes of the frame that AppendAck appends.
func SizeAck(delay uint64, ranges []Range, ecn *ECNCounts) int {
	return 1 + SizeVarint(delay) + sizeAckRanges(ranges) + sizeECN(ecn)
}

// AppendPathAck appends PATH_ACK: AppendAck for the packet number space of pathID.
func AppendPathAck(b []byte, cp *CodePoints, pathID, delay uint64, ranges []Range, ecn *ECNCounts) []byte {
	mp := mpPathAck
	if ecn != nil {
		mp = mpPathAckECN
	}
	b = AppendVarint(cp.appendType(b, mp), pathID)
	return appendAckFields(b, delay, ranges, ecn)
}

// SizePathAck is the size in bytes of the frame that AppendPathAck appends.
func SizePathAck(cp *CodePoints, pathID, delay uint64, ranges []Range, ecn *ECNCounts) int {
	return SizeVarint(cp.frames[mpPathAck]) + SizeVarint(pathID) +
		SizeVarint(delay) + sizeAckRanges(ranges) + sizeECN(ecn)
}

// AppendResetStream appends RESET_STREAM.
func AppendResetStream(b []byte, streamID, code, finalSize uint64) []byte {
	b = AppendVarint(appendType(b, FrameTypeResetStream), streamID)
	b = AppendVarint(b, code)
	return AppendVarint(b, finalSize)
}

// AppendStopSending appends STOP_SENDING.
func AppendStopSending(b []byte, streamID, code uint64) []byte {
	b = AppendVarint(appendType(b, FrameTypeStopSending), streamID)
	return AppendVarint(b, code)
}

// AppendCryptoHeader appends CRYPTO up to its data, which is length bytes.
func AppendCryptoHeader(b []byte, offset uint64, length int) []byte {
	b = AppendVarint(appendType(b, FrameTypeCrypto), offset)
	return AppendVarint(b, uint64(length))
}

// AppendCrypto appends CRYPTO.
func AppendCrypto(b []byte, offset uint64, data []byte) []byte {
	return append(AppendCryptoHeader(b, offset, len(data)), data...)
}

// SizeCryptoHeader is the number of bytes that AppendCryptoHeader appends.
func SizeCryptoHeader(offset uint64, length int) int {
	return 1 + SizeVarint(offset) + SizeVarint(uint64(length))
}

// AppendNewToken appends NEW_TOKEN. token is not empty.
func AppendNewToken(b, token []byte) []byte {
	b = AppendVarint(appendType(b, FrameTypeNewToken), uint64(len(token)))
	return append(b, token...)
}

// AppendStreamHeader appends STREAM up to its data. With length -1 the frame has no
// length and must be the last one of its packet.
func AppendStreamHeader(b []byte, streamID, offset uint64, length int, fin bool) []byte {
	t := FrameTypeStream
	if fin {
		t |= streamFin
	}
	if length >= 0 {
		t |= streamLength
	}
	if offset > 0 {
		t |= streamOffset
	}
	b = AppendVarint(appendType(b, t), streamID)
	if offset > 0 {
		b = AppendVarint(b, offset)
	}
	if length >= 0 {
		b = AppendVarint(b, uint64(length))
	}
	return b
}

// AppendStream appends STREAM with its length.
func AppendStream(b []byte, streamID, offset uint64, data []byte, fin bool) []byte {
	return append(AppendStreamHeader(b, streamID, offset, len(data), fin), data...)
}

// SizeStreamHeader is the number of bytes that AppendStreamHeader appends.
func SizeStreamHeader(streamID, offset uint64, length int) int {
	n := 1 + SizeVarint(streamID)
	if offset > 0 {
		n += SizeVarint(offset)
	}
	if length >= 0 {
		n += SizeVarint(uint64(length))
	}
	return n
}

// AppendDatagramHeader appends DATAGRAM up to its data. With length -1 the frame has no
// length and must be the last one of its packet. R9221-4-1
func AppendDatagramHeader(b []byte, length int) []byte {
	if length < 0 {
		return appendType(b, FrameTypeDatagram)
	}
	return AppendVarint(appendType(b, FrameTypeDatagram+1), uint64(length))
}

// SizeDatagramHeader is the number of bytes that AppendDatagramHeader appends.
func SizeDatagramHeader(length int) int {
	if length < 0 {
		return 1
	}
	return 1 + SizeVarint(uint64(length))
}

// AppendMaxData appends MAX_DATA; limit is in bytes.
func AppendMaxData(b []byte, limit uint64) []byte {
	return AppendVarint(appendType(b, FrameTypeMaxData), limit)
}

// AppendMaxStreamData appends MAX_STREAM_DATA; limit is in bytes.
func AppendMaxStreamData(b []byte, streamID, limit uint64) []byte {
	b = AppendVarint(appendType(b, FrameTypeMaxStreamData), streamID)
	return AppendVarint(b, limit)
}

// AppendMaxStreams appends MAX_STREAMS; limit is a number of streams, at most MaxStreamCount.
func AppendMaxStreams(b []byte, uni bool, limit uint64) []byte {
	return AppendVarint(appendType(b, uniType(FrameTypeMaxStreams, uni)), limit)
}

// AppendDataBlocked appends DATA_BLOCKED; limit is in bytes.
func AppendDataBlocked(b []byte, limit uint64) []byte {
	return AppendVarint(appendType(b, FrameTypeDataBlocked), limit)
}

// AppendStreamDataBlocked appends STREAM_DATA_BLOCKED; limit is in bytes.
func AppendStreamDataBlocked(b []byte, streamID, limit uint64) []byte {
	b = AppendVarint(appendType(b, FrameTypeStreamDataBlocked), streamID)
	return AppendVarint(b, limit)
}

// AppendStreamsBlocked appends STREAMS_BLOCKED; limit is a number of streams.
func AppendStreamsBlocked(b []byte, uni bool, limit uint64) []byte {
	return AppendVarint(appendType(b, uniType(FrameTypeStreamsBlocked, uni)), limit)
}

func uniType(t FrameType, uni bool) FrameType {
	if uni {
		return t + 1
	}
	return t
}

// AppendNewConnectionID appends NEW_CONNECTION_ID.
func AppendNewConnectionID(b []byte, seq, retirePriorTo uint64, connID []byte, token [ResetTokenLen]byte) []byte {
	return appendConnID(appendType(b, FrameTypeNewConnectionID), seq, retirePriorTo, connID, token)
}

// AppendPathNewConnectionID appends PATH_NEW_CONNECTION_ID.
func AppendPathNewConnectionID(b []byte, cp *CodePoints, pathID, seq, retirePriorTo uint64, connID []byte, token [ResetTokenLen]byte) []byte {
	b = AppendVarint(cp.appendType(b, mpPathNewConnectionID), pathID)
	return appendConnID(b, seq, retirePriorTo, connID, token)
}

func appendConnID(b []byte, seq, retirePriorTo uint64, connID []byte, token [ResetTokenLen]byte) []byte {
	b = AppendVarint(b, seq)
	b = AppendVarint(b, retirePriorTo)
	b = append(b, byte(len(connID)))
	b = append(b, connID...)
	return append(b, token[:]...)
}

// AppendRetireConnectionID appends RETIRE_CONNECTION_ID.
func AppendRetireConnectionID(b []byte, seq uint64) []byte {
	return AppendVarint(appendType(b, FrameTypeRetireConnectionID), seq)
}

// AppendPathRetireConnectionID appends PATH_RETIRE_CONNECTION_ID.
func AppendPathRetireConnectionID(b []byte, cp *CodePoints, pathID, seq uint64) []byte {
	return cp.append2(b, mpPathRetireConnectionID, pathID, seq)
}

// AppendPathChallenge appends PATH_CHALLENGE.
func AppendPathChallenge(b []byte, data [8]byte) []byte {
	return append(appendType(b, FrameTypePathChallenge), data[:]...)
}

// AppendPathResponse appends PATH_RESPONSE.
func AppendPathResponse(b []byte, data [8]byte) []byte {
	return append(appendType(b, FrameTypePathResponse), data[:]...)
}

// AppendConnectionClose appends CONNECTION_CLOSE with a transport error. frameType is the
// type, as on the wire, of the frame that caused the error, 0 when unknown.
func AppendConnectionClose(b []byte, code, frameType uint64, reason string) []byte {
	b = AppendVarint(appendType(b, FrameTypeConnectionClose), code)
	b = AppendVarint(b, frameType)
	b = AppendVarint(b, uint64(len(reason)))
	return append(b, reason...)
}

// AppendApplicationClose appends CONNECTION_CLOSE with an error of the application.
func AppendApplicationClose(b []byte, code uint64, reason string) []byte {
	b = AppendVarint(appendType(b, FrameTypeApplicationClose), code)
	b = AppendVarint(b, uint64(len(reason)))
	return append(b, reason...)
}

// AppendPathAbandon appends PATH_ABANDON; code is 0 or one of cp.
func AppendPathAbandon(b []byte, cp *CodePoints, pathID, code uint64) []byte {
	return cp.append2(b, mpPathAbandon, pathID, code)
}

// AppendPathStatusBackup appends PATH_STATUS_BACKUP.
func AppendPathStatusBackup(b []byte, cp *CodePoints, pathID, seq uint64) []byte {
	return cp.append2(b, mpPathStatusBackup, pathID, seq)
}

// AppendPathStatusAvailable appends PATH_STATUS_AVAILABLE.
func AppendPathStatusAvailable(b []byte, cp *CodePoints, pathID, seq uint64) []byte {
	return cp.append2(b, mpPathStatusAvailable, pathID, seq)
}

// AppendMaxPathID appends MAX_PATH_ID; limit is at most MaxPathID.
func AppendMaxPathID(b []byte, cp *CodePoints, limit uint64) []byte {
	return AppendVarint(cp.appendType(b, mpMaxPathID), limit)
}

// AppendPathsBlocked appends PATHS_BLOCKED; limit is the peer's.
func AppendPathsBlocked(b []byte, cp *CodePoints, limit uint64) []byte {
	return AppendVarint(cp.appendType(b, mpPathsBlocked), limit)
}

// AppendPathCIDsBlocked appends PATH_CIDS_BLOCKED; nextSeq is the sequence number of the
// connection id that is waited for.
func AppendPathCIDsBlocked(b []byte, cp *CodePoints, pathID, nextSeq uint64) []byte {
	return cp.append2(b, mpPathCIDsBlocked, pathID, nextSeq)
}

// append2 appends a multipath frame of two integers.
func (cp *CodePoints) append2(b []byte, mp multipathFrame, x, y uint64) []byte {
	b = AppendVarint(cp.appendType(b, mp), x)
	return AppendVarint(b, y)
}
