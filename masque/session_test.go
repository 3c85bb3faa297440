// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// tunnel is both ends of a tunnel.
type tunnel struct {
	client, server     *Session
	toClient, toServer packets
	clientConn         *http3.ClientConn
}

var (
	addr4    = netip.MustParsePrefix("10.9.0.2/32")
	addr6    = netip.MustParsePrefix("fd00::2/128")
	default4 = PrefixRoute(netip.MustParsePrefix("0.0.0.0/0"))
	default6 = PrefixRoute(netip.MustParsePrefix("::/0"))
)

// withTunnel runs f with a tunnel without addresses and routes.
func withTunnel(t *testing.T, f func(t *testing.T, tun *tunnel)) {
	t.Helper()
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		tun := new(tunnel)
		sessions := make(chan *Session)
		m := &Server{Authorize: func(_ *http3.Request, token string) error {
			if token != "secret" {
				return &RefusedError{Status: 403}
			}
			return nil
		}}
		h := &http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
			s, err := m.Accept(req, st)
			if err != nil {
				return
			}
			sessions <- s
			<-s.Done()
		}}
		go h.Serve(server)
		var err error
		if tun.clientConn, err = http3.NewClientConn(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		if tun.client, _, err = Dial(t.Context(), tun.clientConn, Request{Authority: "server.test", Token: "secret"}); err != nil {
			t.Fatal(err)
		}
		tun.server = <-sessions
		tun.client.SetHandler(&tun.toClient)
		tun.server.SetHandler(&tun.toServer)
		f(t, tun)
	})
}

// packet4 makes a UDP packet of the given total length.
func packet4(src, dst string, size int) []byte {
	b := make([]byte, size)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	b[8], b[9] = 64, 17
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20], 0))
	return b
}

func packet6(src, dst string, size int) []byte {
	b := make([]byte, size)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(size-40))
	b[6], b[7] = 17, 64
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return b
}

func TestTunnel(t *testing.T) {
	withTunnel(t, func(t *testing.T, tun *tunnel) {
		if err := tun.server.AssignAddresses([]netip.Prefix{addr4, addr6}); err != nil {
			t.Fatal(err)
		}
		if err := tun.server.AdvertiseRoutes([]Route{default6, default4}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for len(tun.client.Routes()) == 0 {
			<-tun.client.Changed()
		}
		if got := tun.client.Assigned(); !slices.Equal(got, []netip.Prefix{addr4, addr6}) {
			t.Fatalf("assigned %v", got)
		}
		if got := tun.client.Routes(); !slices.Equal(got, []Route{default4, default6}) {
			t.Fatalf("routes %v", got)
		}
		up := [][]byte{packet4("10.9.0.2", "1.1.1.1", 100), packet6("fd00::2", "2001:db8::1", 200)}
		down := [][]byte{packet4("1.1.1.1", "10.9.0.2", 300), packet6("2001:db8::1", "fd00::2", 400)}
		tun.client.Send([]*quic.PacketBuf{buf(up[0]), buf(up[1])})
		tun.server.Send([]*quic.PacketBuf{buf(down[0]), buf(down[1])})
		settle()
		if got := tun.toServer.take(); !slices.Equal(got, []string{string(up[0]), string(up[1])}) {
			t.Errorf("server got %x", got)
		}
		if got := tun.toClient.take(); !slices.Equal(got, []string{string(down[0]), string(down[1])}) {
			t.Errorf("client got %x", got)
		}
		tun.client.Close()
		<-tun.server.Done()
		if err := tun.server.Err(); err != io.EOF {
			t.Errorf("server session ended with %v", err)
		}
	})
}

// TestCapsuleErrors: a capsule that breaks a rule ends the stream.
func TestCapsuleErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  uint64
		hex  string
	}{
		{"truncated address", 1, "00 04 0a6300"},                              // R9297-3.3-1
		{"excess byte", 1, "00 04 0a630002 20 00"},                            // R9297-3.3-1
		{"address of IP version 5", 1, "00 05 0a630002 20"},                   // R9484-4.7.1-2
		{"prefix length 33", 1, "00 04 0a630002 21"},                          // R9484-4.7.1-3
		{"prefix length 129", 1, "00 06 fd000000000000000000000000000000 81"}, // R9484-4.7.1-3
		{"IPv4 host bits", 1, "00 04 0a630002 18"},                            // R9484-4.7.1-3
		{"empty request", 2, ""},                                              // R9484-4.7.2-6
		{"request with id 0", 2, "00 04 00000000 20"},
		{"request of IP version 0", 2, "01 00"},                                             // R9484-4.7.2-2
		{"request with prefix length 33", 2, "01 04 0a630002 21"},                           // R9484-4.7.2-2
		{"request with host bits", 2, "01 04 0a630002 18"},                                  // R9484-4.7.2-2
		{"truncated route", 3, "04 00000000 ffffffff"},                                      // R9297-3.3-1
		{"route of IP version 7", 3, "07 00000000 ffffffff 00"},                             // R9484-4.7.3-1
		{"route that ends before it starts", 3, "04 00000001 00000000 00"},                  // R9484-4.7.3-2
		{"unsorted routes", 3, "04 02000000 02000000 00 04 01000000 01000000 00"},           // R9484-4.7.3-4
		{"overlapping routes", 3, "04 01000000 02000000 00 04 02000000 03000000 00"},        // R9484-4.7.3-4
		{"protocol route inside all", 3, "04 00000000 ffffffff 00 04 02000000 03000000 06"}, // R9484-4.7.3-5
	} {
		t.Run(c.name, func(t *testing.T) {
			test := func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
				capsule(t, st, c.typ, c.hex)
				wantReset(t, st, http3.ErrMessage)
				<-s.Done()
				if !isMalformed(s.Err()) {
					t.Errorf("session ended with %v", s.Err())
				}
			}
			withRawServer(t, test)
			withRawClient(t, test)
		})
	}
}

