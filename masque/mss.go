// SPDX-License-Identifier: Apache-2.0

package masque

import "encoding/binary"

// ClampMSS lowers the maximum segment size that a TCP SYN announces to what fits a
// tunnel of the given MTU, in place, and corrects the checksum. pkt is a whole IP
// packet; anything but a SYN with a larger MSS is left alone. It reports whether
// the packet was changed.
func ClampMSS(pkt []byte, mtu int) bool {
	const (
		tcpHeaderLen = 20
		flagSYN      = 0x02
		optionEnd    = 0
		optionNop    = 1
		optionMSS    = 2
	)
	if len(pkt) >= headerLen4+tcpHeaderLen && pkt[0] == 4<<4|headerLen4/4 && (pkt[9] != protocolTCP || pkt[headerLen4+13]&flagSYN == 0) {
		return false // nearly all packets
	}
	var h ipHeader
	if r := parsePacket(pkt, &h); r != notDropped {
		return false
	}
	protocol, offset := upperHeader(pkt)
	if protocol != protocolTCP || offset < 0 || len(pkt) < offset+tcpHeaderLen {
		return false
	}
	limit := mtu - headerLen4 - tcpHeaderLen
	if h.v6 {
		limit = mtu - headerLen6 - tcpHeaderLen
	}
	tcp := pkt[offset:]
	dataOffset := int(tcp[12]>>4) * 4
	if tcp[13]&flagSYN == 0 || dataOffset > len(tcp) || limit <= 0 {
		return false
	}
	for i := tcpHeaderLen; i < dataOffset; {
		switch tcp[i] {
		case optionEnd:
			return false
		case optionNop:
			i++
			continue
		}
		if i+1 >= dataOffset || tcp[i+1] < 2 || i+int(tcp[i+1]) > dataOffset {
			return false
		}
		if tcp[i] == optionMSS && tcp[i+1] == 4 {
			return lowerMSS(tcp, i+2, limit)
		}
		i += int(tcp[i+1])
	}
	return false
}

// lowerMSS lowers the value at tcp[at:] to limit. The value may stand at an odd
// offset, where the words of the checksum are not its own.
func lowerMSS(tcp []byte, at, limit int) bool {
	old := binary.BigEndian.Uint16(tcp[at:])
	if int(old) <= limit {
		return false
	}
	value := uint16(limit)
	binary.BigEndian.PutUint16(tcp[at:], value)
	if at%2 == 1 {
		old, value = old<<8|old>>8, value<<8|value>>8
	}
	binary.BigEndian.PutUint16(tcp[16:], updateChecksum(binary.BigEndian.Uint16(tcp[16:]), old, value))
	return true
}
