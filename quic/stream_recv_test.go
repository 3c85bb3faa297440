// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"io"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// remote is the first bidirectional stream of the server, seen by a client.
const remote = 1

func wantRead(t *testing.T, s *Stream, want string) {
	t.Helper()
	b := make([]byte, 100)
	n, err := s.Read(b)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("Read: %q, %v; want %q", b[:n], err, want)
	}
}

func TestReceiveInOrder(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 4, "efgh", true))
	s := ts.accept()
	ts.receive(streamFrame(remote, 2, "cdef", false))
	ts.receive(streamFrame(remote, 4, "efgh", true))
	ts.receive(streamFrame(remote, 0, "abc", false))
	wantRead(t, s, "abcdefgh") // R9000-2.2-1
	ts.receive(streamFrame(remote, 0, "abcdefgh", true))
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read at the end: %d, %v", n, err)
	}
}

func TestReceiveStreamLimit(t *testing.T) {
	ts := clientTest(t) // 1000 bytes a stream
	ts.receive(streamFrame(remote, 999, "x", false))
	ts.reject(streamFrame(remote, 1000, "x", false), FlowControlError)           // R9000-4.1-2
	ts.reject(streamFrame(remote, 990, "0123456789x", false), FlowControlError)  // R9000-4.1-2
	ts.reject(resetFrame(remote, 0, 1001), FlowControlError)                     // R9000-4.1-2
	ts.reject(streamFrame(remote, wire.MaxVarint, "x", false), FlowControlError) // R9000-19.8-2
	ts.receive(streamFrame(remote+4, 1000, "", false))                           // nothing beyond the limit
	ts.reject(streamFrame(remote+4, 1001, "", false), FlowControlError)          // claims the byte before it
}

func TestReceiveConnectionLimit(t *testing.T) {
	ts := clientTest(t) // 3000 bytes in all
	for i := range uint64(3) {
		ts.receive(streamFrame(remote+4*i, 999, "x", false))
	}
	ts.reject(streamFrame(remote+12, 0, "x", false), FlowControlError) // R9000-4.1-3
	ts.reject(resetFrame(remote+12, 0, 1), FlowControlError)           // R9000-4.5-1
	ts.receive(streamFrame(remote, 0, "x", false))                     // counted already
}

func TestReceiveTerminatedStreamsCount(t *testing.T) {
	ts := clientTest(t)
	for i := range uint64(2) { // terminated, and not read by the application
		ts.receive(streamFrame(remote+4*i, 998, "xy", true))
	}
	ts.receive(resetFrame(3, 0, 900))
	ts.accept()
	if credit := ts.st.flow.recvCredit(); credit != 100 { // R9000-4.5-1
		t.Fatalf("%d bytes of credit left, want 100", credit)
	}
	ts.reject(resetFrame(7, 0, 101), FlowControlError) // R9000-19.9-1
}

