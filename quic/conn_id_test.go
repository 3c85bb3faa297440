// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"maps"
	"slices"
	"testing"
)

// frRetire is the frame that retires a connection id of a path, in the form in use.
func (tc *testConn) frRetire(path uint32, seq uint64) testFrame {
	if tc.multipath {
		return frInts(tPathRetireConnectionID, uint64(path), seq)
	}
	return frInts(tRetireConnectionID, seq)
}

// wantNewCID takes the next frame, which issues connection id seq of path.
func (tc *testConn) wantNewCID(why string, path uint32, seq uint64) testFrame {
	tc.t.Helper()
	typ, want := uint64(tNewConnectionID), []uint64{seq, 0}
	if tc.multipath {
		typ, want = tPathNewConnectionID, []uint64{uint64(path), seq, 0}
	}
	f, _ := tc.wantType(why, typ)
	if !slices.Equal(f.ints, want) || len(f.blobs[0]) != localCIDLen {
		tc.t.Fatalf("%s: got %v, want sequence number %d of path %d", why, f, seq, path)
	}
	return f
}

// withAndWithoutMultipath runs f for both ends, with NEW_CONNECTION_ID and with
// PATH_NEW_CONNECTION_ID of path 0.
func withAndWithoutMultipath(t *testing.T, f func(t *testing.T, tc *testConn), options ...any) {
	t.Run("single path", func(t *testing.T) { bothSides(t, f, options...) })
	t.Run("multipath", func(t *testing.T) { bothSides(t, f, append(slices.Clip(options), multipathUpTo(2))...) })
}

// TestIssuedCIDs: what the peer gets to address us with.
func TestIssuedCIDs(t *testing.T) {
	withAndWithoutMultipath(t, func(t *testing.T, tc *testConn) {
		if got := slices.Sorted(maps.Keys(tc.cids[0])); !slices.Equal(got, []uint64{0, 1}) { // R9000-5.1.1-2 R9000-5.1.1-4
			t.Fatalf("connection ids %v of path 0", got)
		}
		var retired [][]byte
		for range keptRetiredCIDs + 1 {
			tc.use[0]++
			tc.wantAlive("an issued connection id is accepted") // R9000-5.1.1-3
			old := tc.cids[0][tc.use[0]-1]
			tc.write(tc.frRetire(0, tc.use[0]-1))
			tc.wantNewCID("a retired connection id is replaced", 0, tc.use[0]+1) // R9000-5.1.1-6 R9000-5.1.1-1 RMP21-3.2.2-2
			tc.settle()
			tc.writeRaw(tc.seal(&peerPacket{typ: packetOneRTT, dcid: old, frames: []testFrame{frPing()}}))
			tc.wantIdle("a packet that is late for the retirement of its connection id")
			retired = append(retired, old)
		}
		tc.writeRaw(tc.seal(&peerPacket{typ: packetOneRTT, dcid: retired[0], frames: []testFrame{frPing()}}))
		p := tc.wantPacket("a connection id that is forgotten", packetReset)
		if len(p.raw) == 0 {
			t.Error("no stateless reset")
		}
		tc.write(tc.frRetire(0, 0))
		tc.wantIdle("retired again")
		seen := make(map[string]bool)
		for _, ids := range tc.cids {
			for _, id := range ids {
				if seen[string(id)] { // R9000-5.1-1
					t.Errorf("connection id %x occurs twice", id)
				}
				seen[string(id)] = true
			}
		}
		if tc.core().paths[0].space.next < 5 || *tc.nextNum[0] < 5 { // RMP21-3.2.2-3
			t.Error("packet numbers start again")
		}
	})
}

// TestIssuedCIDLimit: with more room announced we still issue no more than we need.
func TestIssuedCIDLimit(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		if n := len(tc.cids[0]); n != cidsPerPath {
			t.Errorf("%d connection ids", n)
		}
	}, func(p *testParams) { p.set(paramActiveCIDLimit, 8) })
}

// TestRetirePriorTo: the peer takes connection ids back.
func TestRetirePriorTo(t *testing.T) {
	withAndWithoutMultipath(t, func(t *testing.T, tc *testConn) {
		tc.write(tc.peerCIDFrame(0, 1, 0), tc.peerCIDFrame(0, 2, 0), tc.peerCIDFrame(0, 3, 0))
		tc.wantIdle("as many as active_connection_id_limit permits")
		// At the limit, one that replaces all others is no error. R9000-5.1.2-1
		tc.write(tc.peerCIDFrame(0, 4, 4))
		for seq := range uint64(4) { // R9000-5.1.2-4
			p := tc.wantFrame("every one is retired", tc.frRetire(0, seq))
			if !bytes.Equal(p.dcid, peerCID(0, 4)) { // R9000-19.16-2
				t.Errorf("sent to %x, want %x", p.dcid, peerCID(0, 4))
			}
		}
		tc.settle()
		tc.write(tc.peerCIDFrame(0, 5, 2)) // R9000-19.15-5
		tc.wantIdle("Retire Prior To that does not grow")
		tc.wantAlive("Retire Prior To that does not grow")
		// One that was overtaken by a later Retire Prior To. R9000-19.15-6
		tc.write(tc.peerCIDFrame(0, 7, 7))
		tc.wantFrame("the one in use is retired", tc.frRetire(0, 4))
		tc.wantFrame("the spare one is retired", tc.frRetire(0, 5))
		tc.write(tc.peerCIDFrame(0, 6, 0))
		p := tc.wantFrame("retired at once", tc.frRetire(0, 6))
		if !bytes.Equal(p.dcid, peerCID(0, 7)) {
			t.Errorf("sent to %x, want %x", p.dcid, peerCID(0, 7))
		}
		tc.write(tc.peerCIDFrame(0, 6, 0))
		tc.wantIdle("the same again")
	})
}

