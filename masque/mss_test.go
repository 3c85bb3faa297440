// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// synPacket makes a TCP SYN with an MSS option behind nops others bytes of options.
func synPacket(v6 bool, mss uint16, nops int) []byte {
	options := append(bytes.Repeat([]byte{1}, nops), 2, 4, byte(mss>>8), byte(mss), 3, 3, 7)
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	tcp := append(make([]byte, 20), options...)
	binary.BigEndian.PutUint16(tcp, 1234)
	binary.BigEndian.PutUint16(tcp[2:], 443)
	tcp[12] = byte(len(tcp)/4) << 4
	tcp[13] = 2
	var pkt []byte
	if v6 {
		pkt = packet6("fd00::1", "2001:db8::1", 40+len(tcp))
		pkt[6] = protocolTCP
	} else {
		pkt = packet4("10.0.0.1", "192.0.2.1", 20+len(tcp))
		pkt[9] = protocolTCP
	}
	copy(pkt[len(pkt)-len(tcp):], tcp)
	binary.BigEndian.PutUint16(pkt[len(pkt)-len(tcp)+16:], tcpChecksum(pkt, len(tcp)))
	return pkt
}

// tcpChecksum is 0 for a segment with the right checksum.
func tcpChecksum(pkt []byte, size int) uint16 {
	addresses := pkt[12:20]
	if pkt[0]>>4 == 6 {
		addresses = pkt[8:40]
	}
	return checksum(pkt[len(pkt)-size:], pseudoHeader6(addresses, size, protocolTCP))
}

func TestClampMSS(t *testing.T) {
	for _, c := range []struct {
		v6        bool
		mss, want uint16
		nops      int
	}{
		{false, 1460, 1260, 0},
		{false, 1460, 1260, 1}, // value at an odd offset
		{false, 1460, 1260, 2},
		{false, 65535, 1260, 3},
		{false, 1260, 1260, 0},
		{false, 536, 536, 1},
		{true, 1440, 1240, 0},
		{true, 1440, 1240, 1},
		{true, 1241, 1240, 0},
		{true, 1240, 1240, 0},
	} {
		pkt := synPacket(c.v6, c.mss, c.nops)
		want := synPacket(c.v6, c.want, c.nops)
		if changed := ClampMSS(pkt, 1300); changed != (c.mss != c.want) {
			t.Errorf("%+v: changed %v", c, changed)
		}
		if !bytes.Equal(pkt, want) {
			t.Errorf("%+v:\n%x, want\n%x", c, pkt, want)
		}
	}
	synAck := synPacket(false, 1460, 0)
	synAck[33] = 0x12
	if !ClampMSS(synAck, 1300) {
		t.Error("SYN-ACK is left alone")
	}
	extended := chain([]byte{60, protocolTCP}, make([]byte, 8), synPacket(true, 1440, 0)[40:])
	if !ClampMSS(extended, 1300) || binary.BigEndian.Uint16(extended[40+8+22:]) != 1240 {
		t.Error("SYN behind an extension header is left alone")
	}
}

func TestClampMSSLeavesAlone(t *testing.T) {
	syn := synPacket(false, 1460, 0)
	for name, pkt := range map[string][]byte{
		"empty":                   nil,
		"UDP":                     change(syn, 9, 17),
		"no SYN":                  change(syn, 33, 0x10),
		"later fragment":          change(syn, 7, 1),
		"short TCP header":        change(syn[:30], 3, 30),
		"options behind the end":  change(syn, 32, 0xf0),
		"no options":              change(syn, 32, 0x50),
		"end of options first":    change(syn, 40, 0),
		"option of length 0":      change(syn, 40, 9, 0),
		"option of length 1":      change(syn, 40, 9, 1),
		"option behind the end":   change(syn, 40, 9, 20),
		"MSS of another length":   change(syn, 40, 2, 3),
		"option without a length": change(syn, 40, 1, 1, 1, 1, 1, 1, 1, 9),
		"data offset below 20":    change(syn, 32, 0x10),
	} {
		before := bytes.Clone(pkt)
		if ClampMSS(pkt, 1300) || !bytes.Equal(pkt, before) {
			t.Errorf("%s is changed", name)
		}
	}
	if ClampMSS(syn, 40) {
		t.Error("clamped to nothing")
	}
	if n := testing.AllocsPerRun(100, func() { ClampMSS(syn, 1300) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