// TestHostBits: a proxy's IPv6 address with the prefix length of its pool is taken
// as one address, but a client's is malformed.
func TestHostBits(t *testing.T) {
	const assign = "00 06 fd000099000000000000000000000002 70"
	withRawServer(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		capsule(t, st, 1, assign)
		<-s.Changed()
		if got := s.Assigned(); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("fd00:99::2/128")}) {
			t.Errorf("assigned %v", got)
		}
	})
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		capsule(t, st, 1, assign)
		wantReset(t, st, http3.ErrMessage) // R9484-4.7.1-3
	})
}

// TestAssignReplaces: each capsule holds the whole list, once packets flow.
func TestAssignReplaces(t *testing.T) { // R9484-4.7.1-4 R9484-4.7.3-6
	withRawServer(t, func(t *testing.T, st *http3.RequestStream, s *Session, got *packets) {
		const (
			assign4, assign6 = "00 04 0a630002 20", "00 06 fd000000000000000000000000000002 80"
			routes4          = "04 00000000 ffffffff 00"
			routes6          = "06 00000000000000000000000000000000 ffffffffffffffffffffffffffffffff 00"
		)
		want := func(addresses, routes int) {
			t.Helper()
			settle()
			if a, r := s.Assigned(), s.Routes(); len(a) != addresses || len(r) != routes {
				t.Errorf("assigned %v, routes %v", a, r)
			}
		}
		in := packet4("1.1.1.1", "10.99.0.2", 60)
		// Before the first datagram, capsules of different IP versions add up,
		// those of the same replace.
		capsule(t, st, 1, assign6)
		capsule(t, st, 1, "00 04 0a630003 20")
		capsule(t, st, 1, assign4)
		capsule(t, st, 3, routes6)
		capsule(t, st, 3, routes4)
		want(2, 2)
		if r := s.Routes(); !slices.Equal(r, []Route{default4, default6}) {
			t.Errorf("routes %v", r)
		}
		// An empty list withdraws everything at any time.
		capsule(t, st, 1, "")
		capsule(t, st, 3, "")
		want(0, 0)
		sendDatagram(st, "\x00", in)
		settle()
		if n := len(got.take()); n != 0 {
			t.Error("packet for an address that was withdrawn is delivered")
		}
		capsule(t, st, 1, assign6+assign4)
		capsule(t, st, 3, routes4+routes6)
		want(2, 2)
		sendDatagram(st, "\x00", in)
		settle()
		if n := len(got.take()); n != 1 {
			t.Errorf("%d packets", n)
		}
		capsule(t, st, 1, assign4)
		capsule(t, st, 3, routes6)
		want(1, 1)
		if a := s.Assigned(); a[0] != netip.MustParsePrefix("10.99.0.2/32") {
			t.Errorf("assigned %v", a)
		}
	})
}

