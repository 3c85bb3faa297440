// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

func TestNewToken(t *testing.T) {
	key := newStatelessResetKey()
	tokens := newAddressTokens(&key)
	now := time.Unix(1_000_000, 0)
	a, b := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	token := tokens.makeNew(now, []netip.Addr{a, b})
	retry := tokens.makeRetry(now, netip.AddrPortFrom(a, 1), nil, nil)
	other := newStatelessResetKey()
	for _, tt := range []struct {
		name  string
		now   time.Time
		addr  string
		token []byte
		want  tokenVerdict
	}{
		{"first address", now.Add(time.Hour), "192.0.2.7", token, tokenValid},
		{"second address", now.Add(time.Hour), "2001:db8::7", token, tokenValid}, // RMP21-3.1.3-1
		{"another address", now, "192.0.2.8", token, tokenInvalid},               // R9000-8.1.4-2
		{"expired", now.Add(24*time.Hour + 1), "192.0.2.7", token, tokenInvalid},
		{"from the future", now.Add(-1), "192.0.2.7", token, tokenInvalid},
		{"of Retry", now, "192.0.2.7", retry, tokenUnknown}, // R9000-8.1.1-1
		{"of another server", now, "192.0.2.7", newAddressTokens(&other).makeNew(now, []netip.Addr{a}), tokenUnknown},
		{"short", now, "192.0.2.7", token[:28], tokenUnknown},
		{"empty", now, "192.0.2.7", nil, tokenUnknown},
	} {
		if _, _, v := tokens.checkNew(tt.now, netip.MustParseAddr(tt.addr), tt.token); v != tt.want {
			t.Errorf("%s: %v", tt.name, v)
		}
	}
	if _, v := tokens.checkRetry(now, netip.AddrPortFrom(a, 1), token, nil); v != tokenUnknown { // R9000-8.1.1-1
		t.Errorf("token of NEW_TOKEN as one of Retry: %v", v)
	}
	for i := range token { // R9000-8.1.4-1
		bad := bytes.Clone(token)
		bad[i] ^= 1
		if _, _, v := tokens.checkNew(now, a, bad); v != tokenUnknown {
			t.Fatalf("flipping a bit of byte %d: %v", i, v)
		}
	}
}

// FuzzNewToken: tokens of anybody, and content that only we could have sealed.
func FuzzNewToken(f *testing.F) {
	key := statelessResetKey{1}
	tokens := newAddressTokens(&key)
	now := time.Unix(1_000_000, 0)
	addr := netip.MustParseAddr("192.0.2.7")
	f.Add(tokens.makeNew(now, []netip.Addr{addr}))
	f.Add(tokens.makeRetry(now, netip.AddrPortFrom(addr, 1), []byte("original"), []byte("scid")))
	f.Add([]byte{newTokenKind})
	f.Add(make([]byte, newTokenHead+16))
	f.Fuzz(func(t *testing.T, b []byte) {
		tokens.checkNew(now, addr, b)
		tokens.checkRetry(now, netip.AddrPortFrom(addr, 1), b, []byte("scid"))
		if _, _, v := tokens.checkNew(now, addr, tokens.seal(newTokenKind, b, nil)); v == tokenUnknown {
			t.Error("what we sealed does not open")
		}
		tokens.checkRetry(now, netip.AddrPortFrom(addr, 1), tokens.seal(retryTokenKind, b, nil), nil)
		if _, addrs, ok := parseNewToken(b); ok && len(addrs) > maxTokenAddrs {
			t.Errorf("%d addresses", len(addrs))
		}
	})
}

// TestReplayFilter: whatever order and number, nothing is accepted twice, and memory is
// bounded.
func TestReplayFilter(t *testing.T) { // R9000-8.1.4-4
	var f replayFilter
	start := time.Unix(1_000_000, 0)
	id := func(i int) replayID { return replayID{byte(i), byte(i >> 8), byte(i >> 16)} }
	const n = 4 * maxReplayIDs
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second)
		if !f.use(id(i), at) {
			t.Fatalf("%d is refused the first time", i)
		}
		if f.use(id(i), at) {
			t.Fatalf("%d is accepted twice", i)
		}
	}
	for i := range n {
		if f.use(id(i), start.Add(time.Duration(i)*time.Second)) {
			t.Fatalf("%d is accepted again at the end", i)
		}
	}
	if got := len(f.ids[0]) + len(f.ids[1]); got > 2*maxReplayIDs {
		t.Errorf("%d are remembered", got)
	}
}

