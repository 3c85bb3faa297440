// SPDX-License-Identifier: Apache-2.0

// Package congestion holds the congestion controllers and the pacer. A controller
// serves one path; all methods are called by the holder of the connection. Times
// are durations since the epoch of the endpoint.
package congestion

import "time"

// Ack describes one acknowledgment that newly acknowledged packets.
type Ack struct {
	Now          time.Duration
	Bytes        int           // newly acknowledged bytes that were in flight
	SentTime     time.Duration // when the newest of the packets acknowledged was sent
	InFlight     int           // bytes in flight before this acknowledgment
	AppLimited   bool          // the window was not the limit when the packets were sent
	SRTT         time.Duration // smoothed RTT after this acknowledgment
	LatestRTT    time.Duration // newest sample; 0 when this acknowledgment gave none
	MinRTT       time.Duration
	DeliveryRate float64 // bytes/s of the sample, 0 when unknown
}

// Loss describes packets that were declared lost together (or CE marks).
type Loss struct {
	Now      time.Duration
	Bytes    int           // lost bytes that were in flight; 0 for an ECN-CE mark
	SentTime time.Duration // when the newest of the lost (marked) packets was sent
	InFlight int           // bytes in flight after removing them
	ECN      bool
}

// Controller is the congestion controller of one path.
type Controller interface {
	// Window is the congestion window in bytes.
	Window() int
	// PacingRate is in bytes/s; 0 before there is anything to base it on.
	PacingRate(srtt time.Duration) float64
	// PacketSent tells that n bytes in flight were sent; inFlight includes them.
	PacketSent(now time.Duration, n, inFlight int)
	Acked(a Ack)
	Lost(l Loss)
	// PersistentCongestion collapses the window to its minimum (RFC 9002 section 7.6).
	PersistentCongestion(now time.Duration)
	// Resume continues on a path that was silent for a while, so that what is known of
	// it is a guess: half of the old window, paced over a round trip. When that proves
	// right slow start goes on to the old window; the first loss in it sets the minimum
	// window, and slow start from there. Packets sent before have no say.
	Resume(now time.Duration)
	// SetMaxDatagram tells the new largest UDP payload of the path in bytes.
	SetMaxDatagram(n int)
	// InSlowStart is for statistics.
	InSlowStart() bool
}
