// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"net/netip"
	"testing"

	"github.com/mqvpn/mqvpn/quic"
)

func TestParseNoOffload(t *testing.T) {
	for v, want := range map[string]noOffload{
		"":             {},
		"gso":          {gso: true},
		"gro":          {gro: true},
		"tun":          {tun: true},
		"gso, gro,tun": {true, true, true},
	} {
		if got, err := parseNoOffload(v); got != want || err != nil {
			t.Errorf("%q: %+v, %v, want %+v", v, got, err, want)
		}
	}
	if _, err := parseNoOffload("gso,gros"); exitCode(err) != ExitUsage {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestSocketsLackOffloads: sockets have the offloads that are left, and are bound.
func TestSocketsLackOffloads(t *testing.T) {
	for _, n := range []noOffload{{}, {gso: true}, {gro: true}} {
		want := quic.SocketOptions{Device: "lo", NoGSO: n.gso, NoGRO: n.gro}
		if got := n.socketOptions("lo"); got != want {
			t.Errorf("%+v: %+v", n, got)
		}
		h := &host{noOffload: n, log: discardLog}
		s, err := h.listen(netip.MustParseAddrPort("127.0.0.1:0"), "")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.(interface{ Stats() quic.SocketStats }).Stats(); got.GSO == n.gso || got.GRO == n.gro {
			t.Errorf("%+v: the socket has GSO %t, GRO %t", n, got.GSO, got.GRO)
		}
		s.Close()
	}
}
