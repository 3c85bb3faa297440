// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// A testConn is one connection, with the endpoint, loop and sockets that it has in
// earnest, and its peer, which is a script: the test. Tests read like a transcript
// of what each side sends. Time is virtual, and nothing takes any unless the test
// says so, the handshake excepted.
type testConn struct {
	t        *testing.T
	isClient bool // the connection under test
	e        *Endpoint
	config   *Config
	conn     *Conn
	dialErr  chan error
	mtu      int // of its sockets
	sockets  []*testSocket
	sent     chan *peerDatagram // not read yet
	ignored  map[uint64]bool    // frame types that wantFrame and wantIdle pass over

	// The peer.
	addr          netip.AddrPort // where it is, on path 0
	params        testParams
	originalDCID  *originalDCID
	connParams    map[uint64][]byte // what the connection announced
	peerTLSConfig *tls.Config
	tls           *tls.QUICConn
	tlsErr        error
	early         dialEarly
	rejectEarly   bool
	earlyKeys     *keys // of 0-RTT packets
	peerComplete  bool
	levels        [numSpaces]testLevel
	phase         bool // Key Phase bit
	multipath     bool
	frameTypes    map[uint64]uint64
	nextNum       map[uint32]*uint64         // next packet number, by path
	received      map[uint32]map[uint64]bool // 1-RTT packets
	cids          map[uint32]map[uint64][]byte
	tokens        map[string][16]byte // reset tokens of the connection, by connection id
	use           map[uint32]uint64   // sequence number of the connection id that the peer uses
	initialDCID   []byte              // of the client's first packets
	keysDCID      []byte              // from which the Initial keys are derived
	zeroSCID      bool                // the peer's own connection id is empty
	connSCID      []byte              // Source Connection ID of the connection
	remotes       map[uint32]netip.AddrPort

	packets []*peerPacket // read; packets[0] has frames[framesRead:] left
	frame   int
}

const testRTT = 10 * time.Millisecond

var (
	testServerAddr = netip.MustParseAddrPort("192.0.2.1:443")
	testClientAddr = netip.MustParseAddrPort("10.0.0.1:40000")
	// testOtherAddr is another address of the client.
	testOtherAddr = netip.MustParseAddrPort("10.0.1.1:40001")
)

// testCert is made once: that is slow.
var testCert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) { return quictest.Cert("server.test") })

// testOtherCert is one that nobody trusts.
var testOtherCert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) { return quictest.Cert("server.test") })

// testSocketMTU leaves path MTU discovery nothing to do: datagrams have 1200 bytes.
const testSocketMTU = 1200 + 28

// testSide says which end the connection under test is.
type testSide bool

const (
	clientSide testSide = true
	serverSide testSide = false
)

func (s testSide) String() string {
	if s == clientSide {
		return "client"
	}
	return "server"
}

// scripted runs f in a bubble of virtual time with a connection that has not
// begun its handshake. Options are func(*Config), func(*testParams), func(*tls.Config)
// of the peer, multipathUpTo, draft15, socketMTU and originalDCID.
func scripted(t *testing.T, side testSide, f func(t *testing.T, tc *testConn), options ...any) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, side, options)
		defer tc.cleanup()
		f(t, tc)
	})
}

// established is scripted with the handshake done and confirmed, and everything
// acknowledged.
func established(t *testing.T, side testSide, f func(t *testing.T, tc *testConn), options ...any) {
	t.Helper()
	scripted(t, side, func(t *testing.T, tc *testConn) {
		t.Helper()
		tc.handshake()
		f(t, tc)
	}, options...)
}

// bothSides runs a subtest for each end.
func bothSides(t *testing.T, f func(t *testing.T, tc *testConn), options ...any) {
	t.Helper()
	for _, side := range []testSide{clientSide, serverSide} {
		t.Run(side.String(), func(t *testing.T) { established(t, side, f, options...) })
	}
}

