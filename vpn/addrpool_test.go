// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"net/netip"
	"testing"
)

func mustAcquire(t *testing.T, p *addrPool, user int, want string) lease {
	t.Helper()
	l, err := p.acquire(user)
	if err != nil {
		t.Fatalf("user %d: %v", user, err)
	}
	if l.v4.String() != want {
		t.Errorf("user %d has %s, want %s", user, l.v4, want)
	}
	return l
}

func TestAddrPoolOfUsers(t *testing.T) {
	p := newAddrPool(pfx("10.0.0.0/24"), pfx("fd00::/64"), 2, 0)
	v4, v6 := p.server()
	if v4 != pfx("10.0.0.1/24") || v6 != pfx("fd00::1/64") {
		t.Errorf("server has %s, %s", v4, v6)
	}
	second := mustAcquire(t, p, 1, "10.0.0.3")
	if second.v6 != netip.MustParseAddr("fd00::3") {
		t.Errorf("IPv6 address %s, want fd00::3", second.v6)
	}
	mustAcquire(t, p, -1, "10.0.0.4") // leaves the places of users alone
	mustAcquire(t, p, 0, "10.0.0.2")
	p.release(second)
	mustAcquire(t, p, -1, "10.0.0.5")
	mustAcquire(t, p, 1, "10.0.0.3")
	mustAcquire(t, p, 1, "10.0.0.6") // own place is taken
}

func TestAddrPoolFull(t *testing.T) {
	for _, tt := range []struct {
		v4, v6     string
		maxClients int
		holds      int
	}{
		{"10.0.0.0/30", "", 0, 1},
		{"10.0.0.0/29", "", 0, 5},
		{"10.0.0.0/24", "fd00::/126", 0, 2},
		{"10.0.0.0/24", "fd00::/96", 0, 253},
		{"10.0.0.0/24", "fd00::/64", 10, 10},
		{"10.0.0.0/30", "", 10, 1},
	} {
		p := newAddrPool(pfx(tt.v4), pfx(tt.v6), 3, tt.maxClients)
		seen := map[netip.Addr]bool{}
		var last lease
		for i := range tt.holds {
			l, err := p.acquire(-1)
			if err != nil {
				t.Fatalf("%v: lease %d: %v", tt, i, err)
			}
			if seen[l.v4] || !p.v4.Contains(l.v4) || l.v6.IsValid() && !p.v6.Contains(l.v6) {
				t.Errorf("%v: lease %d is %s %s", tt, i, l.v4, l.v6)
			}
			seen[l.v4], last = true, l
		}
		if _, err := p.acquire(0); !errors.Is(err, errPoolFull) {
			t.Errorf("%v: lease %d: %v, want errPoolFull", tt, tt.holds, err)
		}
		p.release(last)
		if _, err := p.acquire(0); err != nil {
			t.Errorf("%v: after a release: %v", tt, err)
		}
	}
}

func TestNthAddrCarries(t *testing.T) {
	if a := nthAddr(pfx("10.0.0.0/8"), 0x010203); a.String() != "10.1.2.3" {
		t.Error(a)
	}
	if a := nthAddr(pfx("fd00::ffff:ff00/120"), 0x1ff); a.String() != "fd00::1:0:ff" {
		t.Error(a)
	}
}
