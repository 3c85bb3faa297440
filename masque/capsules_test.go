// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/http3"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func isMalformed(err error) bool {
	e, ok := errors.AsType[*http3.StreamError](err)
	return ok && e.Code == http3.ErrMessage
}

func TestAddresses(t *testing.T) {
	list := []address{
		{0, netip.MustParsePrefix("10.99.0.2/32")},
		{300, netip.MustParsePrefix("192.0.2.0/24")},
		{1, netip.MustParsePrefix("2001:db8::/32")},
	}
	b := unhex(t, "00 04 0a630002 20  412c 04 c0000200 18  01 06 20010db8000000000000000000000000 20")
	if got := appendAddresses(nil, list); !bytes.Equal(got, b) {
		t.Errorf("%x, want %x", got, b)
	}
	if got, err := parseAddresses(b); err != nil || !slices.Equal(got, list) {
		t.Errorf("%v, %v; want %v", got, err, list)
	}
	if got, err := parseAddresses(nil); err != nil || len(got) != 0 {
		t.Errorf("empty: %v, %v", got, err)
	}
	ends := map[int]bool{7: true, 15: true, 34: true}
	for n := 1; n < len(b); n++ { // R9297-3.3-1
		if _, err := parseAddresses(b[:n]); !ends[n] && !isMalformed(err) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, s := range []string{
		"00 05 0a630002 20", // R9484-4.7.1-2 R9484-4.7.2-2
		"00 00",             // R9484-4.7.1-2
		"00 04 0a630002 21", // R9484-4.7.2-2
		"00 06 20010db8000000000000000000000000 81", // R9484-4.7.2-2
	} {
		if got, err := parseAddresses(unhex(t, s)); !isMalformed(err) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if err := checkHostBits([]address{{1, netip.MustParsePrefix("10.0.0.1/24")}}); !isMalformed(err) { // R9484-4.7.2-2
		t.Errorf("host bits: %v", err)
	}
}

func route(start, end string, protocol uint8) Route {
	return Route{netip.MustParseAddr(start), netip.MustParseAddr(end), protocol}
}

func TestRoutes(t *testing.T) {
	routes := []Route{
		route("10.0.0.0", "10.255.255.255", 0),
		route("11.0.0.0", "11.0.0.0", 0),
		route("9.0.0.0", "9.0.0.9", 6),
		route("2001:db8::", "2001:db8::ffff", 0),
	}
	b := unhex(t, "04 0a000000 0affffff 00  04 0b000000 0b000000 00  04 09000000 09000009 06"+
		"06 20010db8000000000000000000000000 20010db800000000000000000000ffff 00")
	if got := appendRoutes(nil, routes); !bytes.Equal(got, b) {
		t.Errorf("%x, want %x", got, b)
	}
	if got, err := parseRoutes(b); err != nil || !slices.Equal(got, routes) {
		t.Errorf("%v, %v", got, err)
	}
	for n := 1; n < len(b); n++ { // R9297-3.3-1
		if _, err := parseRoutes(b[:n]); n != 10 && n != 20 && n != 30 && !isMalformed(err) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := parseRoutes(unhex(t, "05 0a000000 0affffff 00")); !isMalformed(err) { // R9484-4.7.3-1
		t.Errorf("IP version 5: %v", err)
	}
}

func TestRouteOrder(t *testing.T) {
	for name, routes := range map[string][]Route{
		"end before start":            {route("10.0.0.1", "10.0.0.0", 0)},                                // R9484-4.7.3-2
		"versions":                    {default6, default4},                                              // R9484-4.7.3-4
		"protocols":                   {route("1.0.0.0", "1.0.0.1", 17), route("2.0.0.0", "2.0.0.1", 6)}, // R9484-4.7.3-4
		"addresses":                   {route("2.0.0.0", "2.0.0.1", 0), route("1.0.0.0", "1.0.0.1", 0)},  // R9484-4.7.3-4
		"twice":                       {default4, default4},                                              // R9484-4.7.3-4
		"overlap":                     {route("1.0.0.0", "1.0.0.5", 0), route("1.0.0.5", "1.0.0.9", 0)},  // R9484-4.7.3-4
		"protocol inside all":         {default4, route("1.0.0.0", "1.0.0.9", 6)},                        // R9484-4.7.3-5
		"all inside protocol":         {route("1.0.0.4", "1.0.0.5", 0), route("1.0.0.0", "1.0.0.9", 6)},  // R9484-4.7.3-5
		"protocol overlaps the start": {route("1.0.0.4", "1.0.0.9", 0), route("1.0.0.0", "1.0.0.4", 6)},  // R9484-4.7.3-5
		"protocol overlaps the end":   {route("1.0.0.0", "1.0.0.4", 0), route("1.0.0.4", "1.0.0.9", 6)},  // R9484-4.7.3-5
	} {
		if got, err := parseRoutes(appendRoutes(nil, routes)); !isMalformed(err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, routes := range map[string][]Route{
		"none":                  {},
		"both versions":         {default4, default6},
		"adjacent":              {route("1.0.0.0", "1.0.0.5", 0), route("1.0.0.6", "1.0.0.9", 0)},
		"protocol beside all":   {route("1.0.0.4", "1.0.0.5", 0), route("1.0.0.0", "1.0.0.3", 6), route("1.0.0.6", "1.0.0.9", 6)},
		"same range, protocols": {route("1.0.0.0", "1.0.0.5", 6), route("1.0.0.0", "1.0.0.5", 17)},
		"all of IPv6 only":      {route("1.0.0.0", "1.0.0.5", 6), default6},
	} {
		if _, err := parseRoutes(appendRoutes(nil, routes)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The sender sorts, and refuses what cannot be brought in order. // R9484-4.7.3-3
	got, err := sortRoutes([]Route{default6, route("2.0.0.0", "2.0.0.1", 6), route("1.0.0.0", "1.0.0.1", 0)})
	if err != nil || !slices.Equal(got, []Route{route("1.0.0.0", "1.0.0.1", 0), route("2.0.0.0", "2.0.0.1", 6), default6}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][]Route{
		{default4, default4},
		{default4, route("1.0.0.0", "1.0.0.1", 6)}, // R9484-4.7.3-5
		{{}},
		{{Start: netip.MustParseAddr("1.1.1.1"), End: netip.MustParseAddr("::")}},
	} {
		if _, err := sortRoutes(bad); err == nil {
			t.Errorf("%v is sent", bad)
		}
	}
}

func TestPrefixRoute(t *testing.T) {
	for p, want := range map[string]Route{
		"0.0.0.0/0":     route("0.0.0.0", "255.255.255.255", 0),
		"10.1.2.3/8":    route("10.0.0.0", "10.255.255.255", 0),
		"10.1.2.0/23":   route("10.1.2.0", "10.1.3.255", 0),
		"10.1.2.3/32":   route("10.1.2.3", "10.1.2.3", 0),
		"2001:db8::/33": route("2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff", 0),
	} {
		if got := PrefixRoute(netip.MustParsePrefix(p)); got != want {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
}

func TestRouteTable(t *testing.T) {
	table := newRouteTable([]Route{
		route("10.0.0.0", "10.0.0.9", 0), route("10.0.1.0", "10.0.1.9", 0), route("20.0.0.0", "20.0.0.9", 17),
		route("fd00::", "fd00::9", 6), route("fd00::1:0", "fd00::1:9", 17),
	})
	for _, c := range []struct {
		dst      string
		protocol uint8
		want     bool
	}{
		{"10.0.0.0", 6, true},
		{"10.0.0.9", 6, true},
		{"10.0.0.10", 6, false},
		{"9.255.255.255", 6, false},
		{"10.0.1.5", 99, true},
		{"10.0.2.0", 99, false},
		{"20.0.0.1", 17, true},
		{"20.0.0.1", 6, false},
		{"20.0.0.1", protocolICMP, true}, // R9484-4.6-6
		{"20.0.0.1", protocolICMPv6, false},
		{"fd00::5", 6, true},
		{"fd00::5", 17, false},
		{"fd00::5", protocolICMPv6, true}, // R9484-4.6-6
		{"fd00::1:5", 17, true},
		{"fd01::", 17, false},
	} {
		var pkt []byte
		if strings.Contains(c.dst, ":") {
			pkt = packet6("fd00::2", c.dst, 60)
			pkt[6] = c.protocol
		} else {
			pkt = packet4("10.9.0.2", c.dst, 60)
			pkt[9] = c.protocol
		}
		var h ipHeader
		if r := parsePacket(pkt, &h); r != notDropped {
			t.Fatal(r)
		}
		if got := table.allows(pkt, &h); got != c.want {
			t.Errorf("%s protocol %d: %v", c.dst, c.protocol, got)
		}
	}
}

func FuzzCapsuleValues(f *testing.F) {
	f.Add(unhex(f, "00040a63000220"))
	f.Add(unhex(f, "0400000000ffffffff00"))
	f.Add(unhex(f, "0600000000000000000000000000000000ffffffffffffffffffffffffffffffff00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := parseAddresses(b); err == nil {
			again, err := parseAddresses(appendAddresses(nil, list))
			if err != nil || !slices.Equal(again, list) {
				t.Fatalf("%v became %v, %v", list, again, err)
			}
		}
		if routes, err := parseRoutes(b); err == nil {
			if got := appendRoutes(nil, routes); !bytes.Equal(got, b) {
				t.Fatalf("%x became %x", b, got)
			}
			table := newRouteTable(routes)
			for _, r := range routes {
				if !slices.Contains(table.group(!r.Start.Is4(), r.Protocol), r) {
					t.Fatalf("%v is not in the table", r)
				}
			}
		}
	})
}
