// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// settleTime is how long changes must have ended before the last of them is told: an
	// interface that comes up gets its addresses and routes one by one. The first is
	// told at once, so that the loss of an address is known without delay.
	settleTime = 20 * time.Millisecond
	// maxSettleTime bounds the wait where changes do not end. To compare everything
	// takes some milliseconds.
	maxSettleTime = 500 * time.Millisecond
)

// watchedGroups are links, addresses, routes and rules of both IP versions.
var watchedGroups = []uint{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
}

// watcher tells when links, addresses, routes or rules of the host change. What has
// changed is not looked at: who is told compares everything.
type watcher struct {
	changed chan struct{} // holds one
	events  chan struct{} // holds one
	done    chan struct{}
	socket  atomic.Pointer[nl.NetlinkSocket]
}

func newWatcher() (*watcher, error) {
	w := &watcher{changed: make(chan struct{}, 1), events: make(chan struct{}, 1), done: make(chan struct{})}
	if err := w.subscribe(); err != nil {
		return nil, err
	}
	go w.receive()
	go w.run()
	return w, nil
}

func (w *watcher) subscribe() error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, watchedGroups...)
	if err != nil {
		return fmt.Errorf("cannot watch the network interfaces: %w", err)
	}
	w.socket.Store(s)
	select {
	case <-w.done: // close may have seen the old one
		s.Close()
	default:
	}
	return nil
}

// receive turns messages into events until close.
func (w *watcher) receive() {
	for {
		_, _, err := w.socket.Load().Receive()
		select {
		case <-w.done:
			return
		default:
		}
		// After an overflow, which is an event too, the socket works on.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			w.socket.Load().Close()
			for w.subscribe() != nil {
				select {
				case <-time.After(maxSettleTime):
				case <-w.done:
					return
				}
			}
		}
		notify(w.events)
	}
}

// run tells of the first event, and of those that follow when they have settled.
func (w *watcher) run() {
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	var first time.Time // of the events that were not told; zero: there are none
	for {
		select {
		case <-w.done:
			return
		case <-w.events:
			now := time.Now()
			if first.IsZero() {
				first = now
				notify(w.changed)
			}
			settled.Reset(max(0, min(settleTime, first.Add(maxSettleTime).Sub(now))))
		case <-settled.C:
			first = time.Time{}
			notify(w.changed)
		}
	}
}

func (w *watcher) close() {
	close(w.done)
	w.socket.Load().Close()
}

func (h *host) changed() <-chan struct{} { return h.watcher.changed }
