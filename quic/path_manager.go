// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Opening, accepting and abandoning paths, and the limits on path ids.

// pathWish is a path that the client's application wants; it opens as soon as a
// path id with connection ids of both sides is free.
type pathWish struct {
	sock   *endpointSocket
	remote netip.AddrPort
	label  string

	priority  sched.Priority
	linkDown  bool    // it waits for LinkUp
	notBefore instant // it was tried in vain
}

var errMultipathOff = errors.New("quic: the peer does not support multipath")

// newPath makes the state of a path on the given addresses.
func (c *Conn) newPath(now instant, s *idState, t tuple) *pathState {
	p := &pathState{id: s.id, ids: s, tuple: t, phase: pathProbing, since: now, limited: !c.isClient, largestRecvNonProbing: -1, keyPhaseRecv: noPacket}
	p.skips.choose(0, c.rand.Float64())
	p.mtu.init(t.sock.MTU(), t.remote.Addr().Is6())
	spaces := [numSpaces]*space{appSpace: &p.space}
	if s.id == 0 {
		c.initial, c.handshake = &longSpace{}, &longSpace{}
		spaces[initialSpace], spaces[handshakeSpace] = &c.initial.space, &c.handshake.space
	}
	p.loss.init(lossConfig{isClient: c.isClient, maxDatagram: minInitialSize, spaces: spaces, newController: c.cfg.CongestionControl.newController})
	if c.peerParams != nil {
		p.loss.setMaxAckDelay(c.peerParams.maxAckDelay())
	}
	s.path = p
	c.paths = append(c.paths, p)
	slices.SortFunc(c.paths, func(a, b *pathState) int { return int(a.id) - int(b.id) })
	c.useRemoteCID(s)
	if c.qlog != nil {
		c.qlog.newPath(p)
	}
	return p
}

// openPaths opens the wanted paths for which ids are free. // RMP21-3-2 RMP21-3.2.1-3
func (c *Conn) openPaths(now instant) {
	c.pathsWanted, c.nextWish = false, 0
	if !c.isClient || !c.confirmed {
		return
	}
	for i := 0; i < len(c.wishes) && c.multipath; {
		w := c.wishes[i]
		switch {
		case !c.e.has(w.sock):
			c.wishes = slices.Delete(c.wishes, i, i+1)
			c.checkLastPath(now)
			continue
		case w.linkDown:
			i++
			continue
		case w.notBefore > now:
			c.nextWish = earliest(c.nextWish, w.notBefore)
			i++
			continue
		}
		s := c.freePathID()
		if s == nil {
			return
		}
		c.wishes = slices.Delete(c.wishes, i, i+1)
		p := c.newPath(now, s, tuple{sock: w.sock, remote: w.remote})
		p.label, p.priority = w.label, w.priority
		c.startValidation(now, p) // RMP21-3.1-3
		c.grantPathIDs()
	}
}

// freePathID is the smallest unused path id. If it lacks connection ids of the
// peer, or ours have not arrived, the path waits: nil, and the peer is told.
func (c *Conn) freePathID() *idState {
	limit := min(c.localMaxPathID, c.peerMaxPathID)
	for _, s := range c.ids {
		if s.path != nil || s.abandoned() {
			continue
		}
		if s.id > limit {
			break
		}
		if len(s.remote) == 0 {
			if !s.cidsBlocked.isSet() {
				s.cidsBlocked.set()
				c.controlDue = true
			}
			return nil
		}
		if !slices.ContainsFunc(s.local, func(l localCID) bool { return l.state.isReceived() }) {
			return nil // the peer must know a connection id before it sees the path
		}
		return s
	}
	if !c.pathsBlocked.isSet() || c.pathsBlockedAt < c.peerMaxPathID { // RMP21-3.2.1-5
		c.pathsBlocked.set()
		c.pathsBlockedAt = c.peerMaxPathID
		c.controlDue = true
	}
	return nil
}

// pathIDsRemain says that there is a path id for one more path, with connection ids of the
// peer.
func (c *Conn) pathIDsRemain() bool {
	limit := min(c.localMaxPathID, c.peerMaxPathID)
	return slices.ContainsFunc(c.ids, func(s *idState) bool {
		return s.path == nil && !s.abandoned() && s.id <= limit && len(s.remote) > 0
	})
}

// wishAgain has a client open p, which is about to be abandoned, under another id later.
func (c *Conn) wishAgain(now instant, p *pathState) {
	if !c.isClient {
		return
	}
	c.wishes = append(c.wishes, pathWish{
		sock: p.sock, remote: p.remote, label: p.label, priority: p.priority,
		linkDown: p.linkDown, notBefore: now.add(retryPathAfter),
	})
	c.pathsWanted = true
}

