// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// checkICMP verifies that b is empty or a packet with right lengths and checksums.
func checkICMP(t *testing.T, b []byte) {
	t.Helper()
	if len(b) == 0 {
		return
	}
	var h ipHeader
	if r := parsePacket(b, &h); r != notDropped {
		t.Fatalf("answer is dropped as %v: %x", r, b)
	}
	if h.v6 {
		if len(b) > icmpMaxLen6 {
			t.Fatalf("answer of %d bytes", len(b))
		}
		if sum := checksum(b[headerLen6:], pseudoHeader6(b[8:40], len(b)-headerLen6, protocolICMPv6)); sum != 0 {
			t.Fatalf("ICMPv6 checksum is off by %#x", sum)
		}
		return
	}
	if len(b) > icmpMaxLen4 {
		t.Fatalf("answer of %d bytes", len(b))
	}
	if sum := checksum(b[:headerLen4], 0); sum != 0 {
		t.Fatalf("IP checksum is off by %#x", sum)
	}
	if sum := checksum(b[headerLen4:], 0); sum != 0 {
		t.Fatalf("ICMP checksum is off by %#x", sum)
	}
}

func TestChecksum(t *testing.T) {
	// The example of RFC 1071 section 3.
	if got := checksum(unhex(t, "0001 f203 f4f5 f6f7"), 0); got != ^uint16(0xddf2) {
		t.Errorf("%#x", got)
	}
	if got := checksum([]byte{0x12}, 0); got != ^uint16(0x1200) {
		t.Errorf("odd length: %#x", got)
	}
	if got := checksum(bytes.Repeat([]byte{0xff}, 1<<17), 0xffff); got != 0 {
		t.Errorf("long: %#x", got)
	}
	// The example of RFC 1624 section 4.
	if got := updateChecksum(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("update: %#x", got)
	}
}

func TestICMPv4Error(t *testing.T) { // R9484-7.2.1-1
	pkt := packet4("10.0.0.1", "192.0.2.9", 1400)
	for i := 20; i < len(pkt); i++ {
		pkt[i] = byte(i)
	}
	for kind, want := range map[icmpError]string{
		icmpTooBig:           "0304 0000 0000 0514", // type 3, code 4, checksum, unused, MTU 1300
		icmpNoRoute:          "0300 0000 0000 0000",
		icmpSourceProhibited: "030d 0000 0000 0000",
	} {
		b := appendICMPError([]byte("x"), pkt, kind, 1300)[1:]
		checkICMP(t, b)
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[22:], 0)
		wantHeader := unhex(t, "45c0 0240 0000 0000 4001 0000 c0000209 0a000001"+want)
		if !bytes.Equal(b[:28], wantHeader) || !bytes.Equal(b[28:], pkt[:548]) {
			t.Errorf("%d: %x", kind, b[:40])
		}
	}
}

func TestICMPv6Error(t *testing.T) { // R9484-7.2.1-1
	pkt := packet6("fd00::1", "2001:db8::9", 1500)
	for kind, want := range map[icmpError]string{
		icmpTooBig:           "0200 0000 0000 0514",
		icmpNoRoute:          "0100 0000 0000 0000",
		icmpSourceProhibited: "0105 0000 0000 0000",
	} {
		b := appendICMPError(nil, pkt, kind, 1300)
		checkICMP(t, b)
		binary.BigEndian.PutUint16(b[42:], 0)
		wantHeader := unhex(t, "60000000 04d8 3a 40 20010db8000000000000000000000009 fd000000000000000000000000000001"+want)
		if !bytes.Equal(b[:48], wantHeader) || !bytes.Equal(b[48:], pkt[:1232]) {
			t.Errorf("%d: %x", kind, b[:60])
		}
	}
	small := packet6("fd00::1", "2001:db8::9", 50)
	if b := appendICMPError(nil, small, icmpNoRoute, 0); len(b) != 98 {
		t.Errorf("answer of %d bytes", len(b))
	}
}

func TestMayAnswer(t *testing.T) {
	icmp4 := func(typ byte) []byte { return change(change(packet4("10.0.0.1", "192.0.2.9", 60), 9, 1), 20, typ) }
	icmp6 := func(typ byte) []byte { return change(change(packet6("fd00::1", "2001:db8::9", 60), 6, 58), 40, typ) }
	for _, c := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"UDP", packet4("10.0.0.1", "192.0.2.9", 60), true},
		{"echo request", icmp4(8), true},
		{"timestamp reply", icmp4(14), true},
		{"unreachable", icmp4(3), false},
		{"time exceeded", icmp4(11), false},
		{"redirect", icmp4(5), false},
		{"ICMP without type", change(packet4("10.0.0.1", "192.0.2.9", 20), 9, 1), false},
		{"ICMPv6 without type", change(packet6("fd00::1", "2001:db8::9", 40), 6, 58), false},
		{"ICMPv6 echo request", icmp6(128), true},
		{"ICMPv6 packet too big", icmp6(2), false},
		{"ICMPv6 redirect", icmp6(137), false},
		{"later fragment", change(packet4("10.0.0.1", "192.0.2.9", 60), 7, 1), false},
		{"first fragment", change(packet4("10.0.0.1", "192.0.2.9", 60), 6, 0x20), true},
		{"from 0.0.0.0", packet4("0.0.0.0", "192.0.2.9", 60), false},
		{"from multicast", packet4("224.1.1.1", "192.0.2.9", 60), false},
		{"from broadcast", packet4("255.255.255.255", "192.0.2.9", 60), false},
		{"from loopback", packet4("127.0.0.1", "192.0.2.9", 60), false},
		{"to multicast", packet4("10.0.0.1", "239.1.1.1", 60), false},
		{"to broadcast", packet4("10.0.0.1", "255.255.255.255", 60), false},
		{"from ::", packet6("::", "2001:db8::9", 60), false},
		{"to IPv6 multicast", packet6("fd00::1", "ff0e::1", 60), false},
		{"malformed", []byte{0x45}, false},
	} {
		if got := mayAnswer(c.pkt); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