func newTestConn(t *testing.T, side testSide, options []any) *testConn {
	t.Helper()
	cert, pool := testCert()
	tc := &testConn{
		t: t, isClient: bool(side), mtu: testSocketMTU,
		sent:     make(chan *peerDatagram, 4096),
		dialErr:  make(chan error, 1),
		ignored:  map[uint64]bool{tPadding: true, tAck: true, tAckECN: true, tPathAck: true, tPathAckECN: true},
		nextNum:  make(map[uint32]*uint64),
		received: make(map[uint32]map[uint64]bool),
		cids:     make(map[uint32]map[uint64][]byte),
		tokens:   make(map[string][16]byte),
		use:      make(map[uint32]uint64),
		remotes:  make(map[uint32]netip.AddrPort),
	}
	for i := range tc.levels {
		tc.levels[i].received = make(map[uint64]bool)
	}
	clientTLS := &tls.Config{RootCAs: pool, ServerName: "server.test", NextProtos: []string{"test"},
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}
	serverTLS := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"test"}, MinVersion: tls.VersionTLS13}
	tc.config = &Config{Datagrams: true, InitialMaxPathID: -1}
	tc.params.setBytes(paramInitialSrcConnID, peerCID(0, 0))
	for _, p := range []struct{ id, v uint64 }{
		{paramMaxData, 1 << 20}, {paramStreamDataBidiLocal, 1 << 18}, {paramStreamDataBidi, 1 << 18}, {paramStreamDataUni, 1 << 18},
		{paramMaxStreamsBidi, 10}, {paramMaxStreamsUni, 10}, {paramActiveCIDLimit, 2}, {paramMaxDatagramFrame, 65535},
	} {
		tc.params.set(p.id, p.v)
	}
	if tc.isClient {
		tc.config.TLS, tc.peerTLSConfig = clientTLS, serverTLS
		tc.addr = testServerAddr
	} else {
		tc.config.TLS, tc.peerTLSConfig = serverTLS, clientTLS
		tc.addr = testClientAddr
		tc.initialDCID = []byte{0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08} // RFC 9001 appendix A.1
	}
	for _, o := range options {
		switch o := o.(type) {
		case func(*Config):
			o(tc.config)
		case func(*testParams):
			o(&tc.params)
		case func(*tls.Config):
			tc.peerTLSConfig = tc.peerTLSConfig.Clone()
			o(tc.peerTLSConfig)
		case dialEarly:
			tc.early = o
		case rejectEarly:
			tc.rejectEarly = true
		case originalDCID:
			tc.originalDCID = &o
		case socketMTU:
			tc.mtu = int(o)
		case draft15:
			for i := range tc.params {
				if tc.params[i].id == paramMaxPathID {
					tc.params[i].id = paramMaxPathIDDraft15
				}
			}
			tc.frameTypes = draft15Types
		case multipathUpTo:
			tc.config.InitialMaxPathID = max(tc.config.InitialMaxPathID, int(o))
			tc.params.set(paramMaxPathID, uint64(o))
			tc.multipath = true
		default:
			t.Fatalf("option %T", o)
		}
	}
	tc.remotes[0] = tc.addr
	if tc.isClient {
		tc.e = NewEndpoint(nil)
		tc.addSocket(testClientAddr)
		tc.startDial()
	} else {
		tc.e = NewEndpoint(tc.config)
		tc.addSocket(testServerAddr)
		tc.setInitialKeys(tc.initialDCID)
		tc.startPeerTLS()
	}
	return tc
}

func (tc *testConn) addSocket(addr netip.AddrPort) *testSocket {
	s := &testSocket{tc: tc, addr: addr, mtu: tc.mtu, in: make(chan udpio.Received, 1024), closed: make(chan struct{})}
	tc.sockets = append(tc.sockets, s)
	tc.e.AddSocket(s)
	return s
}

// handOver gives the state of the connection back to its loop, for the race detector:
// a timer that wakes the loop does not order what the test did before.
func (tc *testConn) handOver() {
	if tc.conn != nil {
		tc.conn.mb.mu.Lock()
		defer tc.conn.mb.mu.Unlock()
	}
}

// core is the connection under test, whose state may be read and changed until it
// has something to do: its loop sleeps.
func (tc *testConn) core() *Conn {
	synctest.Wait()
	return tc.conn
}

// startDial has the connection under test, a client, send its first packets.
func (tc *testConn) startDial() {
	go func() {
		dial := tc.e.Dial
		if tc.early != nil {
			dial = tc.e.DialEarly
		}
		c, err := dial(tc.t.Context(), tc.sockets[0], tc.addr, tc.config)
		if tc.early != nil && err == nil {
			tc.early(c)
		}
		tc.dialErr <- err
	}()
	synctest.Wait()
	tc.findConn()
	// The peer reads the client's choice from its first packet.
	d := <-tc.sent
	n := uint64(d.data[5])
	tc.initialDCID = bytes.Clone(d.data[6 : 6+n])
	tc.connSCID = bytes.Clone(d.data[7+n : 7+n+uint64(d.data[6+n])])
	tc.cids[0] = map[uint64][]byte{0: tc.connSCID}
	tc.setInitialKeys(tc.initialDCID)
	switch o := tc.originalDCID; {
	case o == nil:
		tc.params.setBytes(paramOriginalDstConnID, tc.initialDCID)
	case o.value != nil:
		tc.params.setBytes(paramOriginalDstConnID, o.value)
	}
	tc.startPeerTLS()
	tc.readDatagram(d)
}