// grantPathIDs raises our limit as ids are consumed, so that as many as at first
// remain unused.
func (c *Conn) grantPathIDs() {
	if len(c.ids) >= 2*maxPathsLimit {
		return // until abandoned ones are gone: the peer must acknowledge that
	}
	used := 0
	for _, s := range c.ids {
		if s.path == nil && !s.abandoned() {
			used++
		}
	}
	// used counts the unused ones that exist; what is missing was consumed.
	live := 0
	for _, p := range c.paths {
		if p.phase < pathAbandoning {
			live++
		}
	}
	want := c.nextPathID + PathID(max(0, c.cfg.InitialMaxPathID+1-live-used)) - 1
	if want <= c.localMaxPathID {
		return
	}
	c.localMaxPathID = want
	c.maxPathID.set()
	c.controlDue = true
	c.addPathIDs()
}

// acceptPath opens a path at the server's side: a packet with a connection id of
// an unused path id was decrypted. // RMP21-3.1-7
func (c *Conn) acceptPath(now instant, s *idState, t tuple) *pathState {
	if c.isClient || s.abandoned() {
		return nil
	}
	p := c.newPath(now, s, t)
	for _, q := range c.paths {
		if q != p && q.validated && q.remote == t.remote && q.sock == t.sock {
			c.validate(now, p) // the 4-tuple is known
			break
		}
	}
	if !p.validated {
		c.startValidation(now, p) // RMP21-3.1-4
	}
	c.grantPathIDs()
	return p
}

// abandonPath closes path id s on our side. // RMP21-3.4-1
func (c *Conn) abandonPath(now instant, s *idState, code uint64, why string) {
	if s.abandon.isSet() {
		return
	}
	if s.path != nil && c.lastPath(s.path) {
		c.startClose(now, &TransportError{Code: NoError, Reason: "last path abandoned: " + why})
		return
	}
	s.abandon.set()
	s.abandonCode = code
	c.controlDue = true
	c.dropRemoteCIDs(s) // RMP21-3.4-2
	s.abandonDeadline = now.add(3 * c.largestPTO())
	if s.path != nil {
		c.setPhase(now, s.path, evAbandonSent, why)
		c.resendElsewhere(s.path)
	}
	if s.peerAbandoned {
		c.startDraining(now, s)
	}
	c.grantPathIDs()
	c.checkLastPath(now)
}

// handlePathAbandon processes the peer's PATH_ABANDON. // RMP21-3.4-4
func (c *Conn) handlePathAbandon(now instant, f *wire.Frame) error {
	s, err := c.checkPathID(f.PathID, f.Type)
	if err != nil || s == nil || s.peerAbandoned {
		return err
	}
	if s.path != nil && c.lastPath(s.path) { // RMP21-3.4-8
		// The answer to the end of all paths still goes out on this one.
		c.startClose(now, &TransportError{Code: NoError, Reason: "the peer abandoned the last path"})
		return nil
	}
	s.peerAbandoned = true
	if s.path != nil && !s.abandon.isSet() && f.ErrorCode == c.cp.PathUnstableOrPoor {
		c.wishAgain(now, s.path) // it may become a better one
	}
	if s.path != nil {
		c.setPhase(now, s.path, evAbandonRecv, "abandoned by the peer, code "+abandonCodeName(f.ErrorCode))
		c.resendElsewhere(s.path)
	}
	if !s.abandon.isSet() {
		s.abandon.set()
		c.controlDue = true
		c.dropRemoteCIDs(s)
		c.grantPathIDs()
	}
	c.startDraining(now, s)
	c.checkLastPath(now)
	return nil
}

// startDraining keeps the state of s for three PTOs, so that late packets are
// acknowledged and cause no stateless reset. // RMP21-3.4-5
func (c *Conn) startDraining(now instant, s *idState) {
	if s.path != nil {
		c.setPhase(now, s.path, evAbandonRecv, s.path.why)
	}
	s.goneAt, s.abandonDeadline = now.add(3*c.largestPTO()), 0
}

// dropPathID ends path id s: what it had in flight is lost. // RMP21-3.4.3-2 RMP21-3.4-7
func (c *Conn) dropPathID(now instant, s *idState) {
	if p := s.path; p != nil {
		c.fatePath = p
		p.loss.discardAllInFlight(c.fateFunc)
		c.setPhase(now, p, evDrained, p.why)
		p.batch.release()
		c.paths = slices.DeleteFunc(c.paths, func(q *pathState) bool { return q == p })
	}
	c.dropLocalCIDs(s)
	c.ids = slices.DeleteFunc(c.ids, func(t *idState) bool { return t == s })
	c.grantPathIDs()
}

// lastPath says that without p there is no path, and none that waits to be opened.
func (c *Conn) lastPath(p *pathState) bool {
	if p.phase >= pathAbandoning || c.pathWaits() {
		return false
	}
	return !slices.ContainsFunc(c.paths, func(q *pathState) bool { return q != p && q.phase < pathAbandoning })
}

// pathWaits says that a path waits to be opened, and not for its link. None is opened
// before the handshake is confirmed, which takes path 0.
func (c *Conn) pathWaits() bool {
	return c.confirmed && slices.ContainsFunc(c.wishes, func(w pathWish) bool { return !w.linkDown })
}

// dropWishes forgets the paths of this label that wait to be opened.
func (c *Conn) dropWishes(label string) {
	c.wishes = slices.DeleteFunc(c.wishes, func(w pathWish) bool { return w.label == label })
}

