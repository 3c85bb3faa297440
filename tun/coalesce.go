// SPDX-License-Identifier: Apache-2.0

package tun

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

const (
	// flowSlots is the number of flows that a Write keeps apart. Of two flows with the
	// same slot each packet ends the other's run, nothing worse.
	flowSlots = 256
	// maxUDPSegments is what the kernel itself puts into a super-packet of UDP, so that
	// no receiver sees a longer one because of us.
	maxUDPSegments = 64
)

// coalescer joins packets of one flow into super-packets, in such a way that cutting
// them up again gives the same packets. (Except for the ids of IPv4 packets that must
// not be fragmented: they mean nothing, says RFC 6864, section 4.1.) Packets of a flow
// stay in order; those of different flows need not.
//
// The kernel trusts the checksums of a super-packet. So only packets with a good one
// become part of it, and a damaged packet stays damaged.
type coalescer struct {
	tcp, udp bool // what super-packets may be made of

	bufs   [][]byte
	offset int
	runs   []run
	next   []int32 // by packet: the one that follows it in its run

	latest [flowSlots]int32 // by hash of a flow: 1 + the run with its latest packet
	seed   maphash.Seed
	buf    []byte // the vnet header and the packet that are being written
}

// run is what goes into one write: a packet, or several that become a super-packet.
type run struct {
	first, last int32 // packets
	count       int
	open        bool // another packet may follow
	headers
	segSize int // payload of each packet, the last one excepted
	size    int // of the headers and all payloads
}

// headers says where in a packet its parts are.
type headers struct {
	v6, udp   bool
	transport int // offset of the TCP or UDP header
	payload   int // offset of the payload
}

// flow is what tells the packets of flows apart: addresses and ports.
func (h *headers) flow(pkt []byte) []byte {
	if h.v6 {
		return pkt[ipv6Addresses : ipv6HeaderLen+4]
	}
	return pkt[ipv4Addresses : ipv4HeaderLen+4]
}

func newCoalescer(tcp, udp bool) *coalescer {
	return &coalescer{
		tcp:  tcp,
		udp:  udp,
		seed: maphash.MakeSeed(),
		buf:  make([]byte, vnetHeaderLen+maxPacketLen),
	}
}

// plan arranges the packets bufs[i][offset:] in runs, in the order of the first packet
// of each. It keeps bufs, for build.
func (c *coalescer) plan(bufs [][]byte, offset int) {
	c.bufs, c.offset, c.runs = bufs, offset, c.runs[:0]
	if cap(c.next) < len(bufs) {
		c.next = make([]int32, len(bufs))
	}
	c.next = c.next[:len(bufs)]
	clear(c.latest[:])
	for i := range bufs {
		c.add(int32(i))
	}
}

func (c *coalescer) packet(i int32) []byte { return c.bufs[i][c.offset:] }

func (c *coalescer) add(i int32) {
	pkt := c.packet(i)
	r := run{first: i, last: i, count: 1, size: len(pkt)}
	switch r.parse(pkt) {
	case noFlow:
		c.runs = append(c.runs, r)
		return
	case anyFlow:
		clear(c.latest[:]) // no later packet may join a run in front of this one
		c.runs = append(c.runs, r)
		return
	}
	slot := &c.latest[maphash.Bytes(c.seed, r.flow(pkt))%flowSlots]
	if r.joinable(pkt) && (r.udp && c.udp || !r.udp && c.tcp) && intact(pkt, &r.headers) {
		r.segSize = r.size - r.payload
		r.open = r.udp || pkt[r.transport+tcpFlags]&tcpPSH == 0
		if *slot != 0 {
			if prev := &c.runs[*slot-1]; prev.accepts(c.packet(prev.first), pkt, &r) {
				c.next[prev.last] = i
				prev.last = i
				prev.count++
				prev.size += r.segSize
				prev.open = r.open && r.segSize == prev.segSize
				return
			}
		}
	}
	c.runs = append(c.runs, r)
	*slot = int32(len(c.runs))
}

