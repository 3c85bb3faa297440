// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// cable joins two hosts and returns the second one's address.
func cable(t *testing.T, a, b *Host) netip.Addr {
	to := netip.MustParseAddr("192.0.2.2")
	err := NewCable(
		Port{a, "eth0", []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
		Port{b, "eth0", []netip.Prefix{netip.PrefixFrom(to, 24)}}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestStreamReachesSink(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	sink, err := NewSink(b, netip.AddrPortFrom(cable(t, a, b), 7000))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	for _, pace := range []Pace{{PerSecond: 5000}, {PerSecond: 5000, Every: 10 * time.Millisecond}} {
		before := sink.Received()
		s, err := StartStream(a, sink.Addr(), 1100, pace)
		if err != nil {
			t.Fatal(err)
		}
		for s.Sent() < 500 {
			time.Sleep(time.Millisecond)
		}
		s.Stop()
		received := func() int64 { return sink.Received() - before }
		for deadline := time.Now().Add(5 * time.Second); received() < s.Sent() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if received() != s.Sent() {
			t.Errorf("%+v: received %d of %d datagrams", pace, received(), s.Sent())
		}
	}
}

func TestShape(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	cable(t, a, b)
	rates := func() (rates []uint64) {
		err := a.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			all, err := netlink.QdiscList(link)
			for _, q := range all {
				if tbf, ok := q.(*netlink.Tbf); ok {
					rates = append(rates, tbf.Rate)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return rates
	}
	for _, rate := range []uint64{10e6, 100e6, 0} {
		if err := a.Shape("eth0", rate); err != nil {
			t.Fatal(err)
		}
		if got := rates(); rate == 0 && len(got) != 0 || rate > 0 && (len(got) != 1 || got[0] != rate/8) {
			t.Errorf("asked for %d bit/s: token buckets with %d bytes per second", rate, got)
		}
	}
}
