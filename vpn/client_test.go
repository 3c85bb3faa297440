// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

func TestSilence(t *testing.T) {
	path := func(last time.Duration, inFlight int, reason string) quic.PathStats {
		return quic.PathStats{LastReceived: last, InFlight: inFlight, Reason: reason}
	}
	waits, dead, idle := path(9*time.Second, 100, ""), path(9*time.Second, 0, "dead"), path(9*time.Second, 0, "")
	fresh, never := path(time.Millisecond, 100, ""), path(0, 100, "never answered")
	for _, tt := range []struct {
		name  string
		ticks [][]quic.PathStats // one each second
		want  bool               // at the last
	}{
		{"waiting for 3 s", [][]quic.PathStats{{waits}, {waits}, {waits}, {waits}}, true},
		{"waiting for 2 s", [][]quic.PathStats{{waits}, {waits}, {waits}}, false},
		{"answered meanwhile", [][]quic.PathStats{{waits}, {waits}, {fresh}, {waits}, {waits}}, false},
		{"had nothing to send meanwhile", [][]quic.PathStats{{waits}, {waits}, {idle}, {waits}, {waits}}, false},
		{"idle", [][]quic.PathStats{{idle}, {idle}, {idle}, {idle}}, false},
		{"one path dead, the other idle", [][]quic.PathStats{{dead, idle}, {dead, idle}, {dead, idle}, {dead, idle}}, false},
		{"one path dead, the other waits", [][]quic.PathStats{{dead, waits}, {dead, waits}, {dead, waits}, {dead, waits}}, true},
		{"one path never opened", [][]quic.PathStats{{never, waits}, {never, waits}, {never, waits}, {never, waits}}, true},
		{"one path answers", [][]quic.PathStats{{fresh, waits}, {fresh, waits}, {fresh, waits}, {fresh, waits}}, false},
		{"no path", [][]quic.PathStats{{}, {}, {}, {}}, false},
	} {
		var s silence
		now, got := time.Unix(1000, 0), false
		for _, paths := range tt.ticks {
			got = s.update(now, paths)
			now = now.Add(watchInterval)
		}
		if got != tt.want {
			t.Errorf("%s: silent = %v", tt.name, got)
		}
	}
}

func TestDestinations(t *testing.T) {
	r := func(start, end string) masque.Route {
		return masque.Route{Start: netip.MustParseAddr(start), End: netip.MustParseAddr(end)}
	}
	v4, v6 := pfx("10.0.0.2/32"), pfx("fd00::2/128")
	for _, tt := range []struct {
		inner  []netip.Prefix
		routes []masque.Route
		want   string
	}{
		{[]netip.Prefix{v4, v6}, []masque.Route{r("0.0.0.0", "255.255.255.255"), r("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}, "[0.0.0.0/0 ::/0]"},
		{[]netip.Prefix{v4}, []masque.Route{r("0.0.0.0", "255.255.255.255"), r("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}, "[0.0.0.0/0]"},
		{[]netip.Prefix{v4}, []masque.Route{r("10.0.0.1", "10.0.0.1")}, "[10.0.0.1/32]"},
		{[]netip.Prefix{v4}, []masque.Route{r("10.0.0.1", "10.0.0.6")}, "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32]"},
		{[]netip.Prefix{v4}, []masque.Route{r("192.168.0.0", "192.168.1.255"), r("255.255.255.254", "255.255.255.255")}, "[192.168.0.0/23 255.255.255.254/31]"},
		{[]netip.Prefix{v6}, []masque.Route{r("fd00::", "fd00::ffff"), r("10.0.0.0", "10.0.0.255")}, "[fd00::/112]"},
	} {
		if got := fmt.Sprint(destinations(tt.routes, tt.inner)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.routes, got, tt.want)
		}
	}
}
