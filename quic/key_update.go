// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

const (
	// keyUpdateAfter is how many packets, over all paths, we seal with one key: well
	// below the confidentiality limit of AES-GCM, 2^23 (RFC 9001 section 6.6).
	keyUpdateAfter = 1 << 22
	// integrityLimit bounds packets that failed authentication, over all paths. That of
	// ChaCha20-Poly1305, 2^36, is the lowest one (RFC 9001 section 6.6).
	integrityLimit = 1 << 36
)

// appKeys are the 1-RTT keys of a connection, the same for all paths. Owned by the loop.
type appKeys struct {
	read, write *keys // current phase
	nextRead    *keys
	prevRead    *keys   // of the phase before
	prevUntil   instant // when it is dropped, unset before a packet of the new phase came
	phase       bool    // Key Phase bit of what we send and expect

	sealed    uint64 // packets sealed in this phase, over all paths
	failed    uint64 // packets that failed authentication, over all paths and phases
	acked     bool   // a packet of this phase was acknowledged
	ackedAt   instant
	updates   int
	sentPhase bool // a packet of this phase was sent
}

func (k *appKeys) setRead(r *keys)  { k.read, k.nextRead = r, r.next() }
func (k *appKeys) setWrite(w *keys) { k.write = w }

// update moves both directions to the next phase.
func (k *appKeys) update(paths []*pathState) {
	k.prevRead, k.prevUntil = k.read, 0
	k.read = k.nextRead
	k.nextRead = k.read.next()
	k.write = k.write.next()
	k.phase = !k.phase
	k.sealed, k.acked, k.sentPhase = 0, false, false
	k.updates++
	for _, p := range paths {
		p.keyPhaseSent = p.space.next
		p.keyPhaseRecv = noPacket
	}
}

// mayUpdate says whether we may start a key update. // R9001-6.1-1 R9001-6.1-2 R9001-6.5-1 RMP21-2.5-1
func (k *appKeys) mayUpdate(now instant, confirmed bool, pto time.Duration) bool {
	if !confirmed || k.prevRead != nil {
		return false
	}
	return k.acked && (k.updates == 0 || now.sub(k.ackedAt) >= 3*pto)
}

// expireKeys drops the old read keys in time.
func (c *Conn) expireKeys(now instant) {
	k := &c.appKeys
	if k.prevUntil == 0 || now < k.prevUntil {
		return
	}
	k.prevRead, k.prevUntil = nil, 0
	if c.qlog != nil {
		c.qlog.oldKeysDiscarded()
	}
}

// newerKeysSeen starts the time after which the old read keys are dropped: the first
// packet with the new ones has arrived. // R9001-6.5-2
func (k *appKeys) newerKeysSeen(now instant, pto time.Duration) {
	if k.prevRead != nil && k.prevUntil == 0 {
		k.prevUntil = now.add(3 * pto)
	}
}

// openApp decrypts a 1-RTT packet of p whose header protection is removed. On a
// failure ok is false; err is a violation by the peer.
func (c *Conn) openApp(now instant, p *pathState, pkt []byte, hdrLen int, pn packetNumber, phase bool) (payload []byte, ok bool, err error) {
	k := &c.appKeys
	nonceID := c.nonceID(p)
	if phase == k.phase {
		payload, ok = k.read.open(&c.open, pkt, hdrLen, nonceID, uint64(pn))
		if ok && (p.keyPhaseRecv == noPacket || pn < p.keyPhaseRecv) {
			p.keyPhaseRecv = pn
			k.newerKeysSeen(now, c.largestPTO())
		}
		return payload, ok, nil
	}
	if k.prevRead != nil {
		// Opening destroys what it fails on, and there may be a second attempt.
		c.spare = append(c.spare[:0], pkt...)
		if payload, ok = k.prevRead.open(&c.open, pkt, hdrLen, nonceID, uint64(pn)); ok {
			if p.keyPhaseRecv != noPacket && pn > p.keyPhaseRecv { // R9001-6.4-2
				return nil, false, &TransportError{Code: KeyUpdateError, Reason: "old keys used after newer ones"}
			}
			return payload, true, nil
		}
		copy(pkt, c.spare)
	}
	payload, ok = k.nextRead.open(&c.open, pkt, hdrLen, nonceID, uint64(pn)) // R9001-5.5-1
	if !ok {
		return nil, false, nil
	}
	if k.updates > 0 && !k.acked && k.sentPhase && c.peerUpdatedTooSoon(p) {
		return nil, false, &TransportError{Code: KeyUpdateError, Reason: "key update before the last one was confirmed"}
	}
	k.update(c.paths) // R9001-6.2-1
	if c.qlog != nil {
		c.qlog.keyPhaseChanged("remote_update")
	}
	p.keyPhaseRecv = pn
	k.newerKeysSeen(now, c.largestPTO())
	return payload, true, nil
}

// peerUpdatedTooSoon says that the peer has not sent a packet of the current phase
// on any path, and yet starts the next one.
func (c *Conn) peerUpdatedTooSoon(*pathState) bool {
	for _, p := range c.paths {
		if p.keyPhaseRecv != noPacket {
			return false
		}
	}
	return true
}

// UpdateKeys starts a key update as soon as RFC 9001 section 6 permits one and there is
// something to be sent. The connection does so itself long before its keys wear out.
func (c *Conn) UpdateKeys() {
	c.mb.putCommand(func(instant) { c.keyUpdateDue = true })
}

// maybeUpdateKeys starts a key update when enough packets were sealed. // R9001-6.6-1
func (c *Conn) maybeUpdateKeys(now instant) {
	k := &c.appKeys
	if k.sealed < c.keyUpdateAfter && !c.keyUpdateDue || !k.mayUpdate(now, c.confirmed, c.largestPTO()) {
		return
	}
	c.keyUpdateDue = false
	k.update(c.paths)
	if c.qlog != nil {
		c.qlog.keyPhaseChanged("local_update")
	}
}

// appAcked notes that packet pn of p was acknowledged.
func (k *appKeys) appAcked(now instant, p *pathState, largest packetNumber) {
	if !k.acked && largest >= p.keyPhaseSent {
		k.acked, k.ackedAt = true, now
	}
}

// nonceID is the path id that goes into the nonce.
func (c *Conn) nonceID(p *pathState) uint32 {
	if !c.multipath {
		return 0
	}
	return p.id
}
