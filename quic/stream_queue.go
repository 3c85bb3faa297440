// SPDX-License-Identifier: Apache-2.0

package quic

// queueKind names the lists of streamsState that a stream can be in.
type queueKind uint8

const (
	queueAll     queueKind = iota // every stream that exists
	queueControl                  // control frames are due
	queueLost                     // data or a FIN bit that needs no connection credit
	queueFresh                    // new data within the limit of the stream
	numQueues
)

// streamLinks is a stream's place in one streamQueue; nil when it is not in it.
type streamLinks struct{ next, prev *Stream }

// A streamQueue is a circular list of streams, served round robin. It belongs to
// the token holder.
type streamQueue struct {
	kind queueKind
	head *Stream
}

func (q *streamQueue) contains(s *Stream) bool { return s.links[q.kind].next != nil }

// set puts s at the end of the list, or takes it out; it may be there, or not, already.
func (q *streamQueue) set(s *Stream, in bool) {
	switch {
	case in == q.contains(s):
	case in:
		q.pushBack(s)
	default:
		q.remove(s)
	}
}

func (q *streamQueue) pushBack(s *Stream) {
	l := &s.links[q.kind]
	if q.head == nil {
		l.next, l.prev = s, s
		q.head = s
		return
	}
	l.next, l.prev = q.head, q.head.links[q.kind].prev
	l.prev.links[q.kind].next = s
	l.next.links[q.kind].prev = s
}

func (q *streamQueue) remove(s *Stream) {
	l := &s.links[q.kind]
	if l.next == s {
		q.head = nil
	} else {
		l.prev.links[q.kind].next = l.next
		l.next.links[q.kind].prev = l.prev
		if q.head == s {
			q.head = l.next
		}
	}
	*l = streamLinks{}
}

// rotate puts the first stream, if any, at the end.
func (q *streamQueue) rotate() {
	if q.head != nil {
		q.head = q.head.links[q.kind].next
	}
}
