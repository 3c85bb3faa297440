// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
)

// Addresses of the Internet that NewInternet makes. The client's networks are
// 10.(100+i).(j+1).0/24 for client i and link j.
var (
	// ServerAddr4 and ServerAddr6 are where clients find the VPN server.
	ServerAddr4 = netip.MustParseAddr("203.0.113.1")
	ServerAddr6 = netip.MustParseAddr("2001:db8:ffff::1")
	// InsideAddr4 and InsideAddr6 are the host behind the server. Clients have no
	// way to them but the tunnel.
	InsideAddr4 = netip.MustParseAddr("192.168.77.2")
	InsideAddr6 = netip.MustParseAddr("fd77::2")
)

// InternetConfig describes an Internet.
type InternetConfig struct {
	// Clients holds, for each client, the links that it has. They appear in it as
	// eth0, eth1 and so on; their A end is the client's.
	Clients [][]LinkConfig
}

// Internet is a small one: clients, each with a number of emulated links to one
// router; behind the router a server; behind the server a host that is reachable
// only from there.
//
//	client 0 ──eth0── link ──┐
//	         ──eth1── link ──┤
//	                         ├── router ── server ── inside
//	client 1 ──eth0── link ──┤
//	         ──eth1── link ──┘
type Internet struct {
	Clients []*Host
	Links   [][]*Link // of each client
	Router  *Host
	Server  *Host
	Inside  *Host
}

// NewInternet makes hosts and links. Every client has a default route, IPv4 and
// IPv6, over each of its links, with a metric that grows with the link's number.
// The server forwards only what the VPN server makes it forward: forwarding is off
// there.
func NewInternet(cfg InternetConfig) (*Internet, error) {
	n := &Internet{}
	if err := n.build(cfg); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Internet) build(cfg InternetConfig) (err error) {
	for _, h := range []struct {
		host **Host
		name string
	}{{&n.Router, "router"}, {&n.Server, "server"}, {&n.Inside, "inside"}} {
		if *h.host, err = NewHost(h.name); err != nil {
			return err
		}
	}
	if err := n.Router.EnableForwarding(); err != nil {
		return err
	}
	const mtu = 1500
	err = NewCable(
		Port{n.Router, "server0", prefixes("203.0.113.254/24", "2001:db8:ffff::fe/64")},
		Port{n.Server, "eth0", []netip.Prefix{netip.PrefixFrom(ServerAddr4, 24), netip.PrefixFrom(ServerAddr6, 64)}}, mtu)
	if err != nil {
		return err
	}
	err = NewCable(
		Port{n.Server, "lan0", prefixes("192.168.77.1/24", "fd77::1/64")},
		Port{n.Inside, "eth0", []netip.Prefix{netip.PrefixFrom(InsideAddr4, 24), netip.PrefixFrom(InsideAddr6, 64)}}, mtu)
	if err != nil {
		return err
	}
	if err := defaultRoutes(n.Server, "eth0", "203.0.113.254", "2001:db8:ffff::fe", 0); err != nil {
		return err
	}
	if err := defaultRoutes(n.Inside, "eth0", "192.168.77.1", "fd77::1", 0); err != nil {
		return err
	}
	for i, links := range cfg.Clients {
		if err := n.addClient(i, links); err != nil {
			return err
		}
	}
	return nil
}

func (n *Internet) addClient(i int, links []LinkConfig) error {
	client, err := NewHost(fmt.Sprintf("client%d", i))
	if err != nil {
		return err
	}
	n.Clients = append(n.Clients, client)
	n.Links = append(n.Links, nil)
	for _, cfg := range links {
		if err := n.AddLink(i, cfg); err != nil {
			return err
		}
	}
	return nil
}

// AddLink gives client i another link to the router. Its interface is up and has
// addresses first, and default routes then, as one that is plugged in.
func (n *Internet) AddLink(i int, cfg LinkConfig) error {
	client, j := n.Clients[i], len(n.Links[i])
	net4, net6 := fmt.Sprintf("10.%d.%d.", 100+i, j+1), fmt.Sprintf("2001:db8:%d:%d::", 100+i, j+1)
	iface := fmt.Sprintf("eth%d", j)
	link, err := NewLink(cfg,
		Port{client, iface, prefixes(net4+"2/24", net6+"2/64")},
		Port{n.Router, fmt.Sprintf("c%dl%d", i, j), prefixes(net4+"1/24", net6+"1/64")})
	if err != nil {
		return err
	}
	n.Links[i] = append(n.Links[i], link)
	return defaultRoutes(client, iface, net4+"1", net6+"1", 100*(j+1))
}

// ChangeAddress gives client i another IPv4 address on its link j, as a DHCP server may:
// the old one, and the routes over it, go away first. It must not be called twice at the
// same time.
func (n *Internet) ChangeAddress(i, j int) error {
	l := n.Links[i][j]
	a, b := &l.ends[0].port, &l.ends[1].port
	was := a.Addrs[0]
	is := netip.PrefixFrom(ClientAddr(i, j), was.Bits())
	if is == was {
		is = netip.PrefixFrom(was.Addr().Next(), was.Bits())
	}
	if err := a.Host.DelAddr(a.Interface, was); err != nil {
		return err
	}
	if err := a.Host.AddAddr(a.Interface, is); err != nil {
		return err
	}
	a.Addrs = append([]netip.Prefix{is}, a.Addrs[1:]...)
	// The kernel has forgotten the neighbour with the address.
	if err := errors.Join(a.learn(b.Addrs[:1], l.ends[1].mac), b.learn(a.Addrs[:1], l.ends[0].mac)); err != nil {
		return err
	}
	gateway := ClientAddr(i, j).Prev()
	return a.Host.AddRoute(Route{netip.MustParsePrefix("0.0.0.0/0"), gateway, a.Interface, 100 * (j + 1)})
}

// ClientAddr is the IPv4 address of client i on its link j.
func ClientAddr(i, j int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(100 + i), byte(j + 1), 2})
}

func defaultRoutes(h *Host, iface, via4, via6 string, metric int) error {
	return errors.Join(
		h.AddRoute(Route{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(via4), iface, metric}),
		h.AddRoute(Route{netip.MustParsePrefix("::/0"), netip.MustParseAddr(via6), iface, metric}))
}

func prefixes(s ...string) (p []netip.Prefix) {
	for _, v := range s {
		p = append(p, netip.MustParsePrefix(v))
	}
	return p
}

// Close removes everything.
func (n *Internet) Close() {
	for _, links := range n.Links {
		for _, l := range links {
			l.Close()
		}
	}
	for _, h := range append([]*Host{n.Inside, n.Server, n.Router}, n.Clients...) {
		if h != nil {
			h.Close()
		}
	}
}
