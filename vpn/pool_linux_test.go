// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/tun"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// TestPoolInUse: a pool that the host needs itself is refused, and init takes another.
func TestPoolInUse(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	twoLinks(t)
	lan := addLink(t, "lan0", "10.0.0.77/24", "fd09::77/64")
	wide := pfx("172.20.0.0/14")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Dst: ipNet(wide), Gw: netip.MustParseAddr("10.0.0.1").AsSlice()}))
	for _, half := range halves(everywhere[0]) { // of another VPN
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Dst: ipNet(half), Gw: netip.MustParseAddr("10.0.0.1").AsSlice()}))
	}
	h := openTestHost(t, t.TempDir())
	defer h.close()
	d, err := h.createTUN()
	must(t, err)
	defer d.Close()
	must(t, d.AddAddress(pfx("10.9.0.1/24"))) // our own does not count
	must(t, d.Up())
	for _, tt := range []struct{ pool, says string }{
		{"10.0.0.0/24", "lan0"},
		{"10.0.0.128/25", "lan0"},
		{"10.0.0.0/16", "--subnet "},
		{"10.1.0.0/24", "eth0"},
		{"172.21.5.0/24", "172.20.0.0/14"},
		{"fd09::/80", "--subnet6 fd09::/80"},
		{"10.9.0.0/24", ""},
		{"10.0.1.0/24", ""},
		{"fd0a::/64", ""},
	} {
		err := h.checkPools([]netip.Prefix{pfx("10.77.0.0/24"), pfx(tt.pool)})
		if tt.says == "" && err != nil || tt.says != "" && (exitCode(err) != ExitUsage || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", tt.pool, err, tt.says)
		}
	}
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	if code := Main(t.Context(), ModeServer, []string{"init", "--dir", dir, "--address", "203.0.113.1"}, &out, &errOut); code != 0 {
		t.Fatalf("init: %d, %s", code, &errOut)
	}
	settings, err := readConfigFile(filepath.Join(dir, "server.conf"))
	must(t, err)
	cfg, err := newConfig(ModeServer, settings, nil)
	must(t, err)
	if cfg.Subnet == defaultSubnet || cfg.Subnet.Bits() != 24 || h.checkPools([]netip.Prefix{cfg.Subnet, cfg.Subnet6}) != nil {
		t.Errorf("init has chosen %s", cfg.Subnet)
	}
	// The program itself says so too.
	must(t, d.Close())
	args := []string{"--config", filepath.Join(dir, "server.conf"), "--subnet", "10.0.0.0/24", "--control", "off", "--listen", "127.0.0.1:4433"}
	if code := Main(t.Context(), ModeServer, args, &out, &errOut); code != int(ExitUsage) || !strings.Contains(errOut.String(), "lan0") {
		t.Errorf("server: exit code %d, %s", code, &errOut)
	}
}

// tunPackets are the packets that the kernel sends to a TUN device.
func tunPackets(d tunDevice) <-chan []byte {
	c := make(chan []byte, 100)
	go func() {
		bufs, sizes := make([][]byte, d.BatchSize()), make([]int, d.BatchSize())
		for i := range bufs {
			bufs[i] = make([]byte, 2048)
		}
		for {
			n, err := d.Read(bufs, sizes, 0)
			if err != nil {
				close(c)
				return
			}
			for i := range n {
				c <- bytes.Clone(bufs[i][:sizes[i]])
			}
		}
	}()
	return c
}

// TestLimitPackets: the kernel fragments packets that are too large for a client,
// or tells their senders.
func TestLimitPackets(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	h := openTestHost(t, t.TempDir())
	defer h.close()
	inside, err := h.createTUN()
	must(t, err)
	outside, err := tun.Create("out0")
	must(t, err)
	devices := map[string]tunDevice{"10.0.0.1/24 fd00::1/64": inside, "192.0.2.1/24 2001:db8::1/64": outside}
	for addrs, d := range devices {
		defer d.Close()
		must(t, writeSysctl("net/ipv6/conf/"+d.Name()+"/accept_dad", "0"))
		for _, a := range strings.Fields(addrs) {
			must(t, d.AddAddress(pfx(a)))
		}
		must(t, d.Up())
	}
	must(t, h.enableForwarding([]netip.Prefix{pfx("10.0.0.0/24"), pfx("fd00::/64")}))
	toClient, toSender := tunPackets(inside), tunPackets(outside)
	const mtu = 1300
	v4, v6 := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")

	// next is the next packet of a protocol, or nil.
	next := func(from <-chan []byte, protos ...byte) []byte {
		limit := time.After(2 * time.Second)
		for {
			select {
			case p := <-from:
				for _, proto := range protos {
					if p[0]>>4 == 4 && p[9] == proto || p[0]>>4 == 6 && p[6] == proto && (proto != unix.IPPROTO_ICMPV6 || p[40] == 2) {
						return p
					}
				}
			case <-limit:
				return nil
			}
		}
	}
	packet := func(dst netip.Addr, dontFragment bool) []byte {
		src := "192.0.2.9"
		if dst.Is6() {
			src = "2001:db8::9"
		}
		p := ipPacket(src, dst.String(), protoUDP, udp(1, 2, string(make([]byte, 1372))))
		if dontFragment {
			p[6] = 0x40
			binary.BigEndian.PutUint16(p[10:], binary.BigEndian.Uint16(p[10:])-0x4000)
		}
		return p
	}
	send := func(p []byte) {
		_, err := outside.Write([][]byte{p}, 0)
		must(t, err)
	}

	send(packet(v4, false))
	if p := next(toClient, protoUDP); len(p) != 1400 {
		t.Fatalf("without a limit: %d bytes", len(p))
	}
	for _, a := range []netip.Addr{v4, v6} {
		must(t, h.limitPackets(a, 1400))
		must(t, h.limitPackets(a, mtu)) // as when it changes
	}
	send(packet(v4, false))
	first, second := next(toClient, protoUDP), next(toClient, protoUDP)
	if len(first) == 0 || len(first) > mtu || len(first)+len(second) != 1400+20 {
		t.Errorf("DF=0: %d and %d bytes", len(first), len(second))
	}
	send(packet(v4, true))
	if p := next(toSender, unix.IPPROTO_ICMP); len(p) < 28 || p[20] != 3 || p[21] != 4 || binary.BigEndian.Uint16(p[26:]) != mtu {
		t.Errorf("DF=1: % x", p)
	}
	send(packet(v6, false))
	if p := next(toSender, unix.IPPROTO_ICMPV6); len(p) < 48 || binary.BigEndian.Uint32(p[44:]) != mtu {
		t.Errorf("IPv6: % x", p)
	}
	must(t, h.limitPackets(v4, 0))
	must(t, h.limitPackets(v4, 0)) // nothing to remove
	send(packet(v4, true))
	if p := next(toClient, protoUDP); len(p) != 1400 {
		t.Errorf("limit removed: %d bytes", len(p))
	}
	must(t, inside.Close())
	must(t, h.limitPackets(v6, 0)) // gone with the device
}
