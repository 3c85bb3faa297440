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
	// bbrForeignRounds is after how many round trips of sending less than the bandwidth a
	// queue that still stands is not ours. In that time 0.8 of a bandwidth-delay product
	// has drained.
	bbrForeignRounds = 8
	// bbrUpQueue is what may be in flight when probing for bandwidth, in products of
	// bandwidth and delay, unless others fill the queue. The draft waits for a plateau, which
	// a sender that is limited by what it has to send may never show.
	bbrUpQueue = 1.25
)

// bbrQueue is what the round-trip times tell about the queue.
type bbrQueue struct {
	roundMin   time.Duration // smallest sample of this round, 0: none
	standing   bool          // a queue stood all through the round before
	drainTrips int           // in which a queue stood although little was sent
	foreign    bool          // others fill the queue
}

// updateQueue judges the round that the acknowledgment ends.
func (b *BBR) updateQueue() {
	if b.roundStart && b.roundMin > 0 {
		b.judgeQueue()
		b.roundMin = 0
	}
	if rtt := b.rs.LatestRTT; rtt > 0 && (b.roundMin == 0 || rtt < b.roundMin) {
		b.roundMin = rtt
	}
}

func (b *BBR) judgeQueue() {
	b.standing = b.minRTT > 0 && b.roundMin > b.minRTT+b.queueTolerance()
	switch {
	case !b.standing:
		b.foreign, b.drainTrips = false, 0
		b.probeRTTMinStamp, b.minRTTStamp = b.rs.Now, b.rs.Now // as good as measured
	case b.pacingGain < 1:
		if b.drainTrips++; b.drainTrips >= bbrForeignRounds {
			b.foreign = true
		}
	}
}

// queueTolerance is how much longer than the shortest one a round trip may be without a queue.
func (b *BBR) queueTolerance() time.Duration {
	d := min(max(b.minRTT/bbrQueuePart, bbrQueueMin), bbrQueueMax)
	if b.bw > 0 {
		d += time.Duration(float64(b.extraAcked) / b.bw * 1e9)
	}
	return d
}

// cruiseGain drains a queue that stands, if it is ours.
func (b *BBR) cruiseGain() float64 {
	if b.standing && !b.foreign {
		return bbrDownPacingGain
	}
	return 1
}

// probeFillsQueue says that a probe for bandwidth has only made a queue.
func (b *BBR) probeFillsQueue() bool {
	most := b.quantization(b.bdpMultiple(bbrUpQueue, b.maxBW)) + b.extraAcked
	return !b.foreign && b.inFlight+b.rs.Bytes > most
}
