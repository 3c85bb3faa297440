// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"strings"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/tun"
)

// offloadVariable lists, separated by commas, offloads that are not to be used: to
// measure what they are worth, and to get by with a kernel or a device whose own are
// broken. It is explained by --help.
const offloadVariable = "MQVPN_NO_OFFLOAD"

// noOffload is what offloadVariable says.
type noOffload struct {
	gso, gro bool // of UDP
	tun      bool // of the TUN device
}

func parseNoOffload(v string) (n noOffload, err error) {
	for name := range strings.SplitSeq(v, ",") {
		switch strings.TrimSpace(name) {
		case "gso":
			n.gso = true
		case "gro":
			n.gro = true
		case "tun":
			n.tun = true
		case "":
		default:
			return n, failf(ExitUsage, "%s: %q: want some of gso, gro and tun, separated by commas", offloadVariable, name)
		}
	}
	return n, nil
}

// makeTUN makes a TUN device with the offloads that are left.
func (n noOffload) makeTUN(name string) (*tun.Device, error) {
	if n.tun {
		return tun.CreatePlain(name)
	}
	return tun.Create(name)
}

// socketOptions are for a socket that is bound to an interface, if one is named.
func (n noOffload) socketOptions(iface string) quic.SocketOptions {
	return quic.SocketOptions{Device: iface, NoGSO: n.gso, NoGRO: n.gro}
}
