// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// ticketKeys has the two ends of a test share their ticket keys with an earlier test.
func ticketKeys(c *tls.Config) { c.SetSessionTicketKeys([][32]byte{{1}}) }

// sendPeerTicket has a server as peer send a ticket for 0-RTT, with change applied to the
// message, and lets the connection under test, a client, take it.
func (tc *testConn) sendPeerTicket(change func(message []byte)) {
	tc.t.Helper()
	if err := tc.tls.SendSessionTicket(tls.QUICSessionTicketOptions{EarlyData: true}); err != nil {
		tc.t.Fatal(err)
	}
	tc.peerTLSEvents()
	if change != nil {
		change(tc.levels[appSpace].crypto)
	}
	tc.writePackets(tc.flight(packetOneRTT)...)
}

// sessionFor runs a connection of a client that leaves a session for 0-RTT in the store
// that is returned.
func sessionFor(t *testing.T, options ...any) *SessionStore {
	t.Helper()
	store := NewSessionStore(1)
	established(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.sendPeerTicket(nil)
		tc.wantAlive("ticket")
	}, append(options, ticketKeys, func(c *Config) { c.Sessions = store })...)
	return store
}

// sendHello opens a stream and writes to it, before the handshake.
func sendHello(c *Conn) {
	s, err := c.OpenStream(context.Background())
	if err == nil {
		s.Write([]byte("hello"))
	}
}

// TestEarlyClient is the transcript of a client that uses 0-RTT, with success.
func TestEarlyClient(t *testing.T) {
	store := sessionFor(t, multipathUpTo(2), func(p *testParams) {
		p.set(paramAckDelayExponent, 10)
		p.set(paramMaxAckDelay, 500)
	})
	var conn *Conn
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		first := tc.wantPacket("ClientHello", packetInitial)
		early := tc.wantPacket("data in the same datagram", packetZeroRTT)
		if early.dgram != first.dgram || !bytes.Equal(early.dcid, tc.initialDCID) || !bytes.Equal(early.scid, first.scid) {
			t.Errorf("0-RTT packet from %x to %x", early.scid, early.dcid)
		}
		if f, ok := early.has(tStream); !ok || !f.equal(frStream(0, 0, "hello")) {
			t.Errorf("0-RTT packet %v", early)
		}
		// Nothing of the earlier connection but limits. R9000-7.4.1-1 RMP21-2.1-6
		if c := tc.core(); c.multipath || c.paths[0].loss.maxAckDelay != 0 {
			t.Errorf("multipath %v, max_ack_delay %v before the server's parameters", c.multipath, c.paths[0].loss.maxAckDelay)
		}
		ack, _ := tc.ackLevel(packetInitial)
		flight := tc.flight(packetInitial)
		flight[0].frames = append([]testFrame{ack}, flight[0].frames...)
		tc.writePackets(flight...)
		tc.advance(time.Millisecond)
		s, err := conn.OpenStream(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte("more"))
		tc.skip()
		for _, p := range tc.flight(packetHandshake) {
			tc.writePackets(p)
		}
		tc.wantDial()
		if f, _ := tc.wantPacket("Finished", packetHandshake).has(tCrypto); f.blobs[0][0] != 20 { // R9001-8.3-1: no EndOfEarlyData, 5
			t.Errorf("handshake message %d", f.blobs[0][0])
		}
		if !tc.peerComplete || !conn.Used0RTT() || !conn.ConnectionState().DidResume {
			t.Errorf("complete %v, 0-RTT %v", tc.peerComplete, conn.Used0RTT())
		}
		s.Write([]byte("and more"))
		for p := tc.nextPacket(); p != nil; p = tc.nextPacket() {
			if p.typ == packetZeroRTT { // R9000-17.2.3-1 R9001-5.6-2
				t.Errorf("%v after the handshake", p)
			}
		}
		if c := tc.core(); c.multipath || c.peerParams.ackDelayExponent != 3 || c.paths[0].loss.maxAckDelay != 25*time.Millisecond { // R9000-7.4.1-1 RMP21-2.1-6
			t.Errorf("multipath %v, %+v", c.multipath, c.peerParams)
		}
		tc.write(frHandshakeDone(), tc.ackFrame(0), frStreamFin(0, 0, "answer"))
		tc.settle()
		tc.wantAlive("0-RTT")
	}, ticketKeys, func(c *Config) { c.Sessions, c.InitialMaxPathID = store, 2 }, dialEarly(func(c *Conn) {
		conn = c
		sendHello(c)
	}))
	scripted(t, clientSide, func(t *testing.T, tc *testConn) { // the session was used up
		tc.handshake()
		if tc.conn.ConnectionState().DidResume {
			t.Error("resumed with a session that was used before")
		}
	}, ticketKeys, func(c *Config) { c.Sessions = store })
}

