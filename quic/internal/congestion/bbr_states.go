// SPDX-License-Identifier: Apache-2.0

package congestion

import "time"

// The state machine: draft-ietf-ccwg-bbr section 5.3.

// bbrFullPipe looks for the rate at which sending faster delivers no more.
type bbrFullPipe struct {
	fullBWReached bool // ever
	fullBWNow     bool // since the search began
	fullBW        float64
	fullBWCount   int
}

// bbrProbe is the state of probing for bandwidth.
type bbrProbe struct {
	ackPhase               bbrAckPhase
	isBWProbeSample        bool
	probeUpAcked           int
	probeUpAckedPerInc     int
	probeUpRounds          int
	roundsSinceProbeUp     int
	probeWait              time.Duration
	cycleStamp             time.Duration
	prevProbeTooHigh       bool
	prevProbePrecautionary bool
}

// bbrMinRTT is the state of probing for the round-trip time.
type bbrMinRTT struct {
	minRTT            time.Duration // 0 before the first sample
	minRTTStamp       time.Duration
	probeRTTMinDelay  time.Duration
	probeRTTMinStamp  time.Duration
	probeRTTExpired   bool
	probeRTTDoneStamp time.Duration // 0: not yet known
	probeRTTRoundDone bool
	probeRTTUntil     uint64 // samples up to this number of bytes are of ProbeRTT
}

func (b *BBR) enterStartup() {
	b.state, b.pacingGain, b.cwndGain = bbrStartup, bbrStartupPacingGain, bbrCwndGain
}

func (b *BBR) resetFullBW() { b.fullBW, b.fullBWCount, b.fullBWNow = 0, 0, false }

func (b *BBR) checkFullBWReached() {
	rate := b.rs.DeliveryRate
	if b.fullBWNow || !b.roundStart || b.rs.RateLimited || rate == 0 {
		return
	}
	if rate >= b.fullBW*bbrFullBWGrowth {
		b.resetFullBW()
		b.fullBW = rate
		return
	}
	b.fullBWCount++
	if b.fullBWCount >= bbrFullBWRounds {
		b.fullBWNow, b.fullBWReached = true, true
	}
}

func (b *BBR) checkStartupDone() {
	if b.state != bbrStartup {
		return
	}
	if b.lossInLastRound && b.lossRuns >= bbrStartupFullLossRuns && b.isInflightTooHigh() {
		b.undo.state = bbrStartup
		b.leaveStartup()
	}
	if b.isPlateau() {
		b.fullBWNow, b.fullBWReached = true, true
	}
	if b.fullBWReached {
		b.enterDrain()
	}
}

// leaveStartup ends Startup because of congestion.
func (b *BBR) leaveStartup() {
	b.fullBWNow, b.fullBWReached = true, true
	b.inflightLongterm = max(b.bdpMultiple(1, b.bw), b.inflightLatest)
}

func (b *BBR) enterDrain() {
	b.state, b.pacingGain, b.cwndGain = bbrDrain, bbrDrainPacingGain, bbrCwndGain
	b.drainStartRound = b.roundCount
}

func (b *BBR) checkDrainDone() {
	if b.state == bbrDrain && (b.inFlight <= b.bdpInflight(b.bw) || b.roundCount > b.drainStartRound+bbrDrainRounds) {
		b.startDown(b.rs.Now)
	}
}

func (b *BBR) inProbeBW() bool { return b.state >= bbrDown && b.state <= bbrUp }

func (b *BBR) isProbingBW() bool {
	return b.state == bbrStartup || b.state == bbrRefill || b.state == bbrUp
}

func (b *BBR) startDown(now time.Duration) {
	b.resetCongestionSignals()
	b.probeUpAckedPerInc = unbounded
	b.roundsSinceProbeUp = int(2 * b.draw())
	b.probeWait = bbrProbeWait + time.Duration(b.draw()*float64(bbrProbeWaitSpread))
	b.cycleStamp = now
	b.ackPhase = acksProbeStopping
	b.startRound()
	b.state, b.pacingGain, b.cwndGain = bbrDown, bbrDownPacingGain, bbrCwndGain
}