// TestAddressRequest: every request is answered, before and after the first
// assignment.
func TestAddressRequest(t *testing.T) {
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		capsule(t, st, 2, "05 04 00000000 20  06 06 00000000000000000000000000000000 80")
		settle()
		if err := s.AssignAddresses([]netip.Prefix{addr4}); err != nil {
			t.Fatal(err)
		}
		// R9484-4.7.2-3 R9484-4.7.1-1; IPv6 is refused: R9484-4.7.2-4
		wantCapsule(t, st, 1, "05 04 0a090002 20  06 06 00000000000000000000000000000000 80")
		// A later list keeps the id of the request and drops the refusal. // R9484-4.7.2-5
		if err := s.AssignAddresses([]netip.Prefix{addr4, addr6, netip.MustParsePrefix("10.9.1.0/24")}); err != nil {
			t.Fatal(err)
		}
		wantCapsule(t, st, 1, "05 04 0a090002 20  00 06 fd000000000000000000000000000002 80  00 04 0a090100 18")
		// Requests after the assignment: the wanted prefix, the rest of a version,
		// and nothing. // R9484-4.7.2-3
		capsule(t, st, 2, "07 04 0a090100 18  08 06 00000000000000000000000000000000 40  09 04 0a090200 18")
		wantCapsule(t, st, 1, "05 04 0a090002 20  08 06 fd000000000000000000000000000002 80  07 04 0a090100 18  09 04 00000000 20")
		if err := s.AssignAddresses([]netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}); err == nil {
			t.Error("host bits are sent")
		}
		if err := s.AssignAddresses(nil); err != nil {
			t.Fatal(err)
		}
		wantCapsule(t, st, 1, "")
	})
}

// TestAddressRequestFlood: what waits for an assignment is bounded.
func TestAddressRequestFlood(t *testing.T) {
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		for range maxPendingRequests + 1 {
			capsule(t, st, 2, "01 04 00000000 20")
		}
		wantReset(t, st, http3.ErrExcessiveLoad)
	})
}

// TestRequestAddresses: the client asks, each time with new ids.
func TestRequestAddresses(t *testing.T) { // R9484-4.7.1-5 R9484-4.7.2-1
	withRawServer(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		any4, any6 := netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("::/128")
		if err := s.RequestAddresses([]netip.Prefix{any4, any6}); err != nil {
			t.Fatal(err)
		}
		wantCapsule(t, st, 2, "01 04 00000000 20  02 06 00000000000000000000000000000000 80")
		if err := s.RequestAddresses([]netip.Prefix{addr4}); err != nil {
			t.Fatal(err)
		}
		wantCapsule(t, st, 2, "03 04 0a090002 20")
		// Refusals are no addresses.
		capsule(t, st, 1, "01 04 0a090002 20  02 06 00000000000000000000000000000000 80  03 04 00000000 20")
		<-s.Changed()
		if got := s.Assigned(); !slices.Equal(got, []netip.Prefix{addr4}) {
			t.Errorf("assigned %v", got)
		}
		for _, bad := range [][]netip.Prefix{nil, {{}}, {netip.MustParsePrefix("10.0.0.1/24")}} {
			if err := s.RequestAddresses(bad); err == nil {
				t.Errorf("%v is asked for", bad)
			}
		}
	})
}

func TestAdvertiseRoutesRefusesOverlap(t *testing.T) { // R9484-4.7.3-3
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		if err := s.AdvertiseRoutes([]Route{default4, default4}); err == nil {
			t.Error("overlapping routes are sent")
		}
		if err := s.AdvertiseRoutes([]Route{route("2.0.0.0", "2.0.0.1", 6), route("1.0.0.0", "1.0.0.1", 6)}); err != nil {
			t.Fatal(err)
		}
		wantCapsule(t, st, 3, "04 01000000 01000001 06  04 02000000 02000001 06")
	})
}