// TestRememberedParams: what a session holds of the server's transport parameters.
func TestRememberedParams(t *testing.T) { // R9000-7.4.1-1 RMP21-2.1-6
	p := defaultTransportParams()
	for i := range intParams {
		*intParams[i].field(&p) = intParams[i].smallest + 5
	}
	p.statelessResetToken = &[16]byte{1}
	p.originalDstConnID, p.initialSrcConnID, p.retrySrcConnID = []byte{1}, []byte{2}, []byte{3}
	p.preferredAddress = &preferredAddress{connID: []byte{4}}
	p.initialMaxPathID = maxPathIDParam{has: true, v: 5}
	p.greaseQUICBit = true
	info := newTicketInfo(&p)
	kept := parseTestParams(info.encode()[len(ticketMark)+16:])
	for id := range kept {
		if !slices.Contains([]uint64{paramMaxData, paramStreamDataBidiLocal, paramStreamDataBidi, paramStreamDataUni,
			paramMaxStreamsBidi, paramMaxStreamsUni, paramActiveCIDLimit, paramMaxDatagramFrame}, id) {
			t.Errorf("parameter 0x%x is remembered", id)
		}
	}
	if len(kept) != len(rememberedParams) {
		t.Errorf("%d parameters are remembered", len(kept))
	}
}

// TestEarlyRejected: the streams fail, and the application may begin anew.
func TestEarlyRejected(t *testing.T) {
	for _, ackedAfterwards := range []bool{false, true} {
		store := sessionFor(t)
		var conn *Conn
		var stream *Stream
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.completeHandshake()
			tc.wantDial()
			if tc.core().Used0RTT() || !conn.ConnectionState().DidResume {
				t.Error("0-RTT was not rejected")
			}
			if _, err := stream.Write([]byte("x")); !errors.Is(err, Err0RTTRejected) {
				t.Errorf("Write: %v", err)
			}
			if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, Err0RTTRejected) {
				t.Errorf("Read: %v", err)
			}
			stream.Close()
			if got := tc.core().paths[0].loss.inFlight; got > 1000 {
				t.Errorf("%d bytes in flight", got)
			}
			tc.skip()
			again := tc.open(false) // R9001-4.6.2-2
			if again.ID() != 0 {
				t.Errorf("stream %d", again.ID())
			}
			again.Write([]byte("again"))
			f, p := tc.wantType("stream", tStream)
			if !f.equal(frStream(0, 0, "again")) || p.typ != packetOneRTT || p.num < uint64(tc.core().zeroRTT.end) {
				t.Errorf("%v in %v", f, p)
			}
			if ackedAfterwards {
				tc.write(frAck(0)) // R9001-4.6.2-3
				tc.wantClose("acknowledgment of a 0-RTT packet", ProtocolViolation)
				return
			}
			tc.write(frHandshakeDone(), frAck(p.num))
			tc.wantAlive("rejected 0-RTT")
		}, ticketKeys, rejectEarly{}, func(c *Config) { c.Sessions = store }, dialEarly(func(c *Conn) {
			conn = c
			stream, _ = c.OpenStream(context.Background())
			stream.Write(bytes.Repeat([]byte("x"), 3000))
		}))
	}
}

