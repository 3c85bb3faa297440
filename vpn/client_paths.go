// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"net/netip"
	"slices"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// clientPath is what a tunnel has of an interface.
type clientPath struct {
	socket quic.Socket // bound to the interface
	link   linkState   // when the socket was bound
	down   bool        // the connection was told so
	err    error       // why there is no socket
	stays  bool        // it is not wanted, but was the last one that works

	priority sched.Priority // that the connection knows
}

// updatePaths makes the paths of a tunnel what the host's interfaces are: it opens
// those that it does not have yet, as far as their interfaces are ready, tells which
// links are down, moves those whose address has changed, and renews their routing.
func (c *client) updatePaths(t *tunnel) {
	c.findInterfaces()
	for _, iface := range c.removeUnwanted(t) {
		old := t.paths[iface]
		if old != nil && old.err == nil && c.keepPath(t, iface, old) {
			continue
		}
		if old != nil && old.err == nil {
			c.log.Info("interface was made anew", "path", iface)
			t.ep.RemoveSocket(old.socket)
		}
		now := c.openPath(t, iface)
		if now.err != nil && (old == nil || old.err == nil || now.err.Error() != old.err.Error()) {
			c.log.Warn("path not usable", "path", iface, "error", now.err)
		}
		c.mu.Lock()
		t.paths[iface] = now
		c.mu.Unlock()
		c.applyPriority(t, iface, now)
	}
}

// removeUnwanted removes the paths of interfaces that are not wanted any more, and
// returns those that are.
func (c *client) removeUnwanted(t *tunnel) (ifaces []string) {
	c.mu.Lock()
	ifaces = c.ifaces
	c.mu.Unlock()
	for iface, p := range t.paths {
		if !slices.Contains(ifaces, iface) {
			c.removePath(t, iface, p)
		} else {
			p.stays = false
		}
	}
	return ifaces
}

// removePath gives up the path of an interface that is not wanted any more. The last
// one that works stays until there is another.
func (c *client) removePath(t *tunnel, iface string, p *clientPath) {
	if p.err == nil {
		if err := t.conn.RemovePath(iface); err != nil {
			if !p.stays {
				c.log.Warn("path not removed yet", "path", iface, "error", err)
			}
			p.stays = true
			return
		}
		t.ep.RemoveSocket(p.socket)
	}
	c.mu.Lock()
	delete(t.paths, iface)
	c.mu.Unlock()
	c.log.Info("path removed", "path", iface)
}

// applyPriority tells the connection the priority that an interface has now.
func (c *client) applyPriority(t *tunnel, iface string, p *clientPath) {
	c.mu.Lock()
	want := c.priorityOf(iface)
	c.mu.Unlock()
	if p.err != nil || p.priority == want {
		return
	}
	if err := t.conn.SetPathPriority(iface, want); err != nil {
		c.log.Warn("priority not changed", "path", iface, "error", err)
		return
	}
	p.priority = want
}

// keepPath brings a path that has a socket up to date. It reports false when the
// interface was made anew: a socket stays bound to the one that it once was, even
// when that is deleted. As long as there is no other it is kept: an interface may
// change its name and back.
func (c *client) keepPath(t *tunnel, iface string, p *clientPath) bool {
	c.applyPriority(t, iface, p)
	link := c.sys.link(iface, t.remote.Addr().Is6())
	if link.index != 0 && link.index != p.link.index {
		return false
	}
	if !link.works() {
		if !p.down {
			p.down = true
			t.conn.LinkDown(iface)
		}
		return true
	}
	if c.cfg.ManageRoutes {
		if err := c.sys.routePath(iface); err != nil {
			c.log.Debug("routes of a path", "path", iface, "error", err)
		}
	}
	if !slices.ContainsFunc(p.link.addrs, func(a netip.Addr) bool { return slices.Contains(link.addrs, a) }) {
		c.movePath(t, iface, p, link)
	}
	if p.down {
		p.down = false
		t.conn.LinkUp(iface)
	}
	return true
}

// movePath gives a path a socket that takes its interface's new address.
func (c *client) movePath(t *tunnel, iface string, p *clientPath, link linkState) {
	socket, err := c.openSocket(iface, t.remote.Addr())
	if err != nil {
		c.log.Warn("path not moved to its new address", "path", iface, "error", err)
		return
	}
	t.ep.AddSocket(socket)
	if err := t.conn.ReplacePathSocket(iface, socket); err != nil {
		c.log.Warn("path not moved to its new address", "path", iface, "error", err)
		t.ep.RemoveSocket(socket)
		return
	}
	c.log.Info("address changed", "path", iface, "address", link.addrs[0])
	t.ep.RemoveSocket(p.socket)
	p.socket, p.link = socket, link
}

func (c *client) openPath(t *tunnel, iface string) *clientPath {
	p := &clientPath{link: c.sys.link(iface, t.remote.Addr().Is6())}
	if p.socket, p.err = c.openSocket(iface, t.remote.Addr()); p.err != nil {
		return p
	}
	t.ep.AddSocket(p.socket)
	if p.err = t.conn.OpenPath(p.socket, t.remote, iface); p.err != nil {
		t.ep.RemoveSocket(p.socket)
	} else if !p.link.works() {
		p.down = true
		t.conn.LinkDown(iface)
	}
	return p
}

// abandonOlder gives up the paths in the place of which one of the same interface has
// come up. Not before: the last path of a connection cannot be given up.
func (t *tunnel) abandonOlder(up quic.Event) {
	for _, p := range t.conn.Stats().Paths {
		if p.Label == up.Label && p.ID < up.Path && up.Label != "" {
			t.conn.AbandonPath(p.ID)
		}
	}
}
