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
	errLastPath = errors.New("quic: this is the last path")
)

// LinkDown tells that the link of the paths of this label is down, or has lost its
// address or route. They are dead at once: inner traffic moves in the same turn, the
// peer is told not to use them, and they are not probed until LinkUp. They keep their
// path ids, and what is known of the network path.
func (c *Conn) LinkDown(label string) {
	c.do(func(now instant) {
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
// at once. It is right to call it whenever something changed on the link.
func (c *Conn) LinkUp(label string) {
	c.do(func(now instant) {
		for _, p := range c.paths {
			if p.label == label && p.phase < pathAbandoning {
				p.linkDown = false
				if p.phase == pathDead {
					p.deadProbes, p.nextProbe = 0, now
				}
			}
		}
		c.nextWish, c.pathsWanted = 0, true
	})
}

// RemovePath abandons the paths of this label, and opens none any more. The last path
// cannot be removed.
func (c *Conn) RemovePath(label string) (err error) {
	if !c.do(func(now instant) { err = c.removePath(now, label) }) {
		return errClosed
	}
	return err
}

func (c *Conn) removePath(now instant, label string) error {
	others := slices.ContainsFunc(c.paths, func(p *pathState) bool { return p.label != label && p.phase < pathAbandoning })
	if !others || !c.multipath {
		return errLastPath
	}
	found := len(c.wishes)
	c.wishes = slices.DeleteFunc(c.wishes, func(w pathWish) bool { return w.label == label })
	found -= len(c.wishes)
	for _, p := range slices.Clone(c.paths) {
		if p.label == label && p.phase < pathAbandoning {
			c.abandonPath(now, p.ids, c.cp.ApplicationAbandonPath, "removed")
			found++
		}
	}
	if found == 0 {
		return errNoPath
	}
	return nil
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
	err := errNoPath
	for i := range c.wishes {
		if c.wishes[i].label == label {
			c.wishes[i].sock = es
			err = nil
		}
	}
	i := slices.IndexFunc(c.paths, func(p *pathState) bool { return p.label == label && p.phase < pathAbandoning })
	if i < 0 {
		return err
	}
	p := c.paths[i]
	switch {
	case c.otherPathAnswers(p) && c.multipath && c.freePathID() != nil:
		// In front: it takes the id that is free.
		c.wishes = append([]pathWish{{sock: es, remote: p.remote, label: label, priority: p.priority}}, c.wishes...)
		c.pathsWanted = true
		c.abandonPath(now, p.ids, c.cp.ApplicationAbandonPath, "address changed")
	case !c.confirmed: // R9000-9-2
		return errors.New("quic: the handshake is not confirmed")
	case c.peerParams.disableActiveMigration && p.remote == c.handshakeRemote:
		return errors.New("quic: the peer forbids migration")
	default:
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
