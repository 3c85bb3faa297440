// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// streamsConfig is what we permit the peer, as in our transport parameters.
type streamsConfig struct {
	maxBidi      uint64 // streams that it may have open at a time
	maxUni       uint64
	streamWindow uint64 // bytes not read by the application, of one stream
	connWindow   uint64 // of all
	wake         func() // makes the token holder run; called from any goroutine, the token holder's too, without locks
}

// A streamsState is the streams of a connection and their flow control. It belongs
// to the token holder, except for open and accept, which the application calls. It
// knows nothing of packets: it fills packetWriters and is told what became of the
// frames.
//
// A stream lives in the map from its creation until both parts are in a terminal
// state and the application has accepted it, so that what a peer can open is
// bounded whatever it does with it. Frames for streams before and after that life
// are told apart by the counts in local and remote.
type streamsState struct {
	box      streamMailbox
	isServer bool
	window   uint64 // receive window of a stream in bytes
	flow     connFlow
	local    [numStreamTypes]localStreamLimit
	remote   [numStreamTypes]remoteStreamLimit

	// peerBidiLimit is the initial MAX_STREAM_DATA for streams that the peer opens.
	peerBidiLimit uint64

	early bool // the packet being processed is a 0-RTT packet

	streams map[uint64]*Stream
	all     streamQueue
	control streamQueue
	lost    streamQueue
	fresh   streamQueue
}

func (st *streamsState) init(isServer bool, cfg streamsConfig) {
	st.isServer = isServer
	st.window = cfg.streamWindow
	st.flow.init(cfg.connWindow)
	st.remote[bidiStream].init(cfg.maxBidi)
	st.remote[uniStream].init(cfg.maxUni)
	st.streams = make(map[uint64]*Stream)
	st.all.kind, st.control.kind, st.lost.kind, st.fresh.kind = queueAll, queueControl, queueLost, queueFresh
	st.box.init(isServer, cfg.streamWindow, cfg.wake)
	st.box.awaitCredit(creditDueAt(st.flow.window, st.flow.recvLimit))
}

// setPeerParams takes the peer's initial limits: those of an earlier connection, for
// 0-RTT, or the present ones, which are not lower.
func (st *streamsState) setPeerParams(p *transportParams) {
	st.flow.raiseSendLimit(p.initialMaxData)
	st.peerBidiLimit = p.initialMaxStreamDataBidiLocal
	st.local[bidiStream].max = p.initialMaxStreamsBidi
	st.local[uniStream].max = p.initialMaxStreamsUni
	st.box.setPeerParams(p)
	st.collect() // all that have the limits from before
	s := st.all.head
	for range len(st.streams) {
		next := s.links[queueAll].next
		if s.IsLocal() {
			limit := p.initialMaxStreamDataBidiRemote
			if s.IsUni() {
				limit = p.initialMaxStreamDataUni
			}
			s.mu.Lock()
			s.send.raiseLimit(limit)
			s.mu.Unlock()
			st.refresh(s)
		}
		s = next
	}
}

// restart forgets all streams, which are ours, as if none had ever been opened; they
// fail with err. The limits are zero until setPeerParams.
func (st *streamsState) restart(err error) {
	for _, s := range st.box.restart() {
		s.gone = true
		s.fail(err)
	}
	for s := st.all.head; s != nil; s = st.all.head {
		st.forget(s)
		s.fail(err)
	}
	st.local = [numStreamTypes]localStreamLimit{}
	st.flow.sendLimit, st.flow.sent = 0, 0
	st.flow.blocked.clear()
}

// open creates a stream, waiting until the peer's limit permits it.
func (st *streamsState) open(ctx context.Context, uni bool) (*Stream, error) {
	if uni {
		return st.box.open(ctx, uniStream)
	}
	return st.box.open(ctx, bidiStream)
}

// accept returns the next stream that the peer opened, waiting for one.
func (st *streamsState) accept(ctx context.Context) (*Stream, error) {
	return st.box.accept(ctx)
}

