// SPDX-License-Identifier: Apache-2.0

package congestion

import "time"

// What is added to draft-ietf-ccwg-bbr: the queue of the bottleneck stays short as long as
// nobody else fills it. A tunnel has a queue of its own in front of each path, which treats
// its flows fairly and lets the sparse ones go first; what waits in the bottleneck is beyond
// that. The draft bounds the queue only by the window, that is by a round trip's worth.

const (
	// A queue stands when no sample of a round trip came within a part of the shortest
	// round-trip time, but at least bbrQueueMin, and what is acknowledged in bunches.
	bbrQueuePart = 8
	bbrQueueMin  = time.Millisecond
	bbrQueueMax  = 5 * time.Millisecond
	// bbrDrainFrom is after how many round trips with a queue it is drained. After bbrDrainMore
	// more it is drained faster: the bandwidth may still be taken for larger than it is, by so
	// much that nothing drains. A queue that then stands after bbrForeignRounds, and is not
	// shorter by bbrDrained of what it was bbrDrainMore rounds ago, is not ours: in that time a
	// product of bandwidth and delay would have drained, or 0.7 if the bandwidth is less than
	// it seems by a tenth.
	bbrDrainFrom     = 2
	bbrDrainMore     = 4
	bbrForeignRounds = 8
	bbrDrainMoreGain = 0.75
	bbrDrained       = 0.25
	// Others who filled the queue are likely to do so again for bbrOthersStay, and would only
	// get what is left to them by draining faster.
	bbrOthersStay = bbrMinRTTFilterLen
	// bbrPlateauRounds is how long Startup goes on with a queue if the bandwidth does not grow,
	// whatever the sender has to send.
	bbrPlateauRounds  = 3
	bbrPlateauWindows = 4 // initial windows in each of them, at least
	// The bandwidth is measured over so many round trips in which a queue stood. A pause in
	// the last of them would make it too small, hence the highest average counts of those over
	// bbrBusyLeast and more.
	bbrBusyLeast, bbrBusyRounds = 4, 6
	// A sender that has used less than this part of what pacing allows, though the window was not
	// the limit, was slow: a busy machine, whose round trips are long, too.
	bbrBusySent = 0.85
	// A probe for bandwidth ends when more is in flight than so many products of bandwidth and
	// delay, or when a queue stands after so many round trips, unless others fill it. The draft
	// waits for a plateau, which a sender that is limited by what it has to send may never show.
	bbrUpQueue  = 1.25
	bbrUpRounds = 2
)

// bbrQueue is what the round-trip times tell about the queue.
type bbrQueue struct {
	roundMin  time.Duration // smallest sample of this round, 0: none
	standing  bool          // a queue stood all through the round before
	foreign   bool          // others fill the queue
	drained   int           // round trips in which a queue stood although little was sent
	drainFrom time.Duration // roundMin when drained was bbrDrainMore
	others    time.Duration // when foreign was last set
	corrected bool          // the bandwidth, since the queue stands

	upRounds int // of the latest probe for bandwidth

	sent        float64       // bytes
	mayBeSent   float64       // bytes that pacing has allowed
	pacedUntil  time.Duration // when mayBeSent was last renewed
	busyLimited bool          // the window was the limit in a round in which a queue stood

	roundStamp     time.Duration // beginning of this round
	roundDelivered uint64        // and what had been delivered, sent, and allowed then
	roundSent      float64
	roundAllowed   float64
	busyStamp      time.Duration // the same of the first round of those in which a queue stood
	busyDelivered  uint64
	busySent       float64
	busyAllowed    float64
	busyRounds     int
	busyBW         float64 // bandwidth at that time
	busyRate       float64 // what they delivered: the highest of several averages
}

// updateQueue judges the round that the acknowledgment ends.
func (b *BBR) updateQueue() {
	if b.pacedUntil > 0 {
		b.mayBeSent += b.pacingRate * (b.rs.Now - b.pacedUntil).Seconds()
	}
	b.pacedUntil = b.rs.Now
	if b.roundStart {
		if b.roundMin > 0 {
			b.judgeQueue()
			b.roundMin = 0
		}
		b.roundStamp, b.roundDelivered = b.rs.Now, b.delivered
		b.roundSent, b.roundAllowed = b.sent, b.mayBeSent
		b.upRounds++
	}
	if rtt := b.rs.LatestRTT; rtt > 0 && (b.roundMin == 0 || rtt < b.roundMin) {
		b.roundMin = rtt
	}
}

