// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

// Whatever a frame carries that has to reach the peer must be sent again, however it
// was lost; whatever is bound to a moment or a path must not. RFC 9000 section 13.3,
// RFC 9221 section 5.2, draft-ietf-quic-multipath-21 section 4.

// lossMode is how a packet gets lost.
type lossMode int

const (
	lossByThreshold lossMode = iota // later packets are acknowledged
	lossByPTO                       // nothing is acknowledged any more
	lossByAbandon                   // its path is abandoned: RMP21-3.4.3-2
	lossBySilence                   // its path is silent, another one is not
	numLossModes
)

func (m lossMode) String() string {
	return [...]string{"loss", "PTO", "path abandoned", "path silent"}[m]
}

// ofPath says that the packet's path is lost, too. The packet goes over path 1 then.
func (m lossMode) ofPath() bool { return m >= lossByAbandon }

// singlePath is an option of lossModes: without multipath.
type singlePath struct{}

// lossModes runs f once for each way to lose a packet. In the modes that lose a path,
// path 1 is open and used for everything.
func lossModes(t *testing.T, side testSide, f func(t *testing.T, tc *testConn, mode lossMode), options ...any) {
	t.Helper()
	single := slices.Contains(options, any(singlePath{}))
	options = slices.DeleteFunc(slices.Clone(options), func(o any) bool { return o == any(singlePath{}) })
	if !single {
		options = append([]any{multipathUpTo(2)}, options...)
	}
	for mode := range numLossModes {
		if mode.ofPath() && single {
			continue
		}
		t.Run(mode.String(), func(t *testing.T) {
			established(t, side, func(t *testing.T, tc *testConn) {
				tc.ignore(tPing)
				if mode.ofPath() {
					tc.preferSecondPath()
				}
				f(t, tc, mode)
			}, options...)
		})
	}
}

// preferSecondPath opens path 1 and has it used for everything.
func (tc *testConn) preferSecondPath() {
	tc.t.Helper()
	tc.openPath(1)
	tc.write(frInts(tPathStatusBackup, 0, 100))
	tc.settle()
}

// lose makes the connection find out that a packet did not arrive.
func (tc *testConn) lose(p *peerPacket, mode lossMode) {
	tc.t.Helper()
	tc.fill()
	tc.forget(p)
	if mode.ofPath() && p.path != 1 {
		tc.t.Fatalf("%v is not on path 1", p)
	}
	switch mode {
	case lossByThreshold:
		tc.skip()
		for range packetThreshold {
			tc.sendDatagrams(1)
			tc.wantType("later packet", tDatagram)
		}
		tc.ack()
	case lossByPTO:
		// One probe may have nothing new to say.
		for range 3 {
			tc.waitSent(5 * time.Second)
			if _, _, ok := tc.peekFrame(); ok {
				break
			}
		}
	case lossByAbandon:
		tc.skip()
		tc.ignore(tPathAbandon)
		tc.write(frInts(tPathAbandon, 1, 0))
		tc.advance(4 * tc.core().largestPTO())
	case lossBySilence:
		// The peer answers on path 0 only.
		for range 50 {
			_, p, ok := tc.peekFrame()
			if ok && p.path == 0 {
				break
			}
			if ok { // PTO on the silent path, before that is in doubt
				tc.nextFrame()
				continue
			}
			if len(tc.received[0]) > 0 {
				tc.write(tc.ackFrame(0))
			}
			tc.advance(10 * time.Millisecond)
		}
	}
}

// wantAgain loses a packet and expects a frame to be sent then, on another path if that
// of the packet is lost.
func (tc *testConn) wantAgain(p *peerPacket, mode lossMode, want testFrame) {
	tc.t.Helper()
	tc.lose(p, mode)
	for {
		f, q, ok := tc.nextFrame()
		if !ok {
			tc.t.Fatalf("%v is not sent again", want)
		}
		if f.equal(want) {
			if mode.ofPath() && q.path != 0 {
				tc.t.Errorf("%v again on the path that is lost", q)
			}
			return
		}
		if f.typ == want.typ {
			tc.t.Fatalf("%v is sent again as %v", want, f)
		}
	}
}

