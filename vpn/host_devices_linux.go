// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/quic"
)

func (h *host) createTUN() (tunDevice, error) {
	d, err := h.noOffload.makeTUN(h.tunName)
	if err != nil {
		return nil, err // a plain return would make a nil *Device a device
	}
	o := d.Offloads()
	h.log.Debug("TUN device made", "interface", d.Name(), "tcp_offload", o.TCP, "udp_offload", o.UDP)
	return d, nil
}

func (h *host) listen(addr netip.AddrPort, iface string) (quic.Socket, error) {
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
	}
	s, err := quic.ListenUDPWith(network, addr, h.noOffload.socketOptions(iface))
	switch {
	case err == nil:
		h.warnOnce(s)
		return s, nil
	case errors.Is(err, unix.EADDRINUSE):
		return nil, failf(ExitAddressUsed, "UDP %s is in use by another program: stop it, or choose another with --listen", addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, failf(ExitAddressUsed, "UDP %s: this host does not have the address", addr)
	case errors.Is(err, fs.ErrPermission) && iface == "":
		return nil, failf(ExitPermission, "UDP %s: no permission: run as root, or choose a port from 1024 on", addr)
	case errors.Is(err, fs.ErrPermission):
		return nil, failf(ExitPermission, "interface %s: no permission to use it: run as root or with CAP_NET_RAW", iface)
	}
	return nil, err
}

// warnOnce logs what is wrong with the host for all sockets.
func (h *host) warnOnce(s quic.Socket) {
	w, ok := s.(interface{ Warnings() []string })
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range w.Warnings() {
		if !slices.Contains(h.warned, text) {
			h.warned = append(h.warned, text)
			h.log.Warn(text)
		}
	}
}

func (h *host) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}
