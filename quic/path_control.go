// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"slices"

	"github.com/mqvpn/mqvpn/quic/sched"
)

// What the application, which watches the links, tells the connection about its paths.
// They are named by their labels: those of OpenPath and LabelPath. All of it may be
// called by any goroutine, and is executed on the loop before it returns.

var (
	errNoPath   = errors.New("quic: no path of this name")
	errLastPath = errors.New("quic: this is the last path that works")
)

// LinkDown tells that the link of the paths of this label is down, or has lost its
// address or route. They are dead at once: inner traffic moves in the same turn, the
// peer is told not to use them, and they are neither probed nor opened until LinkUp.
// They keep their path ids, and what is known of the network path.
func (c *Conn) LinkDown(label string) {
	c.do(func(now instant) {
		for i := range c.wishes {
			if c.wishes[i].label == label {
				c.wishes[i].linkDown = true
			}
		}
		for _, p := range c.paths {
			if p.label == label && p.phase < pathAbandoning {
				p.linkDown = true
				c.pathDied(now, p, evLinkDown, "link down")
				p.nextProbe = 0
			}
		}
	})
}

// LinkUp tells that the link of the paths of this label may work again: they are probed
// or opened at once. It is right to call it whenever something changed on the link.
func (c *Conn) LinkUp(label string) {
	c.do(func(now instant) {
		for i := range c.wishes {
			if w := &c.wishes[i]; w.label == label {
				w.linkDown, w.notBefore = false, 0
			}
		}
		for _, p := range c.paths {
			if p.label == label && p.phase < pathAbandoning {
				p.linkDown = false
				switch p.phase {
				case pathDead:
					p.deadProbes, p.nextProbe = 0, now
				case pathProbing:
					c.startValidation(now, p) // what was sent until now may not have left
				}
			}
		}
		c.pathsWanted = true
	})
}

// RemovePath abandons the paths of this label, if there are any, and opens none any
// more. The last path cannot be removed, be it open or about to open, nor the last one
// that works.
func (c *Conn) RemovePath(label string) (err error) {
	if !c.do(func(now instant) { err = c.removePath(now, label) }) {
		return errClosed
	}
	return err
}

func (c *Conn) removePath(now instant, label string) error {
	var found, works, others, othersWork bool
	for _, p := range c.paths {
		switch {
		case p.phase >= pathAbandoning:
		case p.label == label:
			found, works = true, works || p.usable()
		default:
			others, othersWork = true, othersWork || p.usable()
		}
	}
	waits := slices.ContainsFunc(c.wishes, func(w pathWish) bool { return w.label == label })
	othersWait := slices.ContainsFunc(c.wishes, func(w pathWish) bool { return w.label != label })
	if found && (!c.multipath || !others || works && !othersWork) || !found && !others && waits && !othersWait {
		return errLastPath
	}
	c.dropWishes(label)
	c.abandonLabel(now, label, "removed")
	return nil
}

// abandonLabel abandons the paths of this label.
func (c *Conn) abandonLabel(now instant, label, why string) {
	for _, p := range slices.Clone(c.paths) {
		if p.label == label && p.phase < pathAbandoning {
			c.abandonPath(now, p.ids, c.cp.ApplicationAbandonPath, why)
		}
	}
}

// SetPathPriority sets the priority of the paths of this label, those that wait to be
// opened included. The peer is told not to use those of PriorityBackup and
// PriorityNever while it has others.
func (c *Conn) SetPathPriority(label string, priority sched.Priority) (err error) {
	if !c.do(func(now instant) {
		err = errNoPath
		for i := range c.wishes {
			if c.wishes[i].label == label {
				c.wishes[i].priority = priority
				err = nil
			}
		}
		for _, p := range c.paths {
			if p.label == label && p.phase < pathAbandoning {
				p.priority = priority
				c.tellStatus(p)
				err = nil
			}
		}
	}) {
		return errClosed
	}
	return err
}

// ReplacePathSocket gives the path of this label another socket, which must have been
// added to the endpoint, after its address has changed. While there is another path and
// a free path id, a new path is opened over s and the old one abandoned; else the path
// keeps its id and migrates. The caller removes the old socket from the endpoint.
func (c *Conn) ReplacePathSocket(label string, s Socket) error {
	es := c.e.socket(s)
	if es == nil {
		return errClosed
	}
	if !c.isClient { // RMP21-3-1
		return errors.New("quic: a server does not open paths")
	}
	err := errClosed
	c.do(func(now instant) { err = c.replaceSocket(now, label, es) })
	return err
}

func (c *Conn) replaceSocket(now instant, label string, es *endpointSocket) error {
	i := slices.IndexFunc(c.paths, func(p *pathState) bool { return p.label == label && p.phase < pathAbandoning })
	if i < 0 {
		err := errNoPath
		for i := range c.wishes {
			if w := &c.wishes[i]; w.label == label {
				w.sock, w.linkDown, w.notBefore = es, false, 0
				c.pathsWanted = true
				err = nil
			}
		}
		return err
	}
	p := c.paths[i]
	others := slices.ContainsFunc(c.paths, func(q *pathState) bool { return q.label != label && q.phase == pathActive && !q.doubted })
	switch {
	case others && c.multipath && c.freePathID() != nil:
		c.dropWishes(label) // two paths over one socket would be one to the peer
		// In front: it takes the id that is free.
		c.wishes = append([]pathWish{{sock: es, remote: p.remote, label: label, priority: p.priority}}, c.wishes...)
		c.pathsWanted = true
		c.abandonLabel(now, label, "address changed")
	case !c.confirmed: // R9000-9-2
		return errors.New("quic: the handshake is not confirmed")
	case c.peerParams.disableActiveMigration && p.remote == c.handshakeRemote:
		return errors.New("quic: the peer forbids migration")
	default:
		c.dropWishes(label)
		c.migrate(now, p, es)
	}
	return nil
}

// migrate moves a path of ours to another socket. // R9000-9.4-1 R9000-9.5-1
func (c *Conn) migrate(now instant, p *pathState, es *endpointSocket) {
	p.batch.reset()
	c.setTuple(p, tuple{sock: es, remote: p.remote})
	p.seenLocal = p.local
	p.linkDown, p.doubted, p.deadProbes, p.nextProbe = false, false, 0, 0
	p.loss.resetForNewAddress()
	p.mtu.init(es.MTU(), p.remote.Addr().Is6())
	p.loss.setMaxDatagram(p.mtu.size)
	c.rotateRemoteCID(p.ids)
	c.setPhase(now, p, evAddressChange, "address changed")
	c.resendElsewhere(p)
	c.startValidation(now, p)
	c.updateMaxDatagram()
}

// SetScheduler replaces the scheduler. s belongs to the connection from now on.
func (c *Conn) SetScheduler(s sched.Scheduler) {
	c.do(func(now instant) { c.scheduler = s })
}

// tellStatus tells the peer whether to use p: not while it is dead to us, nor against
// its priority. // RMP21-3.3-2
func (c *Conn) tellStatus(p *pathState) {
	if !c.multipath || p.phase >= pathAbandoning || p.phase == pathProbing {
		return
	}
	backup := p.phase == pathDead || p.priority >= sched.PriorityBackup
	if backup || p.ids.ourBackup { // available is what it believes anyway
		c.setBackup(p.ids, backup)
	}
}
