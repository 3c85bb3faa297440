// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// TestWatchStorm: the first change is told at once, changes that do not end are told
// all the same, and so is the last one.
func TestWatchStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{changed: make(chan struct{}, 1), events: make(chan struct{}, 1), done: make(chan struct{})}
		go w.run()
		defer close(w.done)
		<-w.changed // of the start
		start := time.Now()
		notify(w.events)
		<-w.changed
		if d := time.Since(start); d != 0 {
			t.Errorf("the first change was told after %v", d)
		}
		told := 0
		for time.Since(start) < 10*time.Second {
			time.Sleep(settleTime / 2)
			notify(w.events)
			select {
			case <-w.changed:
				told++
			default:
			}
		}
		if most := int(2 * 10 * time.Second / maxSettleTime); told < most/2-1 || told > most {
			t.Errorf("told %d times in 10 s", told)
		}
		select {
		case <-w.changed:
		default:
		}
		time.Sleep(settleTime)
		synctest.Wait()
		<-w.changed // the last one
	})
}

// TestWatchOverflow: when the kernel had to drop messages, later ones are still heard.
func TestWatchOverflow(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	wlan := addLink(t, "wlan0", "10.2.0.2/24")
	w := &watcher{changed: make(chan struct{}, 1), events: make(chan struct{}, 1), done: make(chan struct{})}
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, watchedGroups...)
	must(t, err)
	must(t, s.SetReceiveBufferSize(2048, false))
	w.socket.Store(s)
	for range 200 {
		must(t, netlink.LinkSetDown(wlan))
		must(t, netlink.LinkSetUp(wlan))
	}
	go w.receive()
	go w.run()
	defer w.close()
	for quiet := false; !quiet; {
		select {
		case <-w.changed:
		case <-time.After(2 * maxSettleTime):
			quiet = true
		}
	}
	must(t, netlink.LinkSetDown(wlan))
	<-w.changed // the test's time-out is the failure
}
