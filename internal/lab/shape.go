// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// shapeBurst is the depth of the token bucket in bytes: two of the largest packets
	// that offloads make, so that it need not cut them.
	shapeBurst = 128 << 10
	// shapeQueue is the length of the queue, as the time that it takes to empty it.
	shapeQueue = 50 * time.Millisecond
)

// Shape limits what an interface of the host sends to rate bits per second, by a token
// bucket of the kernel. 0 ends that.
func (h *Host) Shape(iface string, rate uint64) error {
	err := h.Do(func() error {
		link, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		q := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}}
		if rate == 0 {
			return netlink.QdiscDel(q)
		}
		q.Rate = rate / 8
		q.Buffer = netlink.Xmittime(q.Rate, shapeBurst)
		q.Limit = uint32(shapeBurst + q.Rate*uint64(shapeQueue)/uint64(time.Second))
		return netlink.QdiscReplace(q)
	})
	if err != nil {
		return fmt.Errorf("%s: token bucket on %s: %w", h.name, iface, err)
	}
	return nil
}

// MTU is that of an interface of the host.
func (h *Host) MTU(iface string) (mtu int, err error) {
	err = h.Do(func() error {
		link, err := netlink.LinkByName(iface)
		if err == nil {
			mtu = link.Attrs().MTU
		}
		return err
	})
	return mtu, err
}
