// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Connection ids of both sides, kept per path id: sequence numbers, limits and
// retirement never cross path ids (draft-ietf-quic-multipath-21 section 3.2).

const (
	// activeCIDLimit is the active_connection_id_limit that we announce: per path, one in
	// use, one spare, and room for a rotation in progress.
	activeCIDLimit = 4
	// cidsPerPath is how many connection ids we keep issued for each path id: one in use
	// and one spare for a rebinding.
	cidsPerPath = 2
	// maxRetirements bounds RETIRE_CONNECTION_ID frames not acknowledged yet, per path. // R9000-5.1.2-3
	maxRetirements = 4 * activeCIDLimit
)

// connID is a connection id chosen by the peer.
type connID struct {
	n uint8
	b [maxCIDLen]byte
}

func makeConnID(b []byte) (id connID) {
	id.n = uint8(copy(id.b[:], b))
	return id
}

func (id *connID) bytes() []byte { return id.b[:id.n] }

type localCID struct {
	id    localCIDKey
	seq   uint64
	state sentVal
}

type remoteCID struct {
	id       connID
	seq      uint64
	token    [16]byte
	hasToken bool
}

type retirement struct {
	seq   uint64
	state sentVal
}

// idState holds what is known of one path id, from when either side may name it
// until its path is gone. Owned by the loop.
type idState struct {
	id   PathID
	path *pathState // nil while the id is unused

	local     []localCID // issued by us and not retired by the peer
	nextLocal uint64     // sequence number of the next one

	remote          []remoteCID // issued by the peer and not retired by us; remote[0] is in use
	retirePriorTo   uint64
	largestRemote   uint64 // largest sequence number received, plus one
	retire          []retirement
	retired         rangeset[uint64] // sequence numbers that we have retired
	cidsBlocked     sentVal          // PATH_CIDS_BLOCKED
	abandon         sentVal          // our PATH_ABANDON
	abandonCode     uint64
	peerAbandoned   bool
	goneAt          instant // when the state may be dropped, once both sides have abandoned
	abandonDeadline instant // when the peer should have answered our PATH_ABANDON

	peerBackup    bool   // last PATH_STATUS of the peer
	peerStatusSeq uint64 // its sequence number plus one
	ourBackup     bool
	ourStatusSeq  uint64
	ourStatus     sentVal
	ourStatusAt   instant // when the peer has acknowledged that
}

// abandoned says that either side has abandoned the path id.
func (s *idState) abandoned() bool { return s.abandon.isSet() || s.peerAbandoned }

// pathID finds the state of a path id, or nil for one that is unknown or gone.
func (c *Conn) pathID(id PathID) *idState {
	for _, s := range c.ids {
		if s.id == id {
			return s
		}
	}
	return nil
}

// checkPathID finds the state of a path id that the peer named in a frame. It is
// an error if the id is above what we granted (RMP21-4-3); nil without an error
// means that the frame is to be ignored (RMP21-4-4).
func (c *Conn) checkPathID(id uint64, t wire.FrameType) (*idState, error) {
	if id > uint64(c.localMaxPathID) {
		return nil, &TransportError{Code: ProtocolViolation, FrameType: uint64(t), Reason: "path id above our limit"}
	}
	return c.pathID(PathID(id)), nil
}

// addPathIDs creates the states of the ids up to our limit, and issues connection
// ids up to the lower of both limits, lowest first. Of our limit that counts which
// the peer has acknowledged: it might take an id above for a violation.
//
// RMP21-3.2.1-1 RMP21-3.2.1-2 RMP21-3.2.1-4
func (c *Conn) addPathIDs() {
	for c.nextPathID <= c.localMaxPathID {
		c.ids = append(c.ids, &idState{id: c.nextPathID})
		c.nextPathID++
	}
	for _, s := range c.ids {
		if s.id > min(c.ackedMaxPathID, c.peerMaxPathID) {
			break
		}
		c.issueCIDs(s)
	}
}

// issueCIDs tops up the connection ids that the peer may use for path id s.
func (c *Conn) issueCIDs(s *idState) {
	want := int(min(c.peerParams.activeConnIDLimit, cidsPerPath)) // R9000-5.1.1-4
	for len(s.local) < want && !s.abandoned() {
		id := randomCID()
		if !c.e.table.add(id, c) { // R9000-5.1-1
			continue
		}
		l := localCID{id: id, seq: s.nextLocal}
		l.state.set()
		s.local = append(s.local, l)
		c.byCID[id] = s
		s.nextLocal++ // R9000-5.1.1-1
		c.controlDue = true
	}
}

// dropLocalCIDs stops accepting packets for path id s.
func (c *Conn) dropLocalCIDs(s *idState) {
	for _, l := range s.local {
		delete(c.byCID, l.id)
		c.e.table.remove(l.id, c)
	}
	s.local = nil
}

