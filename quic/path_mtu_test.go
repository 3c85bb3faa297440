// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net"
	"slices"
	"testing"
	"time"
)

// TestMTUProbes: the sizes that are tried, and what they lead to.
func TestMTUProbes(t *testing.T) {
	probes := func(tc *testConn) (sizes []int, packets []*peerPacket) {
		tc.t.Helper()
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if n := len(p.dgram.data); n > 1200 {
				sizes, packets = append(sizes, n), append(packets, p)
				if len(p.frames) < 2 || p.frames[0].typ != tPing || p.frames[len(p.frames)-1].typ != tPadding {
					tc.t.Errorf("probe %v", p)
				}
			}
		}
		return sizes, packets
	}
	// confirm ends the handshake and leaves what follows to the caller.
	confirm := func(tc *testConn) {
		tc.t.Helper()
		for tc.conn == nil || !tc.core().complete { // R9000-14.2-1: 1200 bytes until a probe is acknowledged
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				if len(p.dgram.data) > 1200 {
					tc.t.Fatalf("%d bytes during the handshake", len(p.dgram.data))
				}
			}
			tc.advance(testRTT)
			tc.writeHandshake()
		}
		if tc.isClient {
			tc.write(frHandshakeDone())
		}
	}
	for _, side := range []testSide{clientSide, serverSide} {
		t.Run(side.String(), func(t *testing.T) {
			scripted(t, side, func(t *testing.T, tc *testConn) {
				confirm(tc)
				sizes, _ := probes(tc)
				if !slices.Equal(sizes, []int{ipv6ProbeSize, 1500 - 28}) {
					t.Fatalf("probes of %v bytes", sizes)
				}
				if got := tc.core().paths[0].mtu.size; got != 1200 {
					t.Errorf("MTU %d before an acknowledgment", got)
				}
				tc.ack()
				if got := tc.core().paths[0].mtu.size; got != 1472 {
					t.Errorf("MTU %d", got)
				}
				if err := tc.conn.WaitMTU(tc.expired()); err != nil {
					t.Errorf("WaitMTU: %v", err)
				}
				if got, want := tc.conn.MaxDatagramPayload(), 1472-(1+8+4+1+16); got != want {
					t.Errorf("MaxDatagramPayload %d, want %d", got, want)
				}
			}, socketMTU(1500))
		})
	}
	t.Run("lost", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			confirm(tc)
			window := tc.core().paths[0].loss.cc.Window()
			tries := map[int]int{}
			for tc.core().paths[0].mtu.phase != mtuComplete {
				sizes, packets := probes(tc)
				for _, size := range sizes {
					tries[size]++
				}
				for _, p := range packets {
					tc.forget(p)
				}
				tc.ack()
				tc.advance(100 * time.Millisecond)
				if len(tries) > 6 {
					t.Fatalf("probes %v", tries)
				}
			}
			for size, n := range tries {
				if n != mtuProbeTries {
					t.Errorf("%d probes of %d bytes, want %d", n, size, mtuProbeTries)
				}
			}
			if tries[1472] == 0 || tries[ipv6ProbeSize] == 0 {
				t.Errorf("probes %v", tries)
			}
			if p := tc.core().paths[0]; p.mtu.size != 1200 || p.loss.cc.Window() < window { // R9000-14.4-1
				t.Errorf("MTU %d, window %d after %d", p.mtu.size, p.loss.cc.Window(), window)
			}
			if err := tc.conn.WaitMTU(tc.expired()); err != nil {
				t.Errorf("WaitMTU: %v", err)
			}
			tc.sendDatagrams(3)
			tc.wantAlive("no probe was answered")
		}, socketMTU(1500))
	})
	t.Run("limit of the peer", func(t *testing.T) {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			confirm(tc)
			sizes, _ := probes(tc)
			if len(sizes) != 0 && slices.Max(sizes) > 1350 {
				t.Errorf("probes of %v bytes", sizes)
			}
			tc.settle()
			if got := tc.core().paths[0].mtu.size; got != 1350 {
				t.Errorf("MTU %d", got)
			}
		}, socketMTU(1500), func(p *testParams) { p.set(paramMaxUDPPayloadSize, 1350) })
	})
}

