// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

func TestRetryToken(t *testing.T) {
	key := newStatelessResetKey()
	tokens := newAddressTokens(&key)
	now := time.Unix(1_000_000, 0)
	addr := netip.MustParseAddrPort("192.0.2.7:1234")
	odcid, scid := []byte("original"), []byte("retryscid")
	token := tokens.makeRetry(now, addr, odcid, scid)
	for _, tt := range []struct {
		name  string
		now   time.Time
		addr  string
		token []byte
		dcid  []byte
		want  tokenVerdict
	}{
		{"valid", now.Add(time.Second), "192.0.2.7:1234", token, scid, tokenValid},
		// R9000-8.1.4-3
		{"expired", now.Add(11 * time.Second), "192.0.2.7:1234", token, scid, tokenInvalid},
		{"from the future", now.Add(-time.Second), "192.0.2.7:1234", token, scid, tokenInvalid},
		{"other port", now, "192.0.2.7:1235", token, scid, tokenInvalid},
		{"other address", now, "192.0.2.8:1234", token, scid, tokenInvalid},
		{"other connection id", now, "192.0.2.7:1234", token, []byte("other"), tokenUnknown},
		{"short", now, "192.0.2.7:1234", token[:20], scid, tokenUnknown},
		{"empty", now, "192.0.2.7:1234", nil, scid, tokenUnknown},
	} {
		got, v := tokens.checkRetry(tt.now, netip.MustParseAddrPort(tt.addr), tt.token, tt.dcid)
		if v != tt.want || v == tokenValid && !bytes.Equal(got, odcid) {
			t.Errorf("%s: %v, %q", tt.name, v, got)
		}
	}
	for i := range token { // R9000-8.1.4-1
		bad := bytes.Clone(token)
		bad[i] ^= 1
		if _, v := tokens.checkRetry(now, addr, bad, scid); v != tokenUnknown {
			t.Fatalf("flipping a bit of byte %d: %v", i, v)
		}
	}
}

// initialTo makes a client's Initial packet with a CRYPTO frame of junk.
func initialTo(dcid, token []byte) []byte {
	key, _ := initialKeys(dcid)
	b, lenOff := wire.AppendLongHeader(make([]byte, 0, minInitialSize), wire.Initial, version1, dcid, []byte("clientid"), token, pnLen)
	b = wire.AppendPacketNumber(b, 0, pnLen)
	hdrLen := len(b)
	b = wire.AppendPing(b)
	b = wire.AppendPadding(b, minInitialSize-aeadTagLen-len(b))
	wire.SetLength(b, lenOff, len(b)-hdrLen+pnLen+aeadTagLen)
	var s sealScratch
	return key.seal(&s, b, hdrLen, pnLen, 0, 0)
}

// flood sends n Initial packets from as many addresses of link 1.
func (n *testNet) flood(t *testing.T, count int) {
	for range count {
		dcid := make([]byte, 8)
		rand.Read(dcid)
		n.Inject(netip.MustParseAddrPort("10.0.2.2:7777"), serverAddr, initialTo(dcid, nil), 0)
	}
}

// TestHandshakeFloodAsksForTokens: a flood of Initials leaves no more than a bounded
// number of connections, and a client gets through all the same.
// R9000-8.1.2-2 R9000-8.1.2-1 R9000-17.2.5.1-1 R9000-17.2.5.1-3
func TestHandshakeFloodAsksForTokens(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
		n.flood(t, 2000)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := n.server.pendingHandshakes(); got != retryAbove {
			t.Errorf("%d handshakes under way, want %d", got, retryAbove)
		}
		client, server := n.connect(t)
		if client.retrySCID == nil {
			t.Error("no Retry")
		}
		transfer(t, client, server, 100e3)
		time.Sleep(15 * time.Second) // the handshake time-out and the closing period
		if got := n.server.pendingHandshakes(); got != 0 {
			t.Errorf("%d handshakes are left", got)
		}
	})
}

// TestRequireToken: a server that wants tokens asks a client that has none, once.
func TestRequireToken(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, func(client, server *Config) {
		client.Sessions, server.RequireToken = NewSessionStore(1), true
	}, func(n *testNet) {
		for i, want := range []bool{true, false} {
			client, server := n.connect(t)
			if got := client.retrySCID != nil; got != want {
				t.Errorf("connection %d: Retry %v", i, got)
			}
			transfer(t, client, server, 100e3)
			client.CloseWithError(0, "")
			time.Sleep(time.Second)
		}
	})
}

// TestJunkInitial: what only looks like an Initial makes no connection.
func TestJunkInitial(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
		for range 50 {
			d := initialTo([]byte("whatever"), nil)
			rand.Read(d[100:200])
			n.Inject(netip.MustParseAddrPort("10.0.2.2:7777"), serverAddr, d, 0)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := n.server.pendingHandshakes(); got != 0 {
			t.Errorf("%d handshakes under way", got)
		}
	})
}

// TestStatelessRefusals: what ends an attempt at once, without a connection.
func TestStatelessRefusals(t *testing.T) {
	client := netip.MustParseAddrPort("10.0.2.2:7777")
	dcid := []byte("retryscid")
	for _, tt := range []struct {
		name    string
		tokenOf string // address that the token was made for
		pending int    // handshakes under way
		want    TransportErrorCode
	}{
		{"a token of ours that does not hold", "10.0.2.3:7777", 0, InvalidToken},             // R9000-8.1.2-3
		{"no room for another handshake", "10.0.2.2:7777", maxHandshakes, ConnectionRefused}, // R9000-5.2.2-3
	} {
		simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
			s := n.Socket(client, 1500)
			defer s.Close()
			n.server.mu.Lock()
			n.server.handshakes += tt.pending
			n.server.mu.Unlock()
			token := n.server.tokens.makeRetry(time.Now(), netip.MustParseAddrPort(tt.tokenOf), []byte("original"), dcid)
			d := initialTo(dcid, token)
			if _, err := s.WriteBatch([]udpio.Run{{Data: d, SegSize: len(d), Dst: serverAddr}}); err != nil {
				t.Fatal(err)
			}
			ms := []udpio.Received{{Buf: make([]byte, 2000)}}
			if _, err := s.ReadBatch(ms); err != nil {
				t.Fatal(err)
			}
			pkt := ms[0].Buf[:ms[0].N]
			h, _, ok := wire.ParseLongHeader(pkt)
			_, key := initialKeys(dcid)
			var scratch sealScratch
			_, pn, pnLen, _ := key.unprotectHeader(&scratch, pkt, h.PNOffset)
			payload, opened := key.open(&scratch, pkt, h.PNOffset+pnLen, 0, pn)
			var f wire.Frame
			if !ok || !opened {
				t.Fatal("not an Initial packet")
			}
			if _, perr := f.Parse(payload, nil); perr != wire.ParseOK || f.Type != wire.FrameTypeConnectionClose || f.ErrorCode != uint64(tt.want) {
				t.Errorf("%s: answer %+v", tt.name, f)
			}
			if got := n.server.pendingHandshakes(); got != tt.pending {
				t.Errorf("%s: %d handshakes under way", tt.name, got)
			}
		})
	}
}

// TestDialCancelled: Endpoint.Close does not wait for a peer that never answers.
func TestDialCancelled(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
		n.up[0].SetBlackhole(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := n.client.Dial(ctx, n.sockets[0], serverAddr, n.clientConfig); err != context.DeadlineExceeded {
			t.Errorf("Dial: %v", err)
		}
		start := time.Now()
		n.client.Close()
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("Close took %v", d)
		}
	})
}
