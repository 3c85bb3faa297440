// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// preferring runs f with a server that prefers testPreferredAddr, the address of its second
// socket, and a client that has given it a spare connection id; with multipath and without.
func preferring(t *testing.T, f func(t *testing.T, tc *testConn)) {
	t.Helper()
	for _, options := range [][]any{nil, {multipathUpTo(2)}} {
		prefer := func(c *Config) { c.PreferredAddrs = []netip.AddrPort{testPreferredAddr} }
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			t.Helper()
			tc.addSocket(testPreferredAddr)
			tc.handshake()
			r := testReader(tc.connParams[paramPreferredAddress])
			if got := r.bytes(6); !bytes.Equal(got, []byte{192, 0, 2, 9, 4433 >> 8, 4433 & 255}) {
				t.Fatalf("IPv4 part of preferred_address: %x", got)
			}
			if got := r.bytes(18); !bytes.Equal(got, make([]byte, 18)) {
				t.Fatalf("IPv6 part of preferred_address: %x", got)
			}
			id := r.bytes(uint64(r.bytes(1)[0]))
			tc.cids[0][preferredCIDSeq] = id
			tc.tokens[string(id)] = [16]byte(r.bytes(16))
			tc.write(tc.peerCIDFrame(0, 1, 0))
			tc.settle()
			tc.ignore(tPing)
			f(t, tc)
		}, append(options, prefer, reportECN{})...)
	}
}

// writePreferred sends frames from src to the server's preferred address, padded to size.
func (tc *testConn) writePreferred(src netip.AddrPort, size int, frames ...testFrame) {
	tc.t.Helper()
	p := &peerPacket{typ: packetOneRTT, dcid: tc.cids[0][preferredCIDSeq], frames: frames}
	if n := len(tc.seal(p)); n < size {
		p.frames = append(frames, frPadding(size-n))
	}
	p.numSet = true
	tc.deliver(udpio.Received{Buf: tc.seal(p), Src: src, Dst: testPreferredAddr.Addr()})
}

// wantDataFrom checks which socket of the server data comes from.
func (tc *testConn) wantDataFrom(why string, socket int) {
	tc.t.Helper()
	tc.skip()
	tc.sendDatagrams(1)
	_, p := tc.wantType(why, tDatagram)
	if p.dgram.sock != tc.sockets[socket] || !bytes.Equal(p.dcid, peerCID(0, uint64(socket))) {
		tc.t.Fatalf("%s: %v from %v with %x", why, p, p.dgram.sock.addr, p.dcid)
	}
}

// beside reads what the server has sent, and returns the frames that came from its
// preferred address, which must only probe, and the size of all that.
func (tc *testConn) beside(to netip.AddrPort) (challenges, responses []testFrame, size int) {
	tc.t.Helper()
	for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
		if p.dgram.sock != tc.sockets[1] {
			continue
		}
		size += len(p.dgram.data)
		if p.dgram.ecn != udpio.NotECT {
			tc.t.Errorf("%v is marked as part of the path", p)
		}
		if p.dgram.to != to || !bytes.Equal(p.dcid, peerCID(0, 1)) || len(p.dgram.data) < minInitialSize {
			tc.t.Errorf("%v to %v with %x, %d bytes", p, p.dgram.to, p.dcid, len(p.dgram.data))
		}
		for _, f := range p.frames {
			switch f.typ {
			case tPathChallenge:
				challenges = append(challenges, f)
			case tPathResponse:
				responses = append(responses, f)
			case tPadding:
			default:
				tc.t.Errorf("%v from the preferred address", f)
			}
		}
	}
	return challenges, responses, size
}

// TestServerPrefersAddress: a server answers at its preferred address, and probes from there,
// but goes on to send from the other one until the client has moved and is validated.
//
// R9000-9.6.2-2
func TestServerPrefersAddress(t *testing.T) {
	for _, moveFirst := range []bool{false, true} {
		preferring(t, func(t *testing.T, tc *testConn) {
			tc.wantDataFrom("before the client comes", 0)
			tc.writePreferred(tc.addr, minInitialSize, frPathChallenge("preferre"))
			challenges, responses, _ := tc.beside(tc.addr)
			if len(challenges) != 1 || len(responses) != 1 || !responses[0].equal(frPathResponse([]byte("preferre"))) {
				t.Fatalf("answer: %v, %v", challenges, responses)
			}
			tc.wantDataFrom("after a probe", 0)
			if moveFirst {
				tc.writePreferred(tc.addr, 0, frPing())
				tc.wantDataFrom("not validated", 0)
				tc.writePreferred(tc.addr, 0, frPathResponse(challenges[0].blobs[0]))
			} else {
				tc.writePreferred(tc.addr, 0, frPathResponse(challenges[0].blobs[0]))
				tc.wantDataFrom("nothing but probes has come", 0)
				tc.writePreferred(tc.addr, 0, frPing())
			}
			if s := tc.core().ids[0]; s.retire[len(s.retire)-1].seq != 0 {
				t.Errorf("retires %v", s.retire)
			}
			tc.use[0] = preferredCIDSeq
			tc.writePreferred(tc.addr, 0, tc.ackFrame(0))
			tc.wantDataFrom("the client has moved", 1)
			tc.write(frPing()) // from before
			tc.wantDataFrom("a late packet to the former address", 1)
			tc.advance(5 * time.Second)
			tc.wantDataFrom("later", 1)
		})
	}
}

