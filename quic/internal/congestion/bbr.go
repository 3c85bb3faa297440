// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"math"
	"time"
)

// Constants of draft-ietf-ccwg-bbr, section 2.
const (
	bbrStartupPacingGain = 2.77
	bbrDrainPacingGain   = 0.5
	bbrDownPacingGain    = 0.90
	bbrUpPacingGain      = 1.25
	bbrCwndGain          = 2.0
	bbrUpCwndGain        = 2.25
	bbrProbeRTTCwndGain  = 0.5
	bbrPacingMargin      = 0.99 // of the estimated bandwidth

	bbrLossThresh          = 0.02
	bbrBeta                = 0.7
	bbrHeadroom            = 0.15
	bbrMinPipePackets      = 4
	bbrFullBWRounds        = 3
	bbrFullBWGrowth        = 1.25
	bbrStartupFullLossRuns = 6
	bbrDrainRounds         = 3
	bbrExtraAckedRounds    = 10
	bbrMaxRenoRounds       = 63
	bbrMaxUpRounds         = 30

	bbrMinRTTFilterLen  = 10 * time.Second
	bbrProbeRTTInterval = 5 * time.Second
	bbrProbeRTTDuration = 200 * time.Millisecond
	bbrProbeWait        = 2 * time.Second // and up to bbrProbeWaitSpread more
	bbrProbeWaitSpread  = time.Second

	bbrMaxQuantum = 64 << 10 // bytes

	// bbrStartPackets is the window from the first acknowledgment on, paced over a third of a
	// round trip: what three flows of TCP begin with (RFC 6928). Those inside of a tunnel find
	// its window there when they begin; if it is less than theirs, they take the wait for a full
	// link and end their slow start.
	bbrStartPackets = 32
)

// unbounded stands for an infinite number of bytes.
const unbounded = math.MaxInt

type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrDown
	bbrCruise
	bbrRefill
	bbrUp
	bbrProbeRTT
)

var bbrStateNames = [...]string{"startup", "drain", "probe_bw_down", "probe_bw_cruise", "probe_bw_refill", "probe_bw_up", "probe_rtt"}

// bbrAckPhase says what acknowledgments tell about the last probe for bandwidth.
type bbrAckPhase uint8

const (
	acksInit bbrAckPhase = iota
	acksRefilling
	acksProbeStarting
	acksProbeFeedback
	acksProbeStopping
)

// BBR is the controller of draft-ietf-ccwg-bbr (version 3 of BBR): it models the
// bandwidth and the round-trip time of the path, and what may be in flight, and
// probes for changes of each. Names are the draft's. What the draft leaves open: a
// CE mark counts like a round with too many losses. What is different stands in bbr_queue.go
// and at bbrStartPackets.
type BBR struct {
	maxDatagram int
	touched     bool
	random      uint64 // state of a xorshift generator; 0 before the first acknowledgment

	rs       Ack // the acknowledgment at hand
	inFlight int // as of the last acknowledgment or transmission

	state      bbrState
	pacingGain float64
	cwndGain   float64
	window     int
	priorCwnd  int
	pacingRate float64 // bytes/s
	quantum    int

	delivered uint64 // acknowledged bytes that this controller has seen
	srtt      time.Duration

	bbrRounds
	bbrModel
	bbrFullPipe
	bbrProbe
	bbrMinRTT
	bbrQueue
	undo bbrUndo

	recovery   recovery
	inRecovery bool
	resumption resumption

	// The window was the limit in this round, and in the one before.
	cwndLimited, wasCwndLimited bool
	idleRestart                 bool
	drainStartRound             uint64
}

var _ Controller = (*BBR)(nil)

// NewBBR returns a controller with the initial window for packets of at most
// maxDatagram bytes of UDP payload.
func NewBBR(maxDatagram int) *BBR {
	b := &BBR{
		maxDatagram: maxDatagram,
		window:      initialWindow(maxDatagram),
		quantum:     burstPackets * maxDatagram,
	}
	b.inflightLongterm = unbounded
	b.probeUpAckedPerInc = unbounded
	b.resetShortTermModel()
	b.enterStartup()
	return b
}

func (b *BBR) Window() int      { return b.window }
func (b *BBR) State() string    { return bbrStateNames[b.state] }
func (b *BBR) SendQuantum() int { return b.quantum }

func (b *BBR) InSlowStart() bool { return !b.fullBWReached }

func (b *BBR) PacingRate(srtt time.Duration) float64 {
	if b.pacingRate == 0 && srtt > 0 {
		return bbrStartupPacingGain * float64(b.window) / srtt.Seconds()
	}
	return b.pacingRate
}

