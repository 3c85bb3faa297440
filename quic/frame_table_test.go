// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// Tables that go through every frame type there is.

// A frameRow is a frame type as it is on the wire. The rows are RFC 9000 table 3, RFC
// 9221 section 4 and draft-ietf-quic-multipath-21 section 4, written down once more.
type frameRow struct {
	typ        uint64
	in         string // packet types: Initial, Handshake, 0-RTT, 1-RTT
	fromServer bool   // clients must not send it
	// example is one that does no harm to an established connection, except that it may
	// close it. bidi and uni are streams of the peer that were not used yet.
	example func(tc *testConn, bidi, uni uint64) testFrame
}

// name tells the types of one frame apart.
func (r *frameRow) name() string {
	switch {
	case r.typ&^7 == tStream:
		return fmt.Sprintf("STREAM 0x%02x", r.typ)
	case r.typ == tPadding:
		return "PADDING"
	}
	return frameLayouts[r.typ].name
}

// closes says that the frame ends the connection.
func (r *frameRow) closes() bool { return r.typ == tConnectionClose || r.typ == tApplicationClose }

// ints is an example that consists of integers.
func ints(typ uint64, v ...uint64) func(*testConn, uint64, uint64) testFrame {
	return func(*testConn, uint64, uint64) testFrame { return frInts(typ, v...) }
}

// streamExample is a STREAM frame of type 0x08 with these flags, and data to the end of
// the packet if it has no length.
func streamExample(flags byte) func(*testConn, uint64, uint64) testFrame {
	return func(_ *testConn, bidi, _ uint64) testFrame {
		b := appendInt([]byte{tStream | flags}, bidi)
		if flags&4 != 0 {
			b = append(b, 0)
		}
		if flags&2 != 0 {
			b = append(b, 3)
		}
		return frRaw(append(b, "abc"...)...)
	}
}

var frameRows = []frameRow{
	{tPadding, "IH01", false, ints(tPadding, 3)},
	{tPing, "IH01", false, ints(tPing)},
	{tAck, "IH_1", false, ints(tAck, 0, 0, 0, 0)},
	{tAckECN, "IH_1", false, ints(tAckECN, 0, 0, 0, 0, 0, 0, 0)},
	{tResetStream, "__01", false, func(_ *testConn, _, uni uint64) testFrame { return frInts(tResetStream, uni, 7, 0) }},
	{tStopSending, "__01", false, func(_ *testConn, bidi, _ uint64) testFrame { return frInts(tStopSending, bidi, 7) }},
	{tCrypto, "IH_1", false, func(*testConn, uint64, uint64) testFrame { return frCrypto(0, nil) }},
	{tNewToken, "___1", true, func(*testConn, uint64, uint64) testFrame { return frNewToken("token") }},
	{0x08, "__01", false, streamExample(0)},
	{0x09, "__01", false, streamExample(1)},
	{0x0a, "__01", false, streamExample(2)},
	{0x0b, "__01", false, streamExample(3)},
	{0x0c, "__01", false, streamExample(4)},
	{0x0d, "__01", false, streamExample(5)},
	{0x0e, "__01", false, streamExample(6)},
	{0x0f, "__01", false, streamExample(7)},
	{tMaxData, "__01", false, ints(tMaxData, 1)},
	{tMaxStreamData, "__01", false, func(_ *testConn, bidi, _ uint64) testFrame { return frInts(tMaxStreamData, bidi, 1) }},
	{tMaxStreamsBidi, "__01", false, ints(tMaxStreamsBidi, 1)},
	{tMaxStreamsUni, "__01", false, ints(tMaxStreamsUni, 1)},
	{tDataBlocked, "__01", false, ints(tDataBlocked, 1)},
	{tStreamDataBlocked, "__01", false, func(_ *testConn, _, uni uint64) testFrame { return frInts(tStreamDataBlocked, uni, 1) }},
	{tStreamsBlockedBidi, "__01", false, ints(tStreamsBlockedBidi, 1)},
	{tStreamsBlockedUni, "__01", false, ints(tStreamsBlockedUni, 1)},
	{tNewConnectionID, "__01", false, func(*testConn, uint64, uint64) testFrame {
		return frNewConnectionID(1, 0, peerCID(0, 1), peerToken(0, 1))
	}},
	{tRetireConnectionID, "__01", false, ints(tRetireConnectionID, 1)},
	{tPathChallenge, "__01", false, func(*testConn, uint64, uint64) testFrame { return frPathChallenge("01234567") }},
	{tPathResponse, "___1", false, func(*testConn, uint64, uint64) testFrame { return frPathResponse([]byte("01234567")) }},
	{tConnectionClose, "IH01", false, func(*testConn, uint64, uint64) testFrame { return frConnectionClose(0, 0, "") }},
	{tApplicationClose, "__01", false, func(*testConn, uint64, uint64) testFrame { return frApplicationClose(0, "") }},
	{tHandshakeDone, "___1", true, ints(tHandshakeDone)},
	{tDatagram, "__01", false, func(*testConn, uint64, uint64) testFrame { return frRaw(append([]byte{tDatagram}, "abc"...)...) }},
	{tDatagramLen, "__01", false, func(*testConn, uint64, uint64) testFrame { return frDatagram("abc") }},

	{tPathAck, "___1", false, ints(tPathAck, 0, 0, 0, 0, 0)},
	{tPathAckECN, "___1", false, ints(tPathAckECN, 0, 0, 0, 0, 0, 0, 0, 0)},
	{tPathAbandon, "___1", false, ints(tPathAbandon, 2, 0)},
	{tPathStatusBackup, "___1", false, ints(tPathStatusBackup, 1, 1)},
	{tPathStatusAvailable, "___1", false, ints(tPathStatusAvailable, 1, 1)},
	{tPathNewConnectionID, "___1", false, func(*testConn, uint64, uint64) testFrame {
		return frPathNewConnectionID(1, 0, 0, peerCID(1, 0), peerToken(1, 0))
	}},
	{tPathRetireConnectionID, "___1", false, ints(tPathRetireConnectionID, 1, 1)},
	{tMaxPathID, "___1", false, ints(tMaxPathID, 2)},
	{tPathsBlocked, "___1", false, ints(tPathsBlocked, 2)},
	{tPathCIDsBlocked, "___1", false, ints(tPathCIDsBlocked, 1, 0)},
}

