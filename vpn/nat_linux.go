// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// enableForwarding switches forwarding on for the families of the pools. With IPv6
// it first keeps the interfaces listening to router advertisements, which a
// forwarding host ignores otherwise: a server would lose its own default route.
func (h *host) enableForwarding(pools []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.serving.hold(); err != nil {
		return err
	}
	for _, p := range pools {
		name := "net/ipv4/ip_forward"
		if p.Addr().Is6() {
			name = "net/ipv6/conf/all/forwarding"
			if err := h.keepRouterAdvertisements(); err != nil {
				return err
			}
		}
		if err := h.setSysctl(name, "1"); err != nil {
			return fmt.Errorf("cannot switch forwarding on (sysctl %s): %w", name, err)
		}
	}
	return h.stopRedirects()
}

// stopRedirects keeps the kernel from telling clients by ICMP that they could reach
// each other without it, which on a TUN device they cannot. An interface sends
// redirects if either its own setting or the common one says so; all others keep
// their own.
func (h *host) stopRedirects() error {
	for _, name := range []string{"all", h.tunName} {
		if err := h.setSysctl(filepath.Join("net/ipv4/conf", name, "send_redirects"), "0"); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) keepRouterAdvertisements() error {
	const conf = "net/ipv6/conf"
	entries, err := os.ReadDir(filepath.Join(sysctlRoot, conf))
	if err != nil {
		return fmt.Errorf("IPv6 is switched off on this host; leave --subnet6 out: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(conf, e.Name(), "accept_ra")
		value, err := readSysctl(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && value != "1" {
			continue
		}
		if err == nil {
			err = h.setSysctl(name, "2")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enableNAT makes one nftables table of our own. Traffic from a pool gets the
// host's address wherever it leaves, except back into the tunnel: clients see each
// other's own addresses.
func (h *host) enableNAT(pools []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := change{Kind: changeNFT, Group: "nat", Name: "mqvpn-" + h.tunName}
	if err := h.do(c); err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: c.Name})
	accept := nftables.ChainPolicyAccept
	chain := conn.AddChain(&nftables.Chain{
		Name:     "postrouting",
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
		Policy:   &accept,
	})
	for _, p := range pools {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: masquerade(p, h.tunName)})
	}
	if err := conn.Flush(); err != nil {
		return errors.Join(natError(err), h.undo(c))
	}
	return nil
}

func natError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return failf(ExitPermission, "nftables: no permission: run as root or with CAP_NET_ADMIN")
	}
	return fmt.Errorf("nftables: %w; the kernel needs nf_tables with masquerade, or start with --nat off and forward by other means", err)
}

// masquerade is: ip saddr POOL oifname != TUN masquerade.
func masquerade(pool netip.Prefix, tunName string) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if pool.Addr().Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	ifname := make([]byte, unix.IFNAMSIZ)
	copy(ifname, tunName)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: ipNet(pool).Mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: pool.Addr().AsSlice()},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname},
		&expr.Masq{},
	}
}

// removeTable deletes our nftables table if it is there.
func removeTable(name string) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, t := range tables {
		if t.Name == name {
			conn.DelTable(t)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}
