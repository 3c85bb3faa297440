// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/tun"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// addLink makes an interface that is up, with addresses.
func addLink(t *testing.T, name string, addrs ...string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}
	must(t, netlink.LinkAdd(veth))
	peer, err := netlink.LinkByName(veth.PeerName)
	must(t, err)
	for _, l := range []netlink.Link{veth, peer} {
		must(t, netlink.LinkSetIP6AddrGenMode(l, 1)) // none: no address that comes by itself later
	}
	must(t, netlink.LinkSetUp(peer))
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(veth, addr))
	}
	must(t, netlink.LinkSetUp(veth))
	link, err := netlink.LinkByName(name)
	must(t, err)
	return link
}

func addDefault(t *testing.T, link netlink.Link, gw string, metric int) {
	t.Helper()
	g := netip.MustParseAddr(gw)
	dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if g.Is6() {
		dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(dst), Gw: g.AsSlice(), Priority: metric}))
}

// snapshot lists addresses, routes, rules, nftables tables and the sysctls that the
// programs touch.
func snapshot(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, family := range families {
		addrs, err := netlink.AddrList(nil, family)
		must(t, err)
		for _, a := range addrs {
			out = append(out, fmt.Sprintf("address %s link %d", a.IPNet, a.LinkIndex))
		}
		routes, err := routesOf(family, 0, unix.RT_TABLE_UNSPEC)
		must(t, err)
		for _, r := range routes {
			out = append(out, "route "+r.String())
		}
		rules, err := netlink.RuleList(family)
		must(t, err)
		for _, r := range rules {
			out = append(out, fmt.Sprintf("%s family %d oif %q", r, family, r.OifName))
		}
	}
	conn, err := nftables.New()
	must(t, err)
	tables, err := conn.ListTables()
	must(t, err)
	for _, table := range tables {
		out = append(out, "nft table "+table.Name)
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/accept_ra", "net/ipv4/conf/all/send_redirects"} {
		value, err := readSysctl(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		out = append(out, name+" "+value)
	}
	slices.Sort(out)
	return out
}

// complete says that the kernel has noticed the carrier of all links, on a worker of its
// own, and added the routes that it then adds, the one of an address later than the others.
func complete(t *testing.T) bool {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	routes, err := routesOf(netlink.FAMILY_V6, 0, unix.RT_TABLE_LOCAL)
	must(t, err)
	has := func(l netlink.Link, dst netip.Prefix) bool {
		return slices.ContainsFunc(routes, func(r netlink.Route) bool {
			return r.LinkIndex == l.Attrs().Index && prefixOf(r.Dst, netlink.FAMILY_V6) == dst
		})
	}
	for _, l := range links {
		if l.Type() != "veth" || l.Attrs().Flags&net.FlagUp == 0 {
			continue
		}
		if !has(l, pfx("ff00::/8")) {
			return false
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
		must(t, err)
		for _, a := range addrs {
			if ip, _ := netip.AddrFromSlice(a.IP); !has(l, netip.PrefixFrom(ip, 128)) {
				return false
			}
		}
	}
	return true
}

// settled is a snapshot that is complete and no longer changes.
func settled(t *testing.T) []string {
	t.Helper()
	last, same := snapshot(t), 0
	for range 1000 {
		time.Sleep(10 * time.Millisecond)
		now := snapshot(t)
		if same++; !slices.Equal(now, last) || !complete(t) {
			same = 0
		}
		if last = now; same == 5 {
			return now
		}
	}
	t.Fatal("the network does not settle")
	return nil
}

func wantSame(t *testing.T, before, after []string) {
	t.Helper()
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("missing: %s", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("left behind: %s", l)
		}
	}
}

// twoLinks is a host with two providers, of which only the first is in use.
func twoLinks(t *testing.T) {
	addDefault(t, addLink(t, "eth0", "10.1.0.2/24", "fd01::2/64"), "10.1.0.1", 0)
	wlan := addLink(t, "wlan0", "10.2.0.2/24", "fd02::2/64")
	addDefault(t, wlan, "10.2.0.1", 600)
	addDefault(t, wlan, "fd02::1", 600)
	lan := netip.MustParsePrefix("192.168.7.0/24")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: wlan.Attrs().Index, Dst: ipNet(lan), Gw: netip.MustParseAddr("10.2.0.9").AsSlice()}))
}

func openTestHost(t *testing.T, dir string) *host {
	t.Helper()
	h, err := newHost(dir, "mqvpn0", discardLog)
	must(t, err)
	return h
}

