// SPDX-License-Identifier: Apache-2.0

package quic

import "github.com/mqvpn/mqvpn/quic/internal/wire"

// streamType says in which directions a stream carries data. Limits, IDs and
// frames are separate for each type.
type streamType uint8

const (
	bidiStream streamType = iota
	uniStream
	numStreamTypes
)

const (
	streamIDServer = 1 << 0 // initiated by the server, R9000-2.1-2
	streamIDUni    = 1 << 1 // unidirectional
)

// newStreamID returns the ID of the num-th stream, from 0 on, of its kind.
func newStreamID(byServer bool, t streamType, num uint64) uint64 {
	id := num<<2 | uint64(t)<<1
	if byServer {
		id |= streamIDServer
	}
	return id
}

func typeOfStream(id uint64) streamType { return streamType(id & streamIDUni >> 1) }
func streamNum(id uint64) uint64        { return id >> 2 }

// remoteStreamLimit is the number of streams of one type that the peer may open.
type remoteStreamLimit struct {
	concurrent uint64 // streams that may be open at a time
	advertised uint64 // cumulative limit the peer was told
	opened     uint64 // streams that exist or existed
	closed     uint64
	max        sentVal
}

func (l *remoteStreamLimit) init(concurrent uint64) {
	l.concurrent = concurrent
	l.advertised = concurrent // as transport parameter
}

// close notes that a stream is gone. The peer gets credit for a quarter of the
// streams at a time, without being asked. R9000-4.6-7
func (l *remoteStreamLimit) close() {
	l.closed++
	if l.limit()-l.advertised >= (l.concurrent+3)/4 {
		l.max.set()
	}
}

func (l *remoteStreamLimit) limit() uint64 {
	return min(l.closed+l.concurrent, wire.MaxStreamCount)
}

// append appends MAX_STREAMS if it is due, and reports false if it does not fit.
func (l *remoteStreamLimit) append(w *packetWriter, t streamType) bool {
	if !l.max.due() {
		return true
	}
	limit := l.limit()
	if !w.appendMaxStreams(&l.max, t, limit) {
		return false
	}
	l.advertised = limit
	return true
}

// localStreamLimit is the token holder's view of the streams of one type that we
// open; the application's is in streamMailbox.
type localStreamLimit struct {
	created uint64 // streams that the peer may have heard of
	max     uint64 // the peer's limit
	blocked sentVal
}

// append appends STREAMS_BLOCKED if it is due, and reports false if it does not fit.
func (l *localStreamLimit) append(w *packetWriter, t streamType) bool {
	return !l.blocked.due() || w.appendStreamsBlocked(&l.blocked, t, l.max)
}
