// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

// The model of the path: draft-ietf-ccwg-bbr section 5.5.

// bbrRounds counts round trips by packets: one ends with the acknowledgment of a
// packet that was sent after the acknowledgment that began it.
type bbrRounds struct {
	nextRoundDelivered uint64
	roundStart         bool // this acknowledgment begins a round
	roundCount         uint64
}

// bbrModel is what the path is believed to carry. Rates are in bytes/s.
type bbrModel struct {
	// maxBW is the largest sample of this cycle of ProbeBW and the one before.
	maxBW       float64
	maxBWFilter [2]float64

	bw                float64 // what to use
	bwShortterm       float64 // bounds, infinite without losses in this cycle
	inflightShortterm int
	inflightLongterm  int

	// Largest samples of the round at hand.
	bwLatest           float64
	inflightLatest     int
	lossRoundDelivered uint64
	lossRoundStart     bool
	isLossInRound      bool
	lossInLastRound    bool // in the round that this acknowledgment ends
	lossRuns           int  // of packets, in this round

	// extraAcked is how many bytes are acknowledged in a bunch beyond the bandwidth: the
	// largest number of this and the former half of the filter window.
	extraAcked          int
	extraAckedFilter    [2]int
	extraAckedHalf      uint64 // round in which this half began
	extraAckedStart     time.Duration
	extraAckedDelivered int
}

func (b *BBR) startRound() { b.nextRoundDelivered = b.rs.Delivered }

func (b *BBR) updateRound() {
	b.roundStart = b.rs.PriorDelivered >= b.nextRoundDelivered
	if !b.roundStart {
		return
	}
	b.startRound()
	b.roundCount++
	b.roundsSinceProbeUp++
	b.wasCwndLimited, b.cwndLimited = b.cwndLimited, false
}

// isCwndLimited says that the window was fully used in the last round trip.
func (b *BBR) isCwndLimited() bool { return b.cwndLimited || b.wasCwndLimited }

func (b *BBR) updateMaxBW() {
	b.updateRound()
	rate := b.rs.DeliveryRate
	if rate > 0 && (rate >= b.maxBW || !b.rs.RateLimited) {
		b.maxBWFilter[1] = max(b.maxBWFilter[1], rate)
		b.maxBW = max(b.maxBWFilter[0], b.maxBWFilter[1])
	}
}

func (b *BBR) advanceMaxBWFilter() {
	if b.maxBWFilter[1] == 0 {
		return // no sample in this cycle: the former one still counts
	}
	b.maxBWFilter = [2]float64{b.maxBWFilter[1], 0}
	b.maxBW = b.maxBWFilter[0]
}

func (b *BBR) updateLatestDeliverySignals() {
	delivered := int(b.rs.Delivered - b.rs.PriorDelivered)
	b.bwLatest = max(b.bwLatest, b.rs.DeliveryRate)
	b.inflightLatest = max(b.inflightLatest, delivered)
	b.lossRoundStart = b.rs.PriorDelivered >= b.lossRoundDelivered
	if b.lossRoundStart {
		b.lossRoundDelivered = b.rs.Delivered
	}
}

func (b *BBR) advanceLatestDeliverySignals() {
	if b.lossRoundStart {
		b.bwLatest = b.rs.DeliveryRate
		b.inflightLatest = int(b.rs.Delivered - b.rs.PriorDelivered)
		b.lossRuns = 0
	}
}

func (b *BBR) resetCongestionSignals() {
	b.isLossInRound = false
	b.bwLatest, b.inflightLatest = 0, 0
}

func (b *BBR) updateCongestionSignals() {
	b.updateMaxBW()
	b.lossInLastRound = false
	if !b.lossRoundStart {
		return
	}
	b.lossInLastRound = b.isLossInRound
	if b.isLossInRound && !b.isProbingBW() {
		b.lossLowerBounds()
	}
	b.isLossInRound = false
}

// lossLowerBounds adapts to what was delivered in a round with losses.
func (b *BBR) lossLowerBounds() {
	if math.IsInf(b.bwShortterm, 1) {
		b.bwShortterm = b.maxBW
	}
	if b.inflightShortterm == unbounded {
		b.inflightShortterm = b.window
	}
	b.bwShortterm = max(b.bwLatest, bbrBeta*b.bwShortterm)
	b.inflightShortterm = max(b.inflightLatest, int(bbrBeta*float64(b.inflightShortterm)))
}

