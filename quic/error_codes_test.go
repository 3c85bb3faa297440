// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"
)

// An errorCodeRow is an error code of RFC 9000 section 20.1, with its number, and how to
// see it on the wire.
type errorCodeRow struct {
	name string
	code uint64
	side testSide
	// before says that the handshake is left to provoke.
	before  bool
	provoke func(tc *testConn)
	options []any
}

var errorCodeRows = []errorCodeRow{
	{"NO_ERROR", 0x00, clientSide, false, func(tc *testConn) { tc.e.Close() }, nil},
	{"INTERNAL_ERROR", 0x01, serverSide, false, func(tc *testConn) {
		for _, f := range gaps(tc.peerBidi(0), maxReceiveGaps+1) {
			tc.write(f)
		}
	}, nil},
	{"CONNECTION_REFUSED", 0x02, serverSide, true, func(tc *testConn) { // R9000-5.2.2-3: nobody accepts
		for len(tc.e.acceptc) < cap(tc.e.acceptc) {
			tc.e.acceptc <- nil
		}
		tc.writeHandshakeUntilClosed()
	}, nil},
	{"FLOW_CONTROL_ERROR", 0x03, clientSide, false, func(tc *testConn) { tc.write(frStream(tc.peerBidi(0), maxInt-1, "x")) }, nil},
	{"STREAM_LIMIT_ERROR", 0x04, serverSide, false, func(tc *testConn) { tc.write(frStream(tc.peerBidi(1<<59), 0, "x")) }, nil},
	{"STREAM_STATE_ERROR", 0x05, clientSide, false, func(tc *testConn) { tc.write(frInts(tStopSending, tc.peerUni(0), 7)) }, nil},
	{"FINAL_SIZE_ERROR", 0x06, serverSide, false, func(tc *testConn) {
		tc.write(frStreamFin(tc.peerBidi(0), 0, "x"), frStream(tc.peerBidi(0), 1, "x"))
	}, nil},
	{"FRAME_ENCODING_ERROR", 0x07, clientSide, false, func(tc *testConn) { tc.write(frRaw(0x21)) }, nil},
	{"TRANSPORT_PARAMETER_ERROR", 0x08, serverSide, true, (*testConn).writeHandshakeUntilClosed,
		[]any{peerParam(paramAckDelayExponent, 21)}},
	{"CONNECTION_ID_LIMIT_ERROR", 0x09, clientSide, false, func(tc *testConn) {
		for seq := range uint64(activeCIDLimit) {
			tc.write(tc.peerCIDFrame(0, seq+1, 0))
		}
	}, nil},
	{"PROTOCOL_VIOLATION", 0x0a, serverSide, false, func(tc *testConn) { tc.write() }, nil},
	{"INVALID_TOKEN", 0x0b, serverSide, true, func(tc *testConn) { // R9000-8.1.2-3
		elsewhere := netip.AddrPortFrom(tc.addr.Addr().Next(), tc.addr.Port())
		token := tc.e.tokens.makeRetry(time.Now(), elsewhere, []byte("original"), tc.initialDCID)
		for _, p := range tc.flight(packetInitial) {
			p.token = token
			tc.writePackets(p)
		}
	}, nil},
	{"APPLICATION_ERROR", 0x0c, clientSide, true, func(tc *testConn) { tc.conn.CloseWithError(7, "secret") }, nil}, // R9000-10.2.3-4
	{"CRYPTO_BUFFER_EXCEEDED", 0x0d, serverSide, false, func(tc *testConn) { tc.write(frCrypto(1<<20, []byte("x"))) }, nil},
	{"KEY_UPDATE_ERROR", 0x0e, clientSide, false, func(tc *testConn) {
		tc.writePackets(ahead(0, frPing()))
		tc.skip()
		tc.write(frPing())
		tc.nextPhase()
	}, nil},
	{"AEAD_LIMIT_REACHED", 0x0f, serverSide, false, func(tc *testConn) {
		tc.core().appKeys.failed = integrityLimit
		tc.writePackets(&peerPacket{typ: packetOneRTT, frames: []testFrame{frPing()}, corrupt: true})
	}, nil},
	// There is no path that it could be sent on: TestPeerMovesWithoutValidAddress.
	{"NO_VIABLE_PATH", 0x10, serverSide, false, nil, nil},
	{"CRYPTO_ERROR(0x178)", 0x100 + 120, serverSide, true, (*testConn).writeHandshakeUntilClosed, // no_application_protocol
		[]any{func(peer *tls.Config) { peer.NextProtos = []string{"other"} }}},
}

// TestErrorCodes: each error code that we have a name for is seen in CONNECTION_CLOSE.
func TestErrorCodes(t *testing.T) {
	have := make(map[string]bool)
	for _, row := range errorCodeRows {
		have[row.name] = true
		t.Run(row.name, func(t *testing.T) {
			if got := TransportErrorCode(row.code).String(); got != row.name {
				t.Errorf("0x%x is named %s", row.code, got)
			}
			if row.provoke == nil {
				return
			}
			scripted(t, row.side, func(t *testing.T, tc *testConn) {
				if !row.before {
					tc.handshake()
				}
				row.provoke(tc)
				for {
					f, _, ok := tc.nextFrame()
					if !ok {
						t.Fatal("no CONNECTION_CLOSE")
					}
					if f.typ == tConnectionClose {
						if f.ints[0] != row.code {
							t.Errorf("code 0x%x, want 0x%x", f.ints[0], row.code)
						}
						return
					}
				}
			}, row.options...)
		})
	}
	for _, name := range transportErrorNames {
		if !have[name] {
			t.Errorf("%s is not seen on the wire", name)
		}
	}
}