// closeAll ends every stream and every wait with the error of the connection.
func (st *streamsState) closeAll(err error) {
	for _, s := range st.box.fail(err) {
		s.fail(err)
	}
	for s := st.all.head; s != nil; s = st.all.head {
		st.forget(s)
		s.fail(err)
	}
}

// collect takes over what the application did.
func (st *streamsState) collect() {
	if !st.box.news.Load() {
		return
	}
	changed, waiting := st.box.take()
	for _, s := range changed {
		s.posted.Store(false) // before the look at it: what comes later is posted again
		if s.gone {
			continue
		}
		if s.IsLocal() && streamNum(s.id) == st.local[typeOfStream(s.id)].created {
			st.local[typeOfStream(s.id)].created++
			st.add(s)
		}
		st.refresh(s)
	}
	for t := range waiting {
		if l := &st.local[t]; waiting[t] && !l.blocked.isSet() {
			l.blocked.set() // R9000-4.6-6
		}
	}
}

func (st *streamsState) add(s *Stream) {
	st.streams[s.id] = s
	st.all.pushBack(s)
}

// forget removes a stream from the connection; the application may still have it.
func (st *streamsState) forget(s *Stream) {
	s.gone = true
	delete(st.streams, s.id)
	st.all.remove(s)
	st.place(s, streamDue{})
}

// place puts a stream into the lists of what is due.
func (st *streamsState) place(s *Stream, d streamDue) {
	st.control.set(s, d.control)
	st.lost.set(s, d.lost)
	st.fresh.set(s, d.fresh)
}

// refresh looks at what is due for a stream, after anything happened to it.
func (st *streamsState) refresh(s *Stream) {
	s.mu.Lock()
	d := s.due()
	s.mu.Unlock()
	st.settle(s, d)
}

// settle acts on what is due for a stream.
func (st *streamsState) settle(s *Stream, d streamDue) {
	if s.gone {
		return
	}
	if !d.done {
		st.place(s, d)
		return
	}
	st.forget(s)
	if !s.IsLocal() {
		st.remote[typeOfStream(s.id)].close()
	}
}

// openRemote creates the stream id and all before it of its type that do not exist
// yet. R9000-3.2-1
func (st *streamsState) openRemote(id uint64) {
	t := typeOfStream(id)
	sendLimit := uint64(0)
	if t == bidiStream {
		sendLimit = st.peerBidiLimit
	}
	for l := &st.remote[t]; l.opened <= streamNum(id); l.opened++ {
		s := newStream(&st.box, newStreamID(!st.isServer, t, l.opened), st.window, sendLimit)
		st.add(s)
		st.box.deliver(s)
	}
}

// handleFrame takes a frame about streams: STREAM, RESET_STREAM, STOP_SENDING, MAX_DATA,
// MAX_STREAM_DATA, MAX_STREAMS, DATA_BLOCKED, STREAM_DATA_BLOCKED or STREAMS_BLOCKED.
// An error is a *TransportError.
func (st *streamsState) handleFrame(f *wire.Frame) error {
	var err *TransportError
	switch f.Type {
	case wire.FrameTypeStream, wire.FrameTypeResetStream, wire.FrameTypeStreamDataBlocked:
		err = st.handleForReceiver(f)
	case wire.FrameTypeStopSending, wire.FrameTypeMaxStreamData:
		err = st.handleForSender(f)
	case wire.FrameTypeMaxData:
		st.flow.raiseSendLimit(f.Value)
	case wire.FrameTypeMaxStreams:
		st.handleMaxStreams(f)
	case wire.FrameTypeDataBlocked, wire.FrameTypeStreamsBlocked:
		// Credit is extended without being asked for.
	default:
		panic("BUG: not a frame about streams")
	}
	if err != nil {
		err.FrameType = f.WireType
		return err
	}
	return nil
}