// setInitialKeys sets the peer's Initial keys.
func (tc *testConn) setInitialKeys(dcid []byte) {
	tc.keysDCID = dcid
	client, server := initialKeys(dcid)
	l := &tc.levels[initialSpace]
	if l.read, l.write = client, server; !tc.isClient {
		l.read, l.write = server, client
	}
}

// findConn waits for the connection under test to exist.
func (tc *testConn) findConn() {
	synctest.Wait()
	tc.e.mu.Lock()
	defer tc.e.mu.Unlock()
	for c := range tc.e.conns {
		tc.conn = c
	}
}

// cleanup ends the connection without the peer.
func (tc *testConn) cleanup() {
	tc.e.Close()
	tc.tls.Close()
	for _, s := range tc.sockets {
		s.Close()
	}
}

// --- the peer sends ---

// destination is the connection id with which the peer addresses a path.
func (tc *testConn) destination(path uint32) []byte {
	tc.t.Helper()
	cid := tc.cids[path][tc.use[path]]
	if cid == nil {
		if path != 0 || tc.connSCID != nil {
			tc.t.Fatalf("the peer has no connection id for path %d", path)
		}
		return tc.initialDCID
	}
	return cid
}

// deliver has a datagram arrive.
func (tc *testConn) deliver(m udpio.Received) {
	if m.Dst == (netip.Addr{}) {
		m.Dst = tc.sockets[0].addr.Addr()
	}
	for _, s := range tc.sockets {
		if s.addr.Addr() == m.Dst {
			s.in <- m
			break
		}
	}
	synctest.Wait()
	if tc.conn == nil {
		tc.findConn()
	}
}

// writeRaw has a datagram with these bytes arrive from the peer's address on path 0.
func (tc *testConn) writeRaw(b []byte) { tc.deliver(udpio.Received{Buf: b, Src: tc.addr}) }

// writePackets sends packets in one datagram. Those with Initial packets are padded
// to 1200 bytes, as both sides must.
func (tc *testConn) writePackets(packets ...*peerPacket) {
	tc.t.Helper()
	tc.writeRaw(tc.datagram(1200, packets...))
}

// datagram encodes packets; an Initial is padded so that the datagram has size bytes.
func (tc *testConn) datagram(size int, packets ...*peerPacket) (b []byte) {
	tc.t.Helper()
	for _, p := range packets {
		b = append(b, tc.seal(p)...)
	}
	if packets[0].typ == packetInitial && len(b) < size {
		p := packets[len(packets)-1]
		p.frames = append(slices.Clip(p.frames), frPadding(size-len(b)))
		b = nil
		for _, p := range packets {
			p.numSet = true
			b = append(b, tc.seal(p)...)
		}
	}
	return b
}

// write sends a packet with frames on path 0, at the highest level with keys.
func (tc *testConn) write(frames ...testFrame) {
	tc.t.Helper()
	tc.writePackets(&peerPacket{typ: packetOneRTT, frames: frames})
}

// writeOn sends a 1-RTT packet on a path, from where the peer is on it.
func (tc *testConn) writeOn(path uint32, frames ...testFrame) {
	tc.t.Helper()
	tc.writeFrom(tc.remotes[path], &peerPacket{typ: packetOneRTT, path: path, frames: frames})
}

// writeFrom sends a packet from another address of the peer.
func (tc *testConn) writeFrom(src netip.AddrPort, p *peerPacket) {
	tc.t.Helper()
	m := udpio.Received{Buf: tc.datagram(1200, p), Src: src}
	if tc.isClient && int(p.path) < len(tc.sockets) {
		m.Dst = tc.sockets[p.path].addr.Addr()
	}
	tc.deliver(m)
}

// ackFrame acknowledges everything that the peer has read on a path.
func (tc *testConn) ackFrame(path uint32) testFrame {
	nums := slices.Sorted(maps.Keys(tc.received[path]))
	if !tc.multipath {
		return frAck(nums...)
	}
	return frPathAck(uint64(path), nums...)
}

