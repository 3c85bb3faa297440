// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flood

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/loadclients"
)

const (
	setUpTime = 10 * time.Second
	linkMTU   = 1500
	// Ports: of the VPN server, of one that discards, and of the far end of the traffic.
	serverPort  = 443
	discardPort = 9
	peerPort    = 7000
	// sharedKey is that of the clients that connect during a flood.
	sharedKey = "the-key-of-the-flood"
)

var (
	insideAddr                     = netip.MustParseAddr("10.0.0.1")
	serverPrefix, clientPrefix     = netip.PrefixFrom(lab.ServerAddr4, 24), netip.PrefixFrom(lab.ServerAddr4.Next(), 24)
	floodedPrefix, attackerPrefix  = netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")
	defaultRoute                   = netip.MustParsePrefix("0.0.0.0/0")
	floodedServer, floodedNowhere  = netip.AddrPortFrom(floodedPrefix.Addr(), serverPort), netip.AddrPortFrom(floodedPrefix.Addr(), discardPort)
	clientInterface, attackerIface = "eth0", "eth0"
	floodedIface                   = "eth1"
)

// world is a server with a client on one cable and an attacker on another one, through
// which the server also reaches the addresses that the attacker pretends to have: its
// answers are not delivered.
type world struct {
	client, server, attacker *lab.Host
	programs                 [2]*lab.Process // client, server
	peer                     *lab.Peer
	discard                  net.PacketConn
	hellos                   [][]byte
}

func newWorld(ctx context.Context, programs lab.Programs) (w *world, err error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	w = &world{}
	defer func() {
		if err != nil {
			err = w.explain(err)
			w.close()
		}
	}()
	if err = w.makeHosts(); err != nil {
		return nil, err
	}
	if err = w.startPrograms(ctx, programs); err != nil {
		return nil, err
	}
	if w.peer, err = lab.NewPeer(w.server, netip.AddrPortFrom(insideAddr, peerPort)); err != nil {
		return nil, err
	}
	// It discards at once what does not fit a small buffer that nobody reads: a program
	// that reads would take some of the processor.
	if w.discard, err = w.server.ListenPacket("udp4", floodedNowhere.String()); err != nil {
		return nil, err
	}
	w.discard.(*net.UDPConn).SetReadBuffer(1)
	w.hellos, err = captureHellos(ctx, w.attacker, variants)
	return w, err
}

func (w *world) makeHosts() (err error) {
	for _, h := range []struct {
		host **lab.Host
		name string
	}{{&w.client, "client"}, {&w.server, "server"}, {&w.attacker, "attacker"}} {
		if *h.host, err = lab.NewHost(h.name); err != nil {
			return err
		}
	}
	if err = lab.NewCable(
		lab.Port{Host: w.client, Interface: clientInterface, Addrs: []netip.Prefix{clientPrefix}},
		lab.Port{Host: w.server, Interface: "eth0", Addrs: []netip.Prefix{serverPrefix}}, linkMTU); err != nil {
		return err
	}
	if err = lab.NewCable(
		lab.Port{Host: w.attacker, Interface: attackerIface, Addrs: []netip.Prefix{attackerPrefix}},
		lab.Port{Host: w.server, Interface: floodedIface, Addrs: []netip.Prefix{floodedPrefix}}, linkMTU); err != nil {
		return err
	}
	// mqvpn-client wants a default route on each path.
	if err = w.client.AddRoute(lab.Route{Dst: defaultRoute, Via: serverPrefix.Addr(), Interface: clientInterface}); err != nil {
		return err
	}
	return w.server.AddRoute(lab.Route{Dst: defaultRoute, Via: attackerPrefix.Addr(), Interface: floodedIface})
}

func (w *world) startPrograms(ctx context.Context, programs lab.Programs) error {
	clientArgs, err := programs.InitServer(ctx, w.server, netip.AddrPortFrom(serverPrefix.Addr(), serverPort), "flood")
	if err != nil {
		return err
	}
	if w.programs[1], err = programs.StartServer(ctx, w.server, "--config", lab.ServerConfig, "--auth-key", sharedKey); err != nil {
		return err
	}
	w.programs[0], err = programs.StartClient(ctx, w.client, append(clientArgs, "--path", clientInterface))
	return err
}

// connect has a new client connect from the running client's host, and tells how long
// that takes.
func (w *world) connect(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	cs, err := loadclients.Dial(ctx, 1, loadclients.Config{
		Server: netip.AddrPortFrom(serverPrefix.Addr(), serverPort),
		Token:  sharedKey,
		Within: w.client.Do,
	})
	if err != nil {
		return 0, err
	}
	elapsed := time.Since(start)
	cs.Close()
	return elapsed, nil
}

// answers is the number of packets that the attacker's host has received.
func (w *world) answers() (n uint64, err error) {
	err = w.attacker.Do(func() error {
		link, err := netlink.LinkByName(attackerIface)
		if err == nil {
			n = link.Attrs().Statistics.RxPackets
		}
		return err
	})
	return n, err
}

// explain adds to an error what the programs have said.
func (w *world) explain(err error) error { return lab.Explain(err, w.programs[0], w.programs[1]) }

func (w *world) close() (err error) {
	if w.peer != nil {
		w.peer.Close()
	}
	if w.discard != nil {
		w.discard.Close()
	}
	err = lab.StopAll(setUpTime, w.programs[:]...)
	for _, h := range []*lab.Host{w.client, w.attacker, w.server} {
		if h != nil {
			h.Close()
		}
	}
	return err
}
