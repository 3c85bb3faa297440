// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// serverName is what is known of the host name of a server. Its addresses are kept
// while they are good: with the tunnel's routes in place there may be nobody to ask.
type serverName struct {
	addrs  []netip.Addr // the latest answer
	err    error        // of the latest question, if that failed
	stale  bool         // addrs led nowhere: they are asked for again
	asking bool
}

// candidates lists the ways to try, server by server, each over all interfaces.
// What worked last goes first. Names are asked for meanwhile; they are waited for only
// when there is no other way.
func (c *client) candidates(ctx context.Context) ([]candidate, error) {
	answers, questions := c.askNames(ctx)
	for {
		out, err := c.knownCandidates()
		if len(out) > 0 || questions == 0 {
			return out, err
		}
		<-answers // comes with the end of ctx at the latest
		questions--
	}
}

// askNames asks for the names that have no address, or none that is good. Each
// question puts a value into answers when it has ended.
func (c *client) askNames(ctx context.Context) (answers chan struct{}, questions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answers = make(chan struct{}, len(c.cfg.Servers))
	for _, s := range c.cfg.Servers {
		if _, err := netip.ParseAddr(s.Host); err == nil {
			continue
		}
		n := c.names[s.Host]
		if n == nil {
			n = new(serverName)
			c.names[s.Host] = n
		}
		if n.asking || len(n.addrs) > 0 && !n.stale {
			continue
		}
		n.asking = true
		questions++
		go func() {
			c.askName(ctx, s.Host, n)
			answers <- struct{}{}
		}()
	}
	return answers, questions
}

func (c *client) askName(ctx context.Context, host string, n *serverName) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	addrs, err := c.sys.lookup(ctx, host)
	c.mu.Lock()
	defer c.mu.Unlock()
	n.asking, n.err = false, err
	if err == nil {
		n.addrs, n.stale = addrs, false
	}
}

// namesFailed notes that no address led to a server.
func (c *client) namesFailed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.names {
		n.stale = true
	}
}

// knownCandidates leaves out the servers whose names have no address.
func (c *client) knownCandidates() ([]candidate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []candidate
	var errs []error
	for _, s := range c.cfg.Servers {
		var addrs []netip.Addr
		if a, err := netip.ParseAddr(s.Host); err == nil {
			addrs = []netip.Addr{a.Unmap()}
		} else if n := c.names[s.Host]; len(n.addrs) > 0 {
			addrs = n.addrs
		} else if n.err != nil {
			errs = append(errs, fmt.Errorf("server %s: %w", s.Host, n.err))
		} else {
			errs = append(errs, fmt.Errorf("server %s: no address", s.Host))
		}
		for _, a := range addrs {
			for _, iface := range c.ifaces {
				out = append(out, candidate{s, netip.AddrPortFrom(a, s.Port), iface})
			}
		}
	}
	if len(out) == 0 {
		return nil, failf(ExitUnreachable, "%w", errors.Join(errs...))
	}
	if i := slices.Index(out, c.lastGood); i > 0 {
		out = append([]candidate{c.lastGood}, slices.Delete(out, i, i+1)...)
	}
	return out, nil
}
