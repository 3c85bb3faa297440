// SPDX-License-Identifier: Apache-2.0

package tun

import "encoding/binary"

// vnetHeader is struct virtio_net_hdr of the kernel, which stands in front of each
// packet of a device with offloads, in host byte order.
type vnetHeader struct {
	flags      uint8
	gsoType    uint8
	hdrLen     uint16 // of all headers; only a hint
	gsoSize    uint16 // payload of each segment, the last one excepted
	csumStart  uint16 // with vnetNeedsChecksum: where the bytes to sum up begin
	csumOffset uint16 // of the checksum, from csumStart; it holds the pseudo-header's sum
}

const (
	vnetHeaderLen = 10

	vnetNeedsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM

	gsoNone  = 0 // VIRTIO_NET_HDR_GSO_*
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5 // UDP_L4, not the fragmentation of UDP
)

// maxPacketLen bounds the super-packets that are read and written.
const maxPacketLen = 65535

// parse reads the first vnetHeaderLen bytes of b.
func (h *vnetHeader) parse(b []byte) {
	_ = b[vnetHeaderLen-1]
	h.flags, h.gsoType = b[0], b[1]
	h.hdrLen = binary.NativeEndian.Uint16(b[2:])
	h.gsoSize = binary.NativeEndian.Uint16(b[4:])
	h.csumStart = binary.NativeEndian.Uint16(b[6:])
	h.csumOffset = binary.NativeEndian.Uint16(b[8:])
}

// put fills the first vnetHeaderLen bytes of b.
func (h *vnetHeader) put(b []byte) {
	_ = b[vnetHeaderLen-1]
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.hdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}

// Layout of the headers, in bytes from the start of each.
const (
	ipv4HeaderLen  = 20 // without options
	ipv4TOS        = 1
	ipv4TotalLen   = 2
	ipv4ID         = 4
	ipv4Fragment   = 6 // flags and offset
	ipv4Protocol   = 9
	ipv4Checksum   = 10
	ipv4Addresses  = 12
	ipv6HeaderLen  = 40
	ipv6PayloadLen = 4
	ipv6NextHeader = 6
	ipv6Addresses  = 8

	tcpHeaderLen  = 20 // without options
	tcpSeq        = 4
	tcpAck        = 8
	tcpDataOffset = 12
	tcpFlags      = 13
	tcpWindow     = 14
	tcpChecksum   = 16
	tcpUrgent     = 18
	udpHeaderLen  = 8
	udpLen        = 4
	udpChecksum   = 6

	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpACK = 0x10

	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)
