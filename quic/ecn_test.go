// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// sendMarked sends n packets, with ECT(0) if the path wants that, and returns how many
// of them are.
func (lt *lossTest) sendMarked(d time.Duration, n int) (marked int) {
	for range n {
		flags := inFlightPacket
		if lt.ecn.marks() {
			flags |= sentECT
			marked++
		}
		lt.sendAs(d, appSpace, flags)
	}
	return marked
}

// ackECN acknowledges ranges with ECN counts.
func (lt *lossTest) ackECN(d time.Duration, ecn wire.ECNCounts, ranges ...wire.Range) {
	lt.t.Helper()
	f := ackFrame(lt.t, ranges...)
	f.HasECN, f.ECN = true, ecn
	if _, err := lt.handleAck(at(d), appSpace, f, 0, true, lt.out); err != nil {
		lt.t.Fatal(err)
	}
}

func (lt *lossTest) wantECN(why string, want ecnPhase) {
	lt.t.Helper()
	if got := lt.ecn.phase; got != want {
		lt.t.Errorf("%s: ECN is %v, want %v", why, got, want)
	}
}

// TestECNValidation checks what counts prove, and what they refute. Packets 0 to 3 are
// marked, and the first two acknowledged.
func TestECNValidation(t *testing.T) {
	counts := func(ect0, ect1, ce uint64) *wire.ECNCounts { return &wire.ECNCounts{ECT0: ect0, ECT1: ect1, CE: ce} }
	for _, tt := range []struct {
		name   string
		counts *wire.ECNCounts
		ranges wire.Range
		failed bool
		ce     int // signals of congestion
	}{
		{"all marks arrived", counts(4, 0, 0), r(0, 3), false, 0},
		{"some with CE", counts(3, 0, 1), r(0, 3), false, 1},
		{"all with CE", counts(2, 0, 2), r(0, 3), false, 1},
		{"an acknowledgment was missed", counts(4, 0, 0), r(0, 2), false, 0},
		{"no counts", nil, r(0, 3), true, 0},                       // R9000-13.4.2.2-1
		{"counts did not rise", counts(2, 0, 0), r(0, 3), true, 0}, // R9000-13.4.2.2-1
		{"counts rose too little", counts(3, 0, 0), r(0, 3), true, 0},
		{"ECT(0) fell", counts(1, 0, 3), r(0, 3), true, 0},
		{"CE fell", counts(4, 0, 0), r(0, 3), false, 0},
		{"ECT(0) of packets that had none", counts(5, 0, 0), r(0, 3), true, 0},
		{"ECT(1), which was never sent", counts(4, 1, 0), r(0, 3), true, 0}, // R9000-13.4.2.2-1
		{"nothing larger acknowledged, no counts", nil, r(0, 1), false, 0},  // R9000-13.4.2.1-1
		{"nothing larger acknowledged, older counts", counts(1, 0, 0), r(0, 1), false, 0},
	} {
		lt := newLossTest(t)
		lt.sendMarked(0, 4)
		lt.ackECN(50*ms, wire.ECNCounts{ECT0: 2}, r(0, 1))
		lt.wantECN(tt.name+", before", ecnCapable)
		want := ecnCapable
		if tt.failed {
			want = ecnFailed
		}
		if tt.counts == nil {
			lt.ack(60*ms, tt.ranges)
		} else {
			lt.ackECN(60*ms, *tt.counts, tt.ranges)
		}
		lt.wantECN(tt.name, want)
		if got := len(lt.cc.losses); got != tt.ce {
			t.Errorf("%s: %d signals, want %d", tt.name, got, tt.ce)
		}
		if marked := lt.sendMarked(70*ms, 1); marked == 1 == tt.failed { // R9000-13.4.2.2-1
			t.Errorf("%s: %d packets are marked", tt.name, marked)
		}
	}
	lt := newLossTest(t)
	lt.sendMarked(0, 4)
	lt.ackECN(50*ms, wire.ECNCounts{ECT0: 2, CE: 1}, r(0, 2))
	lt.ackECN(50*ms, wire.ECNCounts{ECT0: 3}, r(0, 3))
	lt.wantECN("CE fell", ecnFailed)
}

