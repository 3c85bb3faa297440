// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/mqvpn/mqvpn/http3"
)

// maxPendingRequests bounds the address requests that wait for AssignAddresses.
const maxPendingRequests = 64

// config is what the ends of a session have told each other in capsules.
type config struct {
	s *Session

	// writeMu is held over a change of what the peer is told and the write of the
	// capsule that tells it, so that capsules leave in the order of the changes. It
	// is taken before mu.
	writeMu   sync.Mutex
	requestID uint64 // of our last address request

	mu sync.Mutex

	// From the peer.
	settled     bool // a datagram has come: capsules are not merged any more
	assigned    []netip.Prefix
	hasAssigned bool // an ADDRESS_ASSIGN capsule has come
	routes      []Route
	hasRoutes   bool // a ROUTE_ADVERTISEMENT capsule has come

	// To the peer.
	given   []address
	gave    bool           // AssignAddresses was called
	allowed []netip.Prefix // see SetAllowedSources
	pending []address      // requests of the peer without an answer
}

func (c *config) init(s *Session) {
	c.s = s
	c.updatePolicyLocked()
}

// updatePolicyLocked makes the policy of the data path follow the configuration. A
// proxy takes packets only from addresses that it has assigned. A client takes
// them from anywhere; until the peer has spoken of addresses and routes it has
// those that were configured otherwise.
func (c *config) updatePolicyLocked() {
	p := new(policy)
	if !c.s.client || c.gave || c.allowed != nil {
		p.peerSources = make(prefixSet, 0, len(c.given)+len(c.allowed))
		for _, a := range c.given {
			p.peerSources = append(p.peerSources, a.prefix)
		}
		p.peerSources = append(p.peerSources, c.allowed...)
	}
	if c.hasAssigned {
		p.ours = append(prefixSet{}, c.assigned...)
	}
	if c.hasRoutes {
		p.routes = newRouteTable(c.routes)
	}
	c.s.policy.Store(p)
}

// firstDatagram ends the time in which capsules are merged.
func (c *config) firstDatagram() {
	c.mu.Lock()
	c.settled = true
	c.mu.Unlock()
}

// handleCapsule handles a capsule of the peer; an error ends the stream.
func (c *config) handleCapsule(capsule http3.Capsule) error {
	switch capsule.Type {
	case capsuleAddressAssign:
		return c.handleAddressAssign(capsule.Value)
	case capsuleAddressRequest:
		return c.handleAddressRequest(capsule.Value)
	}
	return c.handleRouteAdvertisement(capsule.Value)
}

// handleAddressAssign: each capsule holds the whole list. // R9484-4.7.1-4
func (c *config) handleAddressAssign(b []byte) error {
	list, err := parseAddresses(b)
	if err != nil {
		return err
	}
	var prefixes []netip.Prefix
	for _, a := range list {
		p := a.prefix
		if a.refused() {
			continue
		}
		if p != p.Masked() {
			// The C implementation gives a client its IPv6 address with the prefix
			// length of the pool and means the one address.
			if !c.s.client || p.Addr().Is4() {
				return malformed("host bits in an assigned prefix")
			}
			p = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		}
		prefixes = append(prefixes, p)
	}
	c.mu.Lock()
	if !c.settled {
		prefixes = merge(c.assigned, prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() })
	}
	c.assigned, c.hasAssigned = prefixes, true
	c.updatePolicyLocked()
	c.mu.Unlock()
	c.notify()
	return nil
}

// handleRouteAdvertisement: each capsule holds the whole list. // R9484-4.7.3-6
func (c *config) handleRouteAdvertisement(b []byte) error {
	routes, err := parseRoutes(b)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if !c.settled {
		routes = merge(c.routes, routes, func(r Route) bool { return r.Start.Is4() })
		slices.SortFunc(routes, compareRoutes)
	}
	c.routes, c.hasRoutes = routes, true
	c.updatePolicyLocked()
	c.mu.Unlock()
	c.notify()
	return nil
}

// merge is the list that holds after a capsule with next, when prev held before
// and no datagram has come yet: next replaces what prev has of its IP versions,
// because servers exist that use one capsule for each. An empty capsule withdraws all.
func merge[T any](prev, next []T, is4 func(T) bool) []T {
	var has [2]bool
	index := func(v T) int {
		if is4(v) {
			return 0
		}
		return 1
	}
	for _, v := range next {
		has[index(v)] = true
	}
	if len(next) == 0 || has[0] && has[1] {
		return next
	}
	var merged []T
	for _, v := range prev {
		if !has[index(v)] {
			merged = append(merged, v)
		}
	}
	return append(merged, next...)
}