// handleNewConnectionID processes NEW_CONNECTION_ID and PATH_NEW_CONNECTION_ID.
func (c *Conn) handleNewConnectionID(now instant, f *wire.Frame) error {
	s, err := c.checkPathID(f.PathID, f.Type)
	if err != nil || s == nil || s.abandoned() {
		return err
	}
	if s.path != nil && len(s.remote) > 0 && s.remote[0].id.n == 0 { // R9000-19.15-2
		return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "connection id for a peer that uses none"}
	}
	if len(s.retired) >= maxRetirements {
		// The peer leaves numbers out, which we would have to remember.
		return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "sequence numbers of connection ids do not grow by one"}
	}
	id := makeConnID(f.ConnID)
	for _, r := range s.remote {
		if r.seq == f.Sequence || r.id == id {
			if r.seq == f.Sequence && r.id == id && (!r.hasToken || r.token == f.ResetToken) {
				return nil // R9000-19.15-4
			}
			return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "connection id issued twice"}
		}
	}
	s.largestRemote = max(s.largestRemote, f.Sequence+1)
	s.retirePriorTo = max(s.retirePriorTo, f.RetirePriorTo) // R9000-19.15-5
	if s.retired.contains(f.Sequence) {
		return nil // a repeated frame of one that is retired already
	}
	if f.Sequence < s.retirePriorTo { // R9000-19.15-6
		return c.retireRemote(s, f.Sequence)
	}
	s.remote = append(s.remote, remoteCID{id: id, seq: f.Sequence, token: f.ResetToken, hasToken: true})
	if err := c.retireRemotePriorTo(s); err != nil { // R9000-5.1.2-1
		return err
	}
	if len(s.remote) > activeCIDLimit { // R9000-5.1.1-5
		return &TransportError{Code: ConnectionIDLimitError, FrameType: uint64(f.Type), Reason: "more connection ids than the limit"}
	}
	c.useRemoteCID(s)
	c.pathsWanted = true
	return nil
}

// retireRemotePriorTo retires the peer's connection ids that it asked to retire.
func (c *Conn) retireRemotePriorTo(s *idState) error {
	kept := s.remote[:0]
	for i, r := range s.remote {
		if r.seq >= s.retirePriorTo {
			kept = append(kept, r)
			continue
		}
		if i == 0 && r.hasToken && s.path != nil {
			c.e.table.removeToken(r.token, c)
		}
		if err := c.retireRemote(s, r.seq); err != nil {
			return err
		}
	}
	s.remote = kept
	return nil
}

// retireRemote schedules RETIRE_CONNECTION_ID for seq. // R9000-5.1.2-4
func (c *Conn) retireRemote(s *idState, seq uint64) error {
	live := s.retire[:0]
	for _, r := range s.retire {
		if !r.state.isReceived() {
			live = append(live, r)
		}
	}
	s.retire = live
	if len(s.retire) >= maxRetirements {
		return &TransportError{Code: ConnectionIDLimitError, Reason: "too many connection ids to retire"}
	}
	r := retirement{seq: seq}
	r.state.set()
	s.retire = append(s.retire, r)
	s.retired.add(seq, seq+1)
	c.controlDue = true
	return nil
}

// useRemoteCID registers the reset token of the connection id in use. // R9000-10.3.1-2
func (c *Conn) useRemoteCID(s *idState) {
	if s.path != nil && len(s.remote) > 0 && s.remote[0].hasToken {
		c.e.table.addToken(s.remote[0].token, c)
	}
}

// rotateRemoteCID moves the path of s to an unused connection id of the same path
// id, if there is one: after a change of address the old and the new one should
// not be linkable. // R9000-9.5-1 RMP21-3.2.2-1
func (c *Conn) rotateRemoteCID(s *idState) {
	if len(s.remote) < 2 {
		return
	}
	old := s.remote[0]
	if c.retireRemote(s, old.seq) != nil {
		return
	}
	if old.hasToken {
		c.e.table.removeToken(old.token, c)
	}
	s.remote = append(s.remote[:0], s.remote[1:]...)
	c.useRemoteCID(s)
}

// dropRemoteCIDs forgets the peer's connection ids of an abandoned path: they
// count as retired without a frame. // RMP21-3.4-2 RMP21-3.4.2-1
func (c *Conn) dropRemoteCIDs(s *idState) {
	if len(s.remote) > 0 && s.remote[0].hasToken {
		c.e.table.removeToken(s.remote[0].token, c)
	}
	s.remote = nil
	s.retire = nil
}

// keptRetiredCIDs is how many of the connection ids that the peer has retired stay known: what
// it sent before over a slower way is late, and a stateless reset in answer could end the
// connection. As many as it may use of two paths.
const keptRetiredCIDs = 2 * cidsPerPath

// retireLocal stops accepting packets for id, and drops those that are late.
func (c *Conn) retireLocal(id localCIDKey) {
	delete(c.byCID, id)
	if len(c.retiredCIDs) == keptRetiredCIDs {
		c.e.table.remove(c.retiredCIDs[0], c)
		c.retiredCIDs = append(c.retiredCIDs[:0], c.retiredCIDs[1:]...)
	}
	c.retiredCIDs = append(c.retiredCIDs, id)
}

// handleRetireConnectionID processes RETIRE_CONNECTION_ID and PATH_RETIRE_CONNECTION_ID.
func (c *Conn) handleRetireConnectionID(now instant, f *wire.Frame) error {
	s, err := c.checkPathID(f.PathID, f.Type)
	if err != nil || s == nil {
		return err
	}
	if f.Sequence >= s.nextLocal { // R9000-19.16-1 RMP21-4.5-2
		return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "connection id was never issued"}
	}
	for i, l := range s.local {
		if l.seq != f.Sequence {
			continue
		}
		c.retireLocal(l.id)
		s.local = append(s.local[:i], s.local[i+1:]...)
		break
	}
	c.issueCIDs(s) // R9000-5.1.1-6 RMP21-3.2.2-2
	return nil
}