// TestMTUSearch: whatever a path carries is found, as exact as is worth it, with few
// probes. Of those that are too large each is lost.
func TestMTUSearch(t *testing.T) {
	search := func(m *mtuState, carries int) (lost int) {
		for n := 0; m.phase != mtuComplete; n++ {
			size := m.due()
			if size <= m.size && m.confirm.size == 0 || size > m.max || n > 40 {
				t.Fatalf("probe %d of %d bytes for %d: %+v", n, size, carries, m)
			}
			m.probeSent(testStart, size)
			if size <= carries {
				m.acked(size)
			} else {
				m.lost(size)
				lost++
			}
		}
		return lost
	}
	most := 0
	for carries := 1200; carries <= 1500; carries++ {
		var m mtuState
		m.init(1500, false)
		m.start(65527)
		n := search(&m, carries)
		most = max(most, n)
		least := min(carries, 1472)
		if m.size > least || m.size <= least-mtuStep || !m.settled() {
			t.Errorf("found %d bytes, the path carries %d", m.size, carries)
		}
		if carries >= ipv6ProbeSize && m.size < ipv6ProbeSize {
			t.Errorf("found %d bytes, the path carries %d", m.size, carries)
		}

		// It shrinks: the present size is tried, then all of it again.
		smaller := 1200 + (carries-1200)/2
		if m.size <= smaller+mtuStep {
			continue
		}
		m.doubt()
		search(&m, smaller)
		for m.confirm.size != 0 {
			m.probeSent(testStart, m.due())
			m.lost(m.confirm.size)
		}
		search(&m, smaller)
		if m.size > smaller || m.size <= smaller-mtuStep {
			t.Errorf("found %d bytes, the path carries %d after %d", m.size, smaller, carries)
		}

		// It grows again, which is found only after a while.
		m.retryDue(testStart)
		after := mtuRaiseAfter
		if m.size < ipv6ProbeSize {
			after = mtuRaiseAfterIPv6
		}
		if m.raise != testStart.add(after) || m.due() != 0 {
			t.Fatalf("next search at %v, probe of %d bytes now", m.raise, m.due())
		}
		before := m.tunnelSize()
		if m.retryDue(m.raise-1) || !m.retryDue(m.raise) {
			t.Error("the next search is not due at its time")
		}
		m.retry(1472)
		if m.due() != 1472 || m.tunnelSize() != before {
			t.Errorf("probe of %d bytes", m.due())
		}
		search(&m, carries)
		if m.size > least || m.size <= least-mtuStep {
			t.Errorf("found %d bytes, the path carries %d again", m.size, carries)
		}
	}
	if most > 6*mtuProbeTries {
		t.Errorf("up to %d probes lost", most)
	}
	t.Logf("up to %d probes lost", most)
}

// TestMTUAfterMigration: each network path has its own MTU, which probes sent on the
// one before say nothing about.
func TestMTUAfterMigration(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		p := tc.core().paths[0]
		if p.mtu.size != 1472 {
			t.Fatalf("MTU %d", p.mtu.size)
		}
		p.mtu.doubt() // a probe is in flight to the old address
		tc.write(tc.peerCIDFrame(0, 1, 0))
		tc.remotes[0] = testOtherAddr
		tc.writeOn(0, frPing(), frPadding(1200))
		if p.remote != testOtherAddr || p.mtu.size != 1200 || p.mtu.phase != mtuIdle {
			t.Fatalf("MTU of %v is %d", p.remote, p.mtu.size)
		}
		var challenge []byte
		for q := tc.nextPacket(); q != nil; q = tc.nextPacket() {
			if f, ok := q.has(tPathChallenge); ok && q.dgram.to == testOtherAddr {
				challenge = f.blobs[0]
			}
		}
		tc.ack()
		if p.mtu.size != 1200 {
			t.Errorf("MTU %d by a probe to the old address", p.mtu.size)
		}
		tc.writeOn(0, frPathResponse(challenge))
		tc.settle()
		if p.mtu.size != 1472 {
			t.Errorf("MTU %d of the new address", p.mtu.size)
		}
	}, socketMTU(1500))
}

// TestMTUProbesInterrupted: what was given up with a path says nothing about sizes.
func TestMTUProbesInterrupted(t *testing.T) {
	var m mtuState
	m.init(1500, false)
	m.start(65527)
	for range 10 {
		for m.due() != 0 {
			m.probeSent(testStart, m.due())
		}
		m.interrupted()
		m.lost(ipv6ProbeSize)
		m.lost(1472)
	}
	if m.phase != mtuFirst || m.due() != ipv6ProbeSize {
		t.Errorf("%+v", m)
	}
}