// TestFrameRows: the table has every frame type that is known, and no other.
func TestFrameRows(t *testing.T) {
	have := make(map[uint64]bool)
	for i := range frameRows {
		r := &frameRows[i]
		if have[r.typ] {
			t.Errorf("type 0x%x twice", r.typ)
		}
		have[r.typ] = true
	}
	var f wire.Frame
	for typ := uint64(0); typ < 1<<16; typ++ {
		_, err := f.Parse(appendInt(nil, typ), &wire.Draft21)
		if known := err != wire.ErrUnknownType; known != have[typ] {
			t.Errorf("frame type 0x%x: known %v, in the table %v", typ, known, have[typ])
		}
	}
}

// In which packets a frame arrives, besides its row.
type frameArrival struct {
	name      string
	letter    byte // of frameRow.in
	typ       peerPacketType
	multipath bool
}

var frameArrivals = []frameArrival{
	{"Initial", 'I', packetInitial, true},
	{"Handshake", 'H', packetHandshake, true},
	{"0-RTT", '0', packetZeroRTT, true},
	{"1-RTT", '1', packetOneRTT, true},
	{"1-RTT without multipath", '1', packetOneRTT, false},
}

// want is the error that a frame causes, NoError if none.
func (a *frameArrival) want(r *frameRow, to testSide) TransportErrorCode {
	switch {
	case r.typ >= tPathAck && !a.multipath, // RMP21-2-1 R9000-12.4-3
		r.typ >= tPathAck && a.letter == 'I' && to == clientSide: // it does not know yet
		return FrameEncodingError
	case strings.IndexByte(r.in, a.letter) < 0: // R9000-12.4-2 R9000-17.2.4-1 R9001-8.3-2 R9221-5-1 RMP21-4-2
		return ProtocolViolation
	case r.fromServer && to == serverSide: // R9000-19.7-2 R9000-19.20-1
		return ProtocolViolation
	case r.typ == tRetireConnectionID && a.letter == '0': // none was issued yet: RFC 9000 section 12.5
		return ProtocolViolation
	}
	return NoError
}

// begin brings a connection to where it takes packets of type a.typ.
func (a *frameArrival) begin(tc *testConn) {
	tc.t.Helper()
	switch {
	case a.typ == packetOneRTT:
		tc.handshake()
	case !tc.isClient: // the ClientHello
		tc.writePackets(tc.flight(packetInitial)...)
	case a.typ == packetHandshake: // up to EncryptedExtensions, so that the parameters are known
		tc.writePackets(tc.flight(packetInitial)...)
		tc.writePackets(&peerPacket{typ: packetHandshake, frames: []testFrame{frCrypto(0, tc.levels[handshakeSpace].crypto[:300])}})
	}
	tc.skip()
}

