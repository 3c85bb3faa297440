// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	mrand "math/rand/v2"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

const (
	// minStatelessResetLen is the smallest datagram that can be a stateless reset:
	// 5 bytes of header and random bits, 16 of token (RFC 9000 section 10.3).
	minStatelessResetLen = 21
	// maxStatelessResetLen hides a reset among ordinary small packets.
	maxStatelessResetLen = 43
)

// statelessResetKey derives stateless reset tokens from connection ids. With a
// key derived from the server's private key the tokens survive a restart.
type statelessResetKey [32]byte

func newStatelessResetKey() (k statelessResetKey) {
	rand.Read(k[:])
	return k
}

// token is a pseudorandom function of the connection id (RFC 9000 section 10.3.2).
func (k *statelessResetKey) token(cid []byte) (t [16]byte) {
	m := hmac.New(sha256.New, k[:])
	m.Write(cid)
	copy(t[:], m.Sum(nil))
	return t
}

// appendStatelessReset appends a stateless reset for a datagram of n bytes with
// the given Destination Connection ID. It is smaller than the datagram that it
// answers, so that two endpoints cannot reset each other for ever; nil if that
// datagram is too small. // R9000-10.3-2 R9000-10.3.3-1
func (k *statelessResetKey) appendStatelessReset(b, cid []byte, n int) []byte {
	size := min(n-1, maxStatelessResetLen)
	if size < minStatelessResetLen {
		return nil
	}
	start := len(b)
	b = append(b, make([]byte, size)...)
	out := b[start:]
	rand.Read(out[:size-16])
	out[0] = out[0]&0x3f | 0x40 // a short header
	t := k.token(cid)
	copy(out[size-16:], t[:])
	return b
}

// randomCID makes an unpredictable connection id of the length that we issue.
func randomCID() (id localCIDKey) {
	rand.Read(id[:])
	return id
}

// newRand makes the generator that a connection uses for what its peer must not foresee
// and a simulation must repeat: s is the socket that the connection begins with.
func newRand(s Socket) *mrand.Rand {
	var seed [32]byte
	if sim, ok := s.(udpio.Seeded); ok {
		seed = sim.Seed()
	} else {
		rand.Read(seed[:])
	}
	return mrand.New(mrand.NewChaCha8(seed))
}