func (b *BBR) startCruise() { b.state, b.pacingGain, b.cwndGain = bbrCruise, 1, bbrCwndGain }

func (b *BBR) startRefill() {
	b.resetShortTermModel()
	b.probeUpRounds, b.probeUpAcked = 0, 0
	b.prevProbePrecautionary = false
	b.ackPhase = acksRefilling
	b.startRound()
	b.state, b.pacingGain, b.cwndGain = bbrRefill, 1, bbrCwndGain
}

func (b *BBR) startUp() {
	b.ackPhase = acksProbeStarting
	b.startRound()
	b.resetFullBW()
	b.fullBW = b.rs.DeliveryRate
	b.state, b.pacingGain, b.cwndGain = bbrUp, bbrUpPacingGain, bbrUpCwndGain
	b.upRounds = 0
	b.raiseInflightLongtermSlope()
}

func (b *BBR) updateProbeBWCyclePhase() {
	if !b.fullBWReached || b.adaptLongTermModel() {
		return
	}
	switch b.state {
	case bbrDown:
		b.pacingGain = min(bbrDownPacingGain, b.drainGain())
		if !b.checkTimeToProbeBW() && b.isTimeToCruise() {
			b.startCruise()
		}
	case bbrCruise:
		b.pacingGain = b.drainGain()
		b.checkTimeToProbeBW()
	case bbrRefill:
		if b.roundStart {
			b.isBWProbeSample = true
			b.startUp()
		}
	case bbrUp:
		if b.isTimeToGoDown() {
			b.prevProbeTooHigh = false
			b.startDown(b.rs.Now)
		}
	}
}

// checkTimeToProbeBW starts the next probe when it is due: by the clock, or as
// often as Reno would need to recover.
func (b *BBR) checkTimeToProbeBW() bool {
	if b.resumption.phase == guessing {
		return false
	}
	rounds := min(b.targetInflight()/b.maxDatagram, bbrMaxRenoRounds)
	if b.rs.Now > b.cycleStamp+b.probeWait || b.roundsSinceProbeUp >= rounds {
		b.startRefill()
		return true
	}
	return false
}

func (b *BBR) isTimeToCruise() bool {
	return b.inFlight <= b.inflightWithHeadroom() && b.inFlight <= b.bdpInflight(b.maxBW)
}

func (b *BBR) isTimeToGoDown() bool {
	// Before this acknowledgment, and as near as whole packets come.
	if b.prevProbeTooHigh && b.inFlight+b.rs.Bytes+b.maxDatagram > b.inflightLongterm {
		b.prevProbePrecautionary = true
		return true
	}
	if b.probeFillsQueue() {
		return true
	}
	if b.isCwndLimited() && b.window >= b.inflightLongterm {
		b.resetFullBW() // the bound, not the path, is the limit
		b.fullBW = b.rs.DeliveryRate
		return false
	}
	return b.fullBWNow
}

func (b *BBR) inflightWithHeadroom() int {
	if b.inflightLongterm == unbounded {
		return unbounded
	}
	headroom := max(b.maxDatagram, int(bbrHeadroom*float64(b.inflightLongterm)))
	return max(b.inflightLongterm-headroom, b.minPipeCwnd())
}

func (b *BBR) raiseInflightLongtermSlope() {
	growth := 1 << b.probeUpRounds
	b.probeUpRounds = min(b.probeUpRounds+1, bbrMaxUpRounds)
	b.probeUpAckedPerInc = max(b.window/growth, b.maxDatagram)
}

func (b *BBR) probeInflightLongtermUpward() {
	if !b.isCwndLimited() || b.window < b.inflightLongterm {
		return // not fully used
	}
	b.probeUpAcked += b.rs.Bytes
	if delta := b.probeUpAcked / b.probeUpAckedPerInc; delta > 0 {
		b.probeUpAcked -= delta * b.probeUpAckedPerInc
		b.inflightLongterm += delta * b.maxDatagram
	}
	if b.roundStart {
		b.raiseInflightLongtermSlope()
	}
}

