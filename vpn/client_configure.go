// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/mqvpn/mqvpn/masque"
)

// configure gives the TUN device the addresses, MTU and routes of a tunnel. What is
// the same as before is not touched, so that inner connections live on; what the
// kernel or somebody else took away is made again.
func (c *client) configure(t *tunnel) error {
	mtu := min(t.session.MTU(), maxMTU)
	if mtu == 0 {
		return nil // no path carries anything just now: nothing to go by
	}
	if c.cfg.MTU != 0 {
		mtu = min(mtu, c.cfg.MTU)
	}
	want := slices.DeleteFunc(t.session.Assigned(), func(p netip.Prefix) bool { return p.Addr().Is6() && mtu < minMTU })
	if len(want) == 0 {
		return failf(ExitRefused, "the server has withdrawn all addresses")
	}
	c.logIPv6(t, mtu, slices.ContainsFunc(want, func(p netip.Prefix) bool { return p.Addr().Is6() }))
	if err := c.setAddresses(want, mtu); err != nil {
		return err
	}
	if !c.cfg.ManageRoutes {
		return nil
	}
	err := c.setRoutes(t, want)
	if err != nil && !c.wasUp {
		return err
	}
	// Routes come and go with the host's interfaces. The connection does not depend on
	// them, and with the next change of an interface they are tried again.
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != c.routeErr {
		c.log.Error("routes are not as they should be", "error", err)
	}
	c.routeErr = text
	return nil
}

// logIPv6 tells when IPv6 inside the tunnel ends, and when it begins again.
func (c *client) logIPv6(t *tunnel, mtu int, has bool) {
	switch {
	case has && t.noIPv6:
		c.log.Info("IPv6 inside the tunnel works again", "mtu", mtu)
	case has || t.noIPv6:
	case len(t.session.Assigned()) > 1:
		c.log.Warn("no IPv6 inside the tunnel, because the paths carry less than it needs; it is refused meanwhile", "mtu", mtu, "needed", minMTU)
	case c.cfg.ManageRoutes:
		c.log.Info("the server offers no IPv6; it is refused, so that it does not leave outside the tunnel")
	}
	t.noIPv6 = !has
}

// setAddresses sets addresses and MTU of the TUN device, which is up then.
func (c *client) setAddresses(want []netip.Prefix, mtu int) error {
	for _, p := range want {
		if !slices.Contains(c.inner, p) {
			if err := c.sys.checkInner(p.Addr()); err != nil {
				return err
			}
		}
	}
	// Before the MTU: when that is too small for IPv6 the kernel takes its addresses.
	for _, p := range c.inner {
		if !slices.Contains(want, p) {
			if err := c.dev.RemoveAddress(p); err != nil {
				return err
			}
		}
	}
	if err := c.dev.SetMTU(mtu); err != nil {
		return err
	}
	for _, p := range want {
		if err := c.dev.AddAddress(p); err != nil {
			return err
		}
	}
	c.mtu, c.inner = mtu, want
	return c.dev.Up()
}

func (c *client) setRoutes(t *tunnel, inner []netip.Prefix) error {
	dests := destinations(t.session.Routes(), inner)
	return errors.Join(c.routeServer(t), c.sys.routeTunnel(dests, closedTo(t.session.Routes(), dests)))
}

// routeServer keeps the way to the server out of the tunnel, by an interface that
// works: the first path's, or else another one's.
func (c *client) routeServer(t *tunnel) error {
	var live, rest []string
	for _, p := range t.conn.Stats().Paths {
		if p.Label != "" && p.Reason == "" {
			live = append(live, p.Label)
		}
	}
	if i := slices.Index(live, t.iface); i >= 0 {
		live[0], live[i] = live[i], live[0]
	} else {
		rest = append(rest, t.iface)
	}
	var errs []error
	for _, iface := range slices.Concat(live, rest) {
		err := c.sys.routeServer(iface, t.remote.Addr())
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// closedTo are the IPv6 destinations that must not be reached outside the tunnel,
// also when it does not take them: those of the server, and all if it takes all IPv4.
func closedTo(routes []masque.Route, dests []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range routes {
		if r.Start.Is6() {
			out = appendRange(out, r.Start, r.End)
		}
	}
	if len(out) == 0 && slices.Contains(dests, netip.PrefixFrom(netip.IPv4Unspecified(), 0)) {
		out = append(out, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	}
	return out
}

// destinations are the routes of the server of the IP versions that have an address.
func destinations(routes []masque.Route, inner []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range routes {
		if slices.ContainsFunc(inner, func(p netip.Prefix) bool { return p.Addr().Is4() == r.Start.Is4() }) {
			out = appendRange(out, r.Start, r.End)
		}
	}
	return out
}

// appendRange splits the addresses from start to end into prefixes.
func appendRange(dst []netip.Prefix, start, end netip.Addr) []netip.Prefix {
	for {
		p := netip.PrefixFrom(start, start.BitLen())
		for p.Bits() > 0 {
			wider, _ := start.Prefix(p.Bits() - 1)
			if wider.Addr() != start || end.Less(lastAddr(wider)) {
				break
			}
			p = wider
		}
		dst = append(dst, p)
		last := lastAddr(p)
		if last == end {
			return dst
		}
		start = last.Next()
	}
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