// checkLastPath closes the connection when its last path was abandoned. A client
// with paths waiting tries them first. // RMP21-3.4-8
func (c *Conn) checkLastPath(now instant) {
	for _, p := range c.paths {
		if p.phase < pathAbandoning {
			return
		}
	}
	if c.pathWaits() && c.freePathID() != nil {
		c.pathsWanted = true
		return
	}
	if c.lastPathGone == 0 {
		c.lastPathGone = now.add(c.largestPTO())
	}
}

// advancePathIDs runs the timers of abandoned path ids.
func (c *Conn) advancePathIDs(now instant) {
	for i := 0; i < len(c.ids); i++ {
		s := c.ids[i]
		if s.abandonDeadline != 0 && now >= s.abandonDeadline && s.goneAt == 0 {
			// The peer has not answered; its state may go all the same. // RMP21-3.4-6
			c.startDraining(now, s)
		}
		if s.goneAt != 0 && now >= s.goneAt && s.abandon.isReceived() {
			c.dropPathID(now, s)
			i--
		}
	}
	if c.lastPathGone != 0 {
		live := slices.ContainsFunc(c.paths, func(p *pathState) bool { return p.phase < pathAbandoning })
		switch {
		case live:
			c.lastPathGone = 0
		case now >= c.lastPathGone:
			c.startClose(now, &TransportError{Code: NoError, Reason: "no path left"})
		}
	}
}

// largestPTO is over all paths (draft section 2.5 and 2.6).
func (c *Conn) largestPTO() (d time.Duration) {
	for _, p := range c.paths {
		d = max(d, p.loss.ptoDuration())
	}
	return d
}

// handlePathStatus processes PATH_STATUS_AVAILABLE and PATH_STATUS_BACKUP.
func (c *Conn) handlePathStatus(now instant, f *wire.Frame) error {
	s, err := c.checkPathID(f.PathID, f.Type)
	if err != nil || s == nil || s.abandoned() {
		return err
	}
	if f.Sequence < s.peerStatusSeq { // RMP21-4.3-3 RMP21-4.3-4
		return nil
	}
	s.peerStatusSeq = f.Sequence + 1
	s.peerBackup = f.Type == wire.FrameTypePathStatusBackup
	return nil
}

// setBackup tells the peer whether we want it to use the path. // RMP21-4.3-2
func (c *Conn) setBackup(s *idState, backup bool) {
	if s.ourStatusSeq > 0 && s.ourBackup == backup {
		return
	}
	s.ourBackup = backup
	s.ourStatus.set()
	s.ourStatusSeq++
	c.controlDue = true
}

// handleMaxPathID processes MAX_PATH_ID.
func (c *Conn) handleMaxPathID(now instant, f *wire.Frame) error {
	if f.Value > 1<<32-1 || f.Value < uint64(c.peerInitialMaxPathID) { // RMP21-4.6-3 RMP21-4.6-4
		return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "MAX_PATH_ID out of range"}
	}
	if PathID(f.Value) <= c.peerMaxPathID { // RMP21-4.6-5
		return nil
	}
	c.peerMaxPathID = PathID(f.Value)
	c.pathsBlocked.clear()
	c.addPathIDs()
	c.pathsWanted = true
	return nil
}

// handlePathsBlocked processes PATHS_BLOCKED: the peer would open more paths.
func (c *Conn) handlePathsBlocked(now instant, f *wire.Frame) error {
	if f.Value > uint64(c.localMaxPathID) { // RMP21-4.7-2
		return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "PATHS_BLOCKED above our limit"}
	}
	if f.Value == uint64(c.localMaxPathID) {
		c.grantPathIDs()
	}
	return nil
}

// handlePathCIDsBlocked processes PATH_CIDS_BLOCKED, which asks for nothing that we
// do not do anyway.
func (c *Conn) handlePathCIDsBlocked(now instant, f *wire.Frame) error {
	s, err := c.checkPathID(f.PathID, f.Type) // RMP21-4.7-3
	if err != nil || s == nil {
		return err
	}
	if f.Sequence > s.nextLocal { // RMP21-4.7-4
		return &TransportError{Code: ProtocolViolation, FrameType: uint64(f.Type), Reason: "PATH_CIDS_BLOCKED beyond the connection ids issued"}
	}
	return nil
}

func abandonCodeName(code uint64) string {
	switch code {
	case 0:
		return "NO_ERROR"
	case wire.Draft21.ApplicationAbandonPath, wire.Draft15.ApplicationAbandonPath:
		return "APPLICATION_ABANDON_PATH"
	case wire.Draft21.PathResourceLimitReached, wire.Draft15.PathResourceLimitReached:
		return "PATH_RESOURCE_LIMIT_REACHED"
	case wire.Draft21.PathUnstableOrPoor, wire.Draft15.PathUnstableOrPoor:
		return "PATH_UNSTABLE_OR_POOR"
	case wire.Draft21.NoCIDAvailableForPath, wire.Draft15.NoCIDAvailableForPath:
		return "NO_CID_AVAILABLE_FOR_PATH"
	}
	return TransportErrorCode(code).String()
}