// ack acknowledges all 1-RTT packets that were sent, each path on itself, except
// those that the test has made the peer forget.
func (tc *testConn) ack() {
	tc.t.Helper()
	tc.fill()
	for _, path := range slices.Sorted(maps.Keys(tc.received)) {
		if len(tc.received[path]) > 0 {
			tc.writeOn(path, tc.ackFrame(path))
		}
	}
}

// forget makes the peer miss a packet: it will not be acknowledged.
func (tc *testConn) forget(p *peerPacket) {
	if p.typ == packetOneRTT {
		delete(tc.received[p.path], p.num)
	} else {
		delete(tc.levels[p.typ.space()].received, p.num)
	}
}

// --- the peer receives ---

// advance lets time pass.
func (tc *testConn) advance(d time.Duration) {
	tc.handOver()
	time.Sleep(d)
	synctest.Wait()
}

func (tc *testConn) readDatagram(d *peerDatagram) {
	tc.t.Helper()
	for b := d.data; len(b) > 0; {
		p := &peerPacket{dgram: d, raw: b}
		if b[0]&0x80 == 0 {
			tc.openShort(p)
		} else {
			p.raw = b[:tc.openLong(p)]
		}
		b = b[len(p.raw):]
		d.packets = append(d.packets, p)
		tc.packets = append(tc.packets, p)
		tc.checkPacket(p)
		for _, f := range p.frames {
			tc.learn(p, f)
		}
	}
}

// learn takes what the peer needs from a frame: TLS messages and connection ids.
func (tc *testConn) learn(p *peerPacket, f testFrame) {
	if p.typ == packetInitial && tc.connSCID == nil {
		tc.connSCID = bytes.Clone(p.scid)
		tc.cids[0] = map[uint64][]byte{0: tc.connSCID}
	}
	var path uint64
	v := f.ints
	switch f.typ {
	case tCrypto:
		tc.feedTLS(p.typ.space(), f)
		return
	case tPathNewConnectionID:
		path, v = v[0], v[1:]
	case tNewConnectionID:
	default:
		return
	}
	if tc.cids[uint32(path)] == nil {
		tc.cids[uint32(path)] = make(map[uint64][]byte)
	}
	tc.cids[uint32(path)][v[0]] = bytes.Clone(f.blobs[0])
	tc.tokens[string(f.blobs[0])] = [16]byte(f.blobs[1])
}

// fill reads what was sent so far.
func (tc *testConn) fill() {
	tc.t.Helper()
	tc.handOver()
	synctest.Wait()
	for {
		select {
		case d := <-tc.sent:
			tc.readDatagram(d)
		default:
			return
		}
	}
}

// nextFrame takes the next frame that is not ignored; ok is false if there is none.
func (tc *testConn) nextFrame() (f testFrame, p *peerPacket, ok bool) {
	tc.t.Helper()
	tc.fill()
	for len(tc.packets) > 0 {
		p := tc.packets[0]
		for tc.frame < len(p.frames) {
			f := p.frames[tc.frame]
			tc.frame++
			if !tc.ignored[f.typ] {
				return f, p, true
			}
		}
		tc.packets, tc.frame = tc.packets[1:], 0
		if p.typ >= packetRetry && p.typ != packetOneRTT {
			return testFrame{}, p, true
		}
	}
	return testFrame{}, nil, false
}

// nextPacket takes the next packet that is not begun yet, nil if there is none.
func (tc *testConn) nextPacket() *peerPacket {
	tc.t.Helper()
	tc.fill()
	if tc.frame > 0 {
		tc.packets, tc.frame = tc.packets[1:], 0
	}
	if len(tc.packets) == 0 {
		return nil
	}
	p := tc.packets[0]
	tc.packets = tc.packets[1:]
	return p
}

// wantPacket takes the next packet, which must be of type typ.
func (tc *testConn) wantPacket(why string, typ peerPacketType) *peerPacket {
	tc.t.Helper()
	p := tc.nextPacket()
	if p == nil || p.typ != typ {
		tc.t.Fatalf("%s: got %v, want a packet of type %v", why, p, typ)
	}
	return p
}

// wantFrame takes the next frame, which must be want, and returns its packet.
func (tc *testConn) wantFrame(why string, want testFrame) *peerPacket {
	tc.t.Helper()
	f, p, ok := tc.nextFrame()
	switch {
	case !ok:
		tc.t.Fatalf("%s: nothing was sent, want %v", why, want)
	case !f.equal(want):
		tc.t.Fatalf("%s: got %v, want %v", why, f, want)
	}
	return p
}

