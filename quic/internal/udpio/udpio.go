// SPDX-License-Identifier: Apache-2.0

// Package udpio moves batches of UDP datagrams between the kernel and the QUIC
// endpoint. There are two implementations of Socket: the kernel's (UDPSocket, here)
// and the simulated network of package quictest.
package udpio

import (
	"errors"
	"net/netip"
)

// ECN is the two-bit ECN field of the outer IP header.
type ECN uint8

const (
	NotECT ECN = 0
	ECT1   ECN = 1
	ECT0   ECN = 2
	CE     ECN = 3
)

// MaxSegments is the largest number of segments in one Run (kernel limit of UDP_SEGMENT).
const MaxSegments = 64

// MaxRunBytes is the largest payload of one Run.
const MaxRunBytes = 65000

// Received is one message of a ReadBatch. The caller supplies Buf (64 KiB); the
// implementation sets the rest. A message is one or more datagrams of SegSize
// bytes each, the last one may be shorter; N is their sum. An empty datagram has N
// and SegSize 0. What does not fit Buf is cut off.
type Received struct {
	Buf     []byte
	N       int
	SegSize int
	Src     netip.AddrPort // unmapped
	Dst     netip.Addr     // local address that it came to, unmapped; invalid when unknown
	ECN     ECN
}

// Run is a sequence of datagrams to one destination: Data cut into pieces of
// SegSize, the last one may be shorter. At most MaxSegments and MaxRunBytes.
type Run struct {
	Data    []byte
	SegSize int
	Dst     netip.AddrPort
	Src     netip.Addr // local address to send from; invalid: the kernel chooses
	ECN     ECN
}

// Segments is the number of datagrams in r.
func (r *Run) Segments() int { return (len(r.Data) + r.SegSize - 1) / r.SegSize }

// Check panics when r breaks the bounds above: senders rely on them.
func (r *Run) Check() {
	if r.SegSize <= 0 || len(r.Data) == 0 || len(r.Data) > MaxRunBytes || r.Segments() > MaxSegments {
		panic("BUG: malformed udpio.Run")
	}
}

var (
	// ErrWouldBlock: the socket buffer is full. Wait with WaitWritable.
	ErrWouldBlock = errors.New("udpio: socket buffer full")
	// ErrMessageTooLong: a segment is larger than the path's MTU (EMSGSIZE).
	ErrMessageTooLong = errors.New("udpio: datagram larger than the interface MTU")
)

// Seeded is a Socket of a simulated network. Seed is the seed of the random numbers of the
// next connection that begins with this socket, so that a simulation can be repeated.
type Seeded interface {
	Socket
	Seed() [32]byte
}

// Socket is a UDP socket used in batches. ReadBatch is called by one goroutine,
// WriteBatch by any holder of a connection, concurrently.
type Socket interface {
	// ReadBatch blocks until at least one message has arrived, fills ms[:n] and
	// returns n. After Close it returns net.ErrClosed. Other errors are transient.
	ReadBatch(ms []Received) (n int, err error)
	// WriteBatch sends runs in order without blocking. It returns how many whole
	// runs were taken; if n < len(runs), err tells why runs[n] was not:
	// ErrWouldBlock, ErrMessageTooLong, net.ErrClosed, or the kernel's error
	// (syscall.Errno). Where only some datagrams of runs[n] were sent, its Data is
	// cut to the others, so that runs[n:] is always what remains to be sent.
	WriteBatch(runs []Run) (n int, err error)
	// WaitWritable blocks until the socket can probably be written, or is closed.
	WaitWritable() error
	// LocalAddr is the bound address; its address part may be unspecified.
	LocalAddr() netip.AddrPort
	// MTU is the largest IP packet of the interface that the socket is bound to;
	// 0 when it is not bound to one or unknown.
	MTU() int
	Close() error
}
