// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// wantRefused checks that the kernel sends packets to dst nowhere.
func wantRefused(t *testing.T, dst string) {
	t.Helper()
	if routes, err := netlink.RouteGet(netip.MustParseAddr(dst).AsSlice()); err == nil {
		t.Errorf("packets to %s are sent: %v", dst, routes)
	}
}

// eventually waits until the system is in a state.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 500 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("not after 5 s: ", what)
}

func linkNamed(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	return link
}

// TestHostSmallMTU: when the paths carry too little for IPv6, its address is taken
// away, its packets are refused instead of leaving outside the tunnel, and all comes
// back with the MTU.
func TestHostSmallMTU(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	before := settled(t)
	h := openTestHost(t, t.TempDir())
	d, err := h.createTUN()
	must(t, err)
	c := newClient(defaultConfig(ModeClient), discardLog, h, nil)
	c.dev = d
	v4, v6 := pfx("10.0.0.2/32"), pfx("fd00::2/128")
	for range 2 {
		must(t, c.setAddresses([]netip.Prefix{v4, v6}, 1400))
		must(t, h.routeTunnel(everywhere, everywhere[1:]))
		wantRoute(t, "2001:db8::1", "", "", "mqvpn0", "")
		must(t, d.SetMTU(1200)) // the kernel's part of it
		wantRefused(t, "2001:db8::1")
		must(t, c.setAddresses([]netip.Prefix{v4}, 1200))
		must(t, h.routeTunnel(everywhere[:1], everywhere[1:]))
		wantRefused(t, "2001:db8::1")
		wantRefused(t, "8001::1")
		wantRoute(t, "fd02::9", "", "", "wlan0", "") // the LAN stays direct
		wantRoute(t, "8.8.8.8", "", "", "mqvpn0", "")
	}
	must(t, d.Close())
	must(t, h.close())
	wantSame(t, before, snapshot(t))
}

// TestHostOtherNetworks: what comes from a path's address and goes to a network behind
// another interface goes there, and not to the gateway of the path.
func TestHostOtherNetworks(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	docker := addLink(t, "docker0", "172.17.0.1/16", "fd17::1/64")
	before := settled(t)
	h := openTestHost(t, t.TempDir())
	d := setUpClient(t, h)
	wantRoute(t, "172.17.0.9", "10.1.0.2", "", "docker0", "")
	wantRoute(t, "172.17.0.9", "10.2.0.2", "", "docker0", "")
	wantRoute(t, "fd17::9", "fd02::2", "", "docker0", "")
	wantRoute(t, "192.168.7.7", "10.1.0.2", "", "wlan0", "10.2.0.9")
	wantRoute(t, "203.0.113.1", "10.1.0.2", "", "eth0", "10.1.0.1")
	wantRoute(t, "203.0.113.1", "10.2.0.2", "", "wlan0", "10.2.0.1")
	wantRoute(t, "203.0.113.1", "", "wlan0", "wlan0", "10.2.0.1")

	more := netip.MustParsePrefix("172.30.0.0/16")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: docker.Attrs().Index, Dst: ipNet(more), Gw: netip.MustParseAddr("172.17.0.2").AsSlice()}))
	must(t, h.routePath("wlan0"))
	wantRoute(t, "172.30.0.9", "10.2.0.2", "", "docker0", "172.17.0.2")
	must(t, netlink.LinkDel(docker))
	must(t, h.routePath("wlan0"))
	wantRoute(t, "172.30.0.9", "10.2.0.2", "", "wlan0", "10.2.0.1")

	must(t, d.Close())
	must(t, h.close())
	after := snapshot(t)
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("left behind: %s", l)
		}
	}
}

// TestHostInnerConflict: an address that cannot be told from a neighbour's is refused
// with words that name what is in the way.
func TestHostInnerConflict(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	settled(t)
	h := openTestHost(t, t.TempDir())
	defer h.close()
	for _, tt := range []struct{ addr, says string }{
		{"10.1.0.9", "in the network 10.1.0.0/24 of interface eth0"},
		{"10.2.0.1", "gateway of interface wlan0"},
		{"fd02::77", "in the network fd02::/64 of interface wlan0"},
		{"10.0.0.2", ""}, {"192.168.7.7", ""}, {"fd00::2", ""},
	} {
		err := h.checkInner(netip.MustParseAddr(tt.addr))
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.addr, err, tt.says)
		}
	}
}

// TestHostForeignHalves: where another VPN has the halves of the default route, the
// tunnel would get nothing.
func TestHostForeignHalves(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	other := addLink(t, "wg0", "10.77.0.2/24")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: other.Attrs().Index, Dst: ipNet(pfx("128.0.0.0/1")), Scope: unix.RT_SCOPE_LINK}))
	before := settled(t)
	h := openTestHost(t, t.TempDir())
	d, err := h.createTUN()
	must(t, err)
	must(t, d.AddAddress(pfx("10.0.0.2/32")))
	must(t, d.Up())
	err = h.routeTunnel(everywhere[:1], nil)
	if err == nil || !strings.Contains(err.Error(), "wg0") || exitCode(err) != ExitFailure {
		t.Errorf("halves of another interface: %v", err)
	}
	must(t, d.Close())
	must(t, h.close())
	wantSame(t, before, snapshot(t))
}

// TestHostCannotUndo: what cannot be undone does not keep the program from starting,
// neither now nor the next time.
func TestHostCannotUndo(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	dir := t.TempDir()
	h := openTestHost(t, dir)
	must(t, h.journal.add(change{Kind: changeSysctl, Name: "kernel/ostype", Old: "x", New: "Linux"}))
	must(t, h.journal.file.Close())
	h = openTestHost(t, dir)
	must(t, h.close())
}