// TestECNReordered: a packet that is acknowledged late, by an acknowledgment that was
// overtaken, proves nothing.
//
// R9000-13.4.2.1-1
func TestECNReordered(t *testing.T) {
	lt := newLossTest(t)
	lt.sendMarked(0, 4)
	lt.ackECN(50*ms, wire.ECNCounts{ECT0: 3}, r(0, 0), r(2, 3)) // packet 1 comes late
	lt.ack(51*ms, r(0, 3))
	lt.wantECN("late packet, no counts", ecnCapable)
	lt.sendMarked(60*ms, 1)
	lt.ackECN(90*ms, wire.ECNCounts{ECT0: 5}, r(0, 4))
	lt.wantECN("counts of all", ecnCapable)

	// Nothing but late acknowledgments of a test: neither proven nor refuted.
	lt = newLossTest(t)
	lt.sendMarked(0, 1)
	lt.ecn.pause()
	lt.sendMarked(10*ms, 1)
	lt.ack(50*ms, r(1, 1))
	lt.ackECN(51*ms, wire.ECNCounts{ECT0: 1}, r(0, 1))
	lt.wantECN("late test packet", ecnTesting)
}

// TestECNTest: a test ends with ten packets, and what becomes of them decides.
func TestECNTest(t *testing.T) {
	test := func() *lossTest {
		lt := newLossTest(t)
		lt.warm(100 * ms) // packet 0
		lt.ecn.restart()
		if n := lt.sendMarked(0, 30); n != ecnTestPackets {
			t.Fatalf("%d of 30 packets are marked", n)
		}
		lt.wantECN("30 packets sent", ecnUnknown)
		return lt
	}
	lt := test()
	lt.ackECN(100*ms, wire.ECNCounts{ECT0: 1, CE: 1}, r(1, 2))
	lt.wantECN("one with ECT(0)", ecnCapable)

	lt = test()
	lt.ackECN(100*ms, wire.ECNCounts{CE: 9}, r(1, 9))
	lt.wantECN("nine with CE", ecnUnknown)
	lt.ackECN(100*ms, wire.ECNCounts{CE: 10}, r(1, 10))
	lt.wantECN("all with CE", ecnFailed)
	if len(lt.cc.losses) != 0 {
		t.Error("marks of a path that is not validated are a signal") // R9002-7.1-1
	}

	lt = test()
	lt.ack(100*ms, r(11, 20))
	lt.wantECN("all lost", ecnTesting) // once more: it may have been chance
	lt.sendMarked(110*ms, 20)          // 31 to 50
	lt.ack(200*ms, r(45, 50))
	lt.wantECN("all lost twice", ecnFailed)

	lt = test()
	lt.ack(100*ms, r(11, 20))
	lt.sendMarked(110*ms, 20)
	lt.ackECN(200*ms, wire.ECNCounts{ECT0: 1}, r(31, 31))
	lt.wantECN("one arrived of the second test", ecnCapable)

	lt = test()
	lt.discardSent(1, 10, lt.out)
	lt.ack(100*ms, r(11, 20))
	lt.wantECN("none left this host", ecnTesting)
	if lt.ecn.tests != 0 {
		t.Error("counts as a test that has failed")
	}
}

// TestECNTimeout: when the path falls silent what asks it is not marked, for the marks
// may be why.
func TestECNTimeout(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(100 * ms)
	lt.ecn.restart()
	lt.sendMarked(0, 5) // 1 to 5
	lt.ackECN(100*ms, wire.ECNCounts{ECT0: 5}, r(1, 5))
	lt.sendMarked(110*ms, 5) // 6 to 10
	lt.expired(lt.timer(), lt.out)
	lt.wantECN("time-out", ecnUnknown)
	if lt.sendMarked(600*ms, 1) != 0 {
		t.Error("the probe is marked")
	}
	lt.ackECN(700*ms, wire.ECNCounts{ECT0: 5, CE: 1}, r(6, 6))
	lt.wantECN("a late acknowledgment", ecnCapable)
	if len(lt.cc.losses) != 1 {
		t.Errorf("%d signals, want 1", len(lt.cc.losses))
	}

	lt.sendMarked(710*ms, 5) // 12 to 16
	lt.expired(lt.timer(), lt.out)
	lt.sendMarked(2*time.Second, 1)
	lt.ack(2100*ms, r(17, 17))
	lt.wantECN("what was marked is lost", ecnTesting)
}