// lookup returns the stream of a frame, which it creates if the peer may open it
// now; nil for one that is closed. forReceiver: the frame is for the receiving part.
func (st *streamsState) lookup(id uint64, forReceiver bool) (*Stream, *TransportError) {
	t, isLocal := typeOfStream(id), (id&streamIDServer != 0) == st.isServer
	if t == uniStream && isLocal == forReceiver {
		// R9000-19.4-1 R9000-19.5-2 R9000-19.8-1 R9000-19.10-2 R9000-19.13-1
		return nil, &TransportError{Code: StreamStateError, Reason: "frame for the wrong direction of a stream"}
	}
	switch {
	case isLocal && streamNum(id) >= st.local[t].created: // R9000-19.5-1 R9000-19.8-1 R9000-19.10-1
		return nil, &TransportError{Code: StreamStateError, Reason: "frame for a stream that does not exist"}
	case !isLocal && streamNum(id) >= st.remote[t].advertised: // R9000-4.6-4
		return nil, &TransportError{Code: StreamLimitError, Reason: "too many streams"}
	case !isLocal && streamNum(id) >= st.remote[t].opened:
		st.openRemote(id)
	}
	return st.streams[id], nil
}

// handleForReceiver takes a frame for the receiving part of a stream.
func (st *streamsState) handleForReceiver(f *wire.Frame) *TransportError {
	s, err := st.lookup(f.StreamID, true)
	if s == nil || f.Type == wire.FrameTypeStreamDataBlocked {
		return err
	}
	var grown uint64
	s.mu.Lock()
	if f.Type == wire.FrameTypeStream {
		s.recv.early = s.recv.early || st.early
		grown, err = s.recv.handleData(f.Offset, f.Data, f.Fin, st.flow.recvCredit())
	} else {
		grown, err = s.recv.handleReset(s.id, f.ErrorCode, f.Value, st.flow.recvCredit())
	}
	credit := s.recv.takeCredit()
	d := s.due()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	st.flow.received += grown
	st.box.consumed.Add(credit)
	s.readable.Broadcast()
	st.settle(s, d)
	return nil
}

// handleForSender takes a frame for the sending part of a stream.
func (st *streamsState) handleForSender(f *wire.Frame) *TransportError {
	s, err := st.lookup(f.StreamID, false)
	if s == nil {
		return err
	}
	s.mu.Lock()
	if f.Type == wire.FrameTypeMaxStreamData {
		s.send.raiseLimit(f.Value)
	} else { // R9000-3.5-2 R9000-3.5-3
		s.send.abort(f.ErrorCode, &StreamError{StreamID: s.id, Code: f.ErrorCode, Remote: true})
	}
	d := s.due()
	s.mu.Unlock()
	s.writable.Broadcast()
	st.settle(s, d)
	return nil
}

// handleMaxStreams takes MAX_STREAMS. One that does not raise the limit is ignored.
func (st *streamsState) handleMaxStreams(f *wire.Frame) {
	t := bidiStream
	if f.Uni {
		t = uniStream
	}
	l := &st.local[t]
	if f.Value <= l.max { // R9000-4.6-5
		return
	}
	l.max = f.Value
	if st.box.setLimit(t, l.max) {
		l.blocked.set()
	} else {
		l.blocked.clear()
	}
}

// hasControl reports whether appendControl has something to send.
func (st *streamsState) hasControl() bool {
	st.collect()
	st.flow.updateCredit(st.box.consumed.Load())
	st.flow.updateBlocked(st.fresh.head != nil)
	due := st.control.head != nil || st.flow.max.due() || st.flow.blocked.due()
	for t := range numStreamTypes {
		due = due || st.local[t].blocked.due() || st.remote[t].max.due()
	}
	return due
}

// appendControl appends the control frames that are due, new or lost, as far as
// they fit, and reports whether there was one.
func (st *streamsState) appendControl(w *packetWriter) bool {
	before := len(w.buf)
	st.appendAllControl(w)
	return len(w.buf) > before
}

