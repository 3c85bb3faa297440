// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"net/netip"
)

// routeTable answers whether the peer forwards to a destination. It is immutable.
type routeTable struct {
	groups []routeGroup
}

// routeGroup holds the sorted, disjoint ranges of one IP version and protocol.
type routeGroup struct {
	v6       bool
	protocol uint8
	routes   []Route
}

// newRouteTable makes a table of routes that checkRoutes has found in order.
func newRouteTable(routes []Route) *routeTable {
	t := new(routeTable)
	for i, start := 0, 0; i < len(routes); i++ {
		r := routes[i]
		if i+1 < len(routes) && routes[i+1].Protocol == r.Protocol && routes[i+1].Start.Is4() == r.Start.Is4() {
			continue
		}
		t.groups = append(t.groups, routeGroup{!r.Start.Is4(), r.Protocol, routes[start : i+1]})
		start = i + 1
	}
	return t
}

func (t *routeTable) group(v6 bool, protocol uint8) []Route {
	for i := range t.groups {
		if g := &t.groups[i]; g.v6 == v6 && g.protocol == protocol {
			return g.routes
		}
	}
	return nil
}

// allows tells whether a packet may be sent. ICMP is allowed to the addresses of
// any route, whatever its protocol. // R9484-4.6-6
func (t *routeTable) allows(pkt []byte, h *ipHeader) bool {
	protocol, known := uint8(0), false
	for i := range t.groups {
		g := &t.groups[i]
		if g.v6 != h.v6 || !g.contains(h.dst) {
			continue
		}
		if g.protocol == 0 {
			return true
		}
		if !known {
			protocol, known = upperProtocol(pkt), true
		}
		if protocol == g.protocol || protocol == protocolICMP && !h.v6 || protocol == protocolICMPv6 && h.v6 {
			return true
		}
	}
	return false
}

func (g *routeGroup) contains(a netip.Addr) bool {
	lo, hi := 0, len(g.routes)
	for lo < hi { // the first range that starts above a
		if mid := (lo + hi) / 2; a.Less(g.routes[mid].Start) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo > 0 && !g.routes[lo-1].End.Less(a)
}
