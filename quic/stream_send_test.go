// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func TestSendStaysWithinStreamLimit(t *testing.T) {
	limits := generousLimits
	limits.initialMaxStreamDataBidiRemote = 5
	ts := newStreamsTest(t, false, testStreamsConfig, limits)
	s := ts.open(false)
	s.Write([]byte("0123456789"))
	frames := ts.frames()
	// R9000-2.2-3 R9000-4.1-1: exactly the five bytes.
	if f := ofType(frames, wire.FrameTypeStream); len(f) != 1 || string(f[0].Data) != "01234" {
		t.Fatalf("sent %+v", f)
	}
	// R9000-4.1-5
	if f := ofType(frames, wire.FrameTypeStreamDataBlocked); len(f) != 1 || f[0].Value != 5 || f[0].StreamID != s.ID() {
		t.Fatalf("blocked frames %+v", f)
	}
	// R9000-4.1-4
	ts.receive(valueFrame(wire.FrameTypeMaxStreamData, s.ID(), 4))
	if s.send.limit != 5 {
		t.Fatalf("limit lowered to %d", s.send.limit)
	}
	ts.wantNo(wire.FrameTypeStream)
	// Retransmission needs no credit.
	ts.settle(fateLost)
	if f := ts.want(wire.FrameTypeStream); string(f.Data) != "01234" || f.Offset != 0 {
		t.Fatalf("sent again %+v", f)
	}
	ts.receive(valueFrame(wire.FrameTypeMaxStreamData, s.ID(), 8))
	frames = ts.frames()
	if f := ofType(frames, wire.FrameTypeStream); len(f) != 1 || string(f[0].Data) != "567" || f[0].Offset != 5 {
		t.Fatalf("sent %+v", f)
	}
	if f := ofType(frames, wire.FrameTypeStreamDataBlocked); len(f) != 1 || f[0].Value != 8 {
		t.Fatalf("blocked frames %+v", f)
	}
	ts.receive(valueFrame(wire.FrameTypeMaxStreamData, s.ID(), 100))
	ts.settle(fateLost)
	ts.wantNo(wire.FrameTypeStreamDataBlocked) // not blocked any more: not repeated
}

func TestSendFinalSize(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(false)
	s.Write([]byte("abc"))
	ts.frames()
	s.CloseWrite()
	if f := ts.want(wire.FrameTypeStream); !f.Fin || f.Offset != 3 || len(f.Data) != 0 {
		t.Fatalf("end of stream: %+v", f)
	}
	// R9000-4.5-2: nothing can be written behind the end.
	if _, err := s.Write([]byte("d")); !errors.Is(err, errWriteClosed) {
		t.Errorf("Write after CloseWrite: %v", err)
	}
	ts.wantNo(wire.FrameTypeStream)
	ts.settle(fateLost)
	f := ts.want(wire.FrameTypeStream)
	if string(f.Data) != "abc" || !f.Fin {
		t.Errorf("data and end sent again: %+v", f)
	}
}

func TestSendEmptyStream(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(true)
	s.CloseWrite()
	if f := ts.want(wire.FrameTypeStream); !f.Fin || f.Offset != 0 || len(f.Data) != 0 {
		t.Fatalf("sent %+v", f)
	}
	ts.settle(fateAcked)
	ts.frames()
	if len(ts.st.streams) != 0 {
		t.Error("stream still there after its end is acknowledged")
	}
}

func TestSendResetEndsTransmission(t *testing.T) {
	limits := generousLimits
	limits.initialMaxStreamDataBidiRemote = 5
	ts := newStreamsTest(t, false, testStreamsConfig, limits)
	s := ts.open(false)
	s.Write([]byte("0123456789"))
	ts.frames()
	s.Reset(77)
	f := ts.want(wire.FrameTypeResetStream)
	if f.ErrorCode != 77 || f.Value != 5 {
		t.Fatalf("reset %+v, want the code and the size sent so far", f)
	}
	if n := s.send.buf.pipe.chunksHeld(); n != 0 {
		t.Errorf("%d chunks held after the reset", n)
	}
	// R9000-3.3-1: neither lost data nor new data nor a blocked signal follows.
	ts.settle(fateLost)
	ts.receive(valueFrame(wire.FrameTypeMaxStreamData, s.ID(), 7))
	s.Reset(78)
	s.CloseWrite()
	frames := ts.frames()
	if len(frames) != 1 || frames[0].Type != wire.FrameTypeResetStream {
		t.Fatalf("sent after the reset: %+v", frames)
	}
	// R9000-13.3-1
	if frames[0].ErrorCode != 77 || frames[0].Value != 5 {
		t.Errorf("reset differs when repeated: %+v", frames[0])
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("Write after Reset succeeds")
	}
	if ts.settle(fateAcked); !s.send.done() {
		t.Error("not done after the reset is acknowledged")
	}
}

// The application may reset a stream after the token holder found that it had data.
func TestSendNothingAfterReset(t *testing.T) {
	var p sendPart
	p.limit = 100
	p.buf.write([]byte("abc"))
	p.closeWrite()
	p.abort(1, errTest)
	var w packetWriter
	w.reset(make([]byte, 0, 100), 100)
	if _, added := p.appendData(&w, 0, 100); added { // R9000-3.3-1
		t.Error("STREAM frame after the reset")
	}
}

func TestSendResetInDataSent(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(false)
	s.Write([]byte("abc"))
	s.CloseWrite()
	ts.frames()
	s.Reset(1)
	if f := ts.want(wire.FrameTypeResetStream); f.Value != 3 {
		t.Errorf("final size %d differs from that of the FIN bit", f.Value)
	}
}

