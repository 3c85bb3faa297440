// SPDX-License-Identifier: Apache-2.0

package quic

import (
	mrand "math/rand/v2"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Greasing: values that mean nothing, so that nobody comes to depend on their absence.

// reservedParam is a transport parameter that a receiver ignores: RFC 9000 section 18.1.
type reservedParam struct {
	id    uint64
	value []byte
}

// newReservedParam chooses id and value at random, but not their size: handshakes that
// differ in size would make simulations differ.
func newReservedParam(rand *mrand.Rand) reservedParam {
	const least, most = wire.MaxVarint / 2 / 31, (wire.MaxVarint - 27) / 31
	p := reservedParam{id: 31*(least+rand.Uint64N(most-least+1)) + 27, value: make([]byte, 8)}
	for i := range p.value {
		p.value[i] = byte(rand.Uint32())
	}
	return p
}

// reservedVersion is a version that nobody speaks: RFC 9000 section 15.
func reservedVersion() uint32 { return mrand.Uint32()&0xf0f0f0f0 | 0x0a0a0a0a }

// greaseQUICBit sets the QUIC Bit of a packet's first byte unpredictably, if the peer has
// announced that it takes both values on this connection. // R9287-3.1-1 R9287-3.1-4
func (c *Conn) greaseQUICBit(pkt []byte) {
	if c.peerGrease && c.rand.Uint64()&1 != 0 {
		pkt[0] &^= wire.FixedBit
	}
}