// wantNever loses a packet and checks that no frame is sent any more of which bad holds.
func (tc *testConn) wantNever(p *peerPacket, mode lossMode, bad func(testFrame) bool) {
	tc.t.Helper()
	tc.lose(p, mode)
	for range 10 {
		for f, q, ok := tc.nextFrame(); ok; f, q, ok = tc.nextFrame() {
			if bad(f) {
				tc.t.Errorf("%v again in %v", f, q)
			}
		}
		tc.ack()
		tc.advance(100 * time.Millisecond)
	}
}

// again makes a test of send, which has the connection send a frame: that must come
// again, unchanged.
func again(send func(tc *testConn) testFrame) lostFrameFunc {
	return func(tc *testConn, mode lossMode) {
		tc.t.Helper()
		want := send(tc)
		tc.wantAgain(tc.wantFrame("at first", want), mode, want)
	}
}

// never makes a test of send, which has the connection send a frame: that must not come
// again.
func never(send func(tc *testConn) testFrame) lostFrameFunc {
	return func(tc *testConn, mode lossMode) {
		tc.t.Helper()
		sent := send(tc)
		p := tc.wantFrame("at first", sent)
		tc.wantNever(p, mode, sent.equal)
	}
}

type lostFrameFunc func(tc *testConn, mode lossMode)

// A lostFrame is what must happen when frames of a type are lost.
type lostFrame struct {
	typ     uint64
	name    string // of the case
	side    testSide
	f       lostFrameFunc
	options []any
}

// TestLostFrames is RFC 9000 section 13.3 and what the extensions add to it.
func TestLostFrames(t *testing.T) {
	rows := slices.Concat(repeatedFrames, obsoleteFrames, transientFrames)
	have := make(map[uint64]bool)
	for _, row := range rows {
		have[row.typ] = true
		t.Run(frameLayouts[row.typ].name+"/"+row.name, func(t *testing.T) {
			lossModes(t, row.side, func(t *testing.T, tc *testConn, mode lossMode) { row.f(tc, mode) }, row.options...)
		})
	}
	for i := range frameRows {
		typ := frameRows[i].typ
		if typ&^7 == tStream {
			typ = tStream
		}
		if _, elsewhere := lostElsewhere[typ]; !elsewhere && !have[typ] {
			t.Errorf("nothing about the loss of %s", frameRows[i].name())
		}
	}
}

// lostElsewhere names the tests of frames that say nothing when they are lost.
var lostElsewhere = map[uint64]string{
	tPadding:          "TestMTUProbes", // nothing to repeat
	tAckECN:           "TestLostFrames/ACK",
	tPathAckECN:       "TestLostFrames/PATH_ACK",
	tConnectionClose:  "TestCloseIsNotRepeated",
	tApplicationClose: "TestCloseIsNotRepeated",
}

// TestLostHandshakeMessages: CRYPTO frames of the handshake come again, whole, when
// nothing of them is acknowledged.
func TestLostHandshakeMessages(t *testing.T) {
	// messages returns what was sent at a level since the last call; nothing of it has
	// arrived.
	messages := func(tc *testConn, typ peerPacketType) []byte {
		var b []byte
		tc.fill()
		for _, p := range tc.packets {
			for _, f := range p.frames {
				if p.typ != typ || f.typ != tCrypto {
					continue
				}
				if need := int(f.ints[0]) + len(f.blobs[0]) - len(b); need > 0 {
					b = append(b, make([]byte, need)...)
				}
				copy(b[f.ints[0]:], f.blobs[0])
			}
		}
		clear(tc.levels[typ.space()].received)
		return b
	}
	repeated := func(t *testing.T, tc *testConn, types ...peerPacketType) {
		t.Helper()
		first := make(map[peerPacketType][]byte)
		for _, typ := range types {
			if first[typ] = messages(tc, typ); len(first[typ]) == 0 {
				t.Fatalf("no CRYPTO in %v packets", typ)
			}
		}
		tc.skip()
		tc.advance(3 * time.Second)
		for _, typ := range types {
			if got := messages(tc, typ); !bytes.Equal(got, first[typ]) {
				t.Errorf("%v: %d bytes again, %d at first", typ, len(got), len(first[typ]))
			}
		}
		tc.skip()
	}
	long := func(c *Config) { c.HandshakeTimeout = time.Minute }
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		repeated(t, tc, packetInitial)
		tc.writeHandshake()
		repeated(t, tc, packetHandshake)
	}, long)
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.writePackets(tc.flight(packetInitial)...)
		repeated(t, tc, packetInitial, packetHandshake)
	}, long)
}
