// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"slices"

	"github.com/mqvpn/mqvpn/quic"
)

// clientPath is what a tunnel has of an interface.
type clientPath struct {
	socket quic.Socket // bound to the interface
	index  int         // of the interface that the socket is bound to
	err    error       // why there is no socket
}

// findInterfaces adds the interfaces that have come up and that patterns of --path
// select. One that has gone stays: its path is dead until it is back. Any goroutine
// may call it.
func (c *client) findInterfaces() {
	patterns := slices.DeleteFunc(slices.Clone(c.cfg.Paths), func(w string) bool { return !isPattern(w) })
	if len(patterns) == 0 {
		return
	}
	names, err := c.sys.interfaces(patterns)
	if err != nil {
		return // none just now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(c.ifaces, name) {
			c.ifaces = append(slices.Clip(c.ifaces), name) // others may read the old slice
			c.log.Info("interface found", "path", name)
		}
	}
}

// openPaths opens the paths that the connection does not have yet, as far as their
// interfaces are ready, and renews the routing of those that it has.
func (c *client) openPaths(t *tunnel) {
	c.findInterfaces()
	c.mu.Lock()
	ifaces := c.ifaces
	c.mu.Unlock()
	for _, iface := range ifaces {
		old := t.paths[iface]
		if old != nil && old.err == nil {
			if c.isSame(old, iface) {
				if c.cfg.ManageRoutes {
					if err := c.sys.routePath(iface); err != nil {
						c.log.Debug("routes of a path", "path", iface, "error", err)
					}
				}
				continue
			}
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
	}
}

// isSame reports whether a path's socket is bound to the interface that has the name
// now. A socket stays bound to the one that it once was, even when that is deleted. As
// long as there is no other it is kept: an interface may change its name and back.
func (c *client) isSame(p *clientPath, iface string) bool {
	index := c.sys.linkIndex(iface)
	return index == 0 || index == p.index
}

func (c *client) openPath(t *tunnel, iface string) *clientPath {
	p := &clientPath{index: c.sys.linkIndex(iface)}
	if p.socket, p.err = c.openSocket(iface, t.remote.Addr()); p.err != nil {
		return p
	}
	t.ep.AddSocket(p.socket)
	if p.err = t.conn.OpenPath(p.socket, t.remote, iface); p.err != nil {
		t.ep.RemoveSocket(p.socket)
	}
	return p
}

// abandonOlder gives up the paths in the place of which one of the same interface has
// come up. Not before: the last path of a connection cannot be given up.
func (t *tunnel) abandonOlder(up quic.Event) {
	for _, p := range t.conn.Stats().Paths {
		if p.Label == up.Label && p.ID != up.Path && up.Label != "" {
			t.conn.AbandonPath(p.ID)
		}
	}
}