// TestECNSignal: new CE marks are one signal of congestion in each recovery period,
// dated by the newest packet acknowledged.
//
// R9002-7.1-1
func TestECNSignal(t *testing.T) {
	for cc := range numCongestionControls {
		t.Run(cc.String(), func(t *testing.T) {
			lt := newLossTest(t)
			lt.newController = cc.newController
			lt.restart()
			lt.sendMarked(0, 6) // 0 to 5
			lt.ackECN(50*ms, wire.ECNCounts{ECT0: 2}, r(0, 1))
			before := lt.lossState.cc.Window()
			lt.ackECN(60*ms, wire.ECNCounts{ECT0: 3, CE: 1}, r(0, 3))
			reduced := lt.lossState.cc.Window()
			if cc != BBR && reduced >= before || slices.Contains([]string{"slow_start", "startup"}, lt.lossState.cc.State()) {
				t.Errorf("window %d after a mark, %d before", reduced, before)
			}
			lt.ackECN(70*ms, wire.ECNCounts{ECT0: 4, CE: 2}, r(0, 5))
			if got := lt.lossState.cc.Window(); got != reduced && cc != BBR {
				t.Errorf("window %d after another mark in the same round, want %d", got, reduced)
			}
			lt.sendMarked(80*ms, 2)
			lt.ackECN(130*ms, wire.ECNCounts{ECT0: 5, CE: 3}, r(0, 7))
			if got := lt.lossState.cc.Window(); got >= reduced && cc != BBR {
				t.Errorf("window %d after a mark in the next round, before %d", got, reduced)
			}
			if lt.ecn.phase != ecnCapable || lt.packetsLost != 0 {
				t.Errorf("ECN %v, %d packets lost", lt.ecn.phase, lt.packetsLost)
			}
		})
	}
	lt := newLossTest(t)
	lt.sendMarked(0, 2)
	lt.sendMarked(10*ms, 2)
	lt.ackECN(60*ms, wire.ECNCounts{ECT0: 3, CE: 1}, r(0, 3))
	if l := lt.cc.losses; len(l) != 1 || !l[0].ECN || l[0].SentTime != at(10*ms).since() || l[0].Bytes != 0 {
		t.Errorf("signals %+v", l)
	}
	// An acknowledgment of the end of one round and the beginning of the next.
	lt.sendMarked(50*ms, 1) // 4
	lt.sendMarked(70*ms, 1) // 5
	lt.ackECN(120*ms, wire.ECNCounts{ECT0: 4, CE: 2}, r(0, 5))
	if n := len(lt.cc.losses); n != 1 {
		t.Errorf("%d signals of what may be one queue", n)
	}
}

// TestECNNewAddress: the packets that were sent to the old address have no say.
func TestECNNewAddress(t *testing.T) {
	lt := newLossTest(t)
	lt.sendMarked(0, 5)
	lt.ack(50*ms, r(0, 0))
	lt.wantECN("no counts", ecnFailed)
	lt.sendMarked(55*ms, 1) // 5
	lt.resetForNewAddress()
	lt.wantECN("new address", ecnTesting)
	lt.sendMarked(60*ms, 1) // 6
	lt.ackECN(90*ms, wire.ECNCounts{ECT0: 1, CE: 3}, r(1, 5))
	lt.wantECN("counts of the old path", ecnTesting)
	if len(lt.cc.losses) != 0 { // R9000-9.4-2
		t.Error("marks of the old path are a signal on the new one")
	}
	lt.ackECN(100*ms, wire.ECNCounts{ECT0: 1, CE: 3}, r(1, 6)) // the count did not rise
	lt.wantECN("no mark on the new path", ecnFailed)
}