// scope says whose order a packet matters to.
type scope uint8

const (
	noFlow  scope = iota // neither TCP nor UDP
	oneFlow              // headers tells which
	anyFlow              // a fragment, say, or one whose headers are not followed
)

// parse finds the parts of a packet of TCP or UDP, without looking at what they hold.
func (h *headers) parse(pkt []byte) scope {
	if len(pkt) < ipv4HeaderLen {
		return noFlow
	}
	var proto byte
	switch pkt[0] >> 4 {
	case 4:
		h.transport, proto = ipv4HeaderLen, pkt[ipv4Protocol]
		if proto != protoTCP && proto != protoUDP {
			return noFlow
		}
		const reservedMoreAndOffset = 0xbfff // all but "don't fragment"
		if pkt[0] != 0x45 || binary.BigEndian.Uint16(pkt[ipv4Fragment:])&reservedMoreAndOffset != 0 ||
			int(binary.BigEndian.Uint16(pkt[ipv4TotalLen:])) != len(pkt) {
			return anyFlow
		}
	case 6:
		if len(pkt) < ipv6HeaderLen {
			return noFlow
		}
		h.v6, h.transport, proto = true, ipv6HeaderLen, pkt[ipv6NextHeader]
		if proto == protoICMPv6 {
			return noFlow
		}
		if proto != protoTCP && proto != protoUDP ||
			int(binary.BigEndian.Uint16(pkt[ipv6PayloadLen:])) != len(pkt)-ipv6HeaderLen {
			return anyFlow
		}
	default:
		return noFlow
	}
	h.udp = proto == protoUDP
	h.payload = h.transport + udpHeaderLen
	if !h.udp {
		if len(pkt) < h.transport+tcpHeaderLen {
			return anyFlow
		}
		h.payload = h.transport + int(pkt[h.transport+tcpDataOffset]>>4)*4
		if h.payload < h.transport+tcpHeaderLen {
			return anyFlow
		}
	}
	if h.payload > len(pkt) {
		return anyFlow
	}
	return oneFlow
}

// joinable reports whether a packet may be part of a super-packet at all.
func (h *headers) joinable(pkt []byte) bool {
	if h.payload == len(pkt) {
		return false // no segment: an acknowledgment, for instance, must be seen by itself
	}
	l4 := pkt[h.transport:]
	if h.udp { // without a checksum it could not be told whether the packet is intact
		return int(binary.BigEndian.Uint16(l4[udpLen:])) == len(l4) && binary.BigEndian.Uint16(l4[udpChecksum:]) != 0
	}
	return l4[tcpFlags]&^tcpPSH == tcpACK
}

// intact reports whether the checksums are right.
func intact(pkt []byte, h *headers) bool {
	if !h.v6 && fold(sum(0, pkt[:ipv4HeaderLen])) != 0xffff {
		return false
	}
	return fold(sum(h.pseudoHeader(pkt, len(pkt)-h.transport), pkt[h.transport:])) == 0xffff
}

// pseudoHeader is the sum of the pseudo-header for a length of the transport's part.
func (h *headers) pseudoHeader(pkt []byte, length int) uint64 {
	proto := uint16(protoTCP)
	if h.udp {
		proto = protoUDP
	}
	acc := word(uint16(length)) + word(proto)
	if h.v6 {
		return sum(acc, pkt[ipv6Addresses:ipv6HeaderLen])
	}
	return sum(acc, pkt[ipv4Addresses:ipv4HeaderLen])
}