// wantRoute checks which way the kernel would send a packet.
func wantRoute(t *testing.T, dst, from, oif, wantDev, wantGW string) {
	t.Helper()
	opt := &netlink.RouteGetOptions{Oif: oif}
	if from != "" {
		opt.SrcAddr = netip.MustParseAddr(from).AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(netip.MustParseAddr(dst).AsSlice(), opt)
	if err != nil || len(routes) != 1 {
		t.Errorf("to %s from %q oif %q: %v, %v", dst, from, oif, routes, err)
		return
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	must(t, err)
	gw := ""
	if routes[0].Gw != nil {
		gw = routes[0].Gw.String()
	}
	if link.Attrs().Name != wantDev || gw != wantGW {
		t.Errorf("to %s from %q oif %q goes via %q dev %s, want via %q dev %s", dst, from, oif, gw, link.Attrs().Name, wantGW, wantDev)
	}
}

// setUpClient does what a client with two paths does.
func setUpClient(t *testing.T, h *host) *tun.Device {
	t.Helper()
	d, err := tun.Create("mqvpn0")
	must(t, err)
	must(t, d.AddAddress(netip.MustParsePrefix("10.0.0.2/32")))
	must(t, d.AddAddress(netip.MustParsePrefix("fd00::2/128")))
	must(t, d.Up())
	must(t, h.routePath("eth0"))
	must(t, h.routePath("wlan0"))
	must(t, h.routeServer("eth0", netip.MustParseAddr("203.0.113.1")))
	must(t, h.routeTunnel(everywhere, nil))
	return d
}

func TestHostClientRoutes(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	before := settled(t)
	h := openTestHost(t, t.TempDir())
	d := setUpClient(t, h)

	wantRoute(t, "8.8.8.8", "", "", "mqvpn0", "")
	wantRoute(t, "200.1.1.1", "", "", "mqvpn0", "")
	wantRoute(t, "2001:db8::1", "", "", "mqvpn0", "")
	wantRoute(t, "203.0.113.1", "", "", "eth0", "10.1.0.1")
	wantRoute(t, "10.1.0.77", "", "", "eth0", "") // the LAN stays direct
	wantRoute(t, "192.168.7.7", "", "", "wlan0", "10.2.0.9")
	// The second path, by its address and by its bound socket.
	wantRoute(t, "203.0.113.1", "10.2.0.2", "", "wlan0", "10.2.0.1")
	wantRoute(t, "203.0.113.1", "", "wlan0", "wlan0", "10.2.0.1")
	wantRoute(t, "203.0.113.1", "", "eth0", "eth0", "10.1.0.1")
	wantRoute(t, "2001:db8::1", "fd02::2", "", "wlan0", "fd02::1")
	wantRoute(t, "2001:db8::1", "", "wlan0", "wlan0", "fd02::1")
	wantRoute(t, "192.168.7.7", "10.2.0.2", "", "wlan0", "10.2.0.9")

	// All of it again changes nothing.
	during := settled(t)
	must(t, h.routePath("wlan0"))
	must(t, h.routeServer("eth0", netip.MustParseAddr("203.0.113.1")))
	must(t, h.routeTunnel(everywhere, nil))
	wantSame(t, during, snapshot(t))

	must(t, d.Close())
	must(t, h.close())
	wantSame(t, before, snapshot(t))
}

// TestHostRefresh: what the kernel dropped with a link is made again, and an address
// that changed replaces the old one.
func TestHostRefresh(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	h := openTestHost(t, t.TempDir())
	defer h.close()
	must(t, h.routePath("wlan0"))
	wlan, err := netlink.LinkByName("wlan0")
	must(t, err)
	must(t, netlink.LinkSetDown(wlan))
	must(t, netlink.LinkSetUp(wlan))
	old, err := netlink.ParseAddr("10.2.0.2/24")
	must(t, err)
	renewed, err := netlink.ParseAddr("10.3.0.2/24")
	must(t, err)
	must(t, netlink.AddrDel(wlan, old))
	must(t, netlink.AddrAdd(wlan, renewed))
	addDefault(t, wlan, "10.3.0.1", 600)
	must(t, h.routePath("wlan0"))
	wantRoute(t, "203.0.113.1", "10.3.0.2", "", "wlan0", "10.3.0.1")
	wantRoute(t, "203.0.113.1", "", "wlan0", "wlan0", "10.3.0.1")
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	must(t, err)
	for _, r := range rules {
		if r.Src != nil && r.Src.IP.String() == "10.2.0.2" {
			t.Errorf("rule of the old address is left: %s", r)
		}
	}
}

// TestHostWatch: the client hears of changes of addresses and links.
func TestHostWatch(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	w, err := newWatcher()
	must(t, err)
	defer w.close()
	h := &host{watcher: w}
	wlan := addLink(t, "wlan0", "10.2.0.2/24")
	<-h.changed()
	settled(t)
	for drained := false; !drained; {
		select {
		case <-h.changed():
		case <-time.After(2 * settleTime):
			drained = true
		}
	}
	must(t, netlink.LinkSetDown(wlan))
	<-h.changed() // the test's time-out is the failure
}

// TestHostAfterKill: a journal that was not closed is undone by the next run.
func TestHostAfterKill(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	must(t, writeSysctl("net/ipv4/ip_forward", "0"))
	before := settled(t)
	dir := t.TempDir()
	killed := openTestHost(t, dir)
	d := setUpClient(t, killed)
	pools := []netip.Prefix{pfx("10.0.0.0/24"), pfx("fd00::/64")}
	must(t, killed.enableForwarding(pools))
	must(t, killed.enableNAT(pools))

	if _, err := newHost(dir, "mqvpn0", discardLog); exitCode(err) != ExitAddressUsed {
		t.Fatalf("second program with the same interface: %v", err)
	}
	must(t, d.Close())
	killed.journal.file.WriteString(`{"change":{"kind":"rou`) // cut while writing
	must(t, killed.journal.file.Close())                      // what the kernel does at SIGKILL
	must(t, killed.serving.held.Close())

	h := openTestHost(t, dir)
	wantSame(t, before, snapshot(t))
	must(t, h.close())
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("files left: %v", entries)
	}
}

// TestHostLeavesForeignAlone: what was there before stays, even if it is the same.
func TestHostLeavesForeignAlone(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	eth, err := netlink.LinkByName("eth0")
	must(t, err)
	own := netip.MustParsePrefix("203.0.113.1/32")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(own), Gw: netip.MustParseAddr("10.1.0.1").AsSlice()}))
	must(t, writeSysctl("net/ipv4/ip_forward", "1"))
	before := settled(t)
	h := openTestHost(t, t.TempDir())
	must(t, h.routeServer("eth0", netip.MustParseAddr("203.0.113.1")))
	d, err := h.createTUN()
	must(t, err)
	must(t, h.enableForwarding([]netip.Prefix{pfx("10.0.0.0/24")}))
	must(t, d.Close())
	must(t, h.close())
	wantSame(t, before, snapshot(t))
}