func (b *BBR) judgeQueue() {
	b.standing = b.minRTT > 0 && b.roundMin > b.minRTT+b.queueTolerance()
	if !b.standing {
		b.foreign, b.corrected, b.drained, b.busyRounds = false, false, 0, 0
		b.probeRTTMinStamp, b.minRTTStamp = b.rs.Now, b.rs.Now // as good as measured
		return
	}
	b.measureBusy()
	if b.pacingGain >= 1 || !b.corrected {
		return
	}
	b.drained++
	if b.drained == bbrDrainMore {
		b.drainFrom = b.roundMin
	}
	if b.drained >= bbrForeignRounds {
		if float64(b.roundMin-b.minRTT) < (1-bbrDrained)*float64(b.drainFrom-b.minRTT) {
			b.drained, b.drainFrom = bbrDrainMore, b.roundMin
		} else {
			b.foreign, b.others = true, b.rs.Now
		}
	}
}

// measureBusy measures what a bottleneck delivers that always has a queue, and lowers the
// bandwidth to that: samples of single acknowledgments are too high where the path delivers
// in bunches. Once: what others take in the end is for probes to win back.
func (b *BBR) measureBusy() {
	if b.busyRounds++; b.busyRounds == 1 {
		b.busyStamp, b.busyDelivered = b.roundStamp, b.roundDelivered
		b.busySent, b.busyAllowed, b.busyLimited = b.roundSent, b.roundAllowed, false
		b.busyBW, b.busyRate = b.maxBW, 0
	}
	b.busyLimited = b.busyLimited || b.isCwndLimited()
	if b.corrected || b.busyRounds < bbrBusyLeast {
		return
	}
	if elapsed := b.rs.Now - b.busyStamp; elapsed > 0 {
		b.busyRate = max(b.busyRate, float64(b.delivered-b.busyDelivered)/elapsed.Seconds())
	}
	if b.busyRounds < bbrBusyRounds {
		return
	}
	b.corrected, b.drained = true, 0
	if !b.busyLimited && b.sent-b.busySent < bbrBusySent*(b.mayBeSent-b.busyAllowed) {
		return
	}
	if b.busyRate < b.maxBW && b.busyRate > bbrBeta*b.maxBW { // else little was sent
		b.maxBW = b.busyRate
		b.maxBWFilter = [2]float64{b.maxBW, b.maxBW}
	}
}

// isPlateau says that sending faster has only made a queue. The draft looks for that only while
// the sender has enough to send, and fills the queue when flows inside a tunnel limit themselves.
// Where little is sent, a long round trip says nothing.
func (b *BBR) isPlateau() bool {
	if !b.standing {
		return false
	}
	enough := int(b.delivered-b.busyDelivered) >= b.busyRounds*bbrPlateauWindows*initialWindow(b.maxDatagram)
	return b.fullBWCount > 0 || enough && b.busyRounds >= bbrPlateauRounds && b.maxBW < bbrFullBWGrowth*b.busyBW
}

// queueTolerance is how much longer than the shortest one a round trip may be without a queue.
func (b *BBR) queueTolerance() time.Duration {
	return min(max(b.minRTT/bbrQueuePart, bbrQueueMin), bbrQueueMax)
}

// drainGain is the pacing gain that drains a queue that stands, if it is ours. One long round
// trip alone may come from a busy machine.
func (b *BBR) drainGain() float64 {
	switch {
	case b.foreign || b.busyRounds < bbrDrainFrom:
		return 1
	case b.drained < bbrDrainMore || b.others > 0 && b.rs.Now < b.others+bbrOthersStay:
		return bbrDownPacingGain
	}
	return bbrDrainMoreGain
}

// probeFillsQueue says that a probe for bandwidth has only made a queue.
func (b *BBR) probeFillsQueue() bool {
	if b.foreign {
		return false
	}
	most := b.quantization(b.bdpMultiple(bbrUpQueue, b.maxBW)) + b.extraAcked
	return b.inFlight+b.rs.Bytes > most || b.standing && b.upRounds >= bbrUpRounds
}
