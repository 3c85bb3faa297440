// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers of IP headers.
const (
	protocolHopByHop    = 0
	protocolICMP        = 1
	protocolTCP         = 6
	protocolRouting     = 43
	protocolFragment    = 44
	protocolAH          = 51
	protocolICMPv6      = 58
	protocolDestOptions = 60
	protocolMobility    = 135
	protocolHIP         = 139
	protocolShim6       = 140
)

const (
	headerLen4 = 20 // without options
	headerLen6 = 40
)

// ipHeader is what the checks need of an inner packet.
type ipHeader struct {
	v6       bool
	src, dst netip.Addr
}

// parsePacket checks the form of an inner packet: version, lengths that fit the
// datagram exactly, hops left, no link-local address. // R9484-7.2-5
func parsePacket(b []byte, h *ipHeader) DropReason {
	if len(b) == 0 {
		return DropMalformed
	}
	var hops byte
	switch b[0] >> 4 {
	case 4:
		if len(b) < headerLen4 {
			return DropMalformed
		}
		ihl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if ihl < headerLen4 || ihl > total || total != len(b) {
			return DropMalformed
		}
		h.v6, hops = false, b[8]
		h.src, h.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	case 6:
		if len(b) < headerLen6 || headerLen6+int(binary.BigEndian.Uint16(b[4:])) != len(b) {
			return DropMalformed
		}
		h.v6, hops = true, b[7]
		h.src, h.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	default:
		return DropMalformed
	}
	if hops == 0 {
		return DropHopLimit
	}
	// Link-local traffic stays on its link, and there are no neighbours here.
	if h.src.IsLinkLocalUnicast() || h.dst.IsLinkLocalUnicast() || h.dst.IsLinkLocalMulticast() || h.dst.IsInterfaceLocalMulticast() {
		return DropLinkLocal
	}
	return notDropped
}

// upperProtocol returns the protocol of the first header that is no IPv6
// extension header. A chain that is cut off ends at its last known number.
func upperProtocol(b []byte) uint8 { // R9484-4.8-1
	protocol, _ := upperHeader(b)
	return protocol
}

// upperHeader returns the upper-layer protocol and the offset of its header; the
// offset is -1 when the packet does not hold it: a chain cut off, or a fragment
// other than the first. b has passed parsePacket, or is the start of such a packet.
func upperHeader(b []byte) (protocol uint8, offset int) {
	if b[0]>>4 == 4 {
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return b[9], -1
		}
		return b[9], int(b[0]&15) * 4
	}
	protocol, offset = b[6], headerLen6
	later := false // behind the header of a fragment other than the first
	for {
		size := 8
		switch protocol {
		case protocolHopByHop, protocolRouting, protocolDestOptions, protocolMobility, protocolHIP, protocolShim6:
			if len(b) >= offset+2 {
				size = (int(b[offset+1]) + 1) * 8
			}
		case protocolAH:
			if len(b) >= offset+2 {
				size = (int(b[offset+1]) + 2) * 4
			}
		case protocolFragment:
			if len(b) >= offset+8 {
				later = later || binary.BigEndian.Uint16(b[offset+2:])&^7 != 0
			}
		default:
			if later {
				return protocol, -1
			}
			return protocol, offset
		}
		if later || len(b) < offset+size {
			if len(b) > offset {
				protocol = b[offset]
			}
			return protocol, -1
		}
		protocol, offset = b[offset], offset+size
	}
}
