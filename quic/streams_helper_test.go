// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// A streamsTest drives the streams of one endpoint without a connection: it plays
// the token holder and the peer. One goroutine only, except where a test says so.
type streamsTest struct {
	t     *testing.T
	st    streamsState
	woken int
	sent  []testPacket
}

// A testPacket is a packet of stream frames: what the peer sees, and what the loss
// recovery is told to remember.
type testPacket struct {
	frames []wire.Frame
	recs   []frameRecord
}

const testPacketSize = 1200

// generousLimits are transport parameters of a peer under which nothing blocks.
var generousLimits = transportParams{
	initialMaxData:                 1 << 40,
	initialMaxStreamDataBidiLocal:  1 << 40,
	initialMaxStreamDataBidiRemote: 1 << 40,
	initialMaxStreamDataUni:        1 << 40,
	initialMaxStreamsBidi:          100,
	initialMaxStreamsUni:           100,
}

var testStreamsConfig = streamsConfig{maxBidi: 10, maxUni: 10, streamWindow: 1000, connWindow: 3000}

func newStreamsTest(t *testing.T, isServer bool, cfg streamsConfig, peer transportParams) *streamsTest {
	ts := &streamsTest{t: t}
	cfg.wake = func() { ts.woken++ }
	ts.st.init(isServer, cfg)
	ts.st.setPeerParams(&peer)
	return ts
}

// clientTest is a client with small windows and a generous server.
func clientTest(t *testing.T) *streamsTest {
	return newStreamsTest(t, false, testStreamsConfig, generousLimits)
}

func (ts *streamsTest) open(uni bool) *Stream {
	ts.t.Helper()
	s, err := ts.st.open(context.Background(), uni)
	if err != nil {
		ts.t.Fatal(err)
	}
	return s
}

// opened is open, and the token holder knows of the stream.
func (ts *streamsTest) opened(uni bool) *Stream {
	ts.t.Helper()
	s := ts.open(uni)
	ts.st.hasControl()
	return s
}

// accept returns the next stream of the peer, nil if there is none.
func (ts *streamsTest) accept() *Stream {
	ts.st.box.mu.Lock()
	none := len(ts.st.box.incoming) == 0
	ts.st.box.mu.Unlock()
	if none {
		return nil
	}
	s, err := ts.st.accept(context.Background())
	if err != nil {
		ts.t.Fatal(err)
	}
	return s
}

// packet builds the next packet; it has no frames when nothing is due.
func (ts *streamsTest) packet(size int) testPacket {
	ts.t.Helper()
	var w packetWriter
	w.reset(make([]byte, 0, size), size)
	hadControl, hadData := ts.st.hasControl(), ts.st.hasData()
	control := ts.st.appendControl(&w)
	data := ts.st.appendData(&w)
	if size == testPacketSize && (control != hadControl || data && !hadData) {
		ts.t.Fatalf("hasControl %v, appended %v; hasData %v, appended %v", hadControl, control, hadData, data)
	}
	if len(w.buf) > size {
		ts.t.Fatalf("packet of %d bytes, limit %d", len(w.buf), size)
	}
	p := testPacket{frames: parseFrames(ts.t, w.buf), recs: slices.Clone(w.recs)}
	if len(p.frames) > 0 {
		ts.sent = append(ts.sent, p)
	}
	return p
}

// frames builds packets until nothing is due, and returns their frames.
func (ts *streamsTest) frames() (all []wire.Frame) {
	ts.t.Helper()
	for {
		p := ts.packet(testPacketSize)
		if len(p.frames) == 0 {
			return all
		}
		all = append(all, p.frames...)
	}
}

func parseFrames(t *testing.T, b []byte) (frames []wire.Frame) {
	t.Helper()
	for len(b) > 0 {
		var f wire.Frame
		n, err := f.Parse(b, &wire.Draft21)
		if err != wire.ParseOK {
			t.Fatalf("frame %x: %v", b, err)
		}
		frames = append(frames, f)
		b = b[n:]
	}
	return frames
}

// settle reports the fate of all packets sent so far, in order.
func (ts *streamsTest) settle(f fate) {
	sent := ts.sent
	ts.sent = nil
	for _, p := range sent {
		for _, r := range p.recs {
			ts.st.handleFate(r, f)
		}
	}
}

// want checks that exactly one frame of type typ is due to be sent, and returns it.
func (ts *streamsTest) want(typ wire.FrameType) wire.Frame {
	ts.t.Helper()
	found := ofType(ts.frames(), typ)
	if len(found) != 1 {
		ts.t.Fatalf("sent %d %v frames, want 1", len(found), typ)
	}
	return found[0]
}

// wantNo checks that no frame of type typ is due to be sent.
func (ts *streamsTest) wantNo(typ wire.FrameType) {
	ts.t.Helper()
	if found := ofType(ts.frames(), typ); len(found) > 0 {
		ts.t.Fatalf("sent %v: %+v", typ, found[0])
	}
}

func ofType(frames []wire.Frame, typ wire.FrameType) []wire.Frame {
	return slices.DeleteFunc(slices.Clone(frames), func(f wire.Frame) bool { return f.Type != typ })
}

// receive hands a frame of the peer in.
func (ts *streamsTest) receive(f wire.Frame) {
	ts.t.Helper()
	if err := ts.st.handleFrame(&f); err != nil {
		ts.t.Fatalf("%v: %v", f.Type, err)
	}
}

// reject hands a frame of the peer in that is an error.
func (ts *streamsTest) reject(f wire.Frame, code TransportErrorCode) {
	ts.t.Helper()
	f.WireType = uint64(f.Type)
	err := ts.st.handleFrame(&f)
	te, ok := errors.AsType[*TransportError](err)
	if !ok || te.Code != code || te.FrameType != f.WireType {
		ts.t.Fatalf("%v: error %v, want %v for frame type %#x", f.Type, err, code, f.WireType)
	}
}

func streamFrame(id, off uint64, data string, fin bool) wire.Frame {
	return wire.Frame{Type: wire.FrameTypeStream, StreamID: id, Offset: off, Data: []byte(data), Fin: fin}
}

func resetFrame(id, code, size uint64) wire.Frame {
	return wire.Frame{Type: wire.FrameTypeResetStream, StreamID: id, ErrorCode: code, Value: size}
}

func valueFrame(typ wire.FrameType, id, v uint64) wire.Frame {
	return wire.Frame{Type: typ, StreamID: id, Value: v}
}

// pattern is the byte of a test stream at an offset.
func pattern(id, off uint64) byte { return byte(id*31 + off*7 + off>>8*3 + off>>16) }

func patternBytes(id, off uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = pattern(id, off+uint64(i))
	}
	return b
}

func checkPattern(t *testing.T, id, off uint64, b []byte) {
	t.Helper()
	for i, c := range b {
		if c != pattern(id, off+uint64(i)) {
			t.Fatalf("stream %d: wrong byte at %d", id, off+uint64(i))
		}
	}
}