// TestServerPrefersAddressInVain: a client that does not answer at the preferred address is
// served where it was, whatever it sends there.
func TestServerPrefersAddressInVain(t *testing.T) {
	preferring(t, func(t *testing.T, tc *testConn) {
		for range 3 {
			tc.writePreferred(tc.addr, 0, frPing())
			tried := 0
			for range 100 {
				challenges, _, _ := tc.beside(tc.addr)
				tried += len(challenges)
				tc.ack()
				tc.advance(50 * time.Millisecond)
			}
			if tried < 2 || tried > maxPreferredTries {
				t.Errorf("%d challenges", tried)
			}
			tc.wantDataFrom("no answer", 0)
		}
	})
}

// TestServerPrefersAddressNewClientAddress: a client that seems to be elsewhere when it comes to
// the preferred address gets no more than three times what it has sent before it answers.
//
// R9000-8-1
func TestServerPrefersAddressNewClientAddress(t *testing.T) {
	preferring(t, func(t *testing.T, tc *testConn) {
		tc.writePreferred(testMovedAddr, 300, frPing())
		if c, r, size := tc.beside(testMovedAddr); size > 900 || len(r) > 0 {
			t.Errorf("%d bytes: %v %v", size, c, r)
		}
		tc.writePreferred(testMovedAddr, 300, frPathChallenge("elsewher"))
		if c, r, size := tc.beside(testMovedAddr); len(c) > 0 || len(r) != 1 || size > 1800 {
			t.Errorf("%d bytes: %v %v", size, c, r)
		}
		tc.writePreferred(testMovedAddr, 300, frPing())
		var challenges []testFrame
		for range 40 {
			c, _, _ := tc.beside(testMovedAddr)
			challenges = append(challenges, c...)
			tc.advance(50 * time.Millisecond)
		}
		if len(challenges) != 1 {
			t.Fatalf("challenges: %v", challenges)
		}
		tc.wantDataFrom("no answer", 0)
		tc.writePreferred(testMovedAddr, 0, frPathResponse(challenges[0].blobs[0]), frPing())
		tc.skip()
		tc.sendDatagrams(1)
		if _, p := tc.wantType("the client has moved", tDatagram); p.dgram.sock != tc.sockets[1] || p.dgram.to != testMovedAddr {
			t.Errorf("%v from %v to %v", p, p.dgram.sock.addr, p.dgram.to)
		}
	})
}

// TestServerPrefersAddressWithoutID: without a connection id for it nothing is sent from the
// preferred address.
func TestServerPrefersAddressWithoutID(t *testing.T) {
	preferring(t, func(t *testing.T, tc *testConn) {
		tc.core().ids[0].remote = tc.core().ids[0].remote[:1]
		tc.handOver()
		tc.writePreferred(tc.addr, minInitialSize, frPathChallenge("preferre"), frPing())
		if c, r, _ := tc.beside(tc.addr); len(c)+len(r) > 0 {
			t.Errorf("sent %v %v", c, r)
		}
		tc.wantDataFrom("no connection id", 0)
	})
}

// TestMovesToPreferredAddress: both ends move, under load.
func TestMovesToPreferredAddress(t *testing.T) {
	preferred := netip.AddrPortFrom(netip.MustParseAddr("10.9.0.9"), 4433)
	for _, loss := range []float64{0, 0.05} {
		link := lan
		link.Loss = loss
		prefer := func(client, server *Config) {
			server.PreferredAddrs = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::9]:1"), preferred}
		}
		simulate(t, []quictest.LinkConfig{link, {}}, prefer, func(n *testNet) {
			n.AddLink("10.0.1.2", "10.9.0.9", link)
			n.server.AddSocket(n.Socket(preferred, 1500))
			client, server := n.connect(t)
			transfer(t, server, client, 1e6)
			transfer(t, client, server, 1e6)
			synctest.Wait()
			for _, c := range []*Conn{client, server} {
				p := c.paths[0]
				if len(c.paths) != 1 || p.id != 0 || !p.validated || !c.preferred.moved {
					t.Errorf("client %v: %d paths, validated %v, moved %v", c.isClient, len(c.paths), p.validated, c.preferred.moved)
				}
			}
			if client.paths[0].remote != preferred || server.paths[0].local != preferred.Addr() {
				t.Errorf("client sends to %v, server from %v", client.paths[0].remote, server.paths[0].local)
			}
		})
	}
}

// TestMigrationDisabled: a server announces that it wants no migration. A client that moves
// nevertheless is validated, and never gets a Stateless Reset.
//
// R9000-9-3
func TestMigrationDisabled(t *testing.T) {
	established(t, serverSide, func(t *testing.T, tc *testConn) {
		if v, ok := tc.connParams[paramDisableActiveMigration]; !ok || len(v) > 0 {
			t.Errorf("disable_active_migration: %x, %v", v, ok)
		}
		tc.ignore(tPing, tRetireConnectionID)
		tc.write(tc.peerCIDFrame(0, 1, 0))
		tc.settle()
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPing(), frPadding(1100)}})
		var challenge testFrame
		sent := 0
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if p.typ != packetOneRTT {
				t.Fatalf("sent %v", p)
			}
			if f, ok := p.has(tPathChallenge); ok && p.dgram.to == testMovedAddr {
				challenge = f
			}
			if p.dgram.to == testMovedAddr {
				sent += len(p.dgram.data)
			}
		}
		if challenge.blobs == nil || sent > 3*1200 {
			t.Fatalf("%v, %d bytes", challenge, sent)
		}
		tc.writeFrom(testMovedAddr, &peerPacket{typ: packetOneRTT, frames: []testFrame{frPathResponse(challenge.blobs[0])}})
		tc.skip()
		tc.sendDatagrams(1)
		if _, p := tc.wantType("data", tDatagram); p.dgram.to != testMovedAddr {
			t.Errorf("data to %v", p.dgram.to)
		}
	}, func(c *Config) { c.DisableActiveMigration = true })
}
