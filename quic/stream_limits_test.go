// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func TestStreamIDs(t *testing.T) {
	for _, test := range []struct {
		isServer, uni bool
		first         uint64
	}{{false, false, 0}, {true, false, 1}, {false, true, 2}, {true, true, 3}} {
		ts := newStreamsTest(t, test.isServer, testStreamsConfig, generousLimits)
		for i := range uint64(3) {
			s := ts.open(test.uni)
			if want := test.first + 4*i; s.ID() != want { // R9000-2.1-1 R9000-2.1-2
				t.Errorf("stream %d has ID %d, want %d", i, s.ID(), want)
			}
			if s.IsUni() != test.uni || !s.IsLocal() {
				t.Errorf("stream %d: uni %v, local %v", s.ID(), s.IsUni(), s.IsLocal())
			}
		}
	}
}

func TestRemoteStreamsOpenInOrder(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote+8, 0, "x", false))
	for _, want := range []uint64{remote, remote + 4, remote + 8} { // R9000-3.2-1
		s := ts.accept()
		if s == nil || s.ID() != want || s.IsLocal() {
			t.Fatalf("accepted %+v, want stream %d", s, want)
		}
	}
	if opened := ts.st.remote[bidiStream].opened; opened != 3 {
		t.Errorf("%d streams count, want 3", opened)
	}
	ts.receive(valueFrame(wire.FrameTypeMaxStreamData, remote+12, 5)) // opens too
	if s := ts.accept(); s == nil || s.ID() != remote+12 {
		t.Errorf("accepted %v", s)
	}
	ts.receive(streamFrame(remote+4, 0, "y", false)) // opened before its first frame
	if s := ts.accept(); s != nil {
		t.Errorf("accepted stream %d again", s.ID())
	}
}

func TestRemoteStreamLimit(t *testing.T) {
	ts := clientTest(t) // ten of each type
	for _, frame := range []wire.Frame{
		streamFrame(remote+40, 0, "x", false),
		resetFrame(remote+40, 0, 0),
		valueFrame(wire.FrameTypeMaxStreamData, remote+40, 9),
		{Type: wire.FrameTypeStopSending, StreamID: remote + 40},
		valueFrame(wire.FrameTypeStreamDataBlocked, remote+40, 9),
		streamFrame(3+40, 0, "x", false),
		streamFrame(wire.MaxVarint, 0, "x", false),
	} {
		ts.reject(frame, StreamLimitError) // R9000-4.6-4
	}
	ts.receive(streamFrame(remote+36, 0, "x", false))
	ts.receive(streamFrame(3+36, 0, "x", false))
}

func TestMaxStreamsIsExtended(t *testing.T) {
	ts := clientTest(t)
	for num := range uint64(40) { // four times what may be open at a time
		id := newStreamID(true, uniStream, num)
		ts.receive(streamFrame(id, 0, "x", true))
		wantRead(t, ts.accept(), "x")
		for _, f := range ofType(ts.frames(), wire.FrameTypeMaxStreams) { // R9000-4.6-7
			if !f.Uni || f.Value > num+1+10 {
				t.Fatalf("after %d streams: %+v", num+1, f)
			}
		}
		if left := ts.st.remote[uniStream].advertised - (num + 1); left < 7 {
			t.Fatalf("the peer has credit for %d more streams", left)
		}
		if num == 20 {
			ts.settle(fateLost)
		}
	}
	if n := len(ts.st.streams); n != 0 {
		t.Errorf("%d streams left", n)
	}
}

// A peer that opens and ends streams cannot have us hold more of them than it may
// open at a time while the application accepts none.
func TestStreamsNotAcceptedAreBounded(t *testing.T) {
	ts := clientTest(t)
	for num := range uint64(10) {
		ts.receive(resetFrame(newStreamID(true, uniStream, num), 0, 0))
	}
	ts.wantNo(wire.FrameTypeMaxStreams)
	ts.reject(resetFrame(newStreamID(true, uniStream, 10), 0, 0), StreamLimitError)
	for range 10 {
		ts.accept()
	}
	if f := ts.want(wire.FrameTypeMaxStreams); f.Value != 20 {
		t.Errorf("limit %d, want 20", f.Value)
	}
}

func TestMaxStreamsAtItsMaximum(t *testing.T) {
	var l remoteStreamLimit
	l.init(100)
	l.closed = wire.MaxStreamCount - 10
	if l.limit() != wire.MaxStreamCount {
		t.Errorf("limit %d", l.limit())
	}
}

func TestMaxStreamsNotRaisedIsIgnored(t *testing.T) {
	ts := clientTest(t)
	ts.receive(wire.Frame{Type: wire.FrameTypeMaxStreams, Value: 5})
	if got := ts.st.local[bidiStream].max; got != 100 { // R9000-4.6-5
		t.Errorf("limit %d, want 100", got)
	}
	ts.receive(wire.Frame{Type: wire.FrameTypeMaxStreams, Value: 200, Uni: true})
	if b, u := ts.st.local[bidiStream].max, ts.st.local[uniStream].max; b != 100 || u != 200 {
		t.Errorf("limits %d and %d", b, u)
	}
}