// TestEarlyLowerLimits: a server that accepts 0-RTT must not lower what it was sent by.
func TestEarlyLowerLimits(t *testing.T) {
	for _, id := range []uint64{paramMaxDatagramFrame /* R9221-3-7 */, paramMaxData, paramMaxStreamsBidi, paramStreamDataUni} {
		store := sessionFor(t)
		scripted(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshakeUntilClosed()
			tc.wantClose("lower limit", ProtocolViolation)
		}, ticketKeys, func(p *testParams) { p.set(id, 2) }, func(c *Config) { c.Sessions = store }, dialEarly(sendHello))
	}
}

// TestEarlyHigherLimits hold for streams that were opened before.
func TestEarlyHigherLimits(t *testing.T) {
	store := sessionFor(t, func(p *testParams) { p.set(paramStreamDataBidi, 10); p.set(paramMaxStreamsBidi, 1) })
	var stream *Stream
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.wantPacket("ClientHello", packetInitial)
		if f, _ := tc.wantPacket("as much as was permitted", packetZeroRTT).has(tStream); len(f.blobs[0]) != 10 {
			t.Errorf("%v", f)
		}
		tc.completeHandshake()
		tc.wantDial()
		stream.Write([]byte("x"))
		tc.open(false)
		tc.write(frHandshakeDone(), frAck(0))
		if got := tc.core().streams.streams[0].send.buf.sent; got != 101 {
			t.Errorf("%d bytes were sent", got)
		}
	}, ticketKeys, func(c *Config) { c.Sessions = store }, dialEarly(func(c *Conn) {
		stream, _ = c.OpenStream(context.Background())
		stream.Write(make([]byte, 100))
	}))
}

// TestEarlyAckConfirmsNothing: the server may read 0-RTT packets before it has heard
// Finished.
func TestEarlyAckConfirmsNothing(t *testing.T) { // R9001-4.1.2-2
	store := sessionFor(t)
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.wantPacket("ClientHello", packetInitial)
		early := tc.wantPacket("data", packetZeroRTT)
		tc.completeHandshake()
		tc.wantDial()
		tc.write(frAck(early.num))
		if tc.core().confirmed {
			t.Error("confirmed by the acknowledgment of a 0-RTT packet")
		}
		tc.open(false).Write([]byte("late"))
		_, late := tc.wantType("1-RTT data", tStream)
		tc.write(frAck(early.num, late.num))
		if !tc.core().confirmed {
			t.Error("not confirmed by the acknowledgment of a 1-RTT packet")
		}
	}, ticketKeys, func(c *Config) { c.Sessions = store }, dialEarly(sendHello))
}

// TestEarlyAfterRetry: 0-RTT data goes out again, with later packet numbers.
func TestEarlyAfterRetry(t *testing.T) {
	store := sessionFor(t)
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.wantPacket("ClientHello", packetInitial)
		first := tc.wantPacket("0-RTT", packetZeroRTT)
		tc.writeRaw(retry(tc, 0xf0, []byte("retryscid"), "token"))
		tc.setInitialKeys([]byte("retryscid"))
		tc.wantPacket("ClientHello", packetInitial)
		again := tc.wantPacket("0-RTT", packetZeroRTT)
		f, _ := first.has(tStream)
		if g, _ := again.has(tStream); !g.equal(f) || string(again.dcid) != "retryscid" || again.num <= first.num {
			t.Errorf("%v to %x after %v", again, again.dcid, first)
		}
		tc.handshake()
	}, ticketKeys, func(c *Config) { c.Sessions = store }, dialEarly(sendHello),
		func(p *testParams) { p.setBytes(paramRetrySrcConnID, []byte("retryscid")) })
}

// TestResumedWithoutEarly: Dial does not use 0-RTT.
func TestResumedWithoutEarly(t *testing.T) {
	store := sessionFor(t)
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.handshake()
		if !tc.conn.ConnectionState().DidResume || tc.conn.Used0RTT() || tc.earlyKeys != nil {
			t.Errorf("resumed %v, 0-RTT %v", tc.conn.ConnectionState().DidResume, tc.conn.Used0RTT())
		}
	}, ticketKeys, func(c *Config) { c.Sessions = store })
}

