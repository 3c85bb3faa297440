// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"net/netip"

	"github.com/mqvpn/mqvpn/quic"
)

// tunDevice is a TUN interface: that of package tun, or the fake of tuntest.
type tunDevice interface {
	Name() string
	MTU() (int, error)
	SetMTU(mtu int) error
	AddAddress(netip.Prefix) error
	RemoveAddress(netip.Prefix) error
	Up() error
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	Write(bufs [][]byte, offset int) (int, error)
	BatchSize() int
	Dropped() uint64 // packets that Read could not return
	Close() error
}

// system is what client and server need of the host that they run on. There are
// two: the Linux host, and a simulated one in the tests. Methods may be called by any
// goroutine.
type system interface {
	// createTUN makes the tunnel interface.
	createTUN() (tunDevice, error)
	// listen opens a UDP socket at addr, bound to a network interface if one is named.
	listen(addr netip.AddrPort, iface string) (quic.Socket, error)
	// close takes back all changes of routes, rules, nftables and sysctls.
	close() error
}

// linkState is what an interface is like just now.
type linkState struct {
	// index numbers it; one that is deleted and made again has another number. 0: there
	// is none.
	index int
	// up: it is switched on, and its cable plugged in.
	up    bool
	addrs []netip.Addr // that packets to other networks may come from
}

// works says that packets can leave.
func (l linkState) works() bool { return l.up && len(l.addrs) > 0 }

// clientSystem is what a client needs. A change that is in force already is made
// again where the kernel lost it, so the calls can be repeated at any time.
type clientSystem interface {
	system
	// interfaces turns what --path names into the interfaces that exist; an error, if
	// there are none.
	interfaces(wanted []string) ([]string, error)
	// lookup resolves a host name.
	lookup(ctx context.Context, host string) ([]netip.Addr, error)
	// routePath lets packets of the interface's own addresses and of sockets bound
	// to it leave through it, whatever the main routing table says.
	routePath(iface string) error
	// routeServer keeps the way to the server out of the tunnel.
	routeServer(iface string, server netip.Addr) error
	// routeTunnel sends these destinations, and no others, into the tunnel. Packets to
	// closed that no more specific route leads elsewhere are refused while the tunnel
	// does not take them.
	routeTunnel(dests, closed []netip.Prefix) error
	// checkInner reports an error if an address for the tunnel cannot be told from those
	// of a network that the host is in.
	checkInner(addr netip.Addr) error
	// link looks at an interface; ipv6 says which addresses count.
	link(iface string, ipv6 bool) linkState
	// changed receives a value when interfaces, addresses, routes or rules have
	// changed, and another one when the changes have ended.
	changed() <-chan struct{}
}

// serverSystem is what a server needs.
type serverSystem interface {
	system
	// checkPools fails if the host needs addresses of the pools itself.
	checkPools(pools []netip.Prefix) error
	// limitPackets tells the host the largest packet, in bytes, that a client can be
	// sent; 0: as large as the tunnel interface permits.
	limitPackets(client netip.Addr, mtu int) error
	// enableNAT forwards the clients' traffic with the host's own addresses.
	enableNAT(pools []netip.Prefix) error
	// enableForwarding lets the host forward packets of these pools' families.
	enableForwarding(pools []netip.Prefix) error
}

// notify puts a value into a channel that holds one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