// TestReceivedPackets: what a server drops of a client, and why.
func TestReceivedPackets(t *testing.T) { // R9484-7.2-5
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, got *packets) {
		ok4, ok6 := packet4("10.9.0.2", "1.1.1.1", 60), packet6("fd00::2", "2001:db8::1", 60)
		sendDatagram(st, "\x00", ok4) // before it has an address
		settle()
		if err := s.AssignAddresses([]netip.Prefix{addr4, addr6}); err != nil {
			t.Fatal(err)
		}
		s.SetAllowedSources([]netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")})
		behind := packet4("192.168.7.7", "1.1.1.1", 60)
		sendDatagram(st, "\x00", ok4)
		sendDatagram(st, "\x40\x00", ok6) // a longer form of context id 0 // R9484-6-2
		sendDatagram(st, "\x00", behind)
		sendDatagram(st, "\x02", ok4) // R9484-6-1
		sendDatagram(st, "", nil)
		sendDatagram(st, "\x00", nil)
		sendDatagram(st, "\x00", packet4("10.9.0.3", "1.1.1.1", 60))    // another client's // R9484-11-1
		sendDatagram(st, "\x00", packet6("fd00::3", "2001:db8::1", 60)) // R9484-11-1
		sendDatagram(st, "\x00", change(ok4, 8, 0))
		sendDatagram(st, "\x00", packet4("10.9.0.2", "169.254.0.1", 60))
		settle()
		if got := got.take(); !slices.Equal(got, []string{string(ok4), string(ok6), string(behind)}) {
			t.Errorf("got %x", got)
		}
		want := DirectionStats{Packets: 3, Bytes: 180}
		want.Dropped[DropSource] = 3
		want.Dropped[DropUnknownContext] = 2
		want.Dropped[DropMalformed] = 1
		want.Dropped[DropHopLimit] = 1
		want.Dropped[DropLinkLocal] = 1
		if st := s.Stats().Received; st != want {
			t.Errorf("stats %+v, want %+v", st, want)
		}
		if s.Err() != nil {
			t.Errorf("session ended: %v", s.Err())
		}
	})
}

// TestContextIDs: neither end uses any but 0, and that for IP packets, so that none is
// ever taken anew. // R9484-5-1
func TestContextIDs(t *testing.T) {
	check := func(t *testing.T, st *http3.RequestStream, s *Session) {
		t.Helper()
		raw := new(rawDatagrams)
		st.SetDatagramHandler(raw)
		var want []string
		for _, pkt := range [][]byte{packet4("10.9.0.2", "1.1.1.1", 60), packet6("fd00::2", "2001:db8::1", 60)} {
			s.Send([]*quic.PacketBuf{buf(pkt)})
			want = append(want, "\x00"+string(pkt))
		}
		settle()
		if got := raw.take(); !slices.Equal(got, want) {
			t.Errorf("datagrams %x, want %x", got, want)
		}
	}
	withRawServer(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		capsule(t, st, 1, "00 04 0a090002 20 00 06 fd000000000000000000000000000002 80")
		capsule(t, st, 3, "04 00000000 ffffffff 00 06 00000000000000000000000000000000 ffffffffffffffffffffffffffffffff 00")
		settle()
		check(t, st, s)
	})
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) { check(t, st, s) })
}

// TestICMPFromAnywhere: a client takes ICMP errors from hosts that it could not
// send to.
func TestICMPFromAnywhere(t *testing.T) { // R9484-7.2.1-2
	withRawServer(t, func(t *testing.T, st *http3.RequestStream, s *Session, got *packets) {
		capsule(t, st, 1, "00 04 0a090002 20")
		capsule(t, st, 3, "04 01000000 01ffffff 11") // 1.0.0.0/8, UDP
		settle()
		unreachable := appendICMPError(nil, packet4("10.9.0.2", "203.0.113.9", 100), icmpNoRoute, 0)
		sendDatagram(st, "\x00", unreachable)
		settle()
		if p := got.take(); len(p) != 1 || p[0] != string(unreachable) {
			t.Errorf("got %x", p)
		}
	})
}

