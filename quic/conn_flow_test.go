// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func TestSendStaysWithinConnectionLimit(t *testing.T) {
	limits := generousLimits
	limits.initialMaxData = 7
	ts := newStreamsTest(t, false, testStreamsConfig, limits)
	a, b := ts.open(false), ts.open(false)
	a.Write([]byte("aaaaa"))
	b.Write([]byte("bbbbb"))
	a.CloseWrite()
	frames := ts.frames()
	sent := ofType(frames, wire.FrameTypeStream)
	// R9000-4.1-1 R9000-2.2-3
	if len(sent) != 2 || string(sent[0].Data) != "aaaaa" || string(sent[1].Data) != "bb" {
		t.Fatalf("sent %+v", sent)
	}
	if f := ofType(frames, wire.FrameTypeDataBlocked); len(f) != 1 || f[0].Value != 7 { // R9000-4.1-5
		t.Fatalf("blocked frames %+v", f)
	}
	ts.receive(valueFrame(wire.FrameTypeMaxData, 0, 6)) // R9000-4.1-4
	ts.wantNo(wire.FrameTypeStream)
	ts.settle(fateLost)
	frames = ts.frames() // neither lost data nor an end needs credit
	if f := ofType(frames, wire.FrameTypeStream); len(f) != 2 || !f[0].Fin {
		t.Fatalf("sent again %+v", f)
	}
	if f := ofType(frames, wire.FrameTypeDataBlocked); len(f) != 1 || f[0].Value != 7 {
		t.Fatalf("blocked frames after a loss: %+v", f)
	}
	ts.receive(valueFrame(wire.FrameTypeMaxData, 0, 9))
	if f := ts.want(wire.FrameTypeStream); string(f.Data) != "bb" || f.Offset != 2 {
		t.Fatalf("sent %+v", f)
	}
	b.Reset(0)
	ts.frames()
	if ts.st.hasData() || ts.st.flow.sent != 9 {
		t.Errorf("%d bytes counted as sent", ts.st.flow.sent)
	}
}

func TestRepeatBlocked(t *testing.T) {
	for _, limit := range []string{"stream", "connection"} {
		t.Run(limit, func(t *testing.T) {
			limits, typ := generousLimits, wire.FrameTypeStreamDataBlocked
			if limit == "stream" {
				limits.initialMaxStreamDataBidiRemote = 3
			} else {
				limits.initialMaxData, typ = 3, wire.FrameTypeDataBlocked
			}
			ts := newStreamsTest(t, false, testStreamsConfig, limits)
			ts.open(false)
			s := ts.open(false)
			s.Write([]byte("abc"))
			if ts.frames(); ts.st.repeatBlocked() {
				t.Fatal("blocked with nothing to send")
			}
			s.Write([]byte("d"))
			ts.frames()
			for range 3 { // R9000-4.1-6
				ts.settle(fateAcked)
				ts.wantNo(typ)
				if !ts.st.repeatBlocked() {
					t.Fatal("not blocked")
				}
				ts.want(typ)
			}
			ts.receive(valueFrame(wire.FrameTypeMaxData, 0, 100))
			ts.receive(valueFrame(wire.FrameTypeMaxStreamData, s.ID(), 100))
			if ts.st.repeatBlocked() {
				t.Error("still blocked")
			}
		})
	}
}

func TestMaxData(t *testing.T) {
	cfg := testStreamsConfig
	cfg.streamWindow = 3000
	ts := newStreamsTest(t, false, cfg, generousLimits) // 3000 bytes in all
	ts.receive(streamFrame(remote, 0, string(make([]byte, 1000)), false))
	ts.receive(streamFrame(remote+4, 0, string(make([]byte, 1000)), false))
	a, b := ts.accept(), ts.accept()
	a.Read(make([]byte, 1000))
	b.Read(make([]byte, 499))
	woken := ts.woken
	ts.wantNo(wire.FrameTypeMaxData)
	b.Read(make([]byte, 1)) // half of the window by two streams, neither of which is due
	if ts.woken == woken {
		t.Error("the token holder is not woken")
	}
	if f := ts.want(wire.FrameTypeMaxData); f.Value != 4500 { // R9000-4.2-1
		t.Fatalf("limit %d, want 4500", f.Value)
	}
	b.Read(make([]byte, 500))
	ts.settle(fateLost)
	if f := ts.want(wire.FrameTypeMaxData); f.Value != 5000 {
		t.Fatalf("limit sent again %d, want the present one", f.Value)
	}
	ts.receive(resetFrame(remote+8, 0, 3000))
	if f := ts.want(wire.FrameTypeMaxData); f.Value != 8000 {
		t.Fatalf("limit %d, want that a reset gives its bytes back", f.Value)
	}
}

// Every MAX_DATA that falls due wakes the token holder, once, however little of it
// each stream has consumed.
func TestMaxDataWakesEveryTime(t *testing.T) {
	cfg := testStreamsConfig
	cfg.streamWindow = 1 << 20
	ts := newStreamsTest(t, false, cfg, generousLimits) // 3000 bytes in all
	ts.receive(streamFrame(remote, 0, "", false))
	s := ts.accept()
	for round := range uint64(5) {
		woken := ts.woken
		ts.receive(streamFrame(remote, 1500*round, string(make([]byte, 1500)), false))
		for range 15 {
			s.Read(make([]byte, 100))
		}
		if n := ts.woken - woken; n != 1 {
			t.Fatalf("round %d: woken %d times", round, n)
		}
		if f := ts.want(wire.FrameTypeMaxData); f.Value != 4500+1500*round {
			t.Fatalf("round %d: limit %d", round, f.Value)
		}
	}
}

// New credit may be used up before anyone asks for control frames.
func TestDataBlockedForEachLimit(t *testing.T) {
	var c connFlow
	for limit := uint64(5); limit < 8; limit++ {
		c.raiseSendLimit(limit)
		c.sent = limit
		c.updateBlocked(true)
		if !c.blocked.due() {
			t.Fatalf("no DATA_BLOCKED at limit %d", limit)
		}
		c.blocked.sent()
	}
}
