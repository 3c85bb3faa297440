// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// usedPrefix is a network that the host reaches, or an address that it has.
type usedPrefix struct {
	netip.Prefix
	link string
}

// usedPrefixes lists the networks and addresses of all interfaces but one. Default
// routes do not count, nor do the halves that stand for one.
func usedPrefixes(except string) ([]usedPrefix, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var used []usedPrefix
	add := func(p netip.Prefix, link int) {
		if p.Bits() > 1 && names[link] != except {
			used = append(used, usedPrefix{p.Masked(), names[link]})
		}
	}
	for _, family := range families {
		addrs, err := netlink.AddrList(nil, family)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			add(prefixOf(a.IPNet, family), a.LinkIndex)
		}
		routes, err := routesOf(family, 0, unix.RT_TABLE_UNSPEC)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Type == unix.RTN_UNICAST {
				add(prefixOf(r.Dst, family), r.LinkIndex)
			}
		}
	}
	return used, nil
}

// checkPools refuses addresses that the host itself needs to reach somebody else.
func (h *host) checkPools(pools []netip.Prefix) error {
	used, err := usedPrefixes(h.tunName)
	if err != nil {
		return err
	}
	for _, pool := range pools {
		for _, u := range used {
			if !u.Overlaps(pool) {
				continue
			}
			flag, other := "--subnet", freeSubnet()
			if pool.Addr().Is6() {
				flag, other = "--subnet6", uniqueLocalPrefix()
			}
			return failf(ExitUsage, "%s %s: this host has %s on interface %s: choose another network for the tunnel, for instance %s",
				flag, pool, u.Prefix, u.link, other)
		}
	}
	return nil
}

// freeSubnet is an IPv4 network for the tunnel that the host does not use: the
// default one if possible.
func freeSubnet() netip.Prefix {
	used, err := usedPrefixes("")
	if err != nil {
		return defaultSubnet // starting the server will tell what is wrong
	}
	for i := range 256 + 16 {
		a := [4]byte{10, byte(i), 0, 0}
		if i >= 256 {
			a = [4]byte{172, byte(16 + i - 256), 0, 0}
		}
		p := netip.PrefixFrom(netip.AddrFrom4(a), 24)
		free := true
		for _, u := range used {
			free = free && !u.Overlaps(p)
		}
		if free {
			return p
		}
	}
	return defaultSubnet
}

// limitPackets makes a route of a client's own, which says what its paths carry: the
// kernel fragments larger packets, or tells their senders. It goes with the TUN
// device if not before.
func (h *host) limitPackets(client netip.Addr, mtu int) error {
	link, err := netlink.LinkByName(h.tunName)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone && mtu == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	r := netlinkRoute(change{Dst: netip.PrefixFrom(client, client.BitLen()), Table: unix.RT_TABLE_MAIN}, link)
	if mtu == 0 {
		if err := netlink.RouteDel(r); !errors.Is(err, unix.ESRCH) {
			return err
		}
		return nil
	}
	r.MTU = mtu
	return netlink.RouteReplace(r)
}
