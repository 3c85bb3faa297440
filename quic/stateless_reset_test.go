// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"testing"
	"time"
)

// resetDatagram is what a peer sends that has lost its state: RFC 9000 section 10.3.
func resetDatagram(token [16]byte, size int) []byte {
	b := bytes.Repeat([]byte{0x5a}, size)
	copy(b[size-16:], token[:])
	return b
}

// TestStatelessResetReceived: what ends a connection, and what does not.
func TestStatelessResetReceived(t *testing.T) {
	reset := func(t *testing.T, tc *testConn, datagram []byte) {
		t.Helper()
		tc.writeRaw(datagram)
		if _, ok := tc.conn.Err().(*StatelessResetError); !ok {
			t.Fatalf("Err is %v", tc.conn.Err())
		}
		tc.write(frPing())
		tc.wantNoDatagram("draining after a stateless reset") // R9000-10.3.1-3
		tc.wantEndAfter(tc.closeTime())
	}
	token := [16]byte(bytes.Repeat([]byte{0xaa}, 16))
	fromServer := func(p *testParams) { p.setBytes(paramStatelessResetToken, token[:]) }
	t.Run("token of the transport parameters", func(t *testing.T) { // R9000-10.3.1-1
		established(t, clientSide, func(t *testing.T, tc *testConn) { reset(t, tc, resetDatagram(token, 21)) }, fromServer)
	})
	t.Run("connection id of ours", func(t *testing.T) { // the packet does not decrypt
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			b := resetDatagram(token, 60)
			copy(b[1:], tc.connSCID)
			reset(t, tc, b)
		}, fromServer)
	})
	t.Run("long header", func(t *testing.T) { // R9000-10.3-4
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			b := resetDatagram(token, 60)
			b[0] |= 0x80
			reset(t, tc, b)
		}, fromServer)
	})
	t.Run("long header with a connection id of ours", func(t *testing.T) { // R9000-10.3-4
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			b := resetDatagram(token, 60)
			copy(b, append([]byte{0xc3, 0, 0, 0, 1, 8}, tc.connSCID...))
			reset(t, tc, b)
		}, fromServer)
	})
	t.Run("too small", func(t *testing.T) { // R9000-10.3-5
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.writeRaw(resetDatagram(token, 20))
			tc.wantAlive("datagram of 20 bytes")
		}, fromServer)
	})
	t.Run("connection id in use and others", func(t *testing.T) { // R9000-10.3.1-2
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(tc.peerCIDFrame(0, 1, 0))
			tc.writeRaw(resetDatagram(peerToken(0, 1), 40))
			tc.wantAlive("token of a connection id that was never used")
			tc.write(tc.peerCIDFrame(0, 2, 2)) // 2 replaces all others
			tc.settle()
			tc.writeRaw(resetDatagram(token, 40))
			tc.writeRaw(resetDatagram(peerToken(0, 1), 40))
			tc.wantAlive("tokens of retired connection ids")
			reset(t, tc, resetDatagram(peerToken(0, 2), 40))
		}, fromServer)
	})
}

// TestStatelessResetSent: how an endpoint answers what it cannot assign.
func TestStatelessResetSent(t *testing.T) {
	key := [32]byte{1, 2, 3}
	k := statelessResetKey(key)
	unknown := []byte{9, 9, 9, 9, 9, 9, 9, 9}
	withKey := func(c *Config) { c.StatelessResetKey = &key }
	answer := func(tc *testConn, size int) []byte {
		b := append([]byte{0x41}, unknown...)
		tc.writeRaw(append(b, make([]byte, size-len(b))...))
		tc.fill()
		select {
		case d := <-tc.sent:
			return d.data
		default:
		}
		if len(tc.packets) == 0 {
			return nil
		}
		p := tc.packets[0]
		tc.skip()
		if p.typ != packetReset {
			tc.t.Fatalf("answer %v", p)
		}
		return p.raw
	}
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		want := k.token(unknown)
		for _, size := range []int{9, 20, 21, 22, 30, 43, 44, 100, 1200} {
			got := answer(tc, size)
			if size <= 21 { // nothing smaller could be a stateless reset
				if got != nil {
					t.Errorf("%d bytes were answered with %d", size, len(got))
				}
				continue
			}
			switch {
			case got == nil:
				t.Errorf("no answer to %d bytes", size)
				continue
			case len(got) >= size: // R9000-10.3.3-1 R9000-10.3-2
				t.Errorf("%d bytes in answer to %d", len(got), size)
			case size <= 43 && len(got) != size-1: // R9000-10.3-3
				t.Errorf("%d bytes in answer to %d, want one less", len(got), size)
			}
			if got[0]&0xc0 != 0x40 || !bytes.HasSuffix(got, want[:]) { // R9000-10.3-1
				t.Errorf("answer %x", got)
			}
		}
		// Handshake packets of unknown connections get no answer.
		b := append([]byte{0xe3, 0, 0, 0, 1, 8}, unknown...)
		tc.writeRaw(append(b, make([]byte, 1186)...))
		tc.wantNoDatagram("Handshake packet of no connection") // R9000-5.2.2-4

		n := 0
		for range 3 * resetsPerSecond {
			if answer(tc, 50) != nil {
				n++
			}
		}
		if n > resetsPerSecond {
			t.Errorf("%d stateless resets at once", n)
		}
		tc.advance(2 * time.Second)
		if answer(tc, 50) == nil {
			t.Error("no stateless reset a second later")
		}
	}, withKey)
}

// TestResetTokens: what we announce is what we would send.
func TestResetTokens(t *testing.T) {
	key := [32]byte{1, 2, 3}
	k := statelessResetKey(key)
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		announced := tc.connParams[paramStatelessResetToken]
		if want := k.token(tc.connSCID); !bytes.Equal(announced, want[:]) {
			t.Errorf("stateless_reset_token %x, want %x", announced, want)
		}
		seen := map[[16]byte]bool{[16]byte(announced): true}
		if len(tc.tokens) == 0 {
			t.Error("no connection ids issued")
		}
		for cid, token := range tc.tokens {
			if want := k.token([]byte(cid)); token != want {
				t.Errorf("token of %x is %x, want %x", cid, token, want)
			}
			if seen[token] { // R9000-10.3.2-1
				t.Errorf("token %x occurs twice", token)
			}
			seen[token] = true
		}
		// A connection with state does not use stateless resets. R9000-11-1
		tc.write(frRaw(0x21))
		tc.wantClose("error with state", FrameEncodingError)
	}, func(c *Config) { c.StatelessResetKey = &key })
	t.Run("client", func(t *testing.T) {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			if _, ok := tc.connParams[paramStatelessResetToken]; ok {
				t.Error("a client announces a stateless_reset_token")
			}
		})
	})
}