// TestICMPForUnsent: Send answers what it cannot carry.
func TestICMPForUnsent(t *testing.T) { // R9484-7.2.1-1
	withTunnel(t, func(t *testing.T, tun *tunnel) {
		if err := tun.server.AssignAddresses([]netip.Prefix{addr4, addr6}); err != nil {
			t.Fatal(err)
		}
		if err := tun.server.AdvertiseRoutes([]Route{default4, route("2001:db8::", "2001:db8::ffff", 0)}); err != nil {
			t.Fatal(err)
		}
		settle()
		var answers [][]byte
		mtu := tun.client.MTU()
		if mtu < 1280 || mtu > 1450 {
			t.Fatalf("MTU %d", mtu)
		}
		send := func(pkt []byte) []byte {
			t.Helper()
			answers = nil
			tun.client.Send([]*quic.PacketBuf{buf(pkt)})
			if len(answers) != 1 {
				t.Fatalf("%d answers", len(answers))
			}
			checkICMP(t, answers[0])
			return answers[0]
		}
		tun.client.Send([]*quic.PacketBuf{buf(packet4("10.9.0.2", "1.1.1.1", mtu+1))}) // nobody to tell
		tun.client.SetICMPWriter(func(b []byte) { answers = append(answers, b) })
		// R9484-10.1-1
		if b := send(packet4("10.9.0.2", "1.1.1.1", mtu+1)); b[20] != 3 || b[21] != 4 || int(binary.BigEndian.Uint16(b[26:])) != mtu {
			t.Errorf("too big: %x", b[:28])
		}
		if b := send(packet6("fd00::2", "2001:db8::1", mtu+1)); b[40] != 2 || int(binary.BigEndian.Uint32(b[44:])) != mtu {
			t.Errorf("too big: %x", b[:48])
		}
		if b := send(packet6("fd00::2", "2001:db9::1", 60)); b[40] != 1 || b[41] != 0 {
			t.Errorf("no route: %x", b[:48])
		}
		if b := send(packet4("10.9.0.3", "1.1.1.1", 60)); b[20] != 3 || b[21] != 13 {
			t.Errorf("source: %x", b[:28])
		}
		if b := send(packet6("fd00::3", "2001:db8::1", 60)); b[40] != 1 || b[41] != 5 {
			t.Errorf("source: %x", b[:48])
		}
		fits4, fits6 := packet4("10.9.0.2", "1.1.1.1", mtu), packet6("fd00::2", "2001:db8::1", mtu)
		tun.client.Send([]*quic.PacketBuf{buf(packet4("10.9.0.2", "1.1.1.1", mtu+1)), buf(fits4), buf(fits6)}) // R9484-7.2-2
		answers = nil
		tun.client.Send([]*quic.PacketBuf{buf(packet4("10.9.0.2", "224.0.0.1", 60)), buf([]byte{0x45})})
		settle()
		if len(answers) != 0 {
			t.Errorf("answers to what may not be answered: %x", answers)
		}
		if got := tun.toServer.take(); !slices.Equal(got, []string{string(fits4), string(fits6)}) {
			t.Errorf("%d packets arrive", len(got))
		}
		want := DirectionStats{Packets: 2, Bytes: uint64(2 * mtu)}
		want.Dropped[DropTooBig] = 4
		want.Dropped[DropNoRoute] = 1
		want.Dropped[DropSource] = 2
		want.Dropped[DropLinkLocal] = 1
		want.Dropped[DropMalformed] = 1
		if st := tun.client.Stats(); st.Sent != want || st.ICMPSent != 6 {
			t.Errorf("stats %+v, want %+v", st, want)
		}
	})
}

