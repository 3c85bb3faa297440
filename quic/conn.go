// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/internal/inline"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// DatagramHandler receives the payloads of DATAGRAM frames, on the connection's loop.
type DatagramHandler interface {
	HandleDatagram(b []byte) // b is the handler's, also to change, until FlushDatagrams returns
	FlushDatagrams()         // the end of a batch
}

// EventKind says what happened.
type EventKind uint8

const (
	PathUp     EventKind = iota // a new path was validated
	PathLost                    // a path died or was abandoned
	PathBack                    // a dead path answers again
	PathGone                    // no state of the path is left
	MTUChanged                  // MaxDatagramPayload has changed
)

// Event is something that an application may want to log or act on.
type Event struct {
	Kind   EventKind
	Path   PathID
	Label  string
	Reason string
}

// Conn is a QUIC connection. Its exported methods may be called by any goroutine;
// its state is owned by its loop.
type Conn struct {
	e        *Endpoint
	cfg      *Config
	isClient bool
	log      *slog.Logger
	qlog     *qlogSink // nil: no log; owned by the loop

	mb            mailbox
	turns         runToken
	handshakeDone chan struct{} // closed when the handshake is complete
	earlyC        chan struct{} // client: closed when 0-RTT can be sent
	confirmedC    chan struct{} // closed when it is confirmed
	mtuSettled    chan struct{} // closed when path 0's MTU probes have ended
	doneC         chan struct{} // closed when the connection has ended for the application
	loopDone      chan struct{}
	errMu         sync.Mutex
	err           error // set before doneC is closed
	maxDatagram   atomic.Int64
	peerDatagram  atomic.Int64
	used0RTT      atomic.Bool
	tlsState      atomic.Pointer[tls.ConnectionState]

	// What follows is owned by the holder of the token.
	turnTime instant
	timer    *time.Timer
	armed    instant // when timer fires
	rand     *mrand.Rand
	handler  DatagramHandler
	events   func(Event)
	happened []Event // that events was not told yet
	streams  streamsState
	dgrams   dgramQueue

	// Handshake.
	tls             *tls.QUICConn
	initial         *longSpace // nil when discarded
	handshake       *longSpace
	handshakeRemote netip.AddrPort // the server's address in the handshake
	originalDCID    []byte         // Destination Connection ID of the client's first Initial
	initialDCID     []byte         // server: Destination Connection ID of the Initial that started it
	retrySCID       []byte
	peerSCID        []byte // Source Connection ID of the peer's first packet
	gotPeerSCID     bool
	token           []byte       // client: for Initial packets; of an earlier connection, or of a Retry
	validAddrs      []netip.Addr // server: addresses of the client that were validated, oldest first
	newToken        []byte       // server: of newTokenFrame
	newTokenFrame   sentVal
	complete        bool // handshake complete
	confirmed       bool // handshake confirmed
	localParams     transportParams
	peerParams      *transportParams
	handshakeEnd    instant
	handshakeSeen   bool // Endpoint.handshakeEnded was told
	doneFrame       sentVal
	early           []earlyPacket // packets whose keys are not there yet
	readLevel       tls.QUICEncryptionLevel
	ticket          ticketScanner
	zeroRTT         zeroRTT
	handed          bool // Accept returns it, or has
	peerGrease      bool // the peer takes any QUIC Bit

	// 1-RTT.
	appKeys     appKeys
	appCrypto   cryptoStream
	multipath   bool
	cp          *wire.CodePoints // nil while multipath is not negotiated
	byCID       map[localCIDKey]*idState
	retiredCIDs []localCIDKey // the latest, see keptRetiredCIDs
	ids         []*idState    // by path id, without those that are gone
	nextPathID  PathID        // smallest id without a state yet
	paths       []*pathState
	wishes      []pathWish
	preferred   preferredMove
	nextWish    instant // when the next of them that was tried in vain is due

	localMaxPathID       PathID
	ackedMaxPathID       PathID // that the peer is known to know
	peerMaxPathID        PathID
	peerInitialMaxPathID PathID
	maxPathID            sentVal // our MAX_PATH_ID
	pathsBlocked         sentVal
	pathsBlockedAt       PathID
	pathsWanted          bool // openPaths may have something to do
	lastPathGone         instant
	blockedCheck         instant // last time that repeatBlocked has looked

	scheduler    sched.Scheduler
	views        []sched.Path
	viewPaths    []*pathState
	controlDue   bool    // some control frame may be pending
	lastDatagram instant // sent or received
	lastStream   instant // stream data received
	keepAlive    time.Duration

	// Scratch, reused.
	box            inbox
	w              packetWriter
	keyUpdateAfter uint64
	keyUpdateDue   bool // the application asked for it
	seal           sealScratch
	open           sealScratch
	frame          wire.Frame
	fatePath       *pathState
	fateFunc       fateFunc
	spare          []byte // copy of a packet for a second attempt to open it
	probeBuf       []byte // copy of a packet that may open a path
	hdrLen, lenOff int    // of the packet begun; lenOff of a 0-RTT packet
	exhausted      bool   // a packet number space is used up
	long           [3]longPacket
	dgramBufs      []*PacketBuf
	sentBufs       freePacketBufs // of this turn
	largeViews     []sched.Path
	largeIndex     []int
	picked         int // index of the last Pick, in the views that it was given

	lastReceived                                        instant
	sentSinceReceive                                    bool    // an ack-eliciting packet, since the last packet received
	authentic                                           bool    // a packet of the datagram being processed was opened
	datagramSize                                        int     // of the datagram being processed, bytes
	probingOnly                                         bool    // the packet being processed has only probing frames so far
	idleFrom                                            instant // for the idle time-out
	datagramsSent, datagramsReceived, tooLargeDatagrams uint64
	closing                                             closeState
	drops                                               dropCounters
}