// The end was acknowledged, but not what is before it: without RESET_STREAM the peer
// would wait for that for ever.
func TestSendResetAfterFinIsAcked(t *testing.T) {
	for _, stop := range []bool{false, true} {
		ts := clientTest(t)
		s := ts.open(true)
		s.Write([]byte("abc"))
		data := ts.packet(testPacketSize).recs
		s.CloseWrite()
		ts.st.handleFate(ts.packet(testPacketSize).recs[0], fateAcked)
		if stop { // R9000-3.5-4
			ts.receive(wire.Frame{Type: wire.FrameTypeStopSending, StreamID: s.ID(), ErrorCode: 7})
		} else {
			s.Reset(7)
		}
		reset := ts.packet(testPacketSize)
		if f := ofType(reset.frames, wire.FrameTypeResetStream); len(f) != 1 || f[0].ErrorCode != 7 || f[0].Value != 3 {
			t.Fatalf("stopped %v: sent %+v, want RESET_STREAM", stop, reset.frames)
		}
		ts.st.handleFate(data[0], fateAcked) // late: does not tell that the peer knows the reset
		if s.send.done() {
			t.Errorf("stopped %v: done before the reset is acknowledged", stop)
		}
		ts.st.handleFate(reset.recs[0], fateAcked)
		if !s.gone {
			t.Errorf("stopped %v: not done after the reset is acknowledged", stop)
		}
	}
}

func TestSendResetAfterAllAcked(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(false)
	s.CloseWrite()
	ts.frames()
	ts.settle(fateAcked)
	s.Reset(1)
	ts.wantNo(wire.FrameTypeResetStream) // Data Recvd is terminal
}

func TestStopSendingIsAnsweredWithReset(t *testing.T) {
	for _, state := range []string{"Ready", "Send", "Data Sent"} {
		t.Run(state, func(t *testing.T) {
			ts := clientTest(t)
			s := ts.opened(false)
			size := uint64(0)
			if state != "Ready" {
				s.Write([]byte("abc"))
				size = 3
			}
			if state == "Data Sent" {
				s.CloseWrite()
			}
			ts.frames()
			ts.receive(wire.Frame{Type: wire.FrameTypeStopSending, StreamID: s.ID(), ErrorCode: 42})
			// R9000-3.5-2, and R9000-3.5-3: with the code of the request.
			if f := ts.want(wire.FrameTypeResetStream); f.ErrorCode != 42 || f.Value != size {
				t.Fatalf("reset %+v", f)
			}
			_, err := s.Write([]byte("x"))
			if se, ok := errors.AsType[*StreamError](err); !ok || se.Code != 42 || !se.Remote {
				t.Errorf("Write: %v", err)
			}
			ts.settle(fateLost)
			frames := ts.frames() // R9000-3.5-4
			if len(frames) != 1 || frames[0].Type != wire.FrameTypeResetStream {
				t.Errorf("sent after the loss: %+v", frames)
			}
		})
	}
}

func TestSendFramesForTheWrongStream(t *testing.T) {
	ts := clientTest(t)
	const notOpened, receiveOnly = 0, 3
	stop := func(id uint64) wire.Frame { return wire.Frame{Type: wire.FrameTypeStopSending, StreamID: id} }
	ts.reject(stop(notOpened), StreamStateError)                                             // R9000-19.5-1
	ts.reject(stop(receiveOnly), StreamStateError)                                           // R9000-19.5-2
	ts.reject(valueFrame(wire.FrameTypeMaxStreamData, notOpened, 9), StreamStateError)       // R9000-19.10-1
	ts.reject(valueFrame(wire.FrameTypeMaxStreamData, receiveOnly, 1<<20), StreamStateError) // R9000-19.10-2
}

func TestSendIgnoresFramesForClosedStreams(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(true)
	s.CloseWrite()
	ts.frames()
	ts.settle(fateAcked)
	ts.receive(valueFrame(wire.FrameTypeMaxStreamData, s.ID(), 1<<30))
	ts.receive(wire.Frame{Type: wire.FrameTypeStopSending, StreamID: s.ID()})
	if frames := ts.frames(); len(frames) > 0 {
		t.Errorf("sent %+v", frames)
	}
}

func TestSendDataLostAfterFinIsAcked(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(true)
	s.Write([]byte("abc"))
	data := ts.packet(testPacketSize).recs
	s.CloseWrite()
	fin := ts.packet(testPacketSize).recs
	ts.st.handleFate(fin[0], fateAcked)
	ts.st.handleFate(data[0], fateLost)
	if f := ts.want(wire.FrameTypeStream); string(f.Data) != "abc" {
		t.Fatalf("sent again %+v", f)
	}
	ts.st.handleFate(data[0], fateAcked) // late
	if !s.send.done() {
		t.Error("everything is acknowledged, yet the stream is not done")
	}
}

func TestSendFinLostWithPartOfTheData(t *testing.T) {
	ts := clientTest(t)
	s := ts.open(true)
	s.Write(patternBytes(2, 0, 3000))
	s.CloseWrite()
	ts.frames()
	last := ts.sent[len(ts.sent)-1]
	ts.settle(fateLost)
	ts.frames()
	resent := ts.sent
	ts.sent = nil
	// The original of the end arrived after all, then the rest.
	for _, r := range last.recs {
		ts.st.handleFate(r, fateAcked)
	}
	if !s.send.fin.isReceived() {
		t.Fatal("late acknowledgment of the FIN bit ignored")
	}
	for _, p := range resent[:2] {
		for _, r := range p.recs {
			ts.st.handleFate(r, fateAcked)
		}
	}
	if !s.send.done() {
		t.Error("everything is acknowledged, yet the stream is not done")
	}
}