func TestReceiveFinalSize(t *testing.T) {
	tests := []struct {
		name          string
		before, frame wire.Frame
		ok            bool
	}{
		{"same", streamFrame(remote, 5, "", true), streamFrame(remote, 3, "de", true), true},
		{"same by reset", streamFrame(remote, 5, "", true), resetFrame(remote, 0, 5), true},
		{"smaller", streamFrame(remote, 5, "", true), streamFrame(remote, 4, "", true), false},
		{"larger", streamFrame(remote, 5, "", true), streamFrame(remote, 6, "", true), false},
		{"below data", streamFrame(remote, 0, "abcde", false), streamFrame(remote, 4, "", true), false},
		{"reset below data", streamFrame(remote, 0, "abcde", false), resetFrame(remote, 0, 4), false},
		{"reset smaller", streamFrame(remote, 5, "", true), resetFrame(remote, 0, 4), false},
		{"reset larger", streamFrame(remote, 5, "", true), resetFrame(remote, 0, 6), false},
		{"second reset", resetFrame(remote, 0, 5), resetFrame(remote, 0, 6), false},
		{"fin after reset", resetFrame(remote, 0, 5), streamFrame(remote, 4, "", true), false},
		{"data beyond", streamFrame(remote, 5, "", true), streamFrame(remote, 5, "f", false), false},            // R9000-4.5-4
		{"data across", streamFrame(remote, 5, "", true), streamFrame(remote, 0, "abcdef", false), false},       // R9000-4.5-4
		{"data beyond reset", resetFrame(remote, 0, 5), streamFrame(remote, 0, "abcdef", false), false},         // R9000-4.5-4
		{"data within reset", resetFrame(remote, 0, 5), streamFrame(remote, 0, "abcde", false), true},           // late
		{"reset without fin", streamFrame(remote, 0, "abcde", false), resetFrame(remote, 0, 5), true},           //
		{"reset beyond data", streamFrame(remote, 0, "abcde", false), resetFrame(remote, 0, 9), true},           //
		{"data below the end", streamFrame(remote, 5, "", true), streamFrame(remote, 1, "bc", false), true},     //
		{"fin behind data", streamFrame(remote, 0, "abcde", false), streamFrame(remote, 5, "", true), true},     //
		{"fin with the data", streamFrame(remote, 0, "abc", false), streamFrame(remote, 0, "abcd", true), true}, //
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ts := clientTest(t)
			ts.receive(test.before)
			if test.ok {
				ts.receive(test.frame)
			} else { // R9000-4.5-3
				ts.reject(test.frame, FinalSizeError)
			}
		})
	}
}

func TestReceiveReset(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, "abc", false))
	s := ts.accept()
	ts.receive(resetFrame(remote, 9, 500))
	_, err := s.Read(make([]byte, 10))
	if se, ok := errors.AsType[*StreamError](err); !ok || se.Code != 9 || !se.Remote || se.StreamID != remote {
		t.Errorf("Read: %v", err)
	}
	if n := s.recv.buf.pipe.chunksHeld(); n != 0 {
		t.Errorf("%d chunks held after the reset", n)
	}
	if got := ts.st.box.consumed.Load(); got != 500 {
		t.Errorf("%d bytes given back to flow control, want the final size", got)
	}
	s.StopSending(1)
	ts.wantNo(wire.FrameTypeStopSending)
	if _, err := s.Write([]byte("x")); err != nil {
		t.Errorf("a reset ended the other direction: %v", err)
	}
}

// Without the FIN bit the data may look complete: a reset is not a clean end.
func TestReceiveResetAtTheEndOfTheData(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, "abc", false))
	s := ts.accept()
	wantRead(t, s, "abc")
	ts.receive(resetFrame(remote, 9, 3))
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read: %v, want the reset", err)
	}
}

func TestReceiveResetAfterAllData(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, "abc", true))
	s := ts.accept()
	ts.receive(resetFrame(remote, 9, 3))
	wantRead(t, s, "abc")
}

func TestStopSending(t *testing.T) {
	for _, state := range []string{"Recv", "Size Known"} {
		t.Run(state, func(t *testing.T) {
			ts := clientTest(t)
			ts.receive(streamFrame(remote, 100, "abc", state == "Size Known"))
			s := ts.accept()
			s.StopSending(5)
			for range 2 { // R9000-3.5-1: until acknowledged
				if f := ts.want(wire.FrameTypeStopSending); f.ErrorCode != 5 || f.StreamID != remote {
					t.Fatalf("sent %+v", f)
				}
				ts.settle(fateLost)
			}
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, errReadClosed) {
				t.Errorf("Read: %v", err)
			}
		})
	}
}

func TestStopSendingIsNotSentWhenNothingIsLeftToStop(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, "abc", true))
	ts.accept().StopSending(5)
	ts.receive(resetFrame(remote+4, 0, 3))
	ts.accept().StopSending(5)
	ts.receive(streamFrame(remote+8, 0, "abc", false))
	s := ts.accept()
	s.StopSending(5)
	ts.frames()
	ts.receive(resetFrame(remote+8, 0, 3))
	ts.settle(fateLost)
	ts.wantNo(wire.FrameTypeStopSending)
}

