// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// ourProtocol marks our routes and rules (rtm_protocol, FRA_PROTOCOL), so that
	// undoing can never hit those of somebody else. Not assigned by the kernel.
	ourProtocol = 109
	// firstTable is where the search for unused routing tables begins. The number
	// also is the priority of the table's rules: before the main table's 32766.
	firstTable = 7100
	lastTable  = 7999
)

// families in the order in which they are treated everywhere.
var families = [...]int{netlink.FAMILY_V4, netlink.FAMILY_V6}

// routesOf lists the routes of a table (0: all tables) through a link (0: any).
func routesOf(family, link, table int) ([]netlink.Route, error) {
	filter := &netlink.Route{LinkIndex: link, Table: table}
	mask := uint64(netlink.RT_FILTER_TABLE)
	if link != 0 {
		mask |= netlink.RT_FILTER_OIF
	}
	routes, err := netlink.RouteListFiltered(family, filter, mask)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// routePath copies the routes of the main table into a table of the interface's own
// and adds the rules that select it: by source address, which also lets replies pass
// a strict rp_filter, and by outgoing interface for sockets that are bound to it
// before they have a source address. The networks behind other interfaces stay where
// they are; only their default routes are left out.
func (h *host) routePath(iface string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return unknownInterface(iface, err)
	}
	table, err := h.tableOf(iface)
	if err != nil {
		return err
	}
	var want, others []change
	for _, family := range families {
		ipv6 := family == netlink.FAMILY_V6
		own, foreign, err := h.pathRoutes(family, link, table)
		if err != nil {
			return err
		}
		want, others = append(want, own...), append(others, foreign...)
		addrs, err := netlink.AddrList(link, family)
		if err != nil {
			return fmt.Errorf("addresses of %s: %w", iface, err)
		}
		found := false
		for _, a := range addrs {
			if ip, _ := netip.AddrFromSlice(a.IP); a.Scope == unix.RT_SCOPE_UNIVERSE {
				found = true
				want = append(want, change{Kind: changeRule, Source: ip.Unmap(), IPv6: ipv6, Table: table, Priority: table})
			}
		}
		if found {
			want = append(want, change{Kind: changeRule, Link: iface, IPv6: ipv6, Table: table, Priority: table})
		}
	}
	// Without those of other interfaces, which may be on their way out, the path works.
	if err := h.sync("path "+iface+" others", others); err != nil {
		h.log.Debug("routes of other interfaces", "path", iface, "error", err)
	}
	return h.sync("path "+iface, want)
}

// pathRoutes are the routes for the table of a path: those through its link, and the
// networks behind other links. To each destination the best route is taken.
func (h *host) pathRoutes(family int, link netlink.Link, table int) (own, others []change, err error) {
	routes, err := routesOf(family, 0, unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, nil, err
	}
	index := link.Attrs().Index
	slices.SortStableFunc(routes, func(a, b netlink.Route) int {
		return cmp.Or(rank(a.LinkIndex != index)-rank(b.LinkIndex != index), a.Priority-b.Priority)
	})
	seen := map[netip.Prefix]bool{}
	for _, r := range routes {
		dst := prefixOf(r.Dst, family)
		if !isPathRoute(r, dst) || seen[dst] {
			continue
		}
		c := change{Kind: changeRoute, Dst: dst, Link: link.Attrs().Name, Table: table}
		c.Gateway = addrOf(r.Gw)
		c.Source = addrOf(r.Src)
		c.OnLink = r.Flags&int(netlink.FLAG_ONLINK) != 0
		if r.LinkIndex == index {
			seen[dst] = true
			own = append(own, c)
			continue
		}
		other, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || other.Attrs().Name == h.tunName || dst.Bits() <= 1 {
			continue // gone meanwhile or with several next hops; ours; a default or half of it
		}
		seen[dst] = true
		c.Link = other.Attrs().Name
		others = append(others, c)
	}
	return own, others, nil
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// isPathRoute leaves out our own host route, and routes for link-local and multicast,
// which the kernel looks up elsewhere.
func isPathRoute(r netlink.Route, dst netip.Prefix) bool {
	return r.Protocol != ourProtocol && r.Type == unix.RTN_UNICAST && !dst.Addr().IsLinkLocalUnicast() && !dst.Addr().IsMulticast()
}

// tableOf returns the routing table of a path, an unused one at first.
func (h *host) tableOf(iface string) (int, error) {
	if t := h.tables[iface]; t != 0 {
		return t, nil
	}
	used := map[int]bool{}
	for _, t := range h.tables {
		used[t] = true
	}
	for _, family := range families {
		routes, err := routesOf(family, 0, unix.RT_TABLE_UNSPEC)
		if err != nil {
			return 0, err
		}
		for _, r := range routes {
			used[r.Table] = true
		}
		rules, err := netlink.RuleList(family)
		if err != nil {
			return 0, fmt.Errorf("list rules: %w", err)
		}
		for _, r := range rules {
			used[r.Table], used[r.Priority] = true, true
		}
	}
	for t := firstTable; t <= lastTable; t++ {
		if !used[t] {
			h.tables[iface] = t
			return t, nil
		}
	}
	return 0, fmt.Errorf("no routing table between %d and %d is free", firstTable, lastTable)
}

// routeServer adds a host route by the gateway that the interface uses for server.
// A server in the interface's own network needs none.
func (h *host) routeServer(iface string, server netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return unknownInterface(iface, err)
	}
	family := netlink.FAMILY_V4
	if server.Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := routesOf(family, link.Attrs().Index, unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	best := -1
	var via netlink.Route
	for _, r := range routes {
		dst := prefixOf(r.Dst, family)
		if r.Protocol != ourProtocol && dst.Contains(server) && dst.Bits() > best {
			best, via = dst.Bits(), r
		}
	}
	if best < 0 {
		return fmt.Errorf("interface %s has no route to the server %s", iface, server)
	}
	if best > 0 && via.Gw == nil {
		return h.sync("server", nil)
	}
	return h.sync("server", []change{{
		Kind:    changeRoute,
		Dst:     netip.PrefixFrom(server, server.BitLen()),
		Gateway: addrOf(via.Gw),
		OnLink:  via.Flags&int(netlink.FLAG_ONLINK) != 0,
		Link:    iface,
		Table:   unix.RT_TABLE_MAIN,
	}})
}

// closedMetric is that of the routes that refuse packets: behind those of the tunnel,
// so that they are in force in the very moment in which the kernel drops these.
const closedMetric = 8192

// routeTunnel: a default route becomes two halves, which go before the default
// route without touching it, and behind which the routes of the LAN stay in force.
func (h *host) routeTunnel(dests, closed []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var want, refuse []change
	for _, d := range dests {
		for _, half := range halves(d) {
			want = append(want, change{Kind: changeRoute, Dst: half, Link: h.tunName, Table: unix.RT_TABLE_MAIN})
		}
	}
	for _, d := range closed {
		for _, half := range halves(d) {
			refuse = append(refuse, change{Kind: changeRoute, Dst: half, Closed: true, Metric: closedMetric, Table: unix.RT_TABLE_MAIN})
		}
	}
	err := h.sync("closed", refuse)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODEV) {
		h.log.Debug("this host has no IPv6 that could leave outside the tunnel", "error", err)
		err = nil
	}
	return errors.Join(err, h.sync("tunnel", want))
}