// dropReason says why a received packet was not processed.
type dropReason uint8

const (
	dropMalformed dropReason = iota
	dropNoKeys
	dropDecrypt
	dropDuplicate
	dropUnknownCID
	dropVersion
	dropAddress
	dropClosing
	numDropReasons
)

type dropCounters [numDropReasons]uint64

func newConn(e *Endpoint, cfg *Config, s Socket, isClient bool) *Conn {
	c := &Conn{
		e: e, cfg: cfg, isClient: isClient, log: cfg.Logger,
		handshakeDone:  make(chan struct{}),
		earlyC:         make(chan struct{}),
		confirmedC:     make(chan struct{}),
		mtuSettled:     make(chan struct{}),
		doneC:          make(chan struct{}),
		loopDone:       make(chan struct{}),
		byCID:          make(map[localCIDKey]*idState),
		scheduler:      cfg.NewScheduler(),
		keyUpdateAfter: keyUpdateAfter,
		keepAlive:      cfg.KeepAlive,
		rand:           newRand(s),
	}
	c.mb.init()
	c.fateFunc = func(sp spaceID, r frameRecord, f fate) { c.handleFate(sp, c.fatePath, r, f) }
	now := e.now()
	c.turnTime, c.lastReceived, c.idleFrom = now, now, now
	c.handshakeEnd = now.add(cfg.HandshakeTimeout)
	c.streams.init(!isClient, streamsConfig{
		maxBidi:      uint64(cfg.MaxIncomingStreams),
		maxUni:       uint64(cfg.MaxIncomingUniStreams),
		streamWindow: uint64(cfg.StreamReceiveWindow),
		connWindow:   uint64(cfg.ConnReceiveWindow),
		wake:         c.notify,
	})
	return c
}

// startPathZero makes the state of path 0, whose connection id is that of the handshake.
func (c *Conn) startPathZero(now instant, t tuple, remote connID) {
	s := &idState{id: 0, nextLocal: 1}
	id := randomCID()
	s.local = []localCID{{id: id, seq: 0}}
	s.remote = []remoteCID{{id: remote, seq: 0}}
	s.largestRemote = 1
	c.byCID[id] = s
	c.ids = []*idState{s}
	c.nextPathID = 1
	c.newPath(now, s, t)
}

func newClientConn(e *Endpoint, cfg *Config, es *endpointSocket, remote netip.AddrPort) *Conn {
	c := newConn(e, cfg, es.Socket, true)
	dcid := randomCID() // R9000-7.2-1 R9000-7.2-2
	c.originalDCID = dcid[:]
	c.startPathZero(c.turnTime, tuple{sock: es, remote: remote}, makeConnID(dcid[:]))
	c.handshakeRemote = remote
	c.token = cfg.Sessions.takeToken(c.serverKey())
	c.paths[0].validated = true // a client may send to the address that it chose
	c.setInitialKeys(dcid[:])
	return c
}