// TestCIDLimit: more connection ids than we permit.
//
// R9000-5.1.1-5 RMP21-4.4-3
func TestCIDLimit(t *testing.T) {
	withAndWithoutMultipath(t, func(t *testing.T, tc *testConn) {
		for seq := range uint64(activeCIDLimit) {
			if tc.conn.Err() != nil {
				t.Fatalf("closed at sequence number %d", seq)
			}
			tc.write(tc.peerCIDFrame(0, seq+1, 0))
		}
		tc.wantClose("one more than the limit", ConnectionIDLimitError)
	})
}

// TestRetirementsAreBounded: a peer that makes us retire without acknowledging.
//
// R9000-5.1.2-3
func TestRetirementsAreBounded(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		for seq := uint64(1); seq < 100; seq++ {
			tc.write(tc.peerCIDFrame(0, seq, seq))
			tc.fill()
			if tc.conn.Err() == nil {
				continue
			}
			if seq < 2*activeCIDLimit {
				t.Errorf("closed after %d retirements", seq)
			}
			tc.wantClose("too many retirements", ConnectionIDLimitError)
			return
		}
		t.Error("retirements without bound")
	})
}

// TestSequenceNumbersLeftOut: the numbers of retired connection ids have to be remembered,
// and a peer that leaves numbers out could make us remember ever more.
func TestSequenceNumbersLeftOut(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		for seq := uint64(2); seq < 100; seq += 2 {
			tc.write(tc.peerCIDFrame(0, seq, seq))
			if tc.core().closing.phase == notClosing {
				tc.ack()
				continue
			}
			tc.wantClose("numbers are left out", ProtocolViolation)
			return
		}
		t.Error("numbers were left out without end")
	})
}

// TestConflictingCIDs: the same sequence number or connection id with other content.
func TestConflictingCIDs(t *testing.T) {
	for name, second := range map[string]testFrame{
		"same number":        frNewConnectionID(1, 0, []byte("another!"), peerToken(0, 9)),
		"same connection id": frNewConnectionID(2, 0, peerCID(0, 1), peerToken(0, 2)),
		"other token":        frNewConnectionID(1, 0, peerCID(0, 1), peerToken(0, 9)),
	} {
		t.Run(name, func(t *testing.T) {
			bothSides(t, func(t *testing.T, tc *testConn) {
				tc.write(frNewConnectionID(1, 0, peerCID(0, 1), peerToken(0, 1)))
				tc.wantIdle("issued")
				tc.write(second)
				tc.wantClose(name, ProtocolViolation)
			})
		})
	}
}

// TestRepeatedCIDAfterRetirement: a frame that was only delayed must not bring a
// connection id back that we have retired, and may be forgotten about by the peer.
func TestRepeatedCIDAfterRetirement(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		tc.write(tc.peerCIDFrame(0, 1, 0), tc.peerCIDFrame(0, 2, 1))
		tc.wantFrame("retired", tc.frRetire(0, 0))
		tc.settle()
		tc.write(tc.peerCIDFrame(0, 3, 2)) // forgets the retirement of 0, which is acknowledged
		tc.wantFrame("retired", tc.frRetire(0, 1))
		tc.settle()
		tc.write(tc.peerCIDFrame(0, 1, 0))
		tc.skip()
		if r := tc.core().ids[0].remote; len(r) != 2 || r[0].seq != 2 || r[1].seq != 3 {
			t.Errorf("connection ids of the peer: %+v", r)
		}
	})
}

// TestZeroLengthCID: a peer that wants no connection id can issue none.
//
// R9000-19.15-2
func TestZeroLengthCID(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.zeroSCID = true
		tc.completeHandshake()
		tc.write(frHandshakeDone(), frNewConnectionID(1, 0, peerCID(0, 1), peerToken(0, 1)))
		tc.fill()
		te, ok := tc.conn.Err().(*TransportError)
		if !ok || te.Code != ProtocolViolation || te.Remote {
			t.Errorf("Err is %v", tc.conn.Err())
		}
	}, func(p *testParams) { p.setBytes(paramInitialSrcConnID, nil) })
}