// TestTicketEarlyDataSize other than QUIC's.
func TestTicketEarlyDataSize(t *testing.T) { // R9001-4.6.1-2
	for _, size := range []byte{0, 0xff} {
		established(t, clientSide, func(t *testing.T, tc *testConn) {
			tc.sendPeerTicket(func(m []byte) {
				i := bytes.Index(m, []byte{0, 42, 0, 4, 0xff, 0xff, 0xff, 0xff})
				if i < 0 {
					t.Fatal("no early_data")
				}
				m[i+7] = size
			})
			if size == 0xff {
				tc.wantAlive("regular ticket")
				return
			}
			tc.wantClose("max_early_data_size", ProtocolViolation)
		})
	}
}

// earlyServer is an option of a server that accepts 0-RTT.
func earlyServer(c *Config) {
	c.AllowEarlyData = true
	ticketKeys(c.TLS)
}

// clientSession runs a connection of a client, as peer, that gets a ticket of a server
// with these options, and returns its cache as an option.
func clientSession(t *testing.T, options ...any) func(*tls.Config) {
	t.Helper()
	cache := tls.NewLRUClientSessionCache(1)
	use := func(c *tls.Config) { c.ClientSessionCache = cache }
	established(t, serverSide, func(*testing.T, *testConn) {}, append(options, use)...)
	return use
}

// earlyData is a 0-RTT packet of the peer.
func earlyData(frames ...testFrame) *peerPacket {
	return &peerPacket{typ: packetZeroRTT, frames: frames}
}

// TestEarlyServer is the transcript of a server that accepts 0-RTT.
func TestEarlyServer(t *testing.T) {
	session := clientSession(t, earlyServer)
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		hello := tc.flight(packetInitial)
		tc.writePackets(append(hello, earlyData(frStream(0, 0, "hel")))...)
		c, err := tc.e.Accept(tc.expired())
		if err != nil || !c.Used0RTT() {
			t.Fatalf("Accept before the end of the handshake: %v", err)
		}
		select {
		case <-c.HandshakeComplete():
			t.Error("the handshake is complete already")
		default:
		}
		s := tc.accept()
		b := make([]byte, 3)
		if n, err := s.Read(b); n != 3 || err != nil || !s.Early() {
			t.Errorf("Read: %q %v, early %v", b[:n], err, s.Early())
		}
		s.Write([]byte("answer"))
		tc.skip()
		tc.advance(time.Millisecond)
		tc.writePackets(earlyData(frStream(0, 3, "lo")))
		tc.completeHandshake()
		tc.write(frPing(), tc.ackFrame(0))
		tc.advance(testRTT)
		if c, err := tc.e.Accept(tc.expired()); err == nil {
			t.Errorf("accepted twice: %v", c)
		}
		// A packet that was overtaken still counts, for a while.
		late := earlyData(frStream(4, 0, "late"))
		tc.writePackets(late)
		late2 := tc.seal(earlyData(frStream(8, 0, "too late")))
		if s := tc.accept(); s.ID() != 4 || !s.Early() {
			t.Errorf("stream %d, early %v", s.ID(), s.Early())
		}
		tc.settle()
		tc.advance(3 * tc.core().largestPTO())
		if tc.core().zeroRTT.read != nil { // R9001-4.9.3-1
			t.Error("0-RTT keys are kept")
		}
		tc.writeRaw(late2)
		if s, err := tc.conn.AcceptStream(tc.expired()); err == nil {
			t.Errorf("stream %d after three PTO", s.ID())
		}
		tc.write(frStream(12, 0, "1-RTT"))
		for range 2 {
			s = tc.accept()
		}
		if s.ID() != 12 || s.Early() {
			t.Errorf("stream %d, early %v", s.ID(), s.Early())
		}
	}, earlyServer, session)
}

