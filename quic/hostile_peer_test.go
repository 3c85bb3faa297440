// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// What a peer can do that has completed the handshake and wants the connection to hold
// memory.

// TestFloodsOfFrames: what a peer sends in any number leaves the connection as large as it
// was, within what it may fill.
func TestFloodsOfFrames(t *testing.T) {
	const (
		stream = 128 << 10 // limits that a peer may fill
		conn   = 256 << 10
		slack  = 256 << 10 // buffers for receiving, and the test's own
	)
	many := func(n int, f ...testFrame) func(*testConn, uint64) []testFrame {
		f = slices.Repeat(f, n)
		return func(*testConn, uint64) []testFrame { return f }
	}
	for _, tt := range []struct {
		name   string
		frames func(tc *testConn, i uint64) []testFrame
		count  uint64
		may    int                // bytes that it may make us hold
		ends   TransportErrorCode // 0: the connection goes on
		learn  bool               // the peer reads the answers
	}{
		{"PING", many(100, frPing()), 1000, 0, 0, false},
		{"PATH_CHALLENGE", func(_ *testConn, i uint64) []testFrame {
			return slices.Repeat([]testFrame{frPathChallenge(strings.Repeat(string(rune('a'+i%26)), 8)), frPathChallenge("12345678")}, 20)
		}, 1000, 0, 0, false},
		{"DATAGRAM", many(1, frDatagram(strings.Repeat("d", 1000))), 1000, 0, 0, false},
		// A byte a chunk: all that a window holds is allocated.
		{"CRYPTO one by one", func(_ *testConn, i uint64) []testFrame {
			return []testFrame{frCrypto(1+i*pipeChunkSize%cryptoReceiveWindow+i/16*2, []byte{0})}
		}, 1000, cryptoReceiveWindow + 16*maxReceiveGaps, 0, false},
		{"CRYPTO scattered", func(_ *testConn, i uint64) (fs []testFrame) {
			for j := range uint64(20) {
				fs = append(fs, frCrypto(1+2*(i*20+j), []byte{0}))
			}
			return fs
		}, 300, 16 * maxReceiveGaps, CryptoBufferExceeded, false},
		{"STREAM one by one", func(_ *testConn, i uint64) []testFrame {
			return []testFrame{frStream(i%2*4, 1+i*pipeChunkSize%stream, "x")}
		}, 1000, conn, 0, false},
		{"STREAM scattered", func(_ *testConn, i uint64) (fs []testFrame) {
			for j := range uint64(20) {
				fs = append(fs, frStream(0, 1+2*(i*20+j), "x"))
			}
			return fs
		}, 300, 16 * maxReceiveGaps, InternalError, false},
		{"STREAM without data", func(_ *testConn, i uint64) []testFrame { return []testFrame{frStream(i%100*4, 0, "")} }, 1000, 100 * 2048, 0, false},
		{"RESET_STREAM of what is open", func(_ *testConn, i uint64) []testFrame {
			return []testFrame{frInts(tResetStream, i%100*4, 7, 0), frInts(tStopSending, i%100*4, 7)}
		}, 1000, 100 * 2048, 0, false},
		{"blocked frames", func(_ *testConn, i uint64) []testFrame {
			return slices.Repeat([]testFrame{frInts(tDataBlocked, i), frInts(tStreamDataBlocked, 0, i), frInts(tStreamsBlockedBidi, i)}, 20)
		}, 1000, 2048, 0, false},
		{"RETIRE_CONNECTION_ID", func(tc *testConn, i uint64) []testFrame {
			tc.use[0] = i + 1
			return []testFrame{frInts(tRetireConnectionID, i)}
		}, 200, 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			established(t, serverSide, func(t *testing.T, tc *testConn) {
				tc.settle()
				before := quictest.HeapInUse()
				for i := range tt.count {
					tc.write(tt.frames(tc, i)...)
					if tt.learn {
						tc.settle()
					}
					tc.fill()
					if i%5 == 0 && tc.core().closing.phase == notClosing {
						tc.ack()
					}
					tc.packets = nil
					tc.frame = 0
					if tc.core().closing.phase != notClosing {
						break
					}
				}
				tc.received[0] = make(map[uint64]bool) // which had grown
				closed := tc.core().closing.phase != notClosing
				if closed != (tt.ends != 0) {
					t.Fatalf("ended: %v, %v", closed, tc.conn.Err())
				}
				if te, ok := tc.conn.Err().(*TransportError); tt.ends != 0 && (!ok || te.Code != tt.ends) {
					t.Errorf("ended with %v, want %v", tc.conn.Err(), tt.ends)
				}
				if grown := quictest.HeapInUse() - before; !raceDetector && grown > tt.may+slack {
					t.Errorf("holds %d bytes more, %d are allowed", grown, tt.may)
				} else {
					t.Logf("%d bytes", grown)
				}
				if n := len(tc.core().byCID); n > cidsPerPath {
					t.Errorf("%d connection ids", n)
				}
			}, func(c *Config) { c.StreamReceiveWindow, c.ConnReceiveWindow = stream, conn })
		})
	}
}

// TestManyAckRanges: a peer that leaves out every other packet number makes us remember,
// and acknowledge, a bounded number of ranges.
func TestManyAckRanges(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		before := quictest.HeapInUse()
		for range 2000 {
			*tc.nextNum[0]++
			tc.write(frPing())
			tc.fill()
			for _, p := range tc.packets {
				if f, ok := p.has(tAck); ok {
					if _, nums := f.acked(); len(nums) > 4*maxFrameRanges {
						t.Fatalf("ACK of %d packets", len(nums))
					}
				}
			}
			tc.packets, tc.frame = nil, 0
		}
		if n := len(tc.core().paths[0].space.acks.ranges); n > maxAckRanges {
			t.Errorf("%d ranges", n)
		}
		tc.received[0] = make(map[uint64]bool) // which had grown
		if grown := quictest.HeapInUse() - before; !raceDetector && grown > 256<<10 {
			t.Errorf("holds %d bytes more", grown)
		}
	})
}

// TestCryptoAfterHandshake: a server keeps no TLS state after the handshake, and any
// message that a client sends then is unexpected, as soon as it is there.
//
// R9001-4.8-1
func TestCryptoAfterHandshake(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		if tc.core().tls != nil {
			t.Error("the state of TLS is kept")
		}
		tc.write(frCrypto(0, bytes.Repeat([]byte{1}, 3)))
		tc.wantAlive("part of the header of a message")
		tc.write(frCrypto(3, []byte{0}))
		tc.wantClose("ClientHello after the handshake", CryptoErrorBase+unexpectedMessage)
	})
}
