// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Packet protection of RFC 9001 section 5, with the nonce of the multipath draft.

const (
	aeadNonceLen = 12
	aeadTagLen   = 16 // of every cipher suite of TLS 1.3 that QUIC uses

	// hpSampleOffset is where header protection takes its sample, counted from the start
	// of the packet number: behind the longest packet number there is.
	hpSampleOffset = 4
	hpSampleLen    = 16
	// minPacketBody is the smallest sum, in bytes, of packet number and payload that
	// leaves a whole sample once the tag is added. R9001-5.4.2-2
	minPacketBody = hpSampleOffset + hpSampleLen - aeadTagLen
)

// keys protect the packets of one direction at one encryption level and key phase. They
// never change, so any number of goroutines may use them at once, each with a sealScratch
// of its own. AES-GCM takes its nonces from us, which the "only" mode of FIPS 140 forbids.
type keys struct {
	suite  *cipherSuite
	secret []byte // traffic secret, from which the next key phase derives
	aead   cipher.AEAD
	iv     [aeadNonceLen]byte
	header headerProtector
}

// sealScratch holds what is computed for one packet. Passed by the caller because an
// array on the stack would escape through the cipher interfaces, one allocation a packet.
type sealScratch struct {
	nonce [aeadNonceLen]byte
	mask  [hpSampleLen]byte
}

// cipherSuite is how one cipher suite of TLS 1.3 protects packets.
type cipherSuite struct {
	hash   func() hash.Hash
	keyLen int
	aead   func(key []byte) (cipher.AEAD, error)
	header func(key []byte) (headerProtector, error)
}

// The cipher suites that crypto/tls negotiates for TLS 1.3. All have a scheme of header
// protection, tags of 16 bytes and nonces of 12: R9001-5.3-1, RMP21-2.1-5.
var (
	suiteAES128   = cipherSuite{sha256.New, 16, newAESGCM, newAESHeader}
	suiteAES256   = cipherSuite{sha512.New384, 32, newAESGCM, newAESHeader}
	suiteChaCha20 = cipherSuite{sha256.New, chacha20poly1305.KeySize, chacha20poly1305.New, newChaCha20Header}
)

// newKeys derives the keys of a traffic secret for a cipher suite of crypto/tls.
func newKeys(suite uint16, secret []byte) (*keys, error) {
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
		return suiteAES128.newKeys(secret)
	case tls.TLS_AES_256_GCM_SHA384:
		return suiteAES256.newKeys(secret)
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return suiteChaCha20.newKeys(secret)
	}
	return nil, fmt.Errorf("quic: cipher suite %s protects no packets", tls.CipherSuiteName(suite))
}

func (s *cipherSuite) newKeys(secret []byte) (*keys, error) {
	header, err := s.header(expandLabel(s.hash, secret, "quic hp", s.keyLen))
	if err != nil {
		return nil, err
	}
	return s.newPacketKeys(secret, header)
}

// newPacketKeys derives all but the header protection key. R9001-5.1-1
func (s *cipherSuite) newPacketKeys(secret []byte, header headerProtector) (*keys, error) {
	aead, err := s.aead(expandLabel(s.hash, secret, "quic key", s.keyLen))
	if err != nil {
		return nil, err
	}
	k := &keys{suite: s, secret: secret, aead: aead, header: header}
	copy(k.iv[:], expandLabel(s.hash, secret, "quic iv", aeadNonceLen))
	return k, nil
}

// next returns the keys of the next key phase; header protection stays the same.
func (k *keys) next() *keys {
	secret := expandLabel(k.suite.hash, k.secret, "quic ku", len(k.secret))
	next, err := k.suite.newPacketKeys(secret, k.header)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return next
}

// expandLabel is HKDF-Expand-Label of RFC 8446 section 7.1 with an empty context.
func expandLabel(h func() hash.Hash, secret []byte, label string, length int) []byte {
	const prefix = "tls13 "
	info := make([]byte, 0, 2+1+len(prefix)+len(label)+1)
	info = binary.BigEndian.AppendUint16(info, uint16(length))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, 0)
	out, err := hkdf.Expand(h, secret, string(info), length)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return out
}

// setNonce computes the nonce of a packet. For path 0 it is that of RFC 9001, so that
// connections without multipath pass 0. RMP21-2.4-1, RMP21-2.4-2
func (k *keys) setNonce(s *sealScratch, pathID uint32, pn uint64) {
	binary.BigEndian.PutUint32(s.nonce[:4], binary.BigEndian.Uint32(k.iv[:4])^pathID)
	binary.BigEndian.PutUint64(s.nonce[4:], binary.BigEndian.Uint64(k.iv[4:])^pn)
}