// TestEarlyServerBuffers 0-RTT packets that come before the whole ClientHello.
func TestEarlyServerBuffers(t *testing.T) {
	session := clientSession(t, earlyServer)
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		hello := tc.levels[initialSpace].crypto
		half := uint64(len(hello) / 2)
		tc.levels[initialSpace].cryptoSent = uint64(len(hello))
		tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(0, hello[:half])}})
		for i := range maxEarlyPackets + 5 {
			tc.writePackets(earlyData(frStream(uint64(4*i), 0, "early")))
		}
		if n := len(tc.core().early); n != maxEarlyPackets {
			t.Errorf("%d packets are kept", n)
		}
		tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(half, hello[half:])}})
		if _, err := tc.e.Accept(tc.expired()); err != nil {
			t.Fatal(err)
		}
		for range maxEarlyPackets {
			tc.accept()
		}
		if s, err := tc.conn.AcceptStream(tc.expired()); err == nil {
			t.Errorf("stream %d", s.ID())
		}
	}, earlyServer, session)
}

// TestEarlyServerRejects: what makes a server reject 0-RTT. The session is resumed all
// the same.
func TestEarlyServerRejects(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
	}{
		{"not allowed any more", func(c *Config) { c.AllowEarlyData = false }},
		{"smaller window R9000-7.4.1-2", func(c *Config) { c.ConnReceiveWindow = 1 << 20 }},
		{"smaller window of a stream R9000-7.4.1-2", func(c *Config) { c.StreamReceiveWindow = 1 << 19 }},
		{"fewer streams R9000-7.4.1-2", func(c *Config) { c.MaxIncomingStreams = 99 }},
		{"no datagrams R9221-3-6", func(c *Config) { c.Datagrams = false }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			session := clientSession(t, earlyServer)
			scripted(t, serverSide, func(t *testing.T, tc *testConn) {
				tc.writePackets(append(tc.flight(packetInitial), earlyData(frStream(0, 0, "early")))...)
				tc.writePackets(earlyData(frCrypto(0, []byte("that would be an error"))))
				if _, err := tc.e.Accept(tc.expired()); err == nil {
					t.Error("accepted before the end of the handshake")
				}
				tc.completeHandshake()
				tc.writePackets(earlyData(frStream(0, 0, "early")))
				if s, err := tc.conn.AcceptStream(tc.expired()); err == nil { // R9001-4.6.2-1
					t.Errorf("stream %d", s.ID())
				}
				if tc.conn.Used0RTT() || !tc.conn.ConnectionState().DidResume {
					t.Errorf("resumed %v, 0-RTT %v", tc.conn.ConnectionState().DidResume, tc.conn.Used0RTT())
				}
				tc.settle()
				tc.wantAlive("0-RTT rejected")
			}, earlyServer, tt.change, session)
		})
	}
}

// TestTicketOnTheWire: the message that a server sends.
func TestTicketOnTheWire(t *testing.T) {
	for _, allow := range []bool{false, true} {
		scripted(t, serverSide, func(t *testing.T, tc *testConn) {
			tc.writeHandshake()
			tc.skip()
			tc.writePackets(tc.flight(packetHandshake)...)
			tc.ignore(tHandshakeDone, tNewConnectionID, tNewToken)
			f, _ := tc.wantType("ticket", tCrypto)
			size, ok := maxEarlyDataSize(f.blobs[0])
			if f.blobs[0][0] != 4 || ok != allow || ok && (size != 1<<32-1 || !bytes.HasSuffix(f.blobs[0], []byte{0, 8, 0, 42, 0, 4, 255, 255, 255, 255})) { // R9001-4.6.1-1
				t.Errorf("ticket %x", f.blobs[0])
			}
		}, func(c *Config) { c.AllowEarlyData = allow })
	}
}

// early has a client of the simulated network send data in 0-RTT, and returns it with
// what the server got and when.
func (n *testNet) early(t *testing.T) (client *Conn, after time.Duration, early bool) {
	t.Helper()
	ctx := context.Background()
	start := time.Now()
	client, err := n.client.DialEarly(ctx, n.sockets[0], serverAddr, n.clientConfig)
	if err != nil {
		t.Fatal(err)
	}
	for {
		s, err := client.OpenUniStream(ctx)
		if err == nil {
			s.Write([]byte("hello"))
			s.CloseWrite()
			<-client.HandshakeComplete()
			if _, err = s.Write(nil); !errors.Is(err, Err0RTTRejected) {
				break
			}
		}
	}
	server, err := n.server.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); string(b) != "hello" || err != nil {
		t.Errorf("received %q, %v", b, err)
	}
	return client, time.Since(start), s.Early()
}

