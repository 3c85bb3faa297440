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
	"slices"
	"time"
)

// Address validation tokens (RFC 9000 section 8.1): those of Retry packets, which the
// client returns at once, and those of NEW_TOKEN frames, for a later connection.

// The first byte of a token tells its kind. // R9000-8.1.1-1
const (
	retryTokenKind = 1
	newTokenKind   = 2
)

const (
	// retryTokenAge is how long a Retry token may be used: several round trips of any network.
	retryTokenAge = 10 * time.Second
	// newTokenAge is how long a token of NEW_TOKEN may be used: an address may belong to
	// somebody else a day later.
	newTokenAge = 24 * time.Hour

	tokenNonceLen  = 12
	retryTokenHead = 8 + 16 + 2 // time, address, port; the original connection id follows
	newTokenHead   = 8          // time; addresses of 16 bytes follow
	// maxTokenAddrs bounds the addresses in a token, and so its size: the newest ones.
	maxTokenAddrs = 8
)

// addressTokens seals and opens tokens. It keeps no state, so tokens cost nothing.
type addressTokens struct{ aead cipher.AEAD }

// newAddressTokens derives the key from that of stateless resets.
func newAddressTokens(secret *statelessResetKey) addressTokens {
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte("mqvpn address validation token"))
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return addressTokens{aead}
}

// seal makes a token of a kind: the kind, a nonce, and plain, encrypted. bound is what
// else it holds for. // R9000-8.1.4-1
func (t addressTokens) seal(kind byte, plain, bound []byte) []byte {
	token := make([]byte, 1+tokenNonceLen, 1+tokenNonceLen+len(plain)+t.aead.Overhead())
	token[0] = kind
	rand.Read(token[1:])
	return t.aead.Seal(token, token[1:], plain, append([]byte{kind}, bound...))
}

// open is the reverse of seal; ok is false for what is no such token.
func (t addressTokens) open(kind byte, token, bound []byte) (plain []byte, ok bool) {
	if len(token) < 1+tokenNonceLen+t.aead.Overhead() || token[0] != kind {
		return nil, false
	}
	plain, err := t.aead.Open(nil, token[1:1+tokenNonceLen], token[1+tokenNonceLen:], append([]byte{kind}, bound...))
	return plain, err == nil
}

// makeRetry returns the token of a Retry packet for a client at addr whose first Initial
// went to originalDCID and whose next one will go to retrySCID. // R9000-8.1.4-3
func (t addressTokens) makeRetry(now time.Time, addr netip.AddrPort, originalDCID, retrySCID []byte) []byte {
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, retryTokenHead+maxCIDLen), uint64(now.UnixNano()))
	ip := addr.Addr().As16()
	plain = append(plain, ip[:]...)
	plain = binary.BigEndian.AppendUint16(plain, addr.Port())
	return t.seal(retryTokenKind, append(plain, originalDCID...), retrySCID)
}

// tokenVerdict is what a token in an Initial packet is worth.
type tokenVerdict uint8

const (
	tokenUnknown tokenVerdict = iota // not ours, or damaged: as if there were none
	tokenInvalid                     // a token of ours that does not hold
	tokenValid
)

// checkRetry judges a Retry token of a client at addr in an Initial that went to dcid. If
// it is valid, originalDCID is where the client's first Initial went.
func (t addressTokens) checkRetry(now time.Time, addr netip.AddrPort, token, dcid []byte) (originalDCID []byte, v tokenVerdict) {
	plain, ok := t.open(retryTokenKind, token, dcid)
	if !ok || len(plain) < retryTokenHead {
		return nil, tokenUnknown
	}
	ip := addr.Addr().As16()
	if !fresh(now, issuedAt(plain), retryTokenAge) || [16]byte(plain[8:]) != ip || binary.BigEndian.Uint16(plain[24:]) != addr.Port() {
		return nil, tokenInvalid
	}
	return plain[retryTokenHead:], tokenValid
}

// makeNew returns a token for NEW_TOKEN that holds at each of the addresses, of which
// there are maxTokenAddrs at most. // RMP21-3.1.3-1
func (t addressTokens) makeNew(now time.Time, addrs []netip.Addr) []byte {
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, newTokenHead+16*len(addrs)), uint64(now.UnixNano()))
	for _, a := range addrs {
		ip := a.As16()
		plain = append(plain, ip[:]...)
	}
	return t.seal(newTokenKind, plain, nil)
}

// checkNew judges a token of NEW_TOKEN of a client at addr, whatever its port
// (R9000-8.1.4-2). id and issued are for the filter of repeated ones.
func (t addressTokens) checkNew(now time.Time, addr netip.Addr, token []byte) (id replayID, issued time.Time, v tokenVerdict) {
	plain, ok := t.open(newTokenKind, token, nil)
	if !ok {
		return id, issued, tokenUnknown
	}
	id = replayID(token[1:])
	issued, addrs, ok := parseNewToken(plain)
	if !ok || !fresh(now, issued, newTokenAge) || !slices.Contains(addrs, addr.As16()) {
		return id, issued, tokenInvalid
	}
	return id, issued, tokenValid
}

// parseNewToken reads the content of a token of NEW_TOKEN.
func parseNewToken(plain []byte) (issued time.Time, addrs [][16]byte, ok bool) {
	if n := len(plain) - newTokenHead; n < 0 || n%16 != 0 || n > 16*maxTokenAddrs {
		return issued, nil, false
	}
	issued = issuedAt(plain)
	for b := plain[newTokenHead:]; len(b) > 0; b = b[16:] {
		addrs = append(addrs, [16]byte(b))
	}
	return issued, addrs, true
}

func issuedAt(plain []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(plain)))
}

// fresh says that a token is neither too old nor from the future.
func fresh(now, issued time.Time, age time.Duration) bool {
	d := now.Sub(issued)
	return d >= 0 && d <= age
}

// addressValidated has the client told a new token when p has got an address that was
// not validated on this connection before. // R9000-9.3-3
func (c *Conn) addressValidated(p *pathState) {
	ip := p.remote.Addr()
	if c.isClient || slices.Contains(c.validAddrs, ip) {
		return
	}
	if len(c.validAddrs) == maxTokenAddrs {
		c.validAddrs = c.validAddrs[1:]
	}
	c.validAddrs = append(c.validAddrs, ip)
	c.newToken = c.e.tokens.makeNew(time.Now(), c.validAddrs)
	c.newTokenFrame.set()
	c.controlDue = true
}
