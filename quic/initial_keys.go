// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// Keys of Initial packets. Anybody can make a server derive them by sending junk, so
// HMAC is done here with arrays on the stack: with crypto/hkdf it takes ten times as long
// and a hundred allocations.

// initialSalt is that of QUIC version 1, RFC 9001 section 5.2.
var initialSalt = [...]byte{
	0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
	0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
}

// initialSecret is the common secret of both directions, from the Destination Connection
// ID of the client's first Initial packet, or of its first one after Retry. R9001-5.2-1
func initialSecret(dstConnID []byte) [sha256.Size]byte {
	return hmacSHA256(initialSalt[:], dstConnID)
}

// initialKeys derives the keys of both directions.
func initialKeys(dstConnID []byte) (client, server *keys) {
	secret := initialSecret(dstConnID)
	return directionKeys(&secret, infoClientIn), directionKeys(&secret, infoServerIn)
}

// clientInitialKeys derives only those of the client's packets.
func clientInitialKeys(dstConnID []byte) *keys {
	secret := initialSecret(dstConnID)
	return directionKeys(&secret, infoClientIn)
}

func directionKeys(common *[sha256.Size]byte, in hkdfInfo) *keys {
	secret := hmacSHA256(common[:], in)
	key, iv, hp := hmacSHA256(secret[:], infoKey), hmacSHA256(secret[:], infoIV), hmacSHA256(secret[:], infoHP)
	header, err := newAESHeader(hp[:suiteAES128.keyLen])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	aead, err := newAESGCM(key[:suiteAES128.keyLen])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &keys{suite: &suiteAES128, secret: bytes.Clone(secret[:]), aead: aead, iv: [aeadNonceLen]byte(iv[:]), header: header}
}

// hkdfInfo is what HKDF-Expand of a label hashes for its first block, the only one here:
// the structure of RFC 8446 section 7.1 with an empty context, and the block's number.
type hkdfInfo []byte

func newHKDFInfo(label string, length int) hkdfInfo {
	const prefix = "tls13 "
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(info, prefix+label...)
	return append(info, 0, 1)
}

var (
	infoClientIn = newHKDFInfo("client in", sha256.Size)
	infoServerIn = newHKDFInfo("server in", sha256.Size)
	infoKey      = newHKDFInfo("quic key", suiteAES128.keyLen)
	infoIV       = newHKDFInfo("quic iv", aeadNonceLen)
	infoHP       = newHKDFInfo("quic hp", suiteAES128.keyLen)
)

// hmacSHA256 is HMAC (RFC 2104) of a message of up to 64 bytes with a key of up to 64.
func hmacSHA256(key, message []byte) [sha256.Size]byte {
	if len(key) > sha256.BlockSize || len(message) > sha256.BlockSize {
		panic("BUG: message or key too long")
	}
	var inner [2 * sha256.BlockSize]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:sha256.BlockSize], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	n := copy(inner[sha256.BlockSize:], message)
	sum := sha256.Sum256(inner[:sha256.BlockSize+n])
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}