// TestMTURefused: the kernel refuses a datagram because the interface has changed.
func TestMTURefused(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		p := tc.core().paths[0]
		if p.mtu.size != 1472 {
			t.Fatalf("MTU %d", p.mtu.size)
		}
		window := p.loss.cc.Window()
		tc.sockets[0].mtu = 1400
		s := tc.open(true)
		s.Write(make([]byte, 1440))
		tc.skip()
		tc.ack()
		tc.settle()
		if p.mtu.size > 1400-28 || p.mtu.size < 1200 {
			t.Errorf("MTU %d", p.mtu.size)
		}
		if p.loss.cc.Window() < window { // not congestion
			t.Errorf("window %d after %d", p.loss.cc.Window(), window)
		}
		if s.send.buf.buffered() != 0 {
			t.Error("the data did not arrive in smaller packets")
		}
	}, socketMTU(1500))
}

// TestProbeRefused: the interface allows less now than what was confirmed before, as the
// kernel's answer to a larger probe shows.
func TestProbeRefused(t *testing.T) {
	var m mtuState
	m.init(1500, false)
	m.start(65527)
	m.acked(ipv6ProbeSize)
	m.tooLong(1472, 1264)
	if m.size != minInitialSize || m.max != 1264 {
		t.Errorf("MTU %d, at most %d", m.size, m.max)
	}
}

// TestSocketFull: what is sealed waits for the socket, and nothing spins.
func TestSocketFull(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		s := tc.sockets[0]
		s.full = make(chan struct{})
		tc.sendDatagrams(3)
		tc.write(frPing())
		tc.write(frPing())
		tc.wantSilenceNoDatagram("socket is full")
		close(s.full)
		for range 3 {
			tc.wantType("sent when there is room", tDatagram)
		}
		tc.wantAlive("socket has room")
	})
}

// TestSendError on the only path is survived.
func TestSendError(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.sockets[0].err = net.ErrWriteToConnected
		tc.sendDatagrams(3)
		tc.wantSilenceNoDatagram("nothing gets out")
		tc.sockets[0].err = nil
		tc.settle()
		tc.wantAlive("the socket works again")
		if tc.conn.Stats().Paths[0].SendErrors == 0 {
			t.Error("not counted")
		}
	})
}

// TestMTUProbeOnDeadPath: a probe that is given up with its path was not too large.
func TestMTUProbeOnDeadPath(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		p := tc.core().paths[0]
		p.mtu.doubt()
		tc.conn.LabelPath(0, "a")
		if p := tc.core().paths[0]; p.mtu.confirm.sent == 0 || p.mtu.confirm.tries != 1 {
			t.Fatalf("no probe is in flight: %+v", p.mtu)
		}
		tc.conn.LinkDown("a")
		if m := &tc.core().paths[0].mtu; m.size != 1472 || m.confirm.sent != 0 || m.confirm.tries != 0 {
			t.Errorf("%+v", m)
		}
	}, socketMTU(1500))
}

// TestLargeLosses: packets of a size that arrives say nothing about those that do not.
func TestLargeLosses(t *testing.T) {
	lt := newLossTest(t)
	lt.warm(10 * ms) // packet 0
	send := func(d time.Duration, size uint16) {
		lt.packetSent(at(d), appSpace, sentPacket{size: size, flags: inFlightPacket}, nil)
	}
	for i := range 4 {
		d := time.Duration(i) * 100 * ms
		send(d, 1400) // 1, 3, 5, 7
		send(d, 1300)
		n := uint64(2*i + 2)
		lt.ack(d+50*ms, r(n, n))
	}
	if lt.largeLost != 3 || lt.largeLostSince != at(0) {
		t.Errorf("%d large packets lost in a row since %v", lt.largeLost, lt.largeLostSince.sub(testStart))
	}
	send(500*ms, 1400)
	lt.ack(510*ms, r(9, 9)) // and packet 7 is lost
	send(520*ms, 1400)
	lt.ack(530*ms, r(9, 10))
	if lt.largeLost != 0 || lt.largeArrived != 1400 {
		t.Errorf("%d large packets lost in a row, one of %d arrived", lt.largeLost, lt.largeArrived)
	}
}
