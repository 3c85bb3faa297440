// SPDX-License-Identifier: Apache-2.0

// Package sched holds the multipath schedulers. A scheduler sees values only:
// it is asked once per packet, inside the sender loop of a connection, which of
// the given paths carries the packet. It imports nothing of this module, so that
// it is tested as a table of values.
package sched

import "time"

// WorkKind says what the packet to be placed carries.
type WorkKind uint8

const (
	WorkControl  WorkKind = iota // connection-wide frames, retransmissions
	WorkStream                   // stream data
	WorkDatagram                 // a DATAGRAM frame
)

// Class is the traffic class of a datagram, set by the application.
type Class uint8

const (
	ClassOther    Class = iota // no affinity, or not a datagram
	ClassTCP                   // part of a TCP connection: reordering hurts
	ClassUDP                   // part of a UDP flow
	ClassRealtime              // UDP that wants the lowest latency
)

// Work describes one packet that waits for a path.
type Work struct {
	Kind  WorkKind
	Class Class
	Flow  uint64        // 0: no affinity
	Size  int           // bytes of UDP payload that the packet will have
	Age   time.Duration // time since the application queued it
}

// Phase is the part of a path's life cycle that a scheduler must know.
type Phase uint8

const (
	PhaseActive  Phase = iota // validated and answering
	PhaseSuspect              // has not answered in time: last resort
)

// Reason says why a path cannot take a packet now.
type Reason uint8

const (
	NotBlocked Reason = iota
	BlockedCwnd
	BlockedPacing
	BlockedAmplification
	BlockedSocket
	BlockedMTU
)

// Priority orders the interfaces of the user.
type Priority uint8

const (
	PriorityPrimary Priority = iota
	PrioritySecondary
	PriorityBackup
	PriorityNever // does not carry datagrams; absent from the views
)

// Path is a snapshot of one path, taken by the core before each Pick. Paths that
// may not carry the work at all (not validated, no connection id, abandoned, too
// small) are absent. Blocked ones are present with their reason, because waiting
// for a pinned path or spilling to another is the scheduler's choice.
type Path struct {
	ID         uint32
	Phase      Phase
	Blocked    Reason
	Priority   Priority
	PeerBackup bool // the peer asked for PATH_STATUS_BACKUP

	Queued      int // bytes in the open batch and unsent runs of this path
	MaxDatagram int // largest DATAGRAM payload in bytes
	CwndFree    int // bytes
	PaceFree    int // bytes
	InFlight    int // bytes
	Cwnd        int // bytes

	SRTT, RTTVar, MinRTT time.Duration // 0 before the first sample
	Rate                 float64       // delivery rate in bytes/s, windowed maximum; 0 when unknown
	Loss                 float64       // fraction of packets lost lately, 0..1
	PTOCount             int           // consecutive probe time-outs without an answer
}

// Event tells a scheduler what happened to a path.
type Event uint8

const (
	EventPathUp   Event = iota // validated, or back from suspect or dead
	EventPathDown              // suspect, dead or abandoned: forget pins to it
	EventPathGone              // the id will not come back
)

// Scheduler picks paths. All methods are called on the connection's loop; now is
// the time since the epoch of the endpoint.
type Scheduler interface {
	// Pick returns the index in paths of the path for w, which is never blocked,
	// or -1 to let w wait. second >= 0 asks for a duplicate on that path too.
	Pick(now time.Duration, w Work, paths []Path) (first, second int)
	// Sent tells that n bytes of w were written to paths[i] of the last Pick.
	Sent(now time.Duration, w Work, i, n int)
	// Event tells that the state of path id has changed.
	Event(now time.Duration, id uint32, e Event)
	// Usage describes path id, for people.
	Usage(id uint32) Usage
}

// Usage is what a scheduler thinks of a path, zero if it does not think so far.
type Usage struct {
	Weight float64 // bytes/s that it deals to the path
	Pins   int     // flows that stay on the path
}