// wantType takes the next frame, which must be of type typ.
func (tc *testConn) wantType(why string, typ uint64) (testFrame, *peerPacket) {
	tc.t.Helper()
	f, p, ok := tc.nextFrame()
	if !ok || f.typ != typ || p.typ != packetOneRTT && frameLayouts[typ].name == "" {
		tc.t.Fatalf("%s: got %v (any: %v), want %s", why, f, ok, frameLayouts[typ].name)
	}
	return f, p
}

// wantIdle checks that nothing is sent, ignored frames excepted.
func (tc *testConn) wantIdle(why string) {
	tc.t.Helper()
	if f, p, ok := tc.nextFrame(); ok {
		tc.t.Fatalf("%s: got %v in %v, want nothing", why, f, p)
	}
}

// wantSilence is wantIdle for the next d.
func (tc *testConn) wantSilence(why string, d time.Duration) {
	tc.t.Helper()
	tc.wantIdle(why)
	tc.advance(d)
	tc.wantIdle(fmt.Sprintf("%s, for %v", why, d))
}

// wantNoDatagram checks that not even an acknowledgment is sent.
func (tc *testConn) wantNoDatagram(why string) {
	tc.t.Helper()
	if p := tc.nextPacket(); p != nil {
		tc.t.Fatalf("%s: got %v, want no datagram at all", why, p)
	}
}

// ignore has wantFrame and wantIdle pass over further frame types.
func (tc *testConn) ignore(types ...uint64) {
	for _, typ := range types {
		tc.ignored[typ] = true
	}
}

// skip drops what was received, after learning from it.
func (tc *testConn) skip() {
	tc.fill()
	tc.packets, tc.frame = nil, 0
}