// Data for a stream that the application stopped is dropped, and counted: the
// connection's credit comes back, the stream's does not.
func TestStopSendingDropsAndCounts(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, string(make([]byte, 600)), false))
	s := ts.accept()
	s.StopSending(5)
	ts.receive(streamFrame(remote, 600, "def", false))
	ts.receive(streamFrame(remote, 990, "0123456789", false))
	if got := ts.st.box.consumed.Load(); got != 1000 {
		t.Errorf("%d bytes given back, want 1000", got)
	}
	if n := s.recv.buf.pipe.chunksHeld(); n != 0 {
		t.Errorf("%d chunks held", n)
	}
	ts.reject(streamFrame(remote, 1000, "x", false), FlowControlError)
	ts.wantNo(wire.FrameTypeMaxStreamData)
	s.CloseWrite()
	ts.frames()
	ts.settle(fateAcked)
	if len(ts.st.streams) != 1 {
		t.Fatal("forgotten before its final size is known")
	}
	ts.receive(resetFrame(remote, 5, 1000))
	if len(ts.st.streams) != 0 {
		t.Error("not forgotten")
	}
}

func TestMaxStreamData(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, string(make([]byte, 1000)), false))
	s := ts.accept()
	ts.wantNo(wire.FrameTypeMaxStreamData)
	s.Read(make([]byte, 499))
	ts.wantNo(wire.FrameTypeMaxStreamData) // not for every byte
	s.Read(make([]byte, 1))
	if f := ts.want(wire.FrameTypeMaxStreamData); f.Value != 1500 { // R9000-4.2-1
		t.Fatalf("limit %d, want 1500", f.Value)
	}
	s.Read(make([]byte, 100))
	ts.settle(fateLost)
	if f := ts.want(wire.FrameTypeMaxStreamData); f.Value != 1600 {
		t.Fatalf("limit sent again %d, want the present one", f.Value)
	}
	ts.receive(streamFrame(remote, 1599, "x", false))
	ts.reject(streamFrame(remote, 1600, "x", false), FlowControlError)
	ts.receive(streamFrame(remote, 1000, string(make([]byte, 599)), false))
	ts.receive(streamFrame(remote, 1600, "", true))
	ts.settle(fateLost)
	s.Read(make([]byte, 1000-1))
	ts.wantNo(wire.FrameTypeMaxStreamData) // the final size is known
}

func TestReceiveFramesForTheWrongStream(t *testing.T) {
	ts := clientTest(t)
	const notOpened = 0
	sendOnly := ts.opened(true).ID()
	ts.reject(resetFrame(sendOnly, 0, 0), StreamStateError)                                 // R9000-19.4-1
	ts.reject(streamFrame(sendOnly, 0, "x", false), StreamStateError)                       // R9000-19.8-1
	ts.reject(streamFrame(notOpened, 0, "x", false), StreamStateError)                      // R9000-19.8-1
	ts.reject(resetFrame(notOpened, 0, 0), StreamStateError)                                //
	ts.reject(valueFrame(wire.FrameTypeStreamDataBlocked, sendOnly, 0), StreamStateError)   // R9000-19.13-1
	ts.reject(valueFrame(wire.FrameTypeStreamDataBlocked, sendOnly+4, 0), StreamStateError) // R9000-19.13-1
	ts.receive(valueFrame(wire.FrameTypeStreamDataBlocked, remote, 0))                      // opens the stream
	ts.receive(valueFrame(wire.FrameTypeDataBlocked, 0, 0))                                 //
	ts.receive(wire.Frame{Type: wire.FrameTypeStreamsBlocked, Value: 10})                   //
	if s := ts.accept(); s == nil || s.ID() != remote {
		t.Errorf("accepted %v", s)
	}
}

func TestReceiveTooManyGaps(t *testing.T) {
	cfg := testStreamsConfig
	cfg.streamWindow, cfg.connWindow = 1<<20, 1<<20
	ts := newStreamsTest(t, false, cfg, generousLimits)
	for i := range uint64(maxReceiveGaps) {
		ts.receive(streamFrame(remote, 2*i+1, "x", false))
	}
	ts.reject(streamFrame(remote, 1<<19, "x", false), InternalError)
}
