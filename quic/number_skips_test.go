// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/sha256"
	mrand "math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// testSeed is the seed of the connections that begin with a socket of a test.
func testSeed(addr netip.AddrPort) [32]byte { return sha256.Sum256([]byte(addr.String())) }

// TestOptimisticAck: a packet number that was left out is not acknowledged by a peer that
// waits for the packets.
//
// R9000-13.1-2
func TestOptimisticAck(t *testing.T) {
	for _, cumulative := range []bool{false, true} {
		bothSides(t, func(t *testing.T, tc *testConn) {
			p := tc.core().paths[0]
			p.skips.at = p.space.next + 3
			left := uint64(p.skips.at)
			tc.handOver()
			tc.sendDatagrams(6)
			tc.fill()
			for pn := left - 3; pn < left+4; pn++ {
				if tc.received[0][pn] != (pn != left) {
					t.Fatalf("received %d: %v; all but %d were to be sent", pn, tc.received[0][pn], left)
				}
			}
			tc.ack()
			tc.wantAlive("acknowledgment of what was received")
			tc.write(tc.ackFrame(0))
			tc.wantAlive("the same again")
			tc.received[0][left] = true
			if cumulative {
				for pn := left + 1; tc.received[0][pn]; pn++ {
					delete(tc.received[0], pn)
				}
			}
			tc.write(tc.ackFrame(0))
			tc.wantClose("acknowledgment of a packet number that was left out", ProtocolViolation)
		})
	}
}

// TestNumberSkips: the numbers left out are few, and nobody can tell them in advance.
func TestNumberSkips(t *testing.T) {
	first := map[packetNumber]bool{}
	for n := range uint64(100) {
		rand := mrand.New(mrand.NewPCG(1, n))
		var s numberSkips
		var at []packetNumber
		for s.choose(0, rand.Float64()); s.at < 1_000_000; s.choose(s.at+1, rand.Float64()) {
			at = append(at, s.at)
		}
		if len(at) < 10 || len(at) > 20 || at[0] < minSkipPeriod/2 || at[0] >= 3*minSkipPeriod/2 {
			t.Fatalf("left out %v", at)
		}
		first[at[0]] = true
	}
	if len(first) < 70 {
		t.Errorf("the first is one of %d in a hundred connections", len(first))
	}
}

// TestLeftOutIsNoPacket: a number that was left out is neither lost nor one of the three
// later packets that make another one lost.
func TestLeftOutIsNoPacket(t *testing.T) {
	for left := 1; left <= 6; left++ {
		lt := newLossTest(t)
		lt.warm(100 * ms)
		var sent []uint64
		for range 5 {
			if lt.spaces[appSpace].next == packetNumber(left) {
				lt.leaveOut(at(0))
			}
			sent = append(sent, uint64(lt.send(0)))
		}
		lt.ack(100*ms, r(sent[2], sent[2]))
		if len(lt.lost) != 0 {
			t.Errorf("without %d: lost %v when two later packets were sent", left, lt.lost)
		}
		lt.ack(100*ms, r(sent[2], sent[2]), r(sent[4], sent[4])) // R9002-6.1.1-1
		if len(lt.lost) != 2 || lt.lost[sent[0]] != 1 || lt.lost[sent[1]] != 1 || lt.packetsLost != 2 {
			t.Errorf("without %d: lost %v of %v", left, lt.lost, sent)
		}
		if s := &lt.space[appSpace].sent; s.first <= packetNumber(left) && packetNumber(left) < s.end && s.at(packetNumber(left)).flags != leftOut {
			t.Errorf("without %d: it became %b", left, s.at(packetNumber(left)).flags)
		}
		if c := lt.cc.losses; len(c) != 2 || !c[0].NewRun || c[1].NewRun {
			t.Errorf("without %d: controller heard of %+v", left, c)
		}
		last := []wire.Range{r(sent[2], sent[4])}
		if sent[4]-sent[2] > 2 {
			last = []wire.Range{r(sent[2], uint64(left)-1), r(uint64(left)+1, sent[4])}
		}
		lt.ack(100*ms, last...)
		lt.send(time.Second)
		if n := lt.space[appSpace].sent.len(); n != 1 || lt.inFlight != testMTU {
			t.Errorf("without %d: %d packets remembered, %d bytes in flight", left, n, lt.inFlight)
		}
	}
}

// TestNumbersLeftOut: an honest peer does not notice, whatever it loses.
func TestNumbersLeftOut(t *testing.T) {
	for _, loss := range []float64{0, 0.02} {
		link := lan
		link.Loss = loss
		simulate(t, []quictest.LinkConfig{link, slowLink()}, nil, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			transfer(t, client, server, 2e6)
			transfer(t, server, client, 2e6)
			for _, c := range []*Conn{client, server} {
				synctest.Wait()
				for _, p := range c.paths {
					l := &p.loss
					if p.space.skipped == noPacket || l.spuriousLosses > 0 {
						t.Errorf("client %v, path %d: last number left out %d, %d spurious losses", c.isClient, p.id, p.space.skipped, l.spuriousLosses)
					}
				}
			}
		})
	}
}
