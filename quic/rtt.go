// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

const (
	// initialRTT is assumed before the first sample. R9002-6.2.2-1
	initialRTT = 333 * time.Millisecond
	// timerGranularity is kGranularity of RFC 9002.
	timerGranularity = time.Millisecond
)

// rttState estimates the round-trip time of a path: RFC 9002 section 5.
type rttState struct {
	latest, min, smoothed, variation time.Duration

	firstSample instant // unset before the first sample
	lastSample  instant
}

func (r *rttState) init() {
	*r = rttState{smoothed: initialRTT, variation: initialRTT / 2}
}

func (r *rttState) hasSample() bool { return !r.firstSample.isZero() }

// update takes a sample. ackDelay is already limited to what may be believed.
func (r *rttState) update(now instant, latest, ackDelay time.Duration) {
	r.latest, r.lastSample = latest, now
	if !r.hasSample() {
		// R9002-5.3-1
		r.firstSample = now
		r.min, r.smoothed, r.variation = latest, latest, latest/2
		return
	}
	r.min = min(r.min, latest) // R9002-5.2-1
	adjusted := latest
	if latest >= r.min+ackDelay { // R9002-5.3-4
		adjusted -= ackDelay
	}
	r.variation += ((r.smoothed - adjusted).Abs() - r.variation) / 4
	r.smoothed += (adjusted - r.smoothed) / 8
}

// restartMin forgets the minimum: R9002-5.2-2, or because acknowledgments now
// return another way.
func (r *rttState) restartMin() { r.min = r.latest }

// pto is the probe time-out without max_ack_delay and back-off. R9002-6.2.1-1 R9002-6.2.1-2
func (r *rttState) pto() time.Duration {
	return r.smoothed + max(4*r.variation, timerGranularity)
}

// lossDelay is the time threshold of loss detection: 9/8 of the RTT. R9002-6.1.2-1 R9002-6.1.2-2
func (r *rttState) lossDelay() time.Duration {
	rtt := max(r.smoothed, r.latest)
	return max(rtt+rtt/8, timerGranularity)
}
