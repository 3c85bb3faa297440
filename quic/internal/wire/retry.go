// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"sync"
)

// retryTagLen is the length of the Retry Integrity Tag in bytes.
const retryTagLen = 16

// Key and nonce of the Retry Integrity Tag are those of RFC 9001 section 5.8.
var (
	retryKey = [16]byte{
		0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e,
	}
	retryNonce = [12]byte{0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb}
)

var retryAEAD = sync.OnceValue(func() cipher.AEAD {
	block, err := aes.NewCipher(retryKey[:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return aead
})

// retryTag computes the tag of a Retry packet, given without its tag, that answers an
// Initial packet sent to originalDstConnID. R9001-5.8-1
func retryTag(packet, originalDstConnID []byte) []byte {
	pseudo := make([]byte, 0, 1+len(originalDstConnID)+len(packet))
	pseudo = append(pseudo, byte(len(originalDstConnID)))
	pseudo = append(pseudo, originalDstConnID...)
	pseudo = append(pseudo, packet...)
	return retryAEAD().Seal(nil, retryNonce[:], nil, pseudo)
}

// AppendRetry appends a whole Retry packet, the answer to an Initial packet that was
// sent to originalDstConnID.
func AppendRetry(b, dstConnID, srcConnID, token, originalDstConnID []byte) []byte {
	start := len(b)
	b = appendInvariants(b, HeaderForm|FixedBit|byte(Retry)<<4, Version1, dstConnID, srcConnID)
	b = append(b, token...)
	return append(b, retryTag(b[start:], originalDstConnID)...)
}

// VerifyRetry reports whether packet, a Retry packet that ParseLongHeader accepted, has a
// valid integrity tag for an Initial packet that was sent to originalDstConnID.
// R9000-17.2.5.2-3
func VerifyRetry(packet, originalDstConnID []byte) bool {
	if len(packet) < retryTagLen {
		return false
	}
	body := len(packet) - retryTagLen
	return subtle.ConstantTimeCompare(retryTag(packet[:body], originalDstConnID), packet[body:]) == 1
}
