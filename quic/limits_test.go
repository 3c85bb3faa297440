// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"testing"
	"time"
)

// Every limit on what the peer may send, at its value and one beyond. The rows are in
// limits_rows_test.go.

const maxInt = 1<<62 - 1

// limitWindows has small limits for streams: 1000 bytes each, 1500 together, three of
// each kind.
func limitWindows(c *Config) {
	c.StreamReceiveWindow, c.ConnReceiveWindow = 1000, 1500
	c.MaxIncomingStreams, c.MaxIncomingUniStreams = 3, 3
}

// peerBidi and peerUni are the n-th stream of the peer, from 0 on; ourBidi is of the
// connection under test.
func (tc *testConn) peerBidi(n uint64) uint64 { return newStreamID(tc.isClient, bidiStream, n) }
func (tc *testConn) peerUni(n uint64) uint64  { return newStreamID(tc.isClient, uniStream, n) }
func (tc *testConn) ourBidi(n uint64) uint64  { return newStreamID(!tc.isClient, bidiStream, n) }

type framesFunc func(tc *testConn) []testFrame

// fixed is the same frames always.
func fixed(f ...testFrame) framesFunc { return func(*testConn) []testFrame { return f } }

// A limitRow is a limit on what frames of a type may say.
type limitRow struct {
	typ     uint64
	name    string
	at      framesFunc // permitted, nil if nothing is
	beyond  framesFunc // one more than at, after it
	code    TransportErrorCode
	options []any
}

// TestLimits sends what is at each limit, which must do no harm, and then what is beyond.
func TestLimits(t *testing.T) {
	have := make(map[uint64]bool)
	for _, row := range slices.Concat(streamLimits, connIDLimits, packetLimits, pathLimits) {
		have[row.typ] = true
		t.Run(frameLayouts[row.typ].name+"/"+row.name, func(t *testing.T) {
			options := append([]any{limitWindows}, row.options...)
			if row.typ >= tPathAck {
				options = append(options, multipathUpTo(2))
			}
			bothSides(t, func(t *testing.T, tc *testConn) { limitTest(tc, &row) }, options...)
		})
	}
	for i := range frameRows {
		typ := frameRows[i].typ
		if typ&^7 == tStream {
			typ = tStream
		}
		if _, none := withoutLimit[typ]; none == have[typ] {
			t.Errorf("%s: limits tested %v, reason for none %v", frameRows[i].name(), have[typ], none)
		}
	}
}

func limitTest(tc *testConn, row *limitRow) {
	tc.t.Helper()
	if frameRowOf(row.typ).fromServer && !tc.isClient {
		return
	}
	if row.at != nil {
		for _, f := range row.at(tc) {
			tc.write(f)
			if err := tc.conn.Err(); err != nil {
				tc.t.Fatalf("%v at the limit: %v", f, err)
			}
		}
		tc.wantAlive("at the limit")
	}
	frames := row.beyond(tc)
	for _, f := range frames {
		tc.write(f)
	}
	want := frames[len(frames)-1].typ
	if want == tStream { // as testFrame encodes it
		want = 0x0e | frames[len(frames)-1].ints[2]
	}
	if f := tc.wantClose("beyond the limit", row.code); f.ints[1] != want {
		tc.t.Errorf("CONNECTION_CLOSE names frame type 0x%x, want 0x%x", f.ints[1], want)
	}
}

func frameRowOf(typ uint64) *frameRow {
	i := slices.IndexFunc(frameRows, func(r frameRow) bool { return r.typ == typ })
	if i < 0 { // STREAM
		i = slices.IndexFunc(frameRows, func(r frameRow) bool { return r.typ&^7 == typ })
	}
	return &frameRows[i]
}

// withoutLimit says why no value of a frame's fields is too large.
var withoutLimit = map[uint64]string{
	tPadding:          "no field",
	tPing:             "no field",
	tMaxData:          "any integer is a limit",
	tDataBlocked:      "says nothing that we rely on",
	tPathChallenge:    "any eight bytes; TestChallengesBounded",
	tPathResponse:     "any eight bytes, ignored unless they are expected",
	tConnectionClose:  "any code and reason",
	tApplicationClose: "any code and reason",
	tHandshakeDone:    "no field",
}

