// SPDX-License-Identifier: Apache-2.0

package masque

import "sync/atomic"

// DropReason says why an inner packet was not passed on.
type DropReason uint8

const (
	notDropped         DropReason = iota
	DropMalformed                 // version, or lengths that contradict each other
	DropHopLimit                  // no hops left
	DropLinkLocal                 // link-local source or destination
	DropSource                    // source that the sender was not assigned
	DropDestination               // received for an address that is not ours
	DropNoRoute                   // destination or protocol that the peer does not forward to
	DropTooBig                    // larger than the tunnel carries
	DropUnknownContext            // datagram of another kind than IP packets
	DropReasons                   // number of reasons
)

var dropNames = [DropReasons]string{
	"none", "malformed", "hop_limit", "link_local", "source", "destination", "no_route", "too_big", "unknown_context",
}

func (r DropReason) String() string { return dropNames[r] }

// DirectionStats counts the inner packets of one direction.
type DirectionStats struct {
	Packets uint64
	Bytes   uint64
	Dropped [DropReasons]uint64 // by DropReason
}

// Stats is a snapshot of the counters of a Session.
type Stats struct {
	Sent, Received DirectionStats
	ICMPSent       uint64 // errors given to the ICMP writer
}

// tally collects the counts of one batch, without atomic operations.
type tally DirectionStats

// counters sums up tallies.
type counters struct {
	packets, bytes atomic.Uint64
	dropped        [DropReasons]atomic.Uint64
}

// add adds a tally and clears it.
func (c *counters) add(t *tally) {
	c.packets.Add(t.Packets)
	c.bytes.Add(t.Bytes)
	for i, n := range t.Dropped {
		if n != 0 {
			c.dropped[i].Add(n)
		}
	}
	*t = tally{}
}

func (c *counters) snapshot() (s DirectionStats) {
	s.Packets, s.Bytes = c.packets.Load(), c.bytes.Load()
	for i := range s.Dropped {
		s.Dropped[i] = c.dropped[i].Load()
	}
	return s
}
