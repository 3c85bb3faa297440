// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Socket is a UDP socket used in batches.
type Socket = udpio.Socket

// SocketOptions are the options of ListenUDPWith, SocketStats what the Stats method of
// its sockets returns.
type (
	SocketOptions = udpio.Options
	SocketStats   = udpio.Stats
)

// ListenUDP binds a socket. network is "udp4" or "udp6"; device, if not empty, is
// the interface that the socket is bound to.
func ListenUDP(network string, addr netip.AddrPort, device string) (Socket, error) {
	return ListenUDPWith(network, addr, SocketOptions{Device: device})
}

// ListenUDPWith is ListenUDP with options.
func ListenUDPWith(network string, addr netip.AddrPort, o SocketOptions) (Socket, error) {
	s, err := udpio.Listen(network, addr, o)
	if err != nil {
		return nil, err // not a Socket that holds nil
	}
	return s, nil
}

const (
	defaultMaxIdleTimeout   = 120 * time.Second
	defaultHandshakeTimeout = 10 * time.Second
	defaultStreams          = 100
	defaultInitialMaxPathID = 8
	// maxPathsLimit bounds the path ids that we grant at a time.
	maxPathsLimit = 64
)

// Config configures connections. A Config may be used by several connections; it
// must not change afterwards. The zero value of a field means its default.
type Config struct {
	TLS *tls.Config // required; TLS 1.3 and NextProtos

	MaxIdleTimeout   time.Duration // default 120 s
	HandshakeTimeout time.Duration // default 10 s
	// KeepAlive is the interval of PING frames on each path that is silent. 0: none. With it, a
	// path that has not answered for long is asked again every 2 s at least. A client with one
	// path should have it: if a NAT gives it another address while it only receives, the
	// server cannot reach it before it has sent something.
	KeepAlive time.Duration

	MaxIncomingStreams    int64 // bidirectional, default 100
	MaxIncomingUniStreams int64 // default 100
	StreamReceiveWindow   int64 // bytes, default 1 MiB
	ConnReceiveWindow     int64 // bytes, default 2 MiB

	// InitialMaxPathID is the largest path id that we accept at first: one less than the
	// number of paths. Default 8, at most 64; -1 switches multipath off.
	InitialMaxPathID int
	// Datagrams announces support of DATAGRAM frames up to 65535 bytes.
	Datagrams bool

	// Sessions keeps what servers gave a client for later connections. Default: none.
	Sessions *SessionStore

	// AllowEarlyData has a server accept 0-RTT. Whoever has recorded such data can send it
	// again: to this endpoint in vain, but to another one that knows its ticket keys, or
	// after a restart with the same keys, with success. Accept returns connections that
	// use 0-RTT before their handshake is complete.
	AllowEarlyData bool

	// RequireToken has a server ask each client without a valid token to come back with that
	// of a Retry packet. Otherwise it does so while many handshakes are under way.
	RequireToken bool

	// PreferredAddrs are addresses of the server, at most one of each family, at which it
	// would rather be reached than at the one that a client has dialed: the client moves
	// there after the handshake. What is sent there must come to a socket of the endpoint.
	// Default: none.
	PreferredAddrs []netip.AddrPort
	// DisableActiveMigration has a server ask its clients to stay at their addresses, and
	// not to open further paths to the address that they dialed. One that moves
	// nevertheless, as it does when a NAT forgets it, is followed once it has answered at
	// its new address.
	DisableActiveMigration bool

	// FixedQUICBit keeps the QUIC Bit of RFC 9287 at 1 in both directions, for a UDP port
	// that is shared with other protocols (RFC 9443).
	FixedQUICBit bool

	// NewScheduler makes the scheduler of a connection. Default: wlb.
	NewScheduler func() sched.Scheduler
	// CongestionControl is used on each path. Default: BBR.
	CongestionControl CongestionControl

	// StatelessResetKey derives the stateless reset tokens of the endpoint. Default: random.
	StatelessResetKey *[32]byte
	// Logger receives events of interest. Default: none.
	Logger *slog.Logger
	// Qlog opens the log of a connection whose original Destination Connection ID is given:
	// a handler of the events of the qlog drafts, such as the Open method of qlog.Dir. It and
	// the handler are called in the connection's turns and must not block; a handler that is
	// an io.Closer is closed with the connection. Default, and where Qlog returns nil: no log.
	Qlog func(originalDCID []byte, isClient bool) slog.Handler
}

// withDefaults returns a copy of c in which every field is set.
func (c *Config) withDefaults() *Config {
	d := *c
	setDefault(&d.MaxIdleTimeout, defaultMaxIdleTimeout)
	setDefault(&d.HandshakeTimeout, defaultHandshakeTimeout)
	setDefault(&d.MaxIncomingStreams, defaultStreams)
	setDefault(&d.MaxIncomingUniStreams, defaultStreams)
	setDefault(&d.StreamReceiveWindow, 1<<20)
	setDefault(&d.ConnReceiveWindow, 2<<20)
	setDefault(&d.InitialMaxPathID, defaultInitialMaxPathID)
	d.InitialMaxPathID = min(d.InitialMaxPathID, maxPathsLimit)
	if d.NewScheduler == nil {
		d.NewScheduler = func() sched.Scheduler { return sched.NewWLB() }
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &d
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