// TestRunsHaveOneMark: the datagrams of a run share their ECN field.
func TestRunsHaveOneMark(t *testing.T) {
	var b txBatch
	defer b.release()
	to := tuple{remote: serverAddr}
	for _, ecn := range []udpio.ECN{udpio.ECT0, udpio.ECT0, udpio.NotECT, udpio.NotECT, udpio.ECT0} {
		b.begin(100)
		b.commit(100, to, ecn, 0)
	}
	var got []udpio.ECN
	for _, r := range b.runs {
		got = append(got, r.ECN)
	}
	if !slices.Equal(got, []udpio.ECN{udpio.ECT0, udpio.NotECT, udpio.ECT0}) || len(b.runs[0].Data) != 200 {
		t.Errorf("runs with %v", got)
	}
	if b.segment(udpio.ECT0) != 100 || b.segment(udpio.NotECT) != 0 {
		t.Errorf("segments of %d and %d bytes", b.segment(udpio.ECT0), b.segment(udpio.NotECT))
	}
}

// marks returns the ECN fields of the packets that were sent since the last call, by
// what they are.
func (tc *testConn) marks() (inFlight, ackOnly []udpio.ECN) {
	tc.t.Helper()
	for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
		eliciting := false
		for _, f := range p.frames {
			switch f.typ {
			case tAck, tAckECN, tPathAck, tPathAckECN, tConnectionClose, tApplicationClose:
			default:
				eliciting = true
			}
		}
		if eliciting {
			inFlight = append(inFlight, p.dgram.ecn)
		} else {
			ackOnly = append(ackOnly, p.dgram.ecn)
		}
	}
	return inFlight, ackOnly
}

func all(marks []udpio.ECN, want udpio.ECN) bool {
	return !slices.ContainsFunc(marks, func(m udpio.ECN) bool { return m != want })
}

// TestECNMarks: which packets are marked.
func TestECNMarks(t *testing.T) {
	for _, side := range []testSide{clientSide, serverSide} {
		t.Run(side.String(), func(t *testing.T) {
			scripted(t, side, func(t *testing.T, tc *testConn) {
				for range 5 {
					if tc.conn != nil && tc.core().complete {
						break
					}
					tc.fill()
					for _, p := range tc.packets {
						if p.typ != packetOneRTT && p.dgram.ecn != udpio.ECT0 {
							t.Errorf("%v has ECN field %d", p, p.dgram.ecn)
						}
					}
					tc.skip()
					tc.advance(testRTT)
					tc.writeHandshake()
				}
				if tc.isClient {
					tc.write(frHandshakeDone())
				}
				tc.settle()
				tc.sendDatagrams(30)
				if sent, _ := tc.marks(); len(sent) != 30 || !all(sent, udpio.ECT0) {
					t.Errorf("fields %v", sent)
				}
				tc.ack()
				tc.write(frPing())
				tc.write(frPing())
				if sent, acks := tc.marks(); len(sent) > 0 || len(acks) == 0 || !all(acks, udpio.NotECT) { // R9484-10.2-1
					t.Errorf("acknowledgments have fields %v", acks)
				}
				tc.conn.CloseWithError(1, "")
				if _, closes := tc.marks(); len(closes) == 0 || !all(closes, udpio.NotECT) { // R9484-10.2-1
					t.Errorf("CONNECTION_CLOSE has fields %v", closes)
				}
			}, reportECN{})
		})
	}
}

