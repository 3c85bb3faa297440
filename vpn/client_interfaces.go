// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mqvpn/mqvpn/quic/sched"
)

// Which interfaces a client uses: those that the configuration names, those that its
// patterns find, and what is added, removed and ordered at the control socket. What
// is changed there holds until the program ends.

var priorityNames = [...]string{
	sched.PriorityPrimary:   "primary",
	sched.PrioritySecondary: "secondary",
	sched.PriorityBackup:    "backup",
	sched.PriorityNever:     "never",
}

func priorityName(p sched.Priority) string { return priorityNames[p] }

func parsePriority(name string) (sched.Priority, error) {
	p := slices.Index(priorityNames[:], name)
	if p < 0 {
		return 0, fmt.Errorf("priority %q: want primary, secondary, backup or never", name)
	}
	return sched.Priority(p), nil
}

// pathPriority is the priority of the interfaces that a value of --path names.
type pathPriority struct {
	wanted   string
	priority sched.Priority
}

// findInterfaces adds the interfaces that have come up and that patterns of --path
// select. One that has gone stays, since it may come back, until there is another one:
// some get another name each time that they are plugged in. Any goroutine may call it.
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
	found := false
	for _, name := range names {
		if !slices.Contains(c.ifaces, name) && !c.removed[name] {
			c.ifaces = append(slices.Clip(c.ifaces), name) // others may read the old slice
			c.log.Info("interface found", "path", name)
			found = true
		}
	}
	if !found {
		return
	}
	c.ifaces = slices.DeleteFunc(slices.Clone(c.ifaces), func(name string) bool {
		return len(selectInterfaces(patterns, []string{name})) > 0 && !slices.Contains(c.cfg.Paths, name) && c.sys.link(name, false).index == 0
	})
}

// priorityOf is called with mu held.
func (c *client) priorityOf(iface string) sched.Priority {
	if p, ok := c.priorities[iface]; ok {
		return p
	}
	for _, p := range c.cfg.Priorities {
		if p.wanted == autoPath || p.wanted == iface || matches(p.wanted, iface) {
			return p.priority
		}
	}
	return sched.PriorityPrimary
}

// addInterface is the command path add.
func (c *client) addInterface(iface string) error {
	if iface == c.dev.Name() {
		return fmt.Errorf("interface %s is the tunnel itself", iface)
	}
	if c.sys.link(iface, false).index == 0 {
		_, err := c.sys.interfaces([]string{iface}) // knows which there are
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.ifaces, iface) {
		return fmt.Errorf("interface %s is used already", iface)
	}
	delete(c.removed, iface)
	c.ifaces = append(slices.Clip(c.ifaces), iface)
	notify(c.edited)
	return nil
}

// removeInterface is the command path remove.
func (c *client) removeInterface(iface string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch i := slices.Index(c.ifaces, iface); {
	case i < 0:
		return c.notUsed(iface)
	case len(c.ifaces) == 1:
		return fmt.Errorf("interface %s is the only one: add another first", iface)
	default:
		c.ifaces = slices.Delete(slices.Clone(c.ifaces), i, i+1)
	}
	c.removed[iface] = true
	notify(c.edited)
	return nil
}

// setPriority is the command path priority.
func (c *client) setPriority(iface, name string) error {
	p, err := parsePriority(name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.ifaces, iface) {
		return c.notUsed(iface)
	}
	c.priorities[iface] = p
	notify(c.edited)
	return nil
}

func (c *client) notUsed(iface string) error {
	return fmt.Errorf("interface %q is not used; those used are %s", iface, strings.Join(c.ifaces, ", "))
}
