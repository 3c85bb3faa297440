// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// tooBig sends an ICMP message that claims that datagrams from s to the socket to
// can only have mtu bytes.
func tooBig(t *testing.T, s, to *UDPSocket, mtu int) {
	t.Helper()
	src, dst := s.LocalAddr(), to.LocalAddr()
	udp := make([]byte, 8)
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], 1400)
	network := "ip4:icmp"
	var m icmp.Message
	if s.v6() {
		network = "ip6:ipv6-icmp"
		original := make([]byte, ipv6.HeaderLen)
		original[0] = 6 << 4
		binary.BigEndian.PutUint16(original[4:], 1400)
		original[6] = 17
		copy(original[8:], src.Addr().AsSlice())
		copy(original[24:], dst.Addr().AsSlice())
		m = icmp.Message{Type: ipv6.ICMPTypePacketTooBig, Body: &icmp.PacketTooBig{MTU: mtu, Data: append(original, udp...)}}
	} else {
		original, err := (&ipv4.Header{
			Version: 4, Len: 20, TotalLen: 1420, Flags: ipv4.DontFragment, TTL: 64, Protocol: 17,
			Src: src.Addr().AsSlice(), Dst: dst.Addr().AsSlice(),
		}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		body := binary.BigEndian.AppendUint32(nil, uint32(mtu)) // the upper half is unused
		body = append(append(body, original...), udp...)
		m = icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 4, Body: &icmp.RawBody{Data: body}}
	}
	b, err := m.Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket(network, src.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo(b, &net.IPAddr{IP: src.Addr().AsSlice()}); err != nil {
		t.Fatal(err)
	}
}

// ICMP messages, which anyone can forge, neither lower nor raise what can be sent.
func TestForgedICMP(t *testing.T) {
	inNamespace(t, func(t *testing.T, lo netlink.Link) {
		const mtu = 1400
		if err := netlink.LinkSetMTU(lo, mtu); err != nil {
			t.Fatal(err)
		}
		for network, overhead := range map[string]int{"udp4": 28, "udp6": 48} {
			t.Run(network, func(t *testing.T) {
				from := mustListen(t, network, loopback[network], Options{})
				to := mustListen(t, network, loopback[network], Options{})
				for _, claim := range []int{
					1280, 600, // R9000-14.2.1-1
					9000, // R9000-14.2.1-2
				} {
					tooBig(t, from, to, claim)
					fits := pattern(mtu-overhead, mtu-overhead)
					runs := []Run{{Data: fits, SegSize: len(fits), Dst: to.LocalAddr()}}
					mustWrite(t, from, runs)
					expect(t, to, datagramsOf(from.LocalAddr(), runs))
					tooLong := []Run{{Data: append(fits, 0), SegSize: len(fits) + 1, Dst: to.LocalAddr()}}
					if _, err := from.WriteBatch(tooLong); err != ErrMessageTooLong {
						t.Errorf("after a claim of %d: WriteBatch of %d bytes: %v", claim, len(tooLong[0].Data), err)
					}
				}
			})
		}
	})
}