// checkInner: an address of a directly connected network would be sought in the tunnel
// by this host, or the tunnel's in that network; a gateway would be cut off.
func (h *host) checkInner(addr netip.Addr) error {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := routesOf(family, 0, unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	const advice = "give the server another --subnet"
	for _, r := range routes {
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || r.Protocol == ourProtocol || link.Attrs().Name == h.tunName {
			continue
		}
		if addrOf(r.Gw) == addr {
			return failf(ExitFailure, "the server assigns %s, which is the gateway of interface %s here: %s", addr, link.Attrs().Name, advice)
		}
		if dst := prefixOf(r.Dst, family); r.Gw == nil && dst.Bits() > 1 && dst.Contains(addr) {
			return failf(ExitFailure, "the server assigns %s, which is in the network %s of interface %s here: %s", addr, dst, link.Attrs().Name, advice)
		}
	}
	return nil
}

// halves splits a default route in two and leaves others whole.
func halves(p netip.Prefix) []netip.Prefix {
	switch p {
	case netip.PrefixFrom(netip.IPv4Unspecified(), 0):
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
	case netip.PrefixFrom(netip.IPv6Unspecified(), 0):
		return []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
	}
	return []netip.Prefix{p}
}

// linkOf is the device of a route; nil for one that has none.
func linkOf(c change) (netlink.Link, error) {
	if c.Closed {
		return nil, nil
	}
	return netlink.LinkByName(c.Link)
}

func addRoute(c change) error {
	link, err := linkOf(c)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(netlinkRoute(c, link))
}

func removeRoute(c change) error {
	link, err := linkOf(c)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return nil // and its routes with it
	}
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(netlinkRoute(c, link)); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// otherDevice names the device of the route that is in the place of c, unless that is
// c's own.
func otherDevice(c change) string {
	family := netlink.FAMILY_V4
	if c.Dst.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := routesOf(family, 0, c.Table)
	if err != nil {
		return ""
	}
	name := ""
	for _, r := range routes {
		if prefixOf(r.Dst, family) != c.Dst || r.Type != unix.RTN_UNICAST {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err == nil && link.Attrs().Name == c.Link {
			return ""
		}
		if err == nil {
			name = link.Attrs().Name
		}
	}
	return name
}

func netlinkRoute(c change, link netlink.Link) *netlink.Route {
	r := &netlink.Route{
		Dst:      ipNet(c.Dst),
		Gw:       c.Gateway.AsSlice(),
		Src:      c.Source.AsSlice(),
		Table:    c.Table,
		Priority: c.Metric,
		Protocol: ourProtocol,
	}
	if c.Closed {
		r.Type = unix.RTN_UNREACHABLE
		return r
	}
	r.LinkIndex = link.Attrs().Index
	if !c.Gateway.IsValid() && c.Dst.Addr().Is4() {
		r.Scope = unix.RT_SCOPE_LINK
	}
	if c.OnLink {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	return r
}

func addRule(c change) error { return netlink.RuleAdd(netlinkRule(c)) }

func removeRule(c change) error {
	err := netlink.RuleDel(netlinkRule(c))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	return err
}

func netlinkRule(c change) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = netlink.FAMILY_V4
	if c.IPv6 {
		r.Family = netlink.FAMILY_V6
	}
	r.Table, r.Priority, r.Protocol, r.OifName = c.Table, c.Priority, ourProtocol, c.Link
	if c.Source.IsValid() {
		r.Src = ipNet(netip.PrefixFrom(c.Source, c.Source.BitLen()))
	}
	return r
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the destination of a route; none stands for the default route.
func prefixOf(n *net.IPNet, family int) netip.Prefix {
	if n == nil {
		if family == netlink.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addrOf(n.IP), bits)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
