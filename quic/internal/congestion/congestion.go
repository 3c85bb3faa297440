// SPDX-License-Identifier: Apache-2.0

// Package congestion holds the congestion controllers and the pacer. A controller
// serves one path; all methods are called by the holder of the connection. Times
// are durations since the epoch of the endpoint.
package congestion

import "time"

// Ack describes one acknowledgment that newly acknowledged packets. The rate sample
// is that of the newest of them: draft-ietf-ccwg-bbr section 4.1.
type Ack struct {
	Now        time.Duration
	Bytes      int           // newly acknowledged bytes that were in flight
	SentTime   time.Duration // when the newest of the packets acknowledged was sent
	InFlight   int           // bytes in flight after this acknowledgment and its losses
	AppLimited bool          // the window was not the limit when the packets were sent
	SRTT       time.Duration // smoothed RTT after this acknowledgment
	LatestRTT  time.Duration // newest sample; 0 when this acknowledgment gave none
	MinRTT     time.Duration

	Delivered      uint64  // bytes acknowledged so far on the path
	PriorDelivered uint64  // that number when the newest packet was sent
	DeliveryRate   float64 // bytes/s of the sample, 0 when unknown
	RateLimited    bool    // the sender had run out of work when the packet was sent
	TxInFlight     int     // bytes in flight right after it was sent
	LostSince      int     // bytes declared lost since then
}

// Loss describes a packet that was declared lost, or CE marks.
type Loss struct {
	Now      time.Duration
	Bytes    int           // bytes of the packet; 0 for an ECN-CE mark
	SentTime time.Duration // when it (or the newest packet newly marked) was sent
	ECN      bool
	NewRun   bool // the packet sent before it is not lost

	Delivered   uint64 // bytes acknowledged so far on the path
	RateLimited bool   // the sender had run out of work when the packet was sent
	TxInFlight  int    // bytes in flight right after it was sent
	LostSince   int    // bytes declared lost since then, this packet included
}

// Controller is the congestion controller of one path.
type Controller interface {
	// Window is the congestion window in bytes.
	Window() int
	// PacingRate is in bytes/s; 0 before there is anything to base it on.
	PacingRate(srtt time.Duration) float64
	// SendQuantum is how many bytes may leave at once.
	SendQuantum() int
	// PacketSent tells that n bytes in flight were sent; inFlight includes them. limited
	// says that the sender had run out of work before.
	PacketSent(now time.Duration, n, inFlight int, limited bool)
	// Acked follows the Lost of the losses that the acknowledgment revealed.
	Acked(a Ack)
	// Lost is called for each packet, the one sent first coming first.
	Lost(l Loss)
	// SpuriousLoss tells that all packets that were declared lost since an event of
	// congestion began were delivered after all.
	SpuriousLoss(now time.Duration)
	// PersistentCongestion collapses the window to its minimum (RFC 9002 section 7.6).
	PersistentCongestion(now time.Duration)
	// Resume continues on a path that was silent for a while, so that what is known of
	// it is a guess: half of the old window, paced over a round trip. When that proves
	// right slow start goes on to the old window; the first loss in it sets the minimum
	// window, and slow start from there. Packets sent before have no say.
	Resume(now time.Duration)
	// SetMaxDatagram tells the new largest UDP payload of the path in bytes.
	SetMaxDatagram(n int)
	// InSlowStart says that what the path carries is not known yet: each round trip sends
	// about twice what the one before did. It may also begin again.
	InSlowStart() bool
	// State is the name of the state, for people: of RFC 9002 section 7.3, or of the draft of
	// BBR in lower case.
	State() string
}