// handleAddressRequest answers with the assigned addresses, or leaves that to the
// first call of AssignAddresses.
func (c *config) handleAddressRequest(b []byte) error {
	list, err := parseAddresses(b)
	if err == nil {
		err = checkHostBits(list)
	}
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return malformed("empty address request") // R9484-4.7.2-6
	}
	for _, a := range list {
		if a.requestID == 0 {
			return malformed("address request with id 0")
		}
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.mu.Lock()
	if c.pending = append(c.pending, list...); len(c.pending) > maxPendingRequests {
		c.mu.Unlock()
		return &http3.StreamError{Code: http3.ErrExcessiveLoad, Reason: "too many address requests"}
	}
	if !c.gave {
		c.mu.Unlock()
		return nil
	}
	value := c.answerLocked()
	c.mu.Unlock()
	return c.s.stream.WriteCapsule(capsuleAddressAssign, value)
}

// answerLocked is the value of an ADDRESS_ASSIGN capsule: the whole list, with the
// ids of the requests that it answers, and refusals for the others. Those are told
// only once. // R9484-4.7.2-3 R9484-4.7.2-4 R9484-4.7.2-5 R9484-4.7.1-1
func (c *config) answerLocked() []byte {
	var refusals []address
	for _, request := range c.pending {
		addr := request.prefix.Addr()
		match := func(exact bool) int {
			return slices.IndexFunc(c.given, func(g address) bool {
				return g.requestID == 0 && g.prefix.Addr().Is4() == addr.Is4() && (!exact || g.prefix == request.prefix)
			})
		}
		i := match(true)
		if i < 0 {
			i = match(false)
		}
		if i >= 0 {
			c.given[i].requestID = request.requestID
			continue
		}
		none := netip.IPv6Unspecified()
		if addr.Is4() {
			none = netip.IPv4Unspecified()
		}
		refusals = append(refusals, address{request.requestID, netip.PrefixFrom(none, none.BitLen())})
	}
	c.pending = nil
	return appendAddresses(appendAddresses(nil, c.given), refusals)
}

func (c *config) notify() {
	select {
	case c.s.changed <- struct{}{}:
	default:
	}
}

// AssignAddresses tells the peer the whole list of addresses that it may use, and
// answers its requests for addresses. Packets from other sources are dropped.
func (s *Session) AssignAddresses(prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if !p.IsValid() || p != p.Masked() {
			return errors.New("masque: prefix with host bits: " + p.String())
		}
	}
	c := &s.config
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.mu.Lock()
	old := c.given
	c.given = nil
	for _, p := range prefixes {
		a := address{prefix: p}
		if i := slices.IndexFunc(old, func(o address) bool { return o.prefix == p }); i >= 0 {
			a.requestID = old[i].requestID
		}
		c.given = append(c.given, a)
	}
	c.gave = true
	value := c.answerLocked()
	c.updatePolicyLocked()
	c.mu.Unlock()
	return s.stream.WriteCapsule(capsuleAddressAssign, value)
}

// SetAllowedSources allows the peer sources besides the addresses that it was
// assigned: networks behind it. The list replaces that of an earlier call.
func (s *Session) SetAllowedSources(prefixes []netip.Prefix) {
	c := &s.config
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed = append([]netip.Prefix{}, prefixes...)
	c.updatePolicyLocked()
}

// AdvertiseRoutes tells the peer the whole list of destinations that we forward
// to. It fails when routes overlap.
func (s *Session) AdvertiseRoutes(routes []Route) error {
	sorted, err := sortRoutes(routes)
	if err != nil {
		return err
	}
	s.config.writeMu.Lock()
	defer s.config.writeMu.Unlock()
	return s.stream.WriteCapsule(capsuleRouteAdvertisement, appendRoutes(nil, sorted))
}

// RequestAddresses asks the peer for addresses. A zero address (0.0.0.0/32, ::/128)
// leaves the choice to the peer. The answer shows in Assigned.
func (s *Session) RequestAddresses(prefixes []netip.Prefix) error { // R9484-4.7.1-5
	c := &s.config
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	var list []address
	for _, p := range prefixes {
		if !p.IsValid() || p != p.Masked() {
			return errors.New("masque: prefix with host bits: " + p.String())
		}
		c.requestID++ // R9484-4.7.2-1
		list = append(list, address{c.requestID, p})
	}
	if len(list) == 0 {
		return errors.New("masque: request for no address")
	}
	return s.stream.WriteCapsule(capsuleAddressRequest, appendAddresses(nil, list))
}

// Assigned returns the addresses that the peer has assigned to us.
func (s *Session) Assigned() []netip.Prefix {
	s.config.mu.Lock()
	defer s.config.mu.Unlock()
	return slices.Clone(s.config.assigned)
}

// Routes returns the destinations that the peer forwards to.
func (s *Session) Routes() []Route {
	s.config.mu.Lock()
	defer s.config.mu.Unlock()
	return slices.Clone(s.config.routes)
}

// Changed receives a value after Assigned or Routes have changed.
func (s *Session) Changed() <-chan struct{} { return s.changed }