// waitSent waits until something is sent, at most for limit, and returns the time
// that it took.
func (tc *testConn) waitSent(limit time.Duration) time.Duration {
	tc.t.Helper()
	start := time.Now()
	tc.fill()
	if len(tc.packets) > 0 && tc.frame > 0 && tc.frame == len(tc.packets[0].frames) {
		tc.packets, tc.frame = tc.packets[1:], 0
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for len(tc.packets) == 0 {
		select {
		case d := <-tc.sent:
			tc.readDatagram(d)
			tc.fill()
		case <-timeout.C:
			tc.t.Fatalf("nothing was sent for %v", limit)
		}
	}
	return time.Since(start)
}

// wantClose takes the next frame that is sent, CONNECTION_CLOSE with a transport
// error, and checks that the application is told the same.
func (tc *testConn) wantClose(why string, code TransportErrorCode) testFrame {
	tc.t.Helper()
	for {
		f, _, ok := tc.nextFrame()
		if !ok {
			tc.t.Fatalf("%s: no CONNECTION_CLOSE; connection: %v", why, tc.conn.Err())
		}
		if f.typ != tConnectionClose {
			continue
		}
		if got := TransportErrorCode(f.ints[0]); got != code {
			tc.t.Fatalf("%s: closed with %v %q, want %v", why, got, f.blobs[0], code)
		}
		if te, ok := tc.conn.Err().(*TransportError); !ok || te.Code != code || te.Remote {
			tc.t.Errorf("%s: Err is %v, want %v", why, tc.conn.Err(), code)
		}
		return f
	}
}

// wantAlive checks that the connection goes on: it answers a PING.
func (tc *testConn) wantAlive(why string) {
	tc.t.Helper()
	tc.skip()
	tc.write(frPing(), frPadding(10))
	tc.advance(maxAckDelay)
	tc.fill()
	if tc.conn.Err() != nil || len(tc.packets) == 0 {
		tc.t.Fatalf("%s: the connection does not answer: %v", why, tc.conn.Err())
	}
	tc.skip()
}

// --- the handshake ---

// flight returns packets with the CRYPTO data of a level that the peer has not sent.
func (tc *testConn) flight(typ peerPacketType) (packets []*peerPacket) {
	l := &tc.levels[typ.space()]
	for l.cryptoSent < uint64(len(l.crypto)) {
		n := min(1000, uint64(len(l.crypto))-l.cryptoSent)
		f := frCrypto(l.cryptoSent, l.crypto[l.cryptoSent:l.cryptoSent+n])
		l.cryptoSent += n
		packets = append(packets, &peerPacket{typ: typ, frames: []testFrame{f}})
	}
	return packets
}

// ackLevel returns an ACK of what came at a handshake level, and whether there is any.
func (tc *testConn) ackLevel(typ peerPacketType) (testFrame, bool) {
	l := &tc.levels[typ.space()]
	if len(l.received) == 0 || l.write == nil {
		return testFrame{}, false
	}
	return frAck(slices.Sorted(maps.Keys(l.received))...), true
}

// writeHandshake sends what the peer has to send at the handshake levels.
func (tc *testConn) writeHandshake() {
	tc.t.Helper()
	for _, typ := range []peerPacketType{packetInitial, packetHandshake} {
		packets := tc.flight(typ)
		if ack, ok := tc.ackLevel(typ); ok {
			if len(packets) == 0 {
				packets = []*peerPacket{{typ: typ}}
			}
			packets[0].frames = append([]testFrame{ack}, packets[0].frames...)
		}
		for _, p := range packets {
			tc.writePackets(p)
		}
	}
}

// handshake completes the handshake and has it confirmed; then all is acknowledged
// and the transcript is empty.
func (tc *testConn) handshake() {
	tc.t.Helper()
	tc.completeHandshake()
	if tc.isClient {
		tc.write(frHandshakeDone(), tc.ackFrameOrPing())
		tc.wantDial()
	}
	tc.settle()
	if !tc.core().confirmed {
		tc.t.Fatal("handshake not confirmed")
	}
}

func (tc *testConn) ackFrameOrPing() testFrame {
	if len(tc.received[0]) == 0 {
		return frPing()
	}
	return tc.ackFrame(0)
}

// completeHandshake completes the handshake on both sides; a client under test does
// not know yet that it is confirmed.
func (tc *testConn) completeHandshake() {
	tc.t.Helper()
	for range 5 {
		tc.skip()
		if tc.conn != nil && tc.core().complete && tc.peerComplete {
			return
		}
		tc.advance(testRTT)
		tc.writeHandshake()
	}
	tc.skip()
	if tc.tlsErr != nil || tc.conn == nil || !tc.core().complete || !tc.peerComplete {
		tc.t.Fatalf("handshake did not complete: %v, %v", tc.tlsErr, tc.conn.Err())
	}
}

// wantDial checks that Dial has returned with success.
func (tc *testConn) wantDial() {
	tc.t.Helper()
	synctest.Wait()
	select {
	case err := <-tc.dialErr:
		if err != nil {
			tc.t.Fatalf("Dial: %v", err)
		}
	default:
		tc.t.Fatal("Dial has not returned")
	}
}

// settle acknowledges until nothing is sent any more.
func (tc *testConn) settle() {
	tc.t.Helper()
	for range 4 {
		tc.skip()
		tc.ack()
		tc.advance(maxAckDelay)
	}
	tc.skip()
}

// --- the application ---

// sendDatagrams has the application send n datagrams, each in a packet of its own,
// which the peer receives.
func (tc *testConn) sendDatagrams(n int) {
	tc.t.Helper()
	for range n {
		tc.conn.SendDatagrams([]*PacketBuf{datagram(0, 100)})
		synctest.Wait()
	}
}

// open opens a stream, which must be possible at once.
func (tc *testConn) open(uni bool) *Stream {
	tc.t.Helper()
	s, err := tc.core().streams.open(tc.expired(), uni)
	if err != nil {
		tc.t.Fatal(err)
	}
	return s
}

// accept accepts a stream, which must be there.
func (tc *testConn) accept() *Stream {
	tc.t.Helper()
	s, err := tc.conn.AcceptStream(tc.expired())
	if err != nil {
		tc.t.Fatal(err)
	}
	return s
}

// expired is a context for calls that must not wait.
func (tc *testConn) expired() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// intParam returns a transport parameter of the connection under test.
func (tc *testConn) intParam(id uint64) (v uint64, ok bool) {
	b, ok := tc.connParams[id]
	if !ok {
		return 0, false
	}
	r := testReader(b)
	return r.int(), true
}

// challengeOf is the data of a PATH_CHALLENGE as a number, for comparisons.
func challengeOf(f testFrame) uint64 { return binary.BigEndian.Uint64(f.blobs[0]) }

// udpReceived is a datagram from the peer's address on a path.
func udpReceived(tc *testConn, path uint32, b []byte) udpio.Received {
	m := udpio.Received{Buf: b, Src: tc.remotes[path]}
	if tc.isClient {
		m.Dst = tc.sockets[path].addr.Addr()
	}
	return m
}

// udpReceivedFrom is a datagram from any address.
func udpReceivedFrom(src netip.AddrPort, b []byte) udpio.Received {
	return udpio.Received{Buf: b, Src: src}
}
