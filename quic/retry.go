// SPDX-License-Identifier: Apache-2.0

package quic

import "github.com/mqvpn/mqvpn/quic/internal/wire"

// Retry: while many handshakes are under way, a client must show by a token that it
// receives at its address before it costs the server memory (RFC 9000 section 8.1.2).

// retryAbove is how many handshakes may be under way before tokens are asked for.
const retryAbove = 64

// appendInitialClose appends an Initial packet of a server that keeps no state, with
// CONNECTION_CLOSE. // R9000-5.2.2-3
func appendInitialClose(b []byte, h *wire.LongHeader, code TransportErrorCode) []byte {
	_, key := initialKeys(h.DstConnID)
	start := len(b)
	b, lenOff := wire.AppendLongHeader(b, wire.Initial, version1, h.SrcConnID, h.DstConnID, nil, pnLen)
	b = wire.AppendPacketNumber(b, 0, pnLen)
	hdrLen := len(b) - start
	b = wire.AppendConnectionClose(b, uint64(code), 0, "")
	wire.SetLength(b, lenOff, len(b)-start-hdrLen+pnLen+aeadTagLen)
	b = append(b, make([]byte, aeadTagLen)...)
	var s sealScratch
	key.seal(&s, b[start:len(b)-aeadTagLen], hdrLen, pnLen, 0, 0)
	return b
}

// initialOpener looks into Initial packets that may begin a connection. It belongs to
// one reader.
type initialOpener struct {
	pkt     []byte // a copy
	scratch sealScratch
}

// opensAsInitial says that the first packet of a datagram, with header h, was sealed
// by somebody who read it: junk costs no connection.
func (o *initialOpener) opensAsInitial(d []byte, h *wire.LongHeader, n int) bool {
	key := clientInitialKeys(h.DstConnID)
	o.pkt = append(o.pkt[:0], d[:n]...)
	_, pn, pnLen, ok := key.unprotectHeader(&o.scratch, o.pkt, h.PNOffset)
	if !ok {
		return false
	}
	_, ok = key.open(&o.scratch, o.pkt, h.PNOffset+pnLen, 0, wire.DecodePacketNumber(int64(noPacket), pn, pnLen))
	return ok
}
