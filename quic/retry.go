// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Retry: while many handshakes are under way, a client must show by a token that it
// receives at its address before it costs the server memory (RFC 9000 section 8.1.2).

const (
	// retryAbove is how many handshakes may be under way before tokens are asked for.
	retryAbove = 64
	// retryTokenAge is how long a token may be used: several round trips of any network.
	retryTokenAge = 10 * time.Second
	// retryTokenType tells Retry tokens from other kinds. // R9000-8.1.1-1
	retryTokenType = 1
	retryTokenHead = 1 + 8 + 16 + 2 // type, time, address, port
)

// retryTokens makes and checks tokens. It keeps no state, so tokens cost nothing.
type retryTokens struct{ aead cipher.AEAD }

// newRetryTokens derives the key from that of stateless resets.
func newRetryTokens(secret *statelessResetKey) retryTokens {
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte("mqvpn retry token"))
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return retryTokens{aead}
}

// make returns a token for a client at addr whose first Initial went to originalDCID
// and whose next one will go to retrySCID. // R9000-8.1.4-1 R9000-8.1.4-3
func (r retryTokens) make(now time.Time, addr netip.AddrPort, originalDCID, retrySCID []byte) []byte {
	plain := make([]byte, retryTokenHead, retryTokenHead+maxCIDLen)
	plain[0] = retryTokenType
	binary.BigEndian.PutUint64(plain[1:], uint64(now.UnixNano()))
	ip := addr.Addr().As16()
	copy(plain[9:], ip[:])
	binary.BigEndian.PutUint16(plain[25:], addr.Port())
	plain = append(plain, originalDCID...)
	nonce := make([]byte, r.aead.NonceSize(), r.aead.NonceSize()+len(plain)+r.aead.Overhead())
	rand.Read(nonce)
	return r.aead.Seal(nonce, nonce, plain, retrySCID)
}

// tokenVerdict is what a token in an Initial packet is worth.
type tokenVerdict uint8

const (
	tokenUnknown tokenVerdict = iota // not ours, or damaged: as if there were none
	tokenInvalid                     // a Retry token of ours that does not hold
	tokenValid
)

// check judges a token of a client at addr in an Initial that went to dcid. If it is
// valid, originalDCID is where the client's first Initial went.
func (r retryTokens) check(now time.Time, addr netip.AddrPort, token, dcid []byte) (originalDCID []byte, v tokenVerdict) {
	n := r.aead.NonceSize()
	if len(token) < n+r.aead.Overhead()+retryTokenHead {
		return nil, tokenUnknown
	}
	plain, err := r.aead.Open(nil, token[:n], token[n:], dcid)
	if err != nil || plain[0] != retryTokenType {
		return nil, tokenUnknown
	}
	age := now.UnixNano() - int64(binary.BigEndian.Uint64(plain[1:]))
	ip := addr.Addr().As16()
	if age < 0 || age > int64(retryTokenAge) || [16]byte(plain[9:25]) != ip || binary.BigEndian.Uint16(plain[25:]) != addr.Port() {
		return nil, tokenInvalid
	}
	return plain[retryTokenHead:], tokenValid
}

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

// opensAsInitial says that the first packet of a datagram, with header h, was sealed
// by somebody who read it: junk costs no connection.
func opensAsInitial(d []byte, h *wire.LongHeader, n int) bool {
	key, _ := initialKeys(h.DstConnID)
	pkt := append([]byte(nil), d[:n]...)
	var s sealScratch
	_, pn, pnLen, ok := key.unprotectHeader(&s, pkt, h.PNOffset)
	if !ok {
		return false
	}
	_, ok = key.open(&s, pkt, h.PNOffset+pnLen, 0, wire.DecodePacketNumber(int64(noPacket), pn, pnLen))
	return ok
}
