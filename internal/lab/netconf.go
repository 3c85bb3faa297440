// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Port says how a host is attached to a link or a cable.
type Port struct {
	Host      *Host
	Interface string         // name of the interface to be made
	Addrs     []netip.Prefix // its addresses, with the length of the subnet
}

// Route is one entry of a host's main routing table.
type Route struct {
	Dst       netip.Prefix
	Via       netip.Addr // gateway; invalid: on the link
	Interface string
	Metric    int
}

// AddAddr gives an interface an address that can be used at once.
func (h *Host) AddAddr(iface string, addr netip.Prefix) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("%s: interface %s: %w", h.name, iface, err)
		}
		if err := addAddr(link, addr); err != nil {
			return fmt.Errorf("%s: address %s on %s: %w", h.name, addr, iface, err)
		}
		return awaitLocalRoute(addr.Addr())
	})
}

// awaitLocalRoute waits until packets to an address of this host reach it: the kernel
// makes the route of an IPv6 address a moment after the address.
func awaitLocalRoute(addr netip.Addr) error {
	for deadline := time.Now().Add(localRouteTime); addr.Is6(); time.Sleep(time.Millisecond) {
		want := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(netip.PrefixFrom(addr, 128))}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, want, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil || len(routes) > 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no local route to %s within %v", addr, localRouteTime)
		}
	}
	return nil
}

// localRouteTime is far more than a busy kernel needs.
const localRouteTime = 10 * time.Second

// DelAddr takes an address from an interface.
func (h *Host) DelAddr(iface string, addr netip.Prefix) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("%s: interface %s: %w", h.name, iface, err)
		}
		return netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(addr)})
	})
}

// AddRoute adds r to the host's main table.
func (h *Host) AddRoute(r Route) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(r.Interface)
		if err != nil {
			return fmt.Errorf("%s: interface %s: %w", h.name, r.Interface, err)
		}
		nr := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.Dst.Masked()), Priority: r.Metric}
		if r.Via.IsValid() {
			nr.Gw = r.Via.AsSlice()
		}
		if err := netlink.RouteAdd(nr); err != nil {
			return fmt.Errorf("%s: route to %s: %w", h.name, r.Dst, err)
		}
		return nil
	})
}

// NewCable joins two hosts by a pair of veth interfaces: no emulation, as fast
// as the machine, with all offloads. mtu is that of both ends.
func NewCable(a, b Port, mtu int) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Interface, MTU: mtu},
		PeerName:      b.Interface,
		PeerNamespace: netlink.NsFd(b.Host.ns.Fd()),
	}
	if err := a.Host.Do(func() error { return netlink.LinkAdd(veth) }); err != nil {
		return fmt.Errorf("veth %s-%s: %w", a.Interface, b.Interface, err)
	}
	var macs [2]net.HardwareAddr
	for i, p := range []Port{a, b} {
		if err := p.Host.Do(func() (err error) {
			if err = configure(p); err == nil {
				macs[i], err = hardwareAddr(p.Interface)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return errors.Join(a.learn(b.Addrs, macs[1]), b.learn(a.Addrs, macs[0]))
}

func hardwareAddr(iface string) (net.HardwareAddr, error) {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return nil, err
	}
	return link.Attrs().HardwareAddr, nil
}

// configure sets the addresses of a port and takes it up. It runs on the thread
// of the port's host.
func configure(p Port) error {
	link, err := netlink.LinkByName(p.Interface)
	if err != nil {
		return fmt.Errorf("%s: interface %s: %w", p.Host.name, p.Interface, err)
	}
	for _, addr := range p.Addrs {
		if err := addAddr(link, addr); err != nil {
			return fmt.Errorf("%s: address %s on %s: %w", p.Host.name, addr, p.Interface, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: interface %s up: %w", p.Host.name, p.Interface, err)
	}
	return nil
}

func addAddr(link netlink.Link, addr netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(link, a)
}

// learn makes the link-layer address of the other end known for good, so that no
// ARP or neighbour discovery runs: behind a real access router a silent link
// fails without the host's neighbour table noticing. It also does without the
// link-local addresses that neighbour discovery of a router needs.
func (p Port) learn(addrs []netip.Prefix, mac net.HardwareAddr) error {
	return p.Host.Do(func() error {
		link, err := netlink.LinkByName(p.Interface)
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			if err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex:    link.Attrs().Index,
				State:        netlink.NUD_PERMANENT,
				IP:           addr.Addr().AsSlice(),
				HardwareAddr: mac,
			}); err != nil {
				return fmt.Errorf("%s: neighbour %s on %s: %w", p.Host.name, addr.Addr(), p.Interface, err)
			}
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
