// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// settleTime is how long changes must have ended before they are told: an interface
// that comes up gets its addresses and routes one by one.
const settleTime = 200 * time.Millisecond

// watcher tells when links, addresses or routes of the host change.
type watcher struct {
	changed chan struct{} // holds one
	done    chan struct{}
}

func newWatcher() (*watcher, error) {
	w := &watcher{changed: make(chan struct{}, 1), done: make(chan struct{})}
	links, addrs, routes := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate), make(chan netlink.RouteUpdate)
	err := netlink.LinkSubscribe(links, w.done)
	if err == nil {
		err = netlink.AddrSubscribe(addrs, w.done)
	}
	if err == nil {
		err = netlink.RouteSubscribe(routes, w.done)
	}
	if err != nil {
		close(w.done)
		return nil, fmt.Errorf("cannot watch the network interfaces: %w", err)
	}
	go w.run(links, addrs, routes)
	return w, nil
}

func (w *watcher) run(links chan netlink.LinkUpdate, addrs chan netlink.AddrUpdate, routes chan netlink.RouteUpdate) {
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	for links != nil || addrs != nil || routes != nil {
		var ok bool
		select {
		case _, ok = <-links:
			if !ok {
				links = nil // closed after w.done, or when the kernel's queue overflowed
			}
		case _, ok = <-addrs:
			if !ok {
				addrs = nil
			}
		case _, ok = <-routes:
			if !ok {
				routes = nil
			}
		case <-settled.C:
			select {
			case w.changed <- struct{}{}:
			default:
			}
			continue
		}
		settled.Reset(settleTime)
	}
}

func (w *watcher) close() { close(w.done) }

func (h *host) changed() <-chan struct{} { return h.watcher.changed }