// send has the peer send the n-th example of a row, and says whether the packet was taken.
func (a *frameArrival) send(tc *testConn, r *frameRow, n uint64) (taken bool) {
	tc.t.Helper()
	peer := uint64(0)
	if tc.isClient {
		peer = 1
	}
	p := &peerPacket{typ: a.typ, frames: []testFrame{r.example(tc, 4*n+peer, 4*n+2+peer)}}
	tc.writePackets(p)
	c := tc.core()
	switch {
	case a.typ == packetInitial && c.initial != nil:
		return c.initial.space.acks.isDuplicate(packetNumber(p.num))
	case a.typ == packetHandshake && c.handshake != nil:
		return c.handshake.space.acks.isDuplicate(packetNumber(p.num))
	}
	return c.paths[0].space.acks.isDuplicate(packetNumber(p.num))
}

// TestFramesInPackets sends every frame in every type of packet to both ends: where it
// is allowed it is taken, elsewhere it ends the connection with the right error.
func TestFramesInPackets(t *testing.T) {
	session := clientSession(t, earlyServer, multipathUpTo(2))
	for _, side := range []testSide{clientSide, serverSide} {
		for _, a := range frameArrivals {
			if a.typ == packetZeroRTT && side == clientSide {
				continue // dropped unread: R9001-5.6-1
			}
			options := []any{func(c *Config) { c.InitialMaxPathID = 2 }}
			if a.multipath {
				options = append(options, multipathUpTo(2))
			}
			if a.typ == packetZeroRTT {
				options = append(options, earlyServer, session)
			}
			t.Run(side.String()+"/"+a.name, func(t *testing.T) { frameArrivalTest(t, side, a, options) })
		}
	}
}

func frameArrivalTest(t *testing.T, side testSide, a frameArrival, options []any) {
	// What does no harm shares a connection.
	t.Run("allowed", func(t *testing.T) {
		scripted(t, side, func(t *testing.T, tc *testConn) {
			a.begin(tc)
			for i := range frameRows {
				r := &frameRows[i]
				if a.want(r, side) != NoError || r.closes() {
					continue
				}
				if !a.send(tc, r, uint64(i)) || tc.conn.Err() != nil {
					t.Fatalf("%s is not taken: %v", r.name(), tc.conn.Err())
				}
				if a.typ == packetOneRTT {
					tc.settle()
				}
			}
			if a.typ == packetOneRTT {
				tc.wantAlive("after all frames that are allowed")
			}
		}, options...)
	})
	for i := range frameRows {
		r := &frameRows[i]
		want := a.want(r, side)
		if want == NoError && !r.closes() {
			continue
		}
		t.Run(r.name(), func(t *testing.T) {
			scripted(t, side, func(t *testing.T, tc *testConn) {
				a.begin(tc)
				a.send(tc, r, uint64(i))
				if want == NoError {
					if te, ok := tc.conn.Err().(*TransportError); ok && !te.Remote || tc.conn.Err() == nil {
						t.Errorf("Err is %v after CONNECTION_CLOSE", tc.conn.Err())
					}
					return
				}
				if f := tc.wantClose(r.name(), want); f.ints[1] != r.typ {
					t.Errorf("CONNECTION_CLOSE names frame type 0x%x, want 0x%x", f.ints[1], r.typ)
				}
			}, options...)
		})
	}
}

// TestFrameExamples keeps the rows honest: an example has the type of its row.
func TestFrameExamples(t *testing.T) {
	var f wire.Frame
	for i := range frameRows {
		r := &frameRows[i]
		b := r.example(nil, 1, 3).append(nil, nil)
		if n, err := f.Parse(b, &wire.Draft21); err != wire.ParseOK || n != len(b) || f.WireType != r.typ && r.typ != tPadding {
			t.Errorf("%s: %v, type 0x%x, %d of %d bytes", r.name(), err, f.WireType, n, len(b))
		}
		if in := slices.Index([]string{"IH01", "IH_1", "__01", "___1"}, r.in); in < 0 {
			t.Errorf("%s is in %q", r.name(), r.in)
		}
	}
}
