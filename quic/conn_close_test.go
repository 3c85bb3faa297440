// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// closeTime is how long the connection stays in the closing or draining state.
func (tc *testConn) closeTime() time.Duration { return 3 * tc.core().largestPTO() }

// hasEnded reports whether the loop of the connection is over.
func (tc *testConn) hasEnded() bool {
	synctest.Wait()
	select {
	case <-tc.core().loopDone:
		return true
	default:
		return false
	}
}

// wantEndAfter checks that the connection keeps its state for d and no longer.
func (tc *testConn) wantEndAfter(d time.Duration) {
	tc.t.Helper()
	tc.advance(d - time.Nanosecond)
	if tc.hasEnded() {
		tc.t.Errorf("no state left before %v have passed", d)
	}
	tc.advance(time.Nanosecond)
	if !tc.hasEnded() {
		tc.t.Errorf("there is still state after %v", d)
	}
}

// TestCloseByApplication: CONNECTION_CLOSE, its repetition, and the closing state.
func TestCloseByApplication(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.conn.CloseWithError(7, "bye")
		p := tc.wantFrame("the application closes", frApplicationClose(7, "bye"))
		if p.typ != packetOneRTT { // R9000-10.2.3-1
			t.Errorf("CONNECTION_CLOSE in %v", p)
		}
		if e, ok := tc.conn.Err().(*ApplicationError); !ok || e.Code != 7 || e.Remote {
			t.Errorf("Err is %v", tc.conn.Err())
		}
		replies := 0
		for range 20 {
			tc.write(frPing())
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				if _, ok := p.has(tApplicationClose); !ok || len(p.frames) != 1 {
					t.Errorf("%v in the closing state", p)
				}
				replies++
			}
		}
		if replies < 1 || replies > 6 { // R9000-10.2.1-1 R9000-11.1-1 R9000-10.2.1-2
			t.Errorf("20 packets were answered with %d times CONNECTION_CLOSE", replies)
		}
		tc.wantEndAfter(tc.closeTime()) // R9000-10.2-1
	})
}

// TestCloseOnFullSocket: CONNECTION_CLOSE waits for the socket, and for nothing else.
func TestCloseOnFullSocket(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		full := make(chan struct{})
		tc.sockets[0].full = full
		tc.conn.CloseWithError(7, "bye")
		tc.wantNoDatagram("the socket is full")
		close(full)
		tc.wantFrame("the socket has room", frApplicationClose(7, "bye"))
	})
}

// TestCloseByPeer: the draining state.
func TestCloseByPeer(t *testing.T) {
	for _, test := range []struct {
		name  string
		frame testFrame
		check func(error) bool
	}{
		{"transport error", frConnectionClose(0x0a, 0x08, "why"), func(err error) bool {
			e, ok := errors.AsType[*TransportError](err)
			return ok && e.Code == ProtocolViolation && e.FrameType == 8 && e.Reason == "why" && e.Remote
		}},
		{"error of the application", frApplicationClose(77, "done"), func(err error) bool {
			e, ok := errors.AsType[*ApplicationError](err)
			return ok && e.Code == 77 && e.Reason == "done" && e.Remote
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				s := tc.open(false)
				tc.write(frPing(), test.frame)
				if !test.check(tc.conn.Err()) {
					t.Errorf("Err is %v", tc.conn.Err())
				}
				if _, err := s.Write([]byte("x")); !test.check(err) {
					t.Errorf("Write: %v", err)
				}
				tc.write(frPing())
				tc.write(frPing())
				tc.wantNoDatagram("draining") // R9000-10.2.2-1
				tc.wantEndAfter(tc.closeTime())
				tc.wantNoDatagram("the end")
			})
		})
	}
}