// TestEarlyEndToEnd on the simulated network, also with loss.
func TestEarlyEndToEnd(t *testing.T) {
	lossy := lan
	lossy.Loss = 0.1
	for _, link := range []quictest.LinkConfig{lan, lossy} {
		store := NewSessionStore(1)
		simulate(t, []quictest.LinkConfig{link, {}}, func(client, server *Config) {
			client.Sessions = store
			server.AllowEarlyData = true
		}, func(n *testNet) {
			for i := range 5 {
				client, _, early := n.early(t)
				if want := i > 0; (early != want || client.Used0RTT() != want) && link.Loss == 0 {
					t.Errorf("connection %d: early %v, 0-RTT %v", i, early, client.Used0RTT())
				}
				time.Sleep(time.Second) // the ticket
				client.CloseWithError(0, "")
			}
		})
	}
}

// TestEarlyDataOnce: a ticket is good for 0-RTT once, whatever the client keeps.
func TestEarlyDataOnce(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, func(client, server *Config) {
		client.Sessions = NewSessionStore(1)
		server.AllowEarlyData = true
	}, func(n *testNet) {
		client, _, _ := n.early(t)
		time.Sleep(time.Second)
		cache := client.tlsConfig().ClientSessionCache
		session, _ := cache.Get("")
		for i, want := range []bool{true, false, false} {
			cache.Put("", session)
			c, _, early := n.early(t)
			if c.Used0RTT() != want || early != want || !c.ConnectionState().DidResume {
				t.Errorf("use %d of a ticket: 0-RTT %v", i, c.Used0RTT())
			}
		}
	})
}

// TestTicketAge: the age that crypto/tls reports of a ticket is the time since it came,
// although it remembers that in whole seconds only.
func TestTicketAge(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, func(client, server *Config) {
		client.Sessions = NewSessionStore(1)
	}, func(n *testNet) {
		time.Sleep(300 * ms)
		for _, wait := range []time.Duration{500 * ms, 2800 * ms} {
			n.connect(t)
			server := serverKey{name: n.clientConfig.TLS.ServerName, addr: serverAddr}
			hasTicket := func() bool {
				n.clientConfig.Sessions.mu.Lock()
				defer n.clientConfig.Sessions.mu.Unlock()
				e := n.clientConfig.Sessions.of(server)
				return e != nil && len(e.sessions) > 0
			}
			for !hasTicket() {
				time.Sleep(ms)
			}
			came := time.Now()
			time.Sleep(wait)
			next := newClientConn(n.client, n.clientConfig.withDefaults(), n.client.socket(n.sockets[0]), serverAddr)
			conf := next.tlsConfig()
			conf.ClientSessionCache.Get("")
			age := conf.Time().Sub(time.Unix(came.Unix(), 0))
			if want := time.Since(came); age < want || age > want+ms {
				t.Errorf("a ticket is %v old after %v", age, want)
			}
		}
	})
}