func (st *streamsState) appendAllControl(w *packetWriter) {
	if !st.hasControl() {
		return
	}
	announced := st.flow.recvLimit
	ok := st.flow.append(w, st.box.consumed.Load())
	if st.flow.recvLimit != announced {
		st.box.awaitCredit(creditDueAt(st.flow.window, st.flow.recvLimit))
	}
	for t := range numStreamTypes {
		ok = ok && st.remote[t].append(w, t) && st.local[t].append(w, t)
	}
	for s := st.control.head; ok && s != nil; s = st.control.head {
		s.mu.Lock()
		ok = s.send.appendControl(w, s.id) && s.recv.appendControl(w, s.id)
		d := s.due()
		s.mu.Unlock()
		st.settle(s, d)
	}
}

// hasData reports whether appendData has something to send.
func (st *streamsState) hasData() bool {
	st.collect()
	return st.dataQueue() != nil
}

// dataQueue is the list of streams whose turn it is to send data: those with lost
// data come first.
func (st *streamsState) dataQueue() *streamQueue {
	switch {
	case st.lost.head != nil:
		return &st.lost
	case st.fresh.head != nil && st.flow.sendCredit() > 0:
		return &st.fresh
	}
	return nil
}

// appendData appends stream data as far as it fits, and reports whether it did. The
// streams take turns from packet to packet.
func (st *streamsState) appendData(w *packetWriter) bool {
	st.collect()
	appended := false
	for q := st.dataQueue(); q != nil; q = st.dataQueue() {
		s := q.head
		s.mu.Lock()
		fresh, added := s.send.appendData(w, s.id, st.flow.sendCredit())
		d := s.due()
		s.mu.Unlock()
		st.flow.sent += fresh
		st.settle(s, d)
		if q.head == s {
			if !added {
				return appended // does not fit
			}
			q.rotate()
		}
		appended = appended || added
	}
	return appended
}

// repeatBlocked has DATA_BLOCKED or STREAM_DATA_BLOCKED sent again, if data waits
// for credit, and reports whether it does. To be called from time to time while
// nothing ack-eliciting is in flight, so that the connection does not idle out
// while it waits. R9000-4.1-6
func (st *streamsState) repeatBlocked() bool {
	st.collect()
	st.flow.updateBlocked(st.fresh.head != nil)
	if st.flow.blocked.isSet() {
		st.flow.blocked.repeat()
		return true
	}
	s := st.all.head
	for range len(st.streams) {
		s.mu.Lock()
		blocked := s.send.blocked.isSet()
		s.send.blocked.repeat()
		s.mu.Unlock()
		if blocked {
			st.refresh(s)
			return true
		}
		s = s.links[queueAll].next
	}
	return false
}

// handleFate takes the fate of a frame that appendControl or appendData appended.
func (st *streamsState) handleFate(r frameRecord, f fate) {
	switch r.kind {
	case recordMaxData:
		st.flow.max.handleFate(r.generation, f)
	case recordDataBlocked:
		st.flow.blocked.handleFate(r.generation, f)
	case recordMaxStreams:
		st.remote[r.a].max.handleFate(r.generation, f)
	case recordStreamsBlocked:
		st.local[r.a].blocked.handleFate(r.generation, f)
	default:
		if s := st.streams[r.id]; s != nil {
			st.handleStreamFate(s, r, f)
		}
	}
}

func (st *streamsState) handleStreamFate(s *Stream, r frameRecord, f fate) {
	s.mu.Lock()
	switch r.kind {
	case recordStream:
		s.send.handleDataFate(r, f)
	case recordResetStream:
		s.send.reset.handleFate(r.generation, f)
	case recordStreamDataBlocked:
		s.send.blocked.handleFate(r.generation, f)
	case recordMaxStreamData:
		s.recv.max.handleFate(r.generation, f)
	case recordStopSending:
		s.recv.stop.handleFate(r.generation, f)
	default:
		panic("BUG: not the record of a frame about streams")
	}
	s.signalRoom()
	d := s.due()
	s.mu.Unlock()
	st.settle(s, d)
}