// TestChallengesBounded: however many challenges come, one is kept for a path, the newest,
// and answered once.
func TestChallengesBounded(t *testing.T) { // R9000-8.2.2-1
	bothSides(t, func(t *testing.T, tc *testConn) {
		var frames []testFrame
		for i := range 100 {
			frames = append(frames, frPathChallenge(string([]byte{'c', 'h', 'a', 'l', 'l', 'e', 'n', byte(i)})))
		}
		tc.write(frames...)
		tc.ignore(tPing)
		tc.wantFrame("the newest", frPathResponse(frames[99].blobs[0]))
		tc.wantSilence("no other", time.Second)
	})
}

// TestTokensKept: a token of 1 byte and of the greatest length are kept, a longer one is
// not, and is no error.
func TestTokensKept(t *testing.T) {
	for _, n := range []int{1, maxTokenLen, maxTokenLen + 1} {
		store := NewSessionStore(1)
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(frNewToken(string(make([]byte, n))))
			tc.wantAlive("token")
			got := tc.conn.cfg.Sessions.takeToken(tc.conn.serverKey())
			if want := n <= maxTokenLen; (len(got) == n) != want {
				t.Errorf("%d of %d bytes are kept", len(got), n)
			}
		}, func(c *Config) { c.Sessions = store })
	}
}

// TestAckDelayExponent: the largest exponent with the largest delay is no error and no
// overflow; what we believe of it is max_ack_delay.
func TestAckDelayExponent(t *testing.T) { // R9000-18.2-2
	bothSides(t, func(t *testing.T, tc *testConn) {
		before := tc.core().paths[0].loss.rtt.smoothed
		tc.sendDatagrams(1)
		p := tc.nextPacket()
		tc.advance(40 * time.Millisecond)
		tc.write(frInts(tAck, p.num, maxInt, 0, 0))
		rtt := &tc.core().paths[0].loss.rtt
		if got := rtt.smoothed - before; tc.conn.Err() != nil || got < 0 || got > 40*time.Millisecond/8 {
			t.Errorf("smoothed RTT from %v to %v: %v", before, rtt.smoothed, tc.conn.Err())
		}
	}, peerParam(paramAckDelayExponent, 20), peerParam(paramMaxAckDelay, 25))
}

// TestTransportParamLimits: every integer among the transport parameters at its smallest
// and largest value, and one beyond each.
func TestTransportParamLimits(t *testing.T) { // R9000-7.4-1
	rows := []struct{ id, smallest, largest uint64 }{
		{paramMaxIdleTimeout, 0, maxInt},
		{paramMaxUDPPayloadSize, 1200, maxInt}, // R9000-18.2-1
		{paramMaxData, 0, maxInt},
		{paramStreamDataBidiLocal, 0, maxInt},
		{paramStreamDataBidi, 0, maxInt},
		{paramStreamDataUni, 0, maxInt},
		{paramMaxStreamsBidi, 0, 1 << 60},     // R9000-4.6-1
		{paramMaxStreamsUni, 0, 1 << 60},      // R9000-4.6-1
		{paramAckDelayExponent, 0, 20},        // R9000-18.2-2
		{paramMaxAckDelay, 0, 1<<14 - 1},      // R9000-18.2-3
		{paramActiveCIDLimit, 2, maxInt},      // R9000-18.2-4
		{paramMaxDatagramFrame, 0, maxInt},    //
		{paramMaxPathID, 0, 1<<32 - 1},        // RMP21-2.1-2
		{paramMaxPathIDDraft15, 0, 1<<32 - 1}, // RMP21-2.1-2
	}
	have := make(map[uint64]bool)
	for _, row := range rows {
		have[row.id] = true
		for _, side := range []testSide{clientSide, serverSide} {
			for _, v := range []uint64{row.smallest, row.largest} {
				established(t, side, func(t *testing.T, tc *testConn) {
					tc.wantAlive("at the limit")
				}, peerParam(row.id, v))
			}
			for _, v := range []uint64{row.smallest - 1, row.largest + 1} {
				if v > maxInt {
					continue
				}
				scripted(t, side, func(t *testing.T, tc *testConn) {
					tc.writeHandshakeUntilClosed()
					tc.wantClose("beyond the limit", TransportParameterError)
				}, peerParam(row.id, v))
			}
		}
	}
	for i := range intParams {
		if !have[intParams[i].id] {
			t.Errorf("nothing about %s", intParams[i].name)
		}
	}
}