// TestCloseDuringHandshake: an application's error must not show before the peer is
// authenticated, and is sent at every level that the peer may have keys for.
func TestCloseDuringHandshake(t *testing.T) {
	hidden := frConnectionClose(0x0c, 0, "") // R9000-10.2.3-4 R9000-10.2.3-5 R9000-12.5-1
	closes := func(tc *testConn) (types []peerPacketType) {
		tc.conn.CloseWithError(7, "secret")
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			want := hidden
			if p.typ == packetOneRTT {
				want = frApplicationClose(7, "secret")
			}
			if f, ok := p.has(want.typ); !ok || !f.equal(want) {
				tc.t.Errorf("%v, want %v", p, want)
			}
			types = append(types, p.typ)
		}
		return types
	}
	t.Run("client at the beginning", func(t *testing.T) {
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.skip()
			if got := closes(tc); !slices.Equal(got, []peerPacketType{packetInitial}) {
				t.Errorf("CONNECTION_CLOSE in %v", got)
			}
		})
	})
	t.Run("server with keys that the client may lack", func(t *testing.T) { // R9000-10.2.3-2
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshake()
			tc.skip()
			if got := closes(tc); !slices.Equal(got, []peerPacketType{packetInitial, packetHandshake}) {
				t.Errorf("CONNECTION_CLOSE in %v", got)
			}
		})
	})
	t.Run("client before confirmation", func(t *testing.T) { // R9000-10.2.3-3
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.completeHandshake()
			tc.skip()
			if got := closes(tc); !slices.Equal(got, []peerPacketType{packetHandshake, packetOneRTT}) {
				t.Errorf("CONNECTION_CLOSE in %v", got)
			}
		})
	})
	t.Run("amplification limit", func(t *testing.T) { // R9000-10.2.1-3
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshake()
			tc.conn.CloseWithError(7, "secret")
			received := 1200
			for range 40 {
				b := tc.datagram(0, &peerPacket{typ: packetHandshake, frames: []testFrame{frPing()}, keys: tc.levels[initialSpace].write})
				tc.writeRaw(b)
				received += len(b)
			}
			sent := 0
			var last *peerDatagram
			for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
				if p.dgram != last {
					last = p.dgram
					sent += len(last.data)
				}
			}
			if sent > 3*received {
				t.Errorf("sent %d bytes in answer to %d", sent, received)
			}
		})
	})
}

// TestCloseAtNewAddress: CONNECTION_CLOSE fits into what may be sent to an address that is
// not validated.
func TestCloseAtNewAddress(t *testing.T) { // R9000-10.2.1-3
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		tc.addr = netip.MustParseAddrPort("198.51.100.9:9999")
		tc.write(frPing())
		tc.write(frPing(), frPadding(50)) // after the challenge
		tc.advance(testRTT)
		tc.skip()
		p := tc.core().paths[0]
		if n := p.ampAllowance(); p.validated || n < minPathPacket || n >= minInitialSize {
			t.Fatalf("validated %v, %d bytes may be sent", p.validated, n)
		}
		tc.conn.CloseWithError(7, "new address")
		tc.wantFrame("CONNECTION_CLOSE", frApplicationClose(7, "new address"))
	})
}

// TestIdleTimeout: the end without a word.
func TestIdleTimeout(t *testing.T) {
	wantIdleEnd := func(tc *testConn, after time.Duration) {
		tc.t.Helper()
		start := time.Now()
		<-tc.conn.Done()
		if _, ok := tc.conn.Err().(*IdleTimeoutError); !ok {
			tc.t.Errorf("Err is %v", tc.conn.Err())
		}
		if got := time.Since(start); got != after {
			tc.t.Errorf("ended after %v, want %v", got, after)
		}
		tc.wantNoDatagram("idle time-out") // R9000-10.1-1
		if !tc.hasEnded() {
			tc.t.Error("state is left")
		}
	}
	ours := func(c *Config) { c.MaxIdleTimeout = 20 * time.Second }
	theirs := func(p *testParams) { p.set(paramMaxIdleTimeout, 5000) }
	t.Run("the smaller one of both", func(t *testing.T) { // R9000-10.1-1
		bothSides(t, func(t *testing.T, tc *testConn) {
			if v, _ := tc.intParam(paramMaxIdleTimeout); v != 20_000 {
				t.Errorf("max_idle_timeout %d", v)
			}
			tc.write(frPing()) // every packet received restarts it
			tc.advance(maxAckDelay)
			tc.skip()
			wantIdleEnd(tc, 5*time.Second-maxAckDelay)
		}, ours, theirs)
	})
	t.Run("ours alone", func(t *testing.T) {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(frAck(0))
			wantIdleEnd(tc, 20*time.Second)
		}, ours)
	})
	t.Run("restarts when sending first", func(t *testing.T) { // R9000-10.1-3
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.write(frAck(0))
			tc.advance(2 * time.Second)
			tc.sendDatagrams(1)
			tc.advance(2 * time.Second) // probes do not restart it
			tc.sendDatagrams(1)
			tc.skip()
			start := time.Now()
			<-tc.conn.Done()
			if got := time.Since(start); got != 3*time.Second {
				t.Errorf("ended after %v, want 3s", got)
			}
		}, ours, theirs)
	})
	t.Run("not before three PTOs", func(t *testing.T) { // R9000-10.1-2
		established(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.write(frAck(0))
			wantIdleEnd(tc, 3*tc.core().largestPTO())
		}, ours, func(p *testParams) { p.set(paramMaxIdleTimeout, 1) })
	})
}