// TestECNDisabled: what the peer reports makes ECN end, on its path only.
//
// R9000-13.4.2.2-1 RMP21-4.1-2
func TestECNDisabled(t *testing.T) {
	for name, report := range map[string]func(c *wire.ECNCounts){
		"no counts":         func(c *wire.ECNCounts) { *c = wire.ECNCounts{} },
		"one is missing":    func(c *wire.ECNCounts) { c.ECT0-- },
		"ECT(1) never sent": func(c *wire.ECNCounts) { c.ECT1++ },
		"too many":          func(c *wire.ECNCounts) { c.ECT0++ },
	} {
		t.Run(name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				tc.openPath(1)
				tc.settle()
				paths := tc.core().paths
				if a, b := paths[0].loss.ecn.phase, paths[1].loss.ecn.phase; a != ecnCapable || b != ecnCapable {
					t.Fatalf("ECN of the paths is %v and %v", a, b)
				}
				tc.marks()
				paths[1].probePings = 1
				tc.write(frPing())
				tc.fill()
				report(tc.ecn[1])
				tc.ack()
				tc.settle()
				if a, b := paths[0].loss.ecn.phase, paths[1].loss.ecn.phase; a != ecnCapable || b != ecnFailed {
					t.Errorf("ECN of the paths is %v and %v", a, b)
				}
				st := tc.conn.Stats().Paths
				if st[0].ECN != "capable" || st[1].ECN != "failed" {
					t.Errorf("stats say %v and %v", st[0].ECN, st[1].ECN)
				}
				for i, want := range []udpio.ECN{udpio.ECT0, udpio.NotECT} {
					tc.core().paths[i].probePings = 1
					tc.write(frPing())
					if sent, _ := tc.marks(); len(sent) == 0 || !all(sent, want) {
						t.Errorf("path %d: fields %v", i, sent)
					}
				}
			}, multipathUpTo(2), reportECN{})
		})
	}
}

// TestECNMigration: another network path is tested anew.
func TestECNMigration(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		p := tc.core().paths[0]
		if p.loss.ecn.phase != ecnFailed { // the peer reports nothing
			t.Fatalf("ECN is %v", p.loss.ecn.phase)
		}
		tc.write(tc.peerCIDFrame(0, 1, 0))
		tc.settle()
		tc.remotes[0] = testOtherAddr
		tc.writeOn(0, frPing(), frPadding(1200))
		if p.loss.ecn.phase != ecnTesting {
			t.Errorf("ECN is %v", p.loss.ecn.phase)
		}
		sent := 0
		for q := tc.nextPacket(); q != nil; q = tc.nextPacket() {
			want := udpio.NotECT // to the old address
			if q.dgram.to == testOtherAddr {
				want = udpio.ECT0
				sent++
			}
			if q.dgram.ecn != want {
				t.Errorf("%v to %v has ECN field %d", q, q.dgram.to, q.dgram.ecn)
			}
		}
		if sent == 0 {
			t.Error("nothing was sent to the new address")
		}
	})
}

// marking is a link that marks above 20 ms of queue and drops above 200.
func marking() quictest.LinkConfig {
	l := lan
	l.MarkBytes = int(l.Rate / 8 / 50)
	l.QueueBytes = 10 * l.MarkBytes
	return l
}

// TestMarkingLink: marks instead of losses keep the queue of a link short.
func TestMarkingLink(t *testing.T) {
	longSimulation(t)
	for cc := range numCongestionControls {
		t.Run(cc.String(), func(t *testing.T) {
			change := func(client, server *Config) { client.CongestionControl = cc }
			simulate(t, []quictest.LinkConfig{marking(), {}}, change, func(n *testNet) {
				client, server := n.connect(t)
				d := transfer(t, client, server, 6e6)
				st, link := client.Stats().Paths[0], n.up[0].Stats()
				t.Logf("%v, %d lost, %d marked, dropped %v", d, st.PacketsLost, link.Marked, link.Dropped)
				if st.ECN != "capable" || link.Marked == 0 || st.PacketsLost != 0 || link.Dropped[quictest.DropQueue] != 0 {
					t.Errorf("ECN %s, %d marked, %d lost", st.ECN, link.Marked, st.PacketsLost)
				}
				if d > 3200*time.Millisecond { // 2.5 s at the rate of the link
					t.Errorf("6 MB took %v", d)
				}
			})
		})
	}
}

