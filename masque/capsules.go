// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"github.com/mqvpn/mqvpn/http3"
)

// The capsule types of RFC 9484 section 4.7.
const (
	capsuleAddressAssign      = 0x01
	capsuleAddressRequest     = 0x02
	capsuleRouteAdvertisement = 0x03
)

func knownCapsule(typ uint64) bool {
	return typ >= capsuleAddressAssign && typ <= capsuleRouteAdvertisement
}

// address is an Assigned Address or a Requested Address: both have the same form.
// prefix may have host bits set when it comes from the peer.
type address struct {
	requestID uint64
	prefix    netip.Prefix
}

// refused tells whether an Assigned Address says that a request got nothing.
func (a address) refused() bool {
	return a.requestID != 0 && a.prefix.Addr().IsUnspecified() && a.prefix.IsSingleIP()
}

// Route is a range of addresses that the sender of a route advertisement will
// forward to, both ends included. Protocol 0 stands for all protocols.
type Route struct {
	Start, End netip.Addr
	Protocol   uint8
}

// PrefixRoute is the route to all addresses of a prefix.
func PrefixRoute(p netip.Prefix) Route {
	p = p.Masked()
	end := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		end[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(end)
	return Route{Start: p.Addr(), End: last}
}

// malformed: an error in a capsule is one of the message (RFC 9297 section 3.3).
func malformed(reason string) error {
	return &http3.StreamError{Code: http3.ErrMessage, Reason: reason}
}

func appendIP(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v4 := a.As4()
		return append(b, v4[:]...)
	}
	v6 := a.As16()
	return append(b, v6[:]...)
}

func ipVersion(a netip.Addr) byte {
	if a.Is4() {
		return 4
	}
	return 6
}

// consumeVersion reads the IP Version field; size is the length of an address, 0
// for any other version.
func consumeVersion(b []byte) (size int, rest []byte) {
	if len(b) == 0 {
		return 0, nil
	}
	switch b[0] {
	case 4:
		return 4, b[1:]
	case 6:
		return 16, b[1:]
	}
	return 0, nil
}

// appendAddresses appends the value of an ADDRESS_ASSIGN or ADDRESS_REQUEST capsule.
func appendAddresses(b []byte, list []address) []byte {
	for _, a := range list {
		b = http3.AppendVarint(b, a.requestID)
		b = append(b, ipVersion(a.prefix.Addr()))
		b = appendIP(b, a.prefix.Addr())
		b = append(b, byte(a.prefix.Bits()))
	}
	return b
}

// parseAddresses reads the value of an ADDRESS_ASSIGN or ADDRESS_REQUEST capsule.
// Host bits are left to the caller.
func parseAddresses(b []byte) (list []address, err error) {
	for len(b) > 0 {
		id, n := http3.ConsumeVarint(b)
		if n < 0 {
			return nil, malformed("truncated address") // R9297-3.3-1
		}
		size, rest := consumeVersion(b[n:])
		if size == 0 {
			return nil, malformed("IP version of an address") // R9484-4.7.1-2 R9484-4.7.2-2
		}
		if len(rest) < size+1 {
			return nil, malformed("truncated address")
		}
		addr, _ := netip.AddrFromSlice(rest[:size])
		bits := int(rest[size])
		if bits > addr.BitLen() {
			return nil, malformed("prefix length of an address") // R9484-4.7.2-2
		}
		list = append(list, address{id, netip.PrefixFrom(addr, bits)})
		b = rest[size+1:]
	}
	return list, nil
}

// checkHostBits fails when a prefix has bits set behind its length. // R9484-4.7.2-2
func checkHostBits(list []address) error {
	for _, a := range list {
		if a.prefix != a.prefix.Masked() {
			return malformed("host bits in a prefix")
		}
	}
	return nil
}

// appendRoutes appends the value of a ROUTE_ADVERTISEMENT capsule.
func appendRoutes(b []byte, routes []Route) []byte {
	for _, r := range routes {
		b = append(b, ipVersion(r.Start))
		b = appendIP(appendIP(b, r.Start), r.End)
		b = append(b, r.Protocol)
	}
	return b
}

// parseRoutes reads the value of a ROUTE_ADVERTISEMENT capsule.
func parseRoutes(b []byte) (routes []Route, err error) {
	for len(b) > 0 {
		size, rest := consumeVersion(b)
		if size == 0 {
			return nil, malformed("IP version of a route") // R9484-4.7.3-1
		}
		if len(rest) < 2*size+1 {
			return nil, malformed("truncated route") // R9297-3.3-1
		}
		start, _ := netip.AddrFromSlice(rest[:size])
		end, _ := netip.AddrFromSlice(rest[size : 2*size])
		routes = append(routes, Route{start, end, rest[2*size]})
		b = rest[2*size+1:]
	}
	if err := checkRoutes(routes); err != nil {
		return nil, malformed(err.Error()) // R9484-4.7.3-4
	}
	return routes, nil
}

// compareRoutes orders routes by IP version, protocol and address.
func compareRoutes(a, b Route) int {
	return cmp.Or(
		cmp.Compare(ipVersion(a.Start), ipVersion(b.Start)),
		cmp.Compare(a.Protocol, b.Protocol),
		a.Start.Compare(b.Start),
	)
}

// checkRoutes checks the rules for a list of routes: sorted, without overlap
// within a protocol and between a protocol and all protocols.
func checkRoutes(routes []Route) error {
	for i, r := range routes {
		if r.Start.BitLen() != r.End.BitLen() || r.Start.BitLen() == 0 {
			return errors.New("route between two IP versions")
		}
		if r.End.Less(r.Start) { // R9484-4.7.3-2
			return errors.New("route that ends before it starts")
		}
		if i == 0 {
			continue
		}
		prev := routes[i-1]
		if compareRoutes(prev, r) >= 0 {
			return errors.New("routes out of order")
		}
		if prev.Protocol == r.Protocol && ipVersion(prev.Start) == ipVersion(r.Start) && !prev.End.Less(r.Start) {
			return errors.New("overlapping routes")
		}
	}
	return checkProtocolOverlap(routes)
}

// checkProtocolOverlap: a route for one protocol must not overlap one for all of
// them. Both lists are sorted. // R9484-4.7.3-5
func checkProtocolOverlap(routes []Route) error {
	table := newRouteTable(routes)
	for _, g := range table.groups {
		if g.protocol == 0 {
			continue
		}
		all := table.group(g.v6, 0)
		for _, r := range g.routes {
			// The last range for all protocols that starts at or below r's end.
			i, found := slices.BinarySearchFunc(all, r.End, func(a Route, end netip.Addr) int { return a.Start.Compare(end) })
			if found || i > 0 && !all[i-1].End.Less(r.Start) {
				return errors.New("routes for one protocol and for all overlap")
			}
		}
	}
	return nil
}

// sortRoutes returns a sorted copy that may be sent. // R9484-4.7.3-3
func sortRoutes(routes []Route) ([]Route, error) {
	sorted := slices.SortedFunc(slices.Values(routes), compareRoutes)
	return sorted, checkRoutes(sorted)
}