func TestHandshakeTimeout(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.skip()
		start := time.Now()
		<-tc.conn.Done()
		if _, ok := tc.conn.Err().(*HandshakeTimeoutError); !ok || time.Since(start) != 3*time.Second {
			t.Errorf("ended after %v with %v", time.Since(start), tc.conn.Err())
		}
		if err := <-tc.dialErr; err != tc.conn.Err() {
			t.Errorf("Dial: %v", err)
		}
	}, func(c *Config) { c.HandshakeTimeout = 3 * time.Second })
}

// TestKeepAlive: a silent path gets a PING, which the idle time-out does not forbid.
func TestKeepAlive(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		for range 3 {
			if took := tc.waitSent(time.Minute); took > 15*time.Second {
				t.Errorf("PING after %v", took)
			}
			tc.wantFrame("silence", frPing())
			tc.wantIdle("one PING")
			tc.ack()
		}
	}, func(c *Config) { c.KeepAlive = 15 * time.Second })
}

// TestKeepAliveLeavesPTO: PINGs more often than the PTO do not keep that from expiring.
func TestKeepAliveLeavesPTO(t *testing.T) {
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		s := tc.open(true)
		s.Write([]byte("lost"))
		want, _ := tc.wantType("stream data", tStream)
		tc.ignore(tPing)
		tc.advance(5 * time.Second)
		tc.wantFrame("after PTOs", want)
	}, func(c *Config) { c.KeepAlive = 20 * time.Millisecond })
}

// TestPTOOfOnlyPath: the PTO of the only path doubles without a bound, but not while keep-alive
// asks for a connection that outlives an outage.
func TestPTOOfOnlyPath(t *testing.T) {
	for _, keep := range []time.Duration{0, 15 * time.Second} {
		bothSides(t, func(t *testing.T, tc *testConn) {
			tc.skip()
			s := tc.open(true)
			s.Write([]byte("lost"))
			tc.skip()
			longest := time.Duration(0)
			for elapsed := time.Duration(0); elapsed < time.Minute; {
				d := tc.waitSent(time.Minute)
				tc.skip()
				elapsed += d
				longest = max(longest, d)
			}
			if keep > 0 && longest > maxPTO || keep == 0 && longest < 16*time.Second { // R9002-6.2.1-5
				t.Errorf("keep-alive %v: PTOs of up to %v", keep, longest)
			}
		}, func(c *Config) { c.KeepAlive = keep })
	}
}

// TestSetKeepAlive: the interval can be set, and taken back, later.
func TestSetKeepAlive(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.wantIdle("no keep-alive")
		tc.conn.SetKeepAlive(7 * time.Second)
		if took := tc.waitSent(time.Minute); took > 7*time.Second {
			t.Errorf("PING after %v", took)
		}
		tc.wantFrame("silence", frPing())
		tc.ack()
		tc.conn.SetKeepAlive(0)
		time.Sleep(20 * time.Second)
		tc.wantIdle("no keep-alive any more")
	})
}

// TestEndpointClose closes what is open without waiting for peers.
func TestEndpointClose(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		start := time.Now()
		tc.e.Close()
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
		tc.wantClose("the endpoint is closed", NoError)
	})
}
