// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
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
	ecn           map[uint32]*wire.ECNCounts // of them; nil: not reported
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
		case reportECN:
			tc.ecn = make(map[uint32]*wire.ECNCounts)
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
		tc.conn.turns.state.Add(0)
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

// What the application does.

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