// TestNewTokenSent by a server: when the handshake is confirmed, when it was lost, and
// when the client has moved.
func TestNewTokenSent(t *testing.T) {
	for _, mode := range []lossMode{lossByThreshold, lossByPTO} {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) { // R9000-13.3-2
			tc.writeHandshake()
			tc.skip()
			tc.writePackets(tc.flight(packetHandshake)...)
			tc.ignore(tNewConnectionID, tPing, tHandshakeDone, tCrypto)
			first, p := tc.wantType("confirmed", tNewToken)
			tc.lose(p, mode)
			if again, _ := tc.wantType("repeated", tNewToken); !again.equal(first) {
				t.Errorf("%v, before %v", again, first)
			}
		})
	}
	established(t, serverSide, func(t *testing.T, tc *testConn) { // R9000-9.3-3
		move := func(to netip.AddrPort) {
			tc.writeFrom(to, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing(), frPadding(1150)}})
			for range 2 {
				if f, p := tc.wantType("both addresses are validated", tPathChallenge); p.dgram.to == to {
					tc.writeFrom(to, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPathResponse(f.blobs[0])}})
					break
				}
			}
			tc.ignore(tPathChallenge, tPing, tRetireConnectionID)
		}
		move(testOtherAddr)
		f, _ := tc.wantType("a token for the new address", tNewToken)
		for _, a := range []netip.AddrPort{testClientAddr, testOtherAddr} { // RMP21-3.1.3-1
			if _, _, v := tc.e.tokens.checkNew(time.Now(), a.Addr(), f.blobs[0]); v != tokenValid {
				t.Errorf("token at %v: %v", a, v)
			}
		}
	})
}

// TestNewTokenUsed: what a server makes of tokens. One that holds lifts the
// amplification limit; any other one is as good as none.
func TestNewTokenUsed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token func(tc *testConn) []byte
		valid bool
	}{
		{"valid", func(tc *testConn) []byte {
			return tc.e.tokens.makeNew(time.Now(), []netip.Addr{testOtherAddr.Addr(), testClientAddr.Addr()})
		}, true},
		{"none", func(*testConn) []byte { return nil }, false},
		{"junk R9000-8.1.3-5", func(*testConn) []byte { return bytes.Repeat([]byte{newTokenKind}, 60) }, false},
		{"of another address R9000-8.1.4-2 R9000-8.1.3-5", func(tc *testConn) []byte {
			return tc.e.tokens.makeNew(time.Now(), []netip.Addr{testOtherAddr.Addr()})
		}, false},
		{"expired R9000-8.1.3-5", func(tc *testConn) []byte {
			return tc.e.tokens.makeNew(time.Now().Add(-25*time.Hour), []netip.Addr{testClientAddr.Addr()})
		}, false},
		{"used before R9000-8.1.4-4", func(tc *testConn) []byte {
			token := tc.e.tokens.makeNew(time.Now(), []netip.Addr{testClientAddr.Addr()})
			if !tc.e.useNewToken(testClientAddr.Addr(), token) {
				t.Error("not valid the first time")
			}
			return token
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scripted(t, serverSide, func(t *testing.T, tc *testConn) {
				hello := tc.flight(packetInitial)
				for _, p := range hello {
					p.token = tt.token(tc)
				}
				tc.writePackets(hello[0])
				tc.advance(8 * time.Second) // of PTOs
				sent := 0
				var last *peerDatagram
				for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
					if p.typ != packetInitial && p.typ != packetHandshake {
						t.Fatalf("answer %v", p)
					}
					if _, ok := p.has(tConnectionClose); ok {
						t.Fatalf("answer %v", p)
					}
					if p.dgram != last {
						sent += len(p.dgram.data)
					}
					last = p.dgram
				}
				if limited := sent <= 3*1200; limited == tt.valid || sent < 2*1200 {
					t.Errorf("%d bytes were sent in answer to 1200", sent)
				}
			})
		})
	}
}