// firstInitial is what the header of a client's Initial packet tells a server.
type firstInitial struct {
	dcid, scid   []byte
	originalDCID []byte // dcid, or where the client's first Initial went before a Retry
	retried      bool   // it has the token of a Retry
	validated    bool   // a token has shown that the client is at its address
}

func newServerConn(e *Endpoint, cfg *Config, es *endpointSocket, src netip.AddrPort, dst netip.Addr, f firstInitial) *Conn {
	c := newConn(e, cfg, es.Socket, false)
	c.initialDCID = bytes.Clone(f.dcid)
	c.originalDCID = bytes.Clone(f.originalDCID)
	c.startPathZero(c.turnTime, tuple{sock: es, remote: src, local: dst}, makeConnID(f.scid))
	if f.retried {
		c.retrySCID = c.initialDCID
	}
	if f.validated {
		c.validateAddress(c.turnTime, c.paths[0])
	}
	c.peerSCID, c.gotPeerSCID = bytes.Clone(f.scid), true
	c.setInitialKeys(f.dcid)
	return c
}

// errClosed is what the methods return that find the connection, or a socket, closed.
var errClosed = net.ErrClosed

// do runs f on the loop and waits for it. It returns false if the loop has ended.
func (c *Conn) do(f func(now instant)) bool {
	done := make(chan struct{})
	if !c.command(func(now instant) { f(now); close(done) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-c.loopDone:
		return false
	}
}

// OpenStream opens a bidirectional stream; it waits while the peer's limit is reached.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) { return c.streams.open(ctx, false) }

// OpenUniStream opens a unidirectional stream.
func (c *Conn) OpenUniStream(ctx context.Context) (*Stream, error) { return c.streams.open(ctx, true) }

// AcceptStream waits for a stream of the peer.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) { return c.streams.accept(ctx) }

// SendDatagrams queues the payload of each buffer as one DATAGRAM frame. It takes
// ownership of the buffers, not of the slice, and never blocks; what exceeds the
// bounds of the queues is dropped and counted.
func (c *Conn) SendDatagrams(bufs []*PacketBuf) {
	switch taken := c.mb.putDatagrams(bufs); {
	case taken == 0:
	case taken <= inline.MaxPackets():
		c.sendHere()
	default:
		c.notify()
	}
}

// command has f run on the loop. It returns false if the loop has ended.
func (c *Conn) command(f func(now instant)) bool {
	if !c.mb.putCommand(f) {
		return false
	}
	c.notify()
	return true
}

// SetDatagramHandler sets the receiver of datagrams; until then they are dropped.
func (c *Conn) SetDatagramHandler(h DatagramHandler) {
	c.command(func(instant) { c.handler = h })
}

// SetEventHandler sets the receiver of events. f is called on the loop and must not block.
func (c *Conn) SetEventHandler(f func(Event)) {
	c.command(func(instant) { c.events = f })
}

// SetKeepAlive changes the interval of PING frames on each path that is silent; 0: none.
func (c *Conn) SetKeepAlive(every time.Duration) {
	c.command(func(instant) { c.keepAlive = every })
}

// MaxDatagramPayload is the largest payload in bytes that SendDatagrams should be
// given: what the paths that count can carry. 0 while datagrams cannot be sent.
func (c *Conn) MaxDatagramPayload() int { return int(c.maxDatagram.Load()) }

// RequestStreamLimit is how many bidirectional streams the client may open in all, as far
// as this end knows. It is called on the connection's loop, as by a DatagramHandler.
func (c *Conn) RequestStreamLimit() uint64 {
	if c.isClient {
		return c.streams.local[bidiStream].max
	}
	return c.streams.remote[bidiStream].advertised
}

// PeerMaxDatagramFrame is the peer's max_datagram_frame_size; 0 before the
// handshake, and if it takes none.
func (c *Conn) PeerMaxDatagramFrame() int { return int(c.peerDatagram.Load()) }

// WaitMTU waits until it is known what path 0 carries.
func (c *Conn) WaitMTU(ctx context.Context) error {
	select {
	case <-c.mtuSettled:
		return nil
	case <-c.doneC:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// OpenPath adds a path over s to remote. It opens as soon as the peer allows; a path
// that cannot be validated is tried again. label names it in statistics.
func (c *Conn) OpenPath(s Socket, remote netip.AddrPort, label string) error {
	es := c.e.socket(s)
	if es == nil {
		return net.ErrClosed
	}
	if !c.isClient { // RMP21-3-1
		return errors.New("quic: a server does not open paths")
	}
	err := net.ErrClosed
	c.do(func(now instant) {
		if c.complete && !c.multipath {
			err = errMultipathOff
			return
		}
		if c.complete && c.peerParams.disableActiveMigration && remote == c.handshakeRemote { // RMP21-2.2-2
			err = errors.New("quic: the peer forbids other paths to its address")
			return
		}
		c.wishes = append(c.wishes, pathWish{sock: es, remote: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()), label: label})
		c.pathsWanted = true
		err = nil
	})
	return err
}

// LabelPath names path id in statistics.
func (c *Conn) LabelPath(id PathID, label string) {
	c.do(func(instant) {
		if s := c.pathID(id); s != nil && s.path != nil {
			s.path.label = label
		}
	})
}

// AbandonPath closes path id at the request of the application.
func (c *Conn) AbandonPath(id PathID) {
	c.do(func(now instant) {
		if s := c.pathID(id); s != nil && c.multipath {
			c.abandonPath(now, s, c.cp.ApplicationAbandonPath, "closed by us")
		}
	})
}

// SetPathBackup tells the peer not to use path id while another one is usable.
func (c *Conn) SetPathBackup(id PathID, backup bool) {
	c.do(func(instant) {
		if s := c.pathID(id); s != nil && c.multipath {
			c.setBackup(s, backup)
		}
	})
}

// CloseWithError closes the connection with a code of the application. It does not wait.
func (c *Conn) CloseWithError(code uint64, reason string) {
	c.abort(&ApplicationError{Code: code, Reason: reason})
}

// abort closes the connection with err.
func (c *Conn) abort(err error) {
	c.command(func(now instant) { c.startClose(now, err) })
}

// shutdown closes the connection and ends its loop without waiting for the peer.
func (c *Conn) shutdown(err error) {
	c.command(func(now instant) {
		c.startClose(now, err)
		c.closing.quit = true
	})
}

// Done is closed when the connection has ended; Err tells why.
func (c *Conn) Done() <-chan struct{} { return c.doneC }

// HandshakeComplete is closed when the handshake is complete: nobody can have replayed
// what the peer sends from then on.
func (c *Conn) HandshakeComplete() <-chan struct{} { return c.handshakeDone }

// Used0RTT reports whether the server has accepted 0-RTT; a client knows when the
// handshake is complete. Stream.Early tells which data came so.
func (c *Conn) Used0RTT() bool { return c.used0RTT.Load() }

// HandshakeConfirmed is closed when the handshake is confirmed.
func (c *Conn) HandshakeConfirmed() <-chan struct{} { return c.confirmedC }

// Err is the reason of the end: a *TransportError, *ApplicationError,
// *IdleTimeoutError, *HandshakeTimeoutError, *StatelessResetError or
// *VersionNegotiationError; nil while the connection is alive.
func (c *Conn) Err() error {
	c.errMu.Lock()
	defer c.errMu.Unlock()
	return c.err
}

// ConnectionState is the state of TLS after the handshake.
func (c *Conn) ConnectionState() tls.ConnectionState {
	if s := c.tlsState.Load(); s != nil {
		return *s
	}
	return tls.ConnectionState{}
}

// event tells the application.
func (c *Conn) event(k EventKind, p *pathState) {
	ev := Event{Kind: k}
	if p != nil {
		ev.Path, ev.Label, ev.Reason = p.id, p.label, p.why
	}
	if c.events != nil {
		c.happened = append(c.happened, ev)
	}
}

// tellEvents hands the events of a turn to the application.
func (c *Conn) tellEvents() {
	for _, ev := range c.happened {
		c.events(ev)
	}
	c.happened = c.happened[:0]
}