// loopbackServer is a server without a system, at a port of loopback.
type loopbackServer struct {
	*simHost
	port chan netip.AddrPort
}

func (h *loopbackServer) listen(netip.AddrPort, string) (quic.Socket, error) {
	s, err := quic.ListenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), "")
	if err == nil {
		h.port <- s.LocalAddr()
	}
	return s, err
}

// startLoopbackServer runs a server until ctx ends and returns the configuration of a
// client.
func startLoopbackServer(ctx context.Context, t *testing.T) *Config {
	certPEM, keyPEM, pin, err := selfSigned("x", time.Now())
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/c", certPEM, 0o600))
	must(t, os.WriteFile(dir+"/k", keyPEM, 0o600))
	conf, client := defaultConfig(ModeServer), defaultConfig(ModeClient)
	conf.CertFile, conf.KeyFile, conf.AuthKey, conf.Control = dir+"/c", dir+"/k", "k", "off"
	conf.Listen = conf.Listen[:1]
	h := &loopbackServer{new(sim).newHost("server"), make(chan netip.AddrPort, 1)}
	go newServer(conf, discardLog, h).run(ctx)
	addr := <-h.port
	client.AuthKey, client.Pin, client.Control = "k", pin[:], "off"
	client.Servers = []ServerAddr{{addr.Addr().String(), addr.Port()}}
	return client
}

// isolatedClient is a real client in a namespace of its own, whose server is reached by
// loopback.
type isolatedClient struct {
	*host
}

func (h *isolatedClient) listen(netip.AddrPort, string) (quic.Socket, error) {
	return quic.ListenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), "")
}

// TestHostRestores: what somebody takes away of the client's addresses, routes and
// rules comes back; a deleted device ends the client with an error that says so.
func TestHostRestores(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	before := settled(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := startLoopbackServer(ctx, t)
	cfg.Paths = []string{"eth0", "wlan0"}
	watcher, err := newWatcher()
	must(t, err)
	h := openTestHost(t, t.TempDir())
	h.watcher = watcher
	client := &isolatedClient{h}
	ended := make(chan error, 1)
	go func() { ended <- newClient(cfg, discardLog, client, nil).run(ctx) }()
	isUp := func() bool {
		routes, err := netlink.RouteGet(netip.MustParseAddr("8.8.8.8").AsSlice())
		if err != nil || len(routes) == 0 {
			return false
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		return err == nil && link.Attrs().Name == "mqvpn0"
	}
	eventually(t, "tunnel up", isUp)
	wantRefused(t, "2001:db8::1") // the server has no IPv6
	whole := settled(t)
	isWhole := func() bool {
		now := snapshot(t)
		return !slices.ContainsFunc(whole, func(l string) bool { return !slices.Contains(now, l) })
	}
	dev := linkNamed(t, "mqvpn0")
	for _, harm := range []struct {
		name string
		do   func()
	}{
		{"device down and up", func() {
			must(t, netlink.LinkSetDown(dev))
			must(t, netlink.LinkSetUp(dev))
		}},
		{"rules deleted", func() {
			rules, err := netlink.RuleList(netlink.FAMILY_V4)
			must(t, err)
			for _, r := range rules {
				if r.Protocol == ourProtocol {
					must(t, netlink.RuleDel(&r))
				}
			}
		}},
		{"address deleted", func() {
			addr, err := netlink.ParseAddr("10.0.0.2/32")
			must(t, err)
			must(t, netlink.AddrDel(dev, addr))
		}},
	} {
		time.Sleep(3 * settleTime) // nothing of before is left to be told
		harmed := false
		for range 100 { // the client may be faster than the look at what was done
			harm.do()
			if harmed = !isWhole(); harmed {
				break
			}
		}
		if !harmed {
			t.Errorf("%s: no harm done", harm.name)
		}
		eventually(t, harm.name+": all is restored", isWhole)
	}
	// Putting right what is right already is no event, or the client would never rest.
	quiet, err := newWatcher()
	must(t, err)
	<-quiet.changed // of its start
	must(t, client.routePath("eth0"))
	select {
	case <-quiet.changed:
		t.Error("the client does not come to rest")
	case <-time.After(maxSettleTime):
	}
	quiet.close()
	select {
	case err := <-ended:
		t.Fatal("client ended: ", err)
	default:
	}
	must(t, netlink.LinkDel(dev))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "mqvpn0 has failed or was deleted") {
		t.Errorf("device deleted: %v", err)
	}
	wantSame(t, before, settled(t))
}

// TestHostLinkAddresses: an address works as long as the kernel sends from it, deprecated
// or not: a router that renumbers leaves no other one for a while.
func TestHostLinkAddresses(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	h := openTestHost(t, t.TempDir())
	defer h.close()
	link := addLink(t, "eth0", "10.1.0.2/24", "fd01::2/64")
	old := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("fd01::2/64")), PreferedLft: 0, ValidLft: 3600}
	must(t, netlink.AddrReplace(link, old))
	if got := h.link("eth0", true); !got.works() || !slices.Equal(got.addrs, []netip.Addr{netip.MustParseAddr("fd01::2")}) {
		t.Errorf("IPv6: %+v", got)
	}
	if got := h.link("eth0", false); !got.works() || !slices.Equal(got.addrs, []netip.Addr{netip.MustParseAddr("10.1.0.2")}) {
		t.Errorf("IPv4: %+v", got)
	}
	if got := h.link("eth9", false); got.works() || got.index != 0 {
		t.Errorf("no interface: %+v", got)
	}
}