// TestICMPRate: a flood of packets that cannot be sent is not answered with one.
func TestICMPRate(t *testing.T) {
	var l icmpLimiter
	now := time.Now()
	l.init(now)
	count := func(now time.Time) (n int) {
		for l.allow(now) {
			n++
		}
		return n
	}
	for i, want := range []int{icmpBurst, 0, icmpRate / 10, icmpBurst} {
		now = now.Add([]time.Duration{0, 0, 100 * time.Millisecond, time.Hour}[i])
		if got := count(now); got != want {
			t.Errorf("step %d: %d answers, want %d", i, got, want)
		}
	}
}

// TestNoPacketTooBigBelow1280: IPv6 hosts cannot go below their minimum.
func TestNoPacketTooBigBelow1280(t *testing.T) {
	s := new(Session)
	s.icmp.init(time.Now())
	answers := 0
	s.SetICMPWriter(func([]byte) { answers++ })
	s.answer(packet6("fd00::2", "2001:db8::1", 1280), DropTooBig, 1279)
	if answers != 0 {
		t.Error("answered")
	}
	s.answer(packet6("fd00::2", "2001:db8::1", 1281), DropTooBig, 1280)
	s.answer(packet4("10.9.0.2", "1.1.1.1", 1280), DropTooBig, 1279)
	if answers != 2 {
		t.Errorf("%d answers", answers)
	}
}

// TestTunnelEnds: either end closes, by the session or by the connection.
func TestTunnelEnds(t *testing.T) {
	withTunnel(t, func(t *testing.T, tun *tunnel) {
		if tun.client.Err() != nil {
			t.Error(tun.client.Err())
		}
		tun.server.Close() // R9484-4.1-4
		<-tun.client.Done()
		if err := tun.client.Err(); err != io.EOF {
			t.Errorf("client session ended with %v", err)
		}
		if err := tun.server.Err(); err != ErrClosed {
			t.Errorf("server session ended with %v", err)
		}
		tun.client.Close()
		tun.client.Send([]*quic.PacketBuf{buf(packet4("10.9.0.2", "1.1.1.1", 60))})
		if err := tun.client.RequestAddresses([]netip.Prefix{addr4}); err == nil {
			t.Error("a closed session sends capsules")
		}
	})
	withTunnel(t, func(t *testing.T, tun *tunnel) {
		tun.clientConn.Close()
		<-tun.client.Done()
		<-tun.server.Done()
		if e, ok := errors.AsType[*quic.ApplicationError](tun.server.Err()); !ok || !e.Remote {
			t.Errorf("server session ended with %v", tun.server.Err())
		}
	})
}

type discard struct{}

func (discard) HandlePacket([]byte) {}
func (discard) FlushPackets()       {}

// receiverForTest is the receiving side of a server session without a stream.
func receiverForTest() (*receiver, []byte) {
	s := new(Session)
	s.config.given = []address{{0, addr4}, {0, addr6}}
	s.config.init(s)
	return &receiver{s: s, h: discard{}}, append([]byte{0}, packet4("10.9.0.2", "1.1.1.1", 1300)...)
}

// TestCheckAllocs: the checks of a packet allocate nothing in either direction.
func TestCheckAllocs(t *testing.T) {
	r, d := receiverForTest()
	if n := testing.AllocsPerRun(100, func() {
		r.HandleDatagram(d)
		r.FlushDatagrams()
	}); n != 0 {
		t.Errorf("received: %v allocations", n)
	}
	p := &policy{ours: prefixSet{addr4}, routes: newRouteTable([]Route{default4, default6})}
	var h ipHeader
	if n := testing.AllocsPerRun(100, func() { p.checkSent(d[1:], &h) }); n != 0 {
		t.Errorf("sent: %v allocations", n)
	}
	if r.s.Stats().Received.Packets == 0 || p.checkSent(d[1:], &h) != notDropped {
		t.Error("packets are dropped")
	}
}

func BenchmarkReceive(b *testing.B) {
	r, d := receiverForTest()
	b.ReportAllocs()
	for b.Loop() {
		r.HandleDatagram(d)
	}
}

func BenchmarkCheckSent(b *testing.B) {
	_, d := receiverForTest()
	p := &policy{ours: prefixSet{addr4, addr6}, routes: newRouteTable([]Route{default4, default6})}
	var h ipHeader
	b.ReportAllocs()
	for b.Loop() {
		p.checkSent(d[1:], &h)
	}
}