// TestMultipathZeroLengthCID: multipath needs connection ids.
//
// RMP21-2.1-4
func TestMultipathZeroLengthCID(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.zeroSCID = true
		tc.writeHandshakeUntilClosed()
		te, ok := tc.conn.Err().(*TransportError)
		if !ok || te.Code != ProtocolViolation || te.Remote {
			t.Errorf("Err is %v", tc.conn.Err())
		}
	}, multipathUpTo(2), func(p *testParams) { p.setBytes(paramInitialSrcConnID, nil) })
}

// TestCIDsArePerPath: limits, sequence numbers and retirement do not cross paths.
func TestCIDsArePerPath(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		for path := range uint32(3) {
			for seq := range uint64(activeCIDLimit) {
				if path > 0 || seq > 0 { // RMP21-3.2-1 RMP21-2.2-1
					tc.write(tc.peerCIDFrame(path, seq, 0))
				}
			}
		}
		tc.wantAlive("all limits reached")
		tc.write(tc.peerCIDFrame(1, 4, 4)) // RMP21-4.4-2
		for seq := range uint64(4) {
			tc.wantFrame("path 1", frInts(tPathRetireConnectionID, 1, seq))
		}
		tc.wantIdle("other paths keep theirs")
		// The frames of RFC 9000 mean path 0, also behind a frame about another path.
		tc.write(frInts(tPathStatusAvailable, 2, 1), frNewConnectionID(4, 4, peerCID(0, 4), peerToken(0, 4))) // RMP21-4.4-4 RMP21-3.2-3
		for seq := range uint64(4) {
			tc.wantFrame("path 0", frInts(tPathRetireConnectionID, 0, seq)) // RMP21-3.2-2
		}
		tc.wantIdle("other paths keep theirs")
		tc.settle()
		tc.write(frInts(tPathStatusAvailable, 2, 2), frInts(tRetireConnectionID, 1)) // RMP21-3.2-3
		tc.wantNewCID("path 0", 0, 2)
		tc.wantIdle("path 0 only")
	}, multipathUpTo(2))
}

// TestMultipathCIDsIssued: which path ids we issue connection ids for.
func TestMultipathCIDsIssued(t *testing.T) {
	numbers := func(tc *testConn) (n []int) {
		for path := range uint32(10) {
			n = append(n, len(tc.cids[path]))
		}
		return n
	}
	t.Run("limit of the peer", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			// RMP21-3.2.1-1 RMP21-3.2.1-2 RMP21-3.2.1-4
			if got := numbers(tc); !slices.Equal(got, []int{2, 2, 2, 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("connection ids by path: %v", got)
			}
			tc.write(frInts(tMaxPathID, 4))
			for path := uint32(3); path <= 4; path++ {
				tc.wantNewCID("the limit has grown", path, 0)
				tc.wantNewCID("the limit has grown", path, 1)
			}
			tc.wantIdle("both limits reached")
			tc.settle()
			tc.write(frInts(tMaxPathID, 3)) // RMP21-4.6-5
			tc.wantIdle("smaller limit")
		}, multipathUpTo(2), func(c *Config) { c.InitialMaxPathID = 5 })
	})
	t.Run("our own limit", func(t *testing.T) {
		bothSides(t, func(t *testing.T, tc *testConn) {
			if got := numbers(tc); !slices.Equal(got, []int{2, 2, 0, 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("connection ids by path: %v", got)
			}
		}, multipathUpTo(2), func(c *Config) { c.InitialMaxPathID = 1 })
	})
	t.Run("no paths yet", func(t *testing.T) { // RMP21-2.1-7
		bothSides(t, func(t *testing.T, tc *testConn) {
			if got := numbers(tc); !slices.Equal(got, []int{2, 0, 0, 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("connection ids by path: %v", got)
			}
			tc.write(frPing())
			tc.write(frPing())
			tc.fill()
			if _, ok := tc.nextPacket().has(tPathAck); !ok { // RMP21-2.3-1
				t.Error("no PATH_ACK")
			}
			tc.write(frInts(tMaxPathID, 1))
			tc.wantNewCID("a path becomes possible", 1, 0)
		}, multipathUpTo(0), func(c *Config) { c.InitialMaxPathID = 3 })
	})
	t.Run("peer without multipath", func(t *testing.T) { // RMP21-2-1
		bothSides(t, func(t *testing.T, tc *testConn) {
			if got := numbers(tc); !slices.Equal(got, []int{2, 0, 0, 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("connection ids by path: %v", got)
			}
			if tc.conn.Stats().Multipath {
				t.Error("multipath with a peer that does not offer it")
			}
			tc.write(frPing())
			tc.write(frPing())
			tc.fill()
			if _, ok := tc.nextPacket().has(tAck); !ok {
				t.Error("no ACK")
			}
		}, func(c *Config) { c.InitialMaxPathID = 8 })
	})
}