func TestHostServer(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	must(t, writeSysctl("net/ipv4/ip_forward", "0"))
	before := settled(t)
	h := openTestHost(t, t.TempDir())
	d, err := h.createTUN()
	must(t, err)
	pools := []netip.Prefix{pfx("10.0.0.0/24"), pfx("fd00::/64")}
	must(t, h.enableForwarding(pools))
	must(t, h.enableNAT(pools))
	for name, want := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "2",
		"net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/mqvpn0/send_redirects": "0",
	} {
		if got, err := readSysctl(name); got != want || err != nil {
			t.Errorf("%s = %s, %v; want %s", name, got, err, want)
		}
	}
	if !slices.Contains(snapshot(t), "nft table mqvpn-mqvpn0") {
		t.Error("no nftables table")
	}
	// Somebody else decides on a sysctl meanwhile: theirs stays.
	must(t, writeSysctl("net/ipv6/conf/eth0/accept_ra", "0"))
	must(t, d.Close())
	must(t, h.close())
	for i, l := range before {
		before[i] = strings.Replace(l, "eth0/accept_ra 1", "eth0/accept_ra 0", 1)
	}
	wantSame(t, before, snapshot(t))
}

func TestHostInterfaces(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	h := openTestHost(t, t.TempDir())
	defer h.close()
	if _, err := h.interfaces(nil); exitCode(err) != ExitInterface {
		t.Errorf("no default route: %v", err)
	}
	twoLinks(t)
	for _, tt := range []struct {
		wanted, want []string
	}{
		{nil, []string{"eth0"}},
		{[]string{"auto"}, []string{"eth0", "wlan0"}},
		{[]string{"wlan0", "auto"}, []string{"wlan0", "eth0"}},
		{[]string{"wlan0"}, []string{"wlan0"}},
		{[]string{"auto", "!eth*"}, []string{"wlan0"}},
	} {
		if got, err := h.interfaces(tt.wanted); !slices.Equal(got, tt.want) || err != nil {
			t.Errorf("interfaces(%q) = %q, %v; want %q", tt.wanted, got, err, tt.want)
		}
	}
	if _, err := h.interfaces([]string{"usb*"}); exitCode(err) != ExitInterface {
		t.Errorf("a pattern that selects nothing: %v", err)
	}
	_, err := h.interfaces([]string{"wlan1"})
	if exitCode(err) != ExitInterface || !strings.Contains(err.Error(), "eth0, ") || !strings.Contains(err.Error(), "wlan0") {
		t.Errorf("unknown interface: %v", err)
	}
	if err := h.routeServer("wlan0", netip.MustParseAddr("10.2.0.50")); err != nil {
		t.Errorf("server in the LAN: %v", err)
	}
	if err := h.routeServer("eth0", netip.MustParseAddr("2001:db8::1")); err == nil {
		t.Error("routeServer found a way that is not there")
	}
}

func TestHalves(t *testing.T) {
	for _, p := range []string{"10.0.0.0/8", "fd00::/8", "0.0.0.0/1"} {
		if got := halves(pfx(p)); !slices.Equal(got, []netip.Prefix{pfx(p)}) {
			t.Errorf("halves(%s) = %v", p, got)
		}
	}
	if got := fmt.Sprint(halves(everywhere[0]), halves(everywhere[1])); got != "[0.0.0.0/1 128.0.0.0/1] [::/1 8000::/1]" {
		t.Error(got)
	}
}