// TestEarlyWithoutPathControl: the server's transport parameters permit multipath before
// the end of the handshake; frames of it still do not go into 0-RTT packets.
func TestEarlyWithoutPathControl(t *testing.T) { // RMP21-4-1
	store := sessionFor(t, multipathUpTo(2))
	var conn *Conn
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.wantPacket("ClientHello", packetInitial)
		tc.writePackets(tc.flight(packetInitial)...)
		hs := &tc.levels[handshakeSpace]
		ee := 4 + (uint64(hs.crypto[1])<<16 | uint64(hs.crypto[2])<<8 | uint64(hs.crypto[3]))
		tc.writePackets(&peerPacket{typ: packetHandshake, frames: []testFrame{frCrypto(0, hs.crypto[:ee])}})
		if c := tc.core(); !c.multipath || c.complete {
			t.Fatalf("multipath %v, complete %v", c.multipath, c.complete)
		}
		conn.SetPathBackup(0, true)
		tc.skip() // checkPacket
		hs.cryptoSent = ee
		for _, p := range tc.flight(packetHandshake) {
			tc.writePackets(p)
		}
		tc.wantDial()
		tc.ignore(tCrypto, tStream, tPing, tPathNewConnectionID, tPathChallenge)
		for {
			f, p, ok := tc.nextFrame()
			if !ok {
				t.Fatal("no PATH_STATUS after the handshake")
			}
			if f.typ == tPathStatusBackup || f.typ == tPathStatusAvailable {
				if p.typ != packetOneRTT {
					t.Errorf("%v", p)
				}
				break
			}
		}
	}, multipathUpTo(2), ticketKeys, func(c *Config) { c.Sessions = store }, dialEarly(func(c *Conn) {
		conn = c
		sendHello(c)
	}))
}

// TestEarlyServerKeepsNothing for which it will never have keys.
func TestEarlyServerKeepsNothing(t *testing.T) { // R9001-4.6.2-1
	session := clientSession(t, earlyServer)
	scripted(t, serverSide, func(t *testing.T, tc *testConn) {
		hello := tc.levels[initialSpace].crypto
		tc.writePackets(&peerPacket{typ: packetInitial, frames: []testFrame{frCrypto(0, hello[:100])}})
		tc.writePackets(earlyData(frStream(0, 0, "early")))
		if n := len(tc.core().early); n != 0 {
			t.Errorf("%d packets are kept", n)
		}
	}, earlyServer, func(c *Config) { c.AllowEarlyData = false }, session)
}

// TestEarlyUnknownTicket: a server that does not know the ticket, as after a restart with
// other keys, rejects 0-RTT, and the handshake is a full one.
func TestEarlyUnknownTicket(t *testing.T) {
	store := sessionFor(t)
	var conn *Conn
	var stream *Stream
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.completeHandshake()
		tc.wantDial()
		if conn.Used0RTT() || conn.ConnectionState().DidResume {
			t.Errorf("0-RTT %v, resumed %v", conn.Used0RTT(), conn.ConnectionState().DidResume)
		}
		if _, err := stream.Write([]byte("x")); !errors.Is(err, Err0RTTRejected) {
			t.Errorf("Write: %v", err)
		}
		tc.skip()
		tc.open(false).Write([]byte("again"))
		if f, p := tc.wantType("stream", tStream); !f.equal(frStream(0, 0, "again")) || p.typ != packetOneRTT {
			t.Errorf("%v in %v", f, p)
		}
		tc.write(frHandshakeDone(), tc.ackFrame(0))
		tc.wantAlive("unknown ticket")
	}, rejectEarly{}, func(c *Config) { c.Sessions = store }, dialEarly(func(c *Conn) {
		conn = c
		stream, _ = c.OpenStream(context.Background())
		stream.Write(bytes.Repeat([]byte("x"), 3000))
	}))
}

// TestNoEarlyAfterHelloRetryRequest: where the server asked for another ClientHello it
// will do so again, and reject 0-RTT. The session is resumed without.
func TestNoEarlyAfterHelloRetryRequest(t *testing.T) {
	otherCurve := func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }
	curves := func(c *Config) {
		c.TLS = c.TLS.Clone()
		c.TLS.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	}
	store := sessionFor(t, otherCurve, curves)
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.handshake()
		if st := tc.conn.ConnectionState(); !st.HelloRetryRequest || !st.DidResume || tc.conn.Used0RTT() {
			t.Errorf("HelloRetryRequest %v, resumed %v, 0-RTT %v", st.HelloRetryRequest, st.DidResume, tc.conn.Used0RTT())
		}
	}, ticketKeys, otherCurve, curves, rejectEarly{}, func(c *Config) { c.Sessions = store }, dialEarly(func(*Conn) {}))
}