// accepts reports whether pkt, with the headers of p, may follow the packets of r, the
// first of which is first: whether it is what cutting the super-packet would give.
func (r *run) accepts(first, pkt []byte, p *run) bool {
	if !r.open || r.v6 != p.v6 || r.udp != p.udp || r.payload != p.payload ||
		p.segSize > r.segSize || r.size+p.segSize > maxPacketLen ||
		!bytes.Equal(r.flow(first), p.flow(pkt)) {
		return false
	}
	if r.v6 {
		if !bytes.Equal(first[:ipv6PayloadLen], pkt[:ipv6PayloadLen]) || // traffic class, flow label
			!bytes.Equal(first[ipv6NextHeader:ipv6Addresses], pkt[ipv6NextHeader:ipv6Addresses]) { // hop limit
			return false
		}
	} else {
		if first[ipv4TOS] != pkt[ipv4TOS] ||
			!bytes.Equal(first[ipv4Fragment:ipv4Checksum], pkt[ipv4Fragment:ipv4Checksum]) { // flags, TTL
			return false
		}
		const dontFragment = 0x40
		id := binary.BigEndian.Uint16(first[ipv4ID:]) + uint16(r.count)
		if first[ipv4Fragment]&dontFragment == 0 && binary.BigEndian.Uint16(pkt[ipv4ID:]) != id {
			return false
		}
	}
	if r.udp {
		return r.count < maxUDPSegments
	}
	a, b := first[r.transport:r.payload], pkt[r.transport:r.payload]
	return binary.BigEndian.Uint32(b[tcpSeq:]) == binary.BigEndian.Uint32(a[tcpSeq:])+uint32(r.size-r.payload) &&
		bytes.Equal(a[tcpAck:tcpFlags], b[tcpAck:tcpFlags]) &&
		bytes.Equal(a[tcpWindow:tcpChecksum], b[tcpWindow:tcpChecksum]) &&
		bytes.Equal(a[tcpUrgent:], b[tcpUrgent:]) // and options
}

// build returns run i as the kernel wants it: a vnet header and a packet. It is valid
// until the next call.
func (c *coalescer) build(i int) []byte {
	r := &c.runs[i]
	first := c.packet(r.first)
	if r.count == 1 {
		// One that is too long is for the kernel to refuse.
		if need := vnetHeaderLen + r.size; need > len(c.buf) {
			c.buf = make([]byte, need)
		}
		(&vnetHeader{}).put(c.buf)
		copy(c.buf[vnetHeaderLen:], first)
		return c.buf[:vnetHeaderLen+r.size]
	}
	out := c.buf[:vnetHeaderLen+r.size]
	pkt := out[vnetHeaderLen:]
	at := copy(pkt, first)
	for p := r.first; p != r.last; {
		p = c.next[p]
		at += copy(pkt[at:], c.packet(p)[r.payload:])
	}
	h := vnetHeader{
		flags:     vnetNeedsChecksum,
		hdrLen:    uint16(r.payload),
		gsoSize:   uint16(r.segSize),
		csumStart: uint16(r.transport),
	}
	l4 := pkt[r.transport:]
	switch {
	case r.udp:
		h.gsoType, h.csumOffset = gsoUDP, udpChecksum
		binary.BigEndian.PutUint16(l4[udpLen:], uint16(len(l4)))
	case r.v6:
		h.gsoType, h.csumOffset = gsoTCPv6, tcpChecksum
	default:
		h.gsoType, h.csumOffset = gsoTCPv4, tcpChecksum
	}
	h.put(out)
	if !r.udp {
		l4[tcpFlags] = c.packet(r.last)[r.transport+tcpFlags]
	}
	binary.BigEndian.PutUint16(l4[h.csumOffset:], fold(r.pseudoHeader(pkt, len(l4))))
	if r.v6 {
		binary.BigEndian.PutUint16(pkt[ipv6PayloadLen:], uint16(len(l4)))
	} else {
		binary.BigEndian.PutUint16(pkt[ipv4TotalLen:], uint16(len(pkt)))
		clear(pkt[ipv4Checksum : ipv4Checksum+2])
		binary.BigEndian.PutUint16(pkt[ipv4Checksum:], ^fold(sum(0, pkt[:ipv4HeaderLen])))
	}
	return out
}
