// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"net/netip"
	"os"
	"testing"

	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// TestTwoServersForward: forwarding stays on while a server needs it, whichever
// switched it on, and whether it was stopped or killed.
func TestTwoServersForward(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	const forward = "net/ipv4/ip_forward"
	pools := []netip.Prefix{defaultSubnet}
	dir := t.TempDir()
	start := func(name string) *host {
		h, err := newHost(dir, name, discardLog)
		must(t, err)
		d, err := h.createTUN()
		must(t, err)
		t.Cleanup(func() { d.Close() })
		must(t, h.enableForwarding(pools))
		return h
	}
	want := func(when, value string) {
		t.Helper()
		if now, err := readSysctl(forward); now != value || err != nil {
			t.Errorf("%s: forwarding is %s, %v", when, now, err)
		}
	}
	must(t, writeSysctl(forward, "0"))
	first := start("tun1")
	second := start("tun2")
	must(t, first.close())
	want("the first is stopped", "1")
	must(t, second.close())
	want("nobody knows what it was", "1")

	must(t, writeSysctl(forward, "0"))
	first = start("tun3")
	second = start("tun4")
	must(t, second.close())
	want("the second is stopped", "1")
	must(t, first.close())
	want("both are stopped", "0")

	first = start("tun5")
	second = start("tun6")
	must(t, first.journal.file.Close()) // what the kernel does at SIGKILL
	must(t, first.serving.held.Close())
	again, err := newHost(dir, "tun5", discardLog)
	must(t, err)
	want("the killed one's changes are undone", "1")
	must(t, again.close())
	must(t, second.close())
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("files left: %v", entries)
	}
}
