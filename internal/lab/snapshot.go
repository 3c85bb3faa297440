// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Snapshot lists what a VPN program may change on a host, in a form that can be
// compared: interfaces, addresses, routes of all tables, rules, nftables and the
// sysctls for forwarding.
func (h *Host) Snapshot() (lines []string, err error) {
	err = h.Do(func() error {
		add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
		return errors.Join(snapshotInterfaces(add), snapshotRoutes(add), snapshotNFT(add))
	})
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/src_valid_mark"} {
		value, e := h.Sysctl(key)
		err = errors.Join(err, e)
		lines = append(lines, "sysctl "+key+" "+value)
	}
	slices.Sort(lines)
	return lines, err
}

func snapshotInterfaces(add func(string, ...any)) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		add("interface %s %s mtu %d", l.Attrs().Name, l.Type(), l.Attrs().MTU)
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			add("address %s on %s", a.IPNet, l.Attrs().Name)
		}
	}
	return nil
}

func snapshotRoutes(add func(string, ...any)) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			add("route %v via %v interface %d source %v table %d type %d metric %d", r.Dst, r.Gw, r.LinkIndex, r.Src, r.Table, r.Type, r.Priority)
		}
		rules, err := netlink.RuleList(family)
		if err != nil {
			return err
		}
		for _, r := range rules {
			add("rule family %d %s", family, r)
		}
	}
	return nil
}

func snapshotNFT(add func(string, ...any)) error {
	var c nftables.Conn
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		add("nftables table %s family %d", t.Name, t.Family)
	}
	return nil
}
