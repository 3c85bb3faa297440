// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"io"

	"github.com/mqvpn/mqvpn/quic"
)

// capsuleDatagram is the type of a capsule that carries an HTTP Datagram.
const capsuleDatagram = 0x00

const (
	// maxCapsuleSize bounds a capsule of a known type, in bytes of its value: room
	// for 1900 IPv6 ranges in a route advertisement.
	maxCapsuleSize = 64 << 10
	// maxDatagramCapsule is the largest datagram that we take from a capsule. What
	// did not fit a PacketBuf cannot be of use.
	maxDatagramCapsule = quic.MaxPacketPayload + 8
)

// Capsule is one capsule of the Capsule Protocol (RFC 9297 section 3.2).
type Capsule struct {
	Type  uint64
	Value []byte
}

// AppendCapsule appends the encoding of a capsule.
func AppendCapsule(b []byte, typ uint64, value []byte) []byte {
	b = appendFrameHeader(b, typ, uint64(len(value)))
	return append(b, value...)
}

// newCapsuleReader reads the capsules of a data stream. One that ends inside a
// capsule is a malformed message. // R9297-3.3-2
func newCapsuleReader(r io.Reader) *tlvReader {
	return newTLVReader(r, malformed("stream ends inside a capsule"))
}

// readCapsule returns the next capsule of a type that known accepts and skips
// the others. DATAGRAM capsules go to datagram, those too large to be of use are
// discarded without being stored. It returns io.EOF at a clean end.
func readCapsule(r *tlvReader, known func(typ uint64) bool, datagram func(b []byte)) (Capsule, error) {
	for {
		typ, err := r.next()
		if err != nil {
			return Capsule{}, err
		}
		switch {
		case typ == capsuleDatagram:
			if r.left > maxDatagramCapsule { // R9297-3.5-2
				continue
			}
			b, err := r.value(maxDatagramCapsule)
			if err != nil {
				return Capsule{}, err
			}
			datagram(b)
		case known(typ):
			b, err := r.value(maxCapsuleSize)
			return Capsule{typ, b}, err
		}
		// R9297-3.2-1: others are skipped by the next round.
	}
}
