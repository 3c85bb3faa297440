// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// interfaces: without a wish, the one of the default route; of those that a pattern
// names, each that has a default route.
func (h *host) interfaces(wanted []string) ([]string, error) {
	if len(wanted) == 0 {
		auto, err := h.defaultInterfaces()
		if err == nil && len(auto) == 0 {
			err = noInterface()
		}
		return auto[:min(1, len(auto))], err
	}
	for _, w := range wanted {
		if isPattern(w) {
			continue
		}
		if _, err := netlink.LinkByName(w); err != nil {
			return nil, unknownInterface(w, err)
		}
	}
	candidates, err := h.defaultInterfaces()
	if err != nil {
		return nil, err
	}
	names := selectInterfaces(wanted, candidates)
	if len(names) == 0 {
		return nil, noInterface()
	}
	return names, nil
}

func noInterface() error {
	return failf(ExitInterface, "no interface has a default route: name the links with --path; there are %s", interfaceList())
}

func unknownInterface(name string, err error) error {
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return failf(ExitInterface, "--path: %q: no such interface; there are %s", name, interfaceList())
	}
	return fmt.Errorf("interface %s: %w", name, err)
}

func interfaceList() string {
	links, err := netlink.LinkList()
	if err != nil {
		return "(" + err.Error() + ")"
	}
	var names []string
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			names = append(names, l.Attrs().Name)
		}
	}
	if len(names) == 0 {
		return "none but loopback"
	}
	return strings.Join(names, ", ")
}

// defaultInterfaces lists the interfaces with a default route in the main table,
// lowest metric first, IPv4 before IPv6; not the tunnel itself.
func (h *host) defaultInterfaces() ([]string, error) {
	var names []string
	for _, family := range families {
		routes, err := routesOf(family, 0, unix.RT_TABLE_MAIN)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
		for _, r := range routes {
			if prefixOf(r.Dst, family).Bits() != 0 || r.Type != unix.RTN_UNICAST {
				continue
			}
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				continue // gone meanwhile, or a route with several next hops
			}
			if n := link.Attrs().Name; n != h.tunName && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names, nil
}

func (h *host) link(iface string, ipv6 bool) (state linkState) {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return state
	}
	state.index = link.Attrs().Index
	const working = unix.IFF_UP | unix.IFF_RUNNING
	state.up = link.Attrs().RawFlags&working == working
	family := netlink.FAMILY_V4
	if ipv6 {
		family = netlink.FAMILY_V6
	}
	addrs, err := netlink.AddrList(link, family)
	if err != nil {
		return state
	}
	for _, a := range addrs {
		// A deprecated one still works, and may be the only one for a while.
		if a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unix.IFA_F_TENTATIVE == 0 {
			state.addrs = append(state.addrs, addrOf(a.IP))
		}
	}
	return state
}