// adaptLongTermModel follows the feedback of a probe. It reports whether it changed
// the state.
func (b *BBR) adaptLongTermModel() bool {
	if b.ackPhase == acksProbeStarting && b.roundStart {
		b.ackPhase = acksProbeFeedback
	}
	if b.ackPhase == acksProbeStopping && b.roundStart {
		b.isBWProbeSample = false
		b.ackPhase = acksInit
		if b.inProbeBW() && !b.rs.RateLimited {
			b.advanceMaxBWFilter()
		}
		if b.inProbeBW() && b.prevProbePrecautionary && !b.prevProbeTooHigh {
			b.startRefill()
			return true
		}
	}
	if b.isInflightTooHigh() || b.inflightLongterm == unbounded {
		return false
	}
	b.inflightLongterm = max(b.inflightLongterm, b.rs.TxInFlight)
	if b.state == bbrUp {
		b.probeInflightLongtermUpward()
	}
	return false
}

func (b *BBR) updateMinRTT() {
	now, rtt := b.rs.Now, b.rs.LatestRTT
	b.probeRTTExpired = now > b.probeRTTMinStamp+bbrProbeRTTInterval
	if rtt > 0 && (b.probeRTTMinDelay == 0 || rtt < b.probeRTTMinDelay || b.probeRTTExpired) {
		b.probeRTTMinDelay, b.probeRTTMinStamp = rtt, now
	}
	if b.probeRTTMinDelay > 0 &&
		(b.minRTT == 0 || b.probeRTTMinDelay < b.minRTT || now > b.minRTTStamp+bbrMinRTTFilterLen) {
		b.minRTT, b.minRTTStamp = b.probeRTTMinDelay, b.probeRTTMinStamp
	}
	if b.minRTT < b.rs.MinRTT { // which began anew, since the way has changed
		b.minRTT, b.minRTTStamp = b.rs.MinRTT, now
		b.probeRTTMinDelay, b.probeRTTMinStamp = b.rs.MinRTT, now
	}
}

func (b *BBR) checkProbeRTT() {
	if b.state != bbrProbeRTT && b.probeRTTExpired && !b.idleRestart {
		b.saveCwnd()
		b.state, b.pacingGain, b.cwndGain = bbrProbeRTT, 1, bbrProbeRTTCwndGain
		b.probeRTTDoneStamp = 0
		b.ackPhase = acksProbeStopping
		b.startRound()
	}
	if b.state == bbrProbeRTT {
		b.handleProbeRTT()
	}
	if b.rs.Delivered > b.rs.PriorDelivered {
		b.idleRestart = false
	}
}

func (b *BBR) handleProbeRTT() {
	b.probeRTTUntil = b.rs.Delivered + uint64(b.inFlight)
	switch {
	case b.probeRTTDoneStamp == 0 && b.inFlight <= b.probeRTTCwnd():
		b.probeRTTDoneStamp = b.rs.Now + bbrProbeRTTDuration
		b.probeRTTRoundDone = false
		b.startRound()
	case b.probeRTTDoneStamp != 0:
		b.probeRTTRoundDone = b.probeRTTRoundDone || b.roundStart
		if b.probeRTTRoundDone {
			b.checkProbeRTTDone(b.rs.Now)
		}
	}
}

func (b *BBR) checkProbeRTTDone(now time.Duration) {
	if b.probeRTTDoneStamp == 0 || now <= b.probeRTTDoneStamp {
		return
	}
	b.probeRTTMinStamp = now
	b.restoreCwnd()
	b.resetShortTermModel()
	if b.fullBWReached {
		b.startDown(now)
		b.startCruise()
	} else {
		b.enterStartup()
	}
}

func (b *BBR) probeRTTCwnd() int {
	return max(b.bdpMultiple(bbrProbeRTTCwndGain, b.bw), b.minPipeCwnd())
}
