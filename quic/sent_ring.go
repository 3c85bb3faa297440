// SPDX-License-Identifier: Apache-2.0

package quic

// sentFlags say what a sent packet is and what became of it.
type sentFlags uint16

const (
	sentAckEliciting sentFlags = 1 << iota
	packetInFlight             // counts as bytes in flight until it is resolved
	sentMTUProbe               // probes for a larger MTU
	sentDiscarded              // given up with its path, or before it left this host
	sentAppLimited             // left while the window was not the limit
	sentAcked
	sentLost // declared lost; may be acknowledged nevertheless
	sentECT  // left with ECT(0) to the address that the path has now
	leftOut  // no packet: the number was left out

	// sentNoSignal are the packets whose loss says nothing about congestion.
	sentNoSignal = sentMTUProbe | sentDiscarded
)

// A sentPacket is what is known of one sent packet.
type sentPacket struct {
	time instant
	// State of the path's delivery rate estimation at that time.
	delivered     uint64
	deliveredTime instant
	firstSent     instant
	lost          uint32 // bytes declared lost, modulo 2³²
	inFlight      uint32 // bytes, with this packet

	rec uint32 // position of its first frameRecord in the arena
	// ackedBelow is, of an acknowledged packet, how many packets directly below it
	// are known to be acknowledged too, so that repeated ranges cost one step.
	ackedBelow uint32
	nrec       uint16
	size       uint16 // bytes of UDP payload
	flags      sentFlags
}

// resolved says that loss detection is done with the packet, or that there is none.
func (p *sentPacket) resolved() bool { return p.flags&(sentAcked|sentLost|leftOut) != 0 }

// marked says that the packet tells about ECN by its fate: what asks for no
// acknowledgment may get none.
func (p *sentPacket) marked() bool {
	return p.flags&(sentECT|sentAckEliciting) == sentECT|sentAckEliciting
}

// A sentRing holds the packets sent in one space, and the numbers left out, by
// consecutive packet numbers, from the oldest one that still matters. Both rings start
// empty, grow by doubling and are freed from the front. Pointers into it are valid until
// the next push.
type sentRing struct {
	first, end packetNumber // packets held: first ≤ pn < end
	packets    []sentPacket // length is 0 or a power of two

	// The arena holds the records of these packets, in their order. Positions
	// count from the beginning and wrap with uint32.
	recFirst, recEnd uint32
	records          []frameRecord // length is 0 or a power of two
}

const (
	minSentPackets = 32
	minSentRecords = 32
)

func (r *sentRing) len() int { return int(r.end - r.first) }

// at returns the packet pn, which must be held.
func (r *sentRing) at(pn packetNumber) *sentPacket {
	return &r.packets[int(pn)&(len(r.packets)-1)]
}

// push appends packet number end with its records.
func (r *sentRing) push(p sentPacket, recs []frameRecord) {
	if r.len() == len(r.packets) {
		r.growPackets()
	}
	if n := int(r.recEnd-r.recFirst) + len(recs); n > len(r.records) {
		r.growRecords(n)
	}
	p.rec, p.nrec, p.ackedBelow = r.recEnd, uint16(len(recs)), 0
	for _, rec := range recs {
		r.records[int(r.recEnd)&(len(r.records)-1)] = rec
		r.recEnd++
	}
	*r.at(r.end) = p
	r.end++
}

func (r *sentRing) growPackets() {
	old := *r
	r.packets = make([]sentPacket, max(2*len(old.packets), minSentPackets))
	for pn := old.first; pn < old.end; pn++ {
		*r.at(pn) = *old.at(pn)
	}
}

func (r *sentRing) growRecords(n int) {
	size := max(2*len(r.records), minSentRecords)
	for size < n {
		size *= 2
	}
	records := make([]frameRecord, size)
	for i := r.recFirst; i != r.recEnd; i++ {
		records[int(i)&(size-1)] = r.records[int(i)&(len(r.records)-1)]
	}
	r.records = records
}

// recordsOf returns the records of a held packet: two parts, since the arena may
// wrap between them. They are valid until the next push.
func (r *sentRing) recordsOf(p *sentPacket) (head, tail []frameRecord) {
	if p.nrec == 0 {
		return nil, nil
	}
	from := int(p.rec) & (len(r.records) - 1)
	to := from + int(p.nrec)
	if to <= len(r.records) {
		return r.records[from:to], nil
	}
	return r.records[from:], r.records[:to-len(r.records)]
}

// pop frees the oldest packet.
func (r *sentRing) pop() {
	r.recFirst += uint32(r.at(r.first).nrec)
	r.first++
}