func (b *BBR) resetShortTermModel() {
	b.bwShortterm, b.inflightShortterm = math.Inf(1), unbounded
}

func (b *BBR) boundBWForModel() { b.bw = min(b.maxBW, b.bwShortterm) }

// noteLoss begins a round of loss with the first loss in it.
func (b *BBR) noteLoss(l Loss) {
	if !b.isLossInRound {
		b.lossRoundDelivered = l.Delivered
		b.saveStateUponLoss()
	}
	b.isLossInRound = true
}

func (b *BBR) isInflightTooHigh() bool {
	return float64(b.rs.LostSince) > float64(b.rs.TxInFlight)*bbrLossThresh
}

// inflightAtLoss is what was in flight when the losses crossed the threshold, at
// some prefix of the lost packet of size bytes.
func (b *BBR) inflightAtLoss(size int) int {
	inflightPrev := b.rs.TxInFlight - size
	lostPrev := b.rs.LostSince - size
	lostPrefix := (bbrLossThresh*float64(inflightPrev) - float64(lostPrev)) / (1 - bbrLossThresh)
	return inflightPrev + int(lostPrefix)
}

func (b *BBR) targetInflight() int { return min(b.bdpMultiple(1, b.bw), b.window) }

func (b *BBR) handleInflightTooHigh() {
	b.prevProbeTooHigh = true
	b.isBWProbeSample = false // once per probe
	if !b.rs.RateLimited {
		b.inflightLongterm = max(b.rs.TxInFlight, int(bbrBeta*float64(b.targetInflight())))
	}
	if b.state == bbrUp {
		b.undo.state = bbrUp
		b.startDown(b.rs.Now)
	}
}

// updateAckAggregation estimates how much is acknowledged at once.
func (b *BBR) updateAckAggregation() {
	expected := int(b.bw * (b.rs.Now - b.extraAckedStart).Seconds())
	if b.extraAckedDelivered <= expected {
		b.extraAckedDelivered, b.extraAckedStart, expected = 0, b.rs.Now, 0
	}
	b.extraAckedDelivered += b.rs.Bytes
	extra := min(b.extraAckedDelivered-expected, b.window)
	half := uint64(bbrExtraAckedRounds / 2)
	if !b.fullBWReached {
		half = 1
	}
	if b.roundStart && b.roundCount-b.extraAckedHalf >= half {
		b.extraAckedHalf = b.roundCount
		b.extraAckedFilter = [2]int{b.extraAckedFilter[1], 0}
		if !b.fullBWReached {
			b.extraAckedFilter[0] = 0
		}
	}
	b.extraAckedFilter[1] = max(b.extraAckedFilter[1], extra)
	b.extraAcked = max(b.extraAckedFilter[0], b.extraAckedFilter[1])
}

// bbrUndo is what the last losses changed, in case that they are spurious.
type bbrUndo struct {
	state             bbrState // bbrDrain: no state to go back to
	bwShortterm       float64
	inflightShortterm int
	inflightLongterm  int
}

func (b *BBR) saveStateUponLoss() {
	b.undo = bbrUndo{bbrDrain, b.bwShortterm, b.inflightShortterm, b.inflightLongterm}
}

// SpuriousLoss takes back what the losses changed.
func (b *BBR) SpuriousLoss(now time.Duration) {
	if b.resumption.phase != notResumed || b.undo == (bbrUndo{}) {
		return
	}
	b.rs.Now = now
	b.restoreCwnd()
	b.inRecovery = false
	b.isLossInRound = false
	b.resetFullBW()
	b.bwShortterm = max(b.bwShortterm, b.undo.bwShortterm)
	b.inflightShortterm = max(b.inflightShortterm, b.undo.inflightShortterm)
	b.inflightLongterm = max(b.inflightLongterm, b.undo.inflightLongterm)
	switch {
	case b.undo.state == bbrStartup && b.state != bbrStartup:
		b.fullBWReached = false
		if b.state != bbrProbeRTT {
			b.enterStartup()
		}
	case b.undo.state == bbrUp && b.state != bbrUp && b.state != bbrProbeRTT:
		b.startRefill()
	}
	b.undo = bbrUndo{}
}