func (b *BBR) PacketSent(now time.Duration, n, inFlight int, limited bool) {
	b.inFlight = inFlight
	b.sent += float64(n)
	if inFlight+b.maxDatagram > b.window {
		b.cwndLimited = true
	}
	if inFlight == n && limited {
		b.restartFromIdle(now)
	}
}

// restartFromIdle paces at the estimated bandwidth, since nothing is queued.
func (b *BBR) restartFromIdle(now time.Duration) {
	b.idleRestart = true
	b.extraAckedStart = now
	switch {
	case b.inProbeBW():
		b.setPacingRate(1)
	case b.state == bbrProbeRTT:
		b.checkProbeRTTDone(now)
	}
}

func (b *BBR) Acked(a Ack) {
	b.touched = true
	if b.random == 0 {
		b.random = uint64(a.Now) | 1
		b.minRTTStamp, b.probeRTTMinStamp, b.extraAckedStart = a.Now, a.Now, a.Now
	}
	// What was sent in ProbeRTT says little about the bandwidth.
	a.RateLimited = a.RateLimited || a.PriorDelivered < b.probeRTTUntil
	b.rs, b.inFlight, b.srtt = a, a.InFlight, a.SRTT
	b.delivered += uint64(a.Bytes)
	if b.pacingRate == 0 {
		if !b.inRecovery {
			b.window = max(b.window, bbrStartPackets*b.maxDatagram)
		}
		b.pacingRate = b.PacingRate(a.SRTT)
	}
	covered := b.recovery.covers(a.SentTime)
	if b.inRecovery && !covered {
		b.inRecovery = false
		b.restoreCwnd()
	}
	b.resumed(a, covered)

	b.updateLatestDeliverySignals()
	b.updateCongestionSignals()
	b.updateAckAggregation()
	b.updateQueue()
	b.checkFullBWReached()
	b.checkStartupDone()
	b.checkDrainDone()
	b.updateProbeBWCyclePhase()
	b.updateMinRTT()
	b.checkProbeRTT()
	b.advanceLatestDeliverySignals()
	b.boundBWForModel()

	b.setPacingRate(b.pacingGain)
	b.setSendQuantum()
	b.setCwnd()
}

func (b *BBR) Lost(l Loss) {
	b.touched = true
	covered := b.recovery.covers(l.SentTime)
	if b.resumption.lose(l, covered) {
		b.startOver(l.Now)
		return
	}
	if !covered {
		b.saveCwnd()
		b.recovery.enter(l.Now)
		b.inRecovery = true
	}
	b.noteLoss(l)
	b.rs.Now = l.Now
	if l.ECN {
		b.rs.TxInFlight, b.rs.RateLimited = l.TxInFlight, l.RateLimited
		b.marked()
		b.undo = bbrUndo{}
		return
	}
	if l.NewRun {
		b.lossRuns++
	}
	if !b.isBWProbeSample {
		return // not sent while probing for bandwidth
	}
	b.rs.TxInFlight, b.rs.LostSince, b.rs.RateLimited = l.TxInFlight, l.LostSince, l.RateLimited
	if b.isInflightTooHigh() {
		b.rs.TxInFlight = b.inflightAtLoss(l.Bytes)
		b.handleInflightTooHigh()
	}
}

// marked responds to CE marks like to too many losses.
func (b *BBR) marked() {
	switch {
	case b.state == bbrStartup:
		b.leaveStartup()
		b.enterDrain()
	case b.isBWProbeSample:
		b.handleInflightTooHigh()
	}
}

func (b *BBR) PersistentCongestion(now time.Duration) {
	b.saveCwnd()
	b.saveStateUponLoss()
	b.recovery.enter(now)
	b.inRecovery = true
	b.window = minWindow(b.maxDatagram) // R9002-7.6.2-3
}

// Resume sends half of what the model allows, until that has proven right; then it
// probes for the bandwidth of before.
func (b *BBR) Resume(now time.Duration) {
	known := b.window
	if b.inRecovery || b.state == bbrProbeRTT {
		known = max(known, b.priorCwnd)
	}
	b.touched = true
	b.recovery.enter(now)
	b.inRecovery = false
	b.resumption.start(known)
	b.window = resumedWindow(known, b.maxDatagram)
	b.priorCwnd = b.window
	b.probeRTTMinStamp = now
	if !b.fullBWReached {
		b.enterStartup()
		if b.srtt > 0 {
			b.pacingRate = float64(b.window) / b.srtt.Seconds() // as fast as before after a round trip
		}
		return
	}
	b.resetShortTermModel()
	b.resetCongestionSignals()
	b.startDown(now)
	b.startCruise()
	b.bwShortterm, b.inflightShortterm = b.maxBW/2, b.window
	b.boundBWForModel()
	b.setPacingRate(1)
}