// TestECNBleached: a path that removes marks, from the beginning or later.
func TestECNBleached(t *testing.T) {
	bleach := lan
	bleach.ClearECN = true
	for _, late := range []bool{false, true} {
		link := bleach
		if late {
			link = lan
		}
		simulate(t, []quictest.LinkConfig{link, lan}, nil, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			transfer(t, client, server, 200e3)
			n.up[0].SetConfig(bleach)
			transfer(t, client, server, 1e6)
			transfer(t, server, client, 1e6)
			c, s := client.Stats().Paths, server.Stats().Paths
			if c[0].ECN != "failed" || c[1].ECN != "capable" || s[1].ECN != "capable" || late == (s[0].ECN == "failed") {
				t.Errorf("late %v: ECN at the client %s, %s, at the server %s, %s", late, c[0].ECN, c[1].ECN, s[0].ECN, s[1].ECN)
			}
		})
	}
}

// TestECNBlackHole: a path that drops what is marked is used all the same.
func TestECNBlackHole(t *testing.T) {
	longSimulation(t)
	hole := lan
	hole.DropECN = true
	t.Run("handshake", func(t *testing.T) {
		simulate(t, []quictest.LinkConfig{hole, {}}, nil, func(n *testNet) {
			start := time.Now()
			client, server := n.connect(t)
			// A PTO of each side before anything is known of the path.
			if d := time.Since(start); d > 2500*time.Millisecond {
				t.Errorf("connected after %v", d)
			}
			for _, c := range [][2]*Conn{{client, server}, {server, client}} {
				if d := transfer(t, c[0], c[1], 1e6); d > 1500*time.Millisecond {
					t.Errorf("1 MB took %v", d)
				}
				if ecn := c[0].Stats().Paths[0].ECN; ecn != "failed" {
					t.Errorf("ECN is %s", ecn)
				}
			}
		})
	})
	t.Run("second path", func(t *testing.T) {
		simulate(t, []quictest.LinkConfig{lan, hole}, nil, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			for _, c := range [][2]*Conn{{client, server}, {server, client}} {
				transfer(t, c[0], c[1], 2e6)
				if d := transfer(t, c[0], c[1], 4e6); d > 1200*time.Millisecond {
					t.Errorf("4 MB over both took %v", d)
				}
				if st := c[0].Stats().Paths; st[0].ECN != "capable" || st[1].ECN != "failed" || activeIn(c[0].Stats()) != 2 {
					t.Errorf("paths %+v", st)
				}
			}
		})
	})
	t.Run("later", func(t *testing.T) {
		simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
			client, server := n.connect(t)
			transfer(t, client, server, 1e6)
			go func() {
				time.Sleep(200 * time.Millisecond)
				n.up[0].SetConfig(hole)
			}()
			d := transfer(t, client, server, 2e6)
			t.Logf("2 MB: %v", d)
			if d > 3*time.Second {
				t.Errorf("2 MB took %v", d)
			}
			if ecn := client.Stats().Paths[0].ECN; ecn != "failed" {
				t.Errorf("ECN is %s", ecn)
			}
		})
	})
	t.Run("second path, later", func(t *testing.T) {
		simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
			client, server := n.connect(t)
			n.addPaths(t, client, server)
			transfer(t, client, server, 2e6)
			n.up[1].SetConfig(hole)
			transfer(t, client, server, 4e6)
			if st := client.Stats().Paths; st[0].ECN != "capable" || st[1].ECN != "failed" || st[1].TimesDead != 0 {
				t.Errorf("paths %+v", st)
			}
		})
	})
	t.Run("cut", func(t *testing.T) { // which is none
		simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
			client, server := n.connect(t)
			for range 4 {
				go func() {
					time.Sleep(100 * time.Millisecond)
					n.blackhole(0, 700*time.Millisecond)
				}()
				transfer(t, client, server, 2e6)
				synctest.Wait()
				if ecn := client.Stats().Paths[0].ECN; ecn != "capable" {
					t.Fatalf("ECN is %s", ecn)
				}
			}
		})
	})
}