// TestNewTokenUnderLoad: a token that holds spares the Retry.
func TestNewTokenUnderLoad(t *testing.T) {
	for _, tt := range []struct {
		name string
		addr netip.AddrPort // for which the token was made
		want peerPacketType
	}{
		{"valid", testClientAddr, packetInitial},
		{"of another address R9000-8.1.3-5", testOtherAddr, packetRetry},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scripted(t, serverSide, func(t *testing.T, tc *testConn) {
				tc.e.handshakes += retryAbove
				defer func() { tc.e.handshakes -= retryAbove }()
				hello := tc.flight(packetInitial)
				hello[0].token = tc.e.tokens.makeNew(time.Now(), []netip.Addr{tt.addr.Addr()})
				tc.sockets[0].in <- udpio.Received{Buf: tc.datagram(1200, hello[0]), Src: tc.addr, Dst: testServerAddr.Addr()}
				d := <-tc.sent
				if got := peerPacketType(d.data[0] >> 4 & 3); got != tt.want {
					t.Errorf("answer of type %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestOneRetryPerDatagram, which has two Initial packets.
func TestOneRetryPerDatagram(t *testing.T) { // R9000-17.2.5.1-4
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.e.handshakes += retryAbove
		defer func() { tc.e.handshakes -= retryAbove }()
		hello := tc.flight(packetInitial)[0]
		d := tc.datagram(1200, hello)
		tc.sockets[0].in <- udpio.Received{Buf: slices.Concat(d, initialTo([]byte("another one"), nil)), Src: tc.addr, Dst: testServerAddr.Addr()}
		if d := <-tc.sent; d.data[0]&0xf0 != 0xf0 {
			t.Errorf("answer with first byte %#x, want Retry", d.data[0])
		}
		select {
		case d := <-tc.sent:
			t.Errorf("second answer with first byte %#x", d.data[0])
		case <-time.After(time.Second):
		}
	})
}

// TestTokenOfEarlierConnection: which token a client puts into its Initial packets.
func TestTokenOfEarlierConnection(t *testing.T) {
	store := NewSessionStore(10)
	use := func(c *Config) { c.Sessions = store }
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.write(frNewToken("first"))
		tc.write(frNewToken("second"))
		tc.write(frNewToken(string(make([]byte, maxTokenLen+1))))
	}, use)
	attempt := func(name, want string, options ...any) {
		t.Helper()
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			for range 3 { // R9000-8.1.3-1
				if p := tc.wantPacket(name, packetInitial); string(p.token) != want {
					t.Errorf("%s: Initial with token %q, want %q", name, p.token, want)
				}
				tc.skip()
				tc.waitSent(5 * time.Second)
			}
		}, append(options, use)...)
	}
	// R9000-8.1.3-3
	attempt("server of another name", "", func(c *Config) {
		c.TLS = c.TLS.Clone()
		c.TLS.ServerName = "other.test"
	})
	attempt("the newest one", "second")
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		if p := tc.wantPacket("the one before, once", packetInitial); string(p.token) != "first" {
			t.Errorf("Initial with token %q", p.token)
		}
		tc.writeRaw(retry(tc, 0xf0, []byte("retryscid"), "retry"))
		tc.setInitialKeys([]byte("retryscid"))
		for range 2 { // R9000-8.1.3-1
			if p := tc.wantPacket("Retry", packetInitial); string(p.token) != "retry" {
				t.Errorf("Initial with token %q after Retry", p.token)
			}
			tc.skip()
			tc.waitSent(5 * time.Second)
		}
		tc.handshake()
	}, use, func(p *testParams) { p.setBytes(paramRetrySrcConnID, []byte("retryscid")) })
	attempt("each is used, and that of Retry is not kept", "") // R9000-8.1.3-4 R9000-8.1.3-2
}

// TestTokensBounded: what servers can make a client hold.
func TestTokensBounded(t *testing.T) {
	store := NewSessionStore(3)
	for i := range 10 {
		for j := range 10 {
			store.putToken(serverKey{name: string(rune('a' + i))}, []byte{byte(j)})
		}
	}
	if len(store.servers) != 3 {
		t.Errorf("%d servers", len(store.servers))
	}
	for i, want := range []byte{9, 8, 7, 6} {
		if got := store.takeToken(serverKey{name: "j"}); len(got) != 1 || got[0] != want {
			t.Errorf("token %d is %v", i, got)
		}
	}
	if got := store.takeToken(serverKey{name: "j"}); got != nil {
		t.Errorf("fifth token %v", got)
	}
}

// TestTokenAcrossConnections on the simulated network: under load a client comes back
// from any of its addresses without Retry.
func TestTokenAcrossConnections(t *testing.T) { // RMP21-3.1.3-1
	store := NewSessionStore(1)
	simulate(t, []quictest.LinkConfig{lan, lan}, func(client, _ *Config) { client.Sessions = store }, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		transfer(t, client, server, 10e3)
		client.CloseWithError(0, "")
		<-server.Done()
		n.flood(t, 100)
		time.Sleep(100 * time.Millisecond)
		if got := n.server.pendingHandshakes(); got != retryAbove {
			t.Fatalf("%d handshakes under way", got)
		}
		again, err := n.client.Dial(context.Background(), n.sockets[1], serverAddr, n.clientConfig)
		if err != nil {
			t.Fatal(err)
		}
		if again.retrySCID != nil {
			t.Error("Retry in spite of a token")
		}
	})
}