// resumed goes on after Resume: to a probe for bandwidth when the guess was right.
func (b *BBR) resumed(a Ack, covered bool) {
	before := b.resumption.phase
	b.resumption.ack(a, covered)
	if before == guessing && b.resumption.phase == notResumed && b.inProbeBW() {
		b.startRefill()
	}
}

// startOver forgets the model, which the path does not fit any more.
func (b *BBR) startOver(now time.Duration) {
	fresh := NewBBR(b.maxDatagram)
	fresh.touched, fresh.random = true, b.random
	fresh.window = minWindow(b.maxDatagram)
	fresh.minRTT, fresh.minRTTStamp = b.minRTT, b.minRTTStamp
	fresh.probeRTTMinDelay, fresh.probeRTTMinStamp = b.probeRTTMinDelay, now
	fresh.extraAckedStart = now
	fresh.nextRoundDelivered, fresh.lossRoundDelivered = b.rs.Delivered, b.rs.Delivered
	if b.srtt > 0 {
		fresh.pacingRate = bbrStartupPacingGain * float64(fresh.window) / b.srtt.Seconds()
	}
	fresh.recovery.enter(now)
	*b = *fresh
}

func (b *BBR) SetMaxDatagram(n int) {
	b.maxDatagram = n
	if !b.touched {
		b.window = initialWindow(n)
		b.quantum = burstPackets * n
	}
	b.window = max(b.window, minWindow(n))
}

// setPacingRate paces at gain times the bandwidth; before that is known, only faster.
func (b *BBR) setPacingRate(gain float64) {
	rate := gain * b.bw * bbrPacingMargin
	if b.fullBWReached || rate > b.pacingRate {
		b.pacingRate = rate
	}
	// Nothing could raise a rate at which nothing is sent.
	b.pacingRate = max(b.pacingRate, b.slowestRate())
}

// slowestRate is a minimal window per round trip.
func (b *BBR) slowestRate() float64 {
	if b.srtt <= 0 {
		return 0
	}
	return float64(minWindow(b.maxDatagram)) / b.srtt.Seconds()
}

func (b *BBR) setSendQuantum() {
	b.quantum = int(min(b.pacingRate*pacerQuantum.Seconds(), bbrMaxQuantum))
	least := 2
	if !b.fullBWReached {
		least = burstPackets // the rate is not known: RFC 9002 section 7.7
	}
	b.quantum = max(b.quantum, least*b.maxDatagram)
}

func (b *BBR) minPipeCwnd() int { return bbrMinPipePackets * b.maxDatagram }

// bdpMultiple is gain times the bandwidth-delay product in bytes.
func (b *BBR) bdpMultiple(gain, bw float64) int {
	if b.minRTT == 0 {
		return initialWindow(b.maxDatagram)
	}
	return int(gain * bw * b.minRTT.Seconds())
}

func (b *BBR) quantization(inflight int) int {
	inflight = max(inflight, b.quantum, b.minPipeCwnd())
	if b.state == bbrUp {
		inflight += 2 * b.maxDatagram
	}
	return inflight
}

// bdpInflight is what fills the pipe at bandwidth bw.
func (b *BBR) bdpInflight(bw float64) int { return b.quantization(b.bdpMultiple(1, bw)) }

func (b *BBR) setCwnd() {
	most := b.quantization(b.bdpMultiple(b.cwndGain, b.bw) + b.extraAcked)
	acked := b.rs.Bytes
	switch {
	case b.fullBWReached:
		b.window = min(b.window+acked, most)
	case b.window < most || b.delivered < uint64(initialWindow(b.maxDatagram)):
		b.window += acked
	}
	b.window = max(b.window, b.minPipeCwnd())
	if b.state == bbrProbeRTT {
		b.window = min(b.window, b.probeRTTCwnd())
	}
	limit := unbounded
	switch b.state {
	case bbrDown, bbrRefill, bbrUp:
		limit = b.inflightLongterm
	case bbrProbeRTT, bbrCruise:
		limit = b.inflightWithHeadroom()
	}
	limit = max(min(limit, b.inflightShortterm), b.minPipeCwnd())
	b.window = min(b.window, limit)
}

func (b *BBR) saveCwnd() {
	if !b.inRecovery && b.state != bbrProbeRTT {
		b.priorCwnd = b.window
	} else {
		b.priorCwnd = max(b.priorCwnd, b.window)
	}
}

func (b *BBR) restoreCwnd() { b.window = max(b.window, b.priorCwnd) }

// draw returns a random number from 0 to below 1.
func (b *BBR) draw() float64 {
	b.random ^= b.random << 13
	b.random ^= b.random >> 7
	b.random ^= b.random << 17
	return float64(b.random>>11) / (1 << 53)
}
