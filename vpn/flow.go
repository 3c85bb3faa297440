// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/mqvpn/mqvpn/quic/sched"
)

// flowSeed makes flow keys unpredictable for who sends the packets: otherwise one
// could aim at a single bucket of the queues below.
var flowSeed = maphash.MakeSeed()

// IP protocol and extension header numbers.
const (
	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoDestOpts = 60
	protoMobility = 135
	protoHIP      = 139
	protoShim6    = 140
)

// flowTuple is what the packets of one flow have in common.
type flowTuple struct {
	addrs [32]byte // source, destination
	tail  [5]byte  // protocol, then the ports or the fragment id
}

// flowKey returns the key of the flow that an IP packet belongs to and the class
// of its traffic. Packets of TCP and UDP have a key; fragments are told apart by
// their fragment id, as only the first has ports. All others, and what is no IP
// packet, have none: 0. The two directions of a flow have different keys.
func flowKey(pkt []byte) (key uint64, class sched.Class) {
	var t flowTuple
	var ok bool
	if len(pkt) < 20 {
		return 0, sched.ClassOther
	}
	switch pkt[0] >> 4 {
	case 4:
		ok = t.fromIPv4(pkt)
	case 6:
		ok = t.fromIPv6(pkt)
	}
	if !ok {
		return 0, sched.ClassOther
	}
	class = sched.ClassUDP
	if t.tail[0] == protoTCP {
		class = sched.ClassTCP
	}
	return max(1, maphash.Comparable(flowSeed, t)), class
}

func (t *flowTuple) fromIPv4(pkt []byte) bool {
	copy(t.addrs[:], pkt[12:20])
	proto, header := pkt[9], int(pkt[0]&0x0f)*4
	if header < 20 {
		return false
	}
	const moreFragmentsAndOffset = 0x3fff
	if binary.BigEndian.Uint16(pkt[6:])&moreFragmentsAndOffset != 0 {
		return t.fragment(proto, 0, pkt[4:6])
	}
	return t.ports(proto, pkt, header)
}

func (t *flowTuple) fromIPv6(pkt []byte) bool {
	if len(pkt) < 40 {
		return false
	}
	copy(t.addrs[:], pkt[8:40])
	next, at := pkt[6], 40
	for {
		if len(pkt) < at+8 {
			return false // each extension header, and UDP and TCP, has 8 bytes or more
		}
		switch next {
		case protoHopByHop, protoRouting, protoDestOpts, protoMobility, protoHIP, protoShim6:
			next, at = pkt[at], at+8+int(pkt[at+1])*8
		case protoAH:
			next, at = pkt[at], at+8+int(pkt[at+1])*4
		case protoFragment:
			// An atomic fragment (RFC 6946) is a whole packet.
			const offsetAndMore = 0xfff9
			if binary.BigEndian.Uint16(pkt[at+2:])&offsetAndMore != 0 {
				id := pkt[at+4 : at+8]
				return t.fragment(pkt[at], id[0]^id[1], id[2:])
			}
			next, at = pkt[at], at+8
		default:
			return t.ports(next, pkt, at)
		}
	}
}

// ports takes the ports at the start of the transport header.
func (t *flowTuple) ports(proto byte, pkt []byte, at int) bool {
	if proto != protoTCP && proto != protoUDP || len(pkt) < at+8 {
		return false
	}
	t.tail[0] = proto
	copy(t.tail[1:], pkt[at:at+4])
	return true
}

// fragment takes the fragment id; its bits need only differ, so the upper half of
// IPv6's is folded.
func (t *flowTuple) fragment(proto, upper byte, lower []byte) bool {
	if proto != protoTCP && proto != protoUDP {
		return false
	}
	t.tail = [5]byte{proto, 'f', upper, lower[0], lower[1]}
	return true
}