// seal encrypts a packet in place and returns it, longer by aeadTagLen bytes, for which
// pkt has spare capacity. pkt[:hdrLen] is the header, the packet number of pnLen bytes
// being its end; the rest is the payload. Packet number and payload together have at
// least minPacketBody bytes.
func (k *keys) seal(s *sealScratch, pkt []byte, hdrLen, pnLen int, pathID uint32, pn uint64) []byte {
	return k.sealFrom(s, pkt, hdrLen, pnLen, pkt[hdrLen:], pathID, pn)
}

// sealFrom is seal for a payload that is elsewhere: it is encrypted to where it belongs
// behind the header, dst[:hdrLen], which spares copying it there first.
func (k *keys) sealFrom(s *sealScratch, dst []byte, hdrLen, pnLen int, payload []byte, pathID uint32, pn uint64) []byte {
	end := hdrLen + len(payload) + aeadTagLen
	if cap(dst) < end || pnLen+len(payload) < minPacketBody {
		panic("BUG: no room for the tag, or packet too small for header protection")
	}
	k.setNonce(s, pathID, pn)
	k.aead.Seal(dst[hdrLen:hdrLen], s.nonce[:], payload, dst[:hdrLen])
	pkt := dst[:end]
	pnOff := hdrLen - pnLen
	k.setMask(s, pkt, pnOff)
	pkt[0] ^= s.mask[0] & protectedBits(pkt[0])
	for i := range pnLen {
		pkt[pnOff+i] ^= s.mask[1+i]
	}
	return pkt
}

// unprotectHeader removes header protection in place from the packet pkt, whose packet
// number starts at pnOff. It returns the first byte in clear and the packet number as
// truncated by the sender to pnLen bytes. ok is false when the packet is too short and is
// to be dropped. Nothing is authenticated yet: open does that, with the header so
// restored.
func (k *keys) unprotectHeader(s *sealScratch, pkt []byte, pnOff int) (first byte, pn uint64, pnLen int, ok bool) {
	if len(pkt) < pnOff+hpSampleOffset+hpSampleLen { // R9001-5.4.2-1
		return 0, 0, 0, false
	}
	k.setMask(s, pkt, pnOff)
	pkt[0] ^= s.mask[0] & protectedBits(pkt[0])
	pnLen = int(pkt[0]&3) + 1
	for i := range pnLen {
		pkt[pnOff+i] ^= s.mask[1+i]
		pn = pn<<8 | uint64(pkt[pnOff+i])
	}
	return pkt[0], pn, pnLen, true
}

// open decrypts in place a packet of which unprotectHeader has removed the header
// protection, and returns its payload, which aliases pkt. hdrLen includes the packet
// number. On failure the payload is destroyed, but not the header and not the last 16
// bytes, where a stateless reset token would be.
func (k *keys) open(s *sealScratch, pkt []byte, hdrLen int, pathID uint32, pn uint64) (payload []byte, ok bool) {
	if len(pkt) < hdrLen+aeadTagLen {
		return nil, false
	}
	k.setNonce(s, pathID, pn)
	payload, err := k.aead.Open(pkt[hdrLen:hdrLen:len(pkt)-aeadTagLen], s.nonce[:], pkt[hdrLen:], pkt[:hdrLen])
	return payload, err == nil
}

func (k *keys) setMask(s *sealScratch, pkt []byte, pnOff int) {
	sample := pkt[pnOff+hpSampleOffset:]
	k.header.mask(&s.mask, (*[hpSampleLen]byte)(sample))
}

// protectedBits are the bits of the first byte that header protection covers.
func protectedBits(first byte) byte {
	if first&wire.HeaderForm != 0 {
		return 0x0f
	}
	return 0x1f
}

// headerProtector computes masks of header protection, RFC 9001 section 5.4. Of a mask
// five bytes are used. Implementations are safe for concurrent use.
type headerProtector interface {
	mask(dst, sample *[hpSampleLen]byte)
}

type aesHeader struct{ block cipher.Block }

func newAESHeader(key []byte) (headerProtector, error) {
	block, err := aes.NewCipher(key)
	return aesHeader{block}, err
}

func (h aesHeader) mask(dst, sample *[hpSampleLen]byte) {
	h.block.Encrypt(dst[:], sample[:])
}

type chaCha20Header struct{ key [chacha20.KeySize]byte }

func newChaCha20Header(key []byte) (headerProtector, error) {
	return &chaCha20Header{[chacha20.KeySize]byte(key)}, nil
}

func (h *chaCha20Header) mask(dst, sample *[hpSampleLen]byte) {
	c, err := chacha20.NewUnauthenticatedCipher(h.key[:], sample[4:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	c.SetCounter(binary.LittleEndian.Uint32(sample[:4]))
	clear(dst[:5])
	c.XORKeyStream(dst[:5], dst[:5])
}

func newAESGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
