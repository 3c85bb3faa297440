// SPDX-License-Identifier: Apache-2.0

// Package loadclients makes many clients of one VPN server in one process, without
// TUN devices: each has a UDP socket, a QUIC connection and a CONNECT-IP session of
// its own, makes its inner packets itself and counts those that it receives.
package loadclients

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Config says which server, and how to reach it.
type Config struct {
	Server netip.AddrPort
	Token  string // the key; many clients may share it
	// Within calls a function where the clients' sockets are to be opened, on their host;
	// nil: here.
	Within func(func() error) error
	AtOnce int // how many connect at the same time; 0: 16
}

const (
	// dialing is the default of Config.AtOnce.
	dialing = 16
	// connectTime is the time that one client has for it.
	connectTime = 15 * time.Second
	// keepAlive is that of mqvpn-client with its default reconnect interval.
	keepAlive = 5 * time.Second
	// serverName is what mqvpn-client sends to a server without a name.
	serverName = "mqvpn.invalid"
)

// Clients are connected clients. Their methods are for one goroutine, but for
// Received.
type Clients struct {
	all      []*client
	received atomic.Int64
	bufs     [Burst]*quic.PacketBuf
}

// client is one of them, and the receiver of its packets.
type client struct {
	ep      *quic.Endpoint
	session *masque.Session
	addr    netip.Addr
	packet  []byte // what it sends
	all     *Clients
	pending int64 // received in the batch that has not ended
}

// HandlePacket implements masque.PacketHandler.
func (c *client) HandlePacket([]byte) { c.pending++ }

// FlushPackets implements masque.PacketHandler.
func (c *client) FlushPackets() {
	c.all.received.Add(c.pending)
	c.pending = 0
}

// Dial connects n clients, and closes them again if one fails.
func Dial(ctx context.Context, n int, cfg Config) (*Clients, error) {
	cs := &Clients{all: make([]*client, n)}
	errs := make([]error, n)
	var next atomic.Int64
	var run sync.WaitGroup
	atOnce := cfg.AtOnce
	if atOnce == 0 {
		atOnce = dialing
	}
	for range min(n, atOnce) {
		run.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if cs.all[i], errs[i] = cs.dial(ctx, cfg); errs[i] != nil {
					next.Store(int64(n)) // the others need not begin
				}
			}
		})
	}
	run.Wait()
	if err := errors.Join(errs...); err != nil {
		cs.Close()
		return nil, err
	}
	return cs, nil
}

func (cs *Clients) dial(ctx context.Context, cfg Config) (c *client, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c = &client{ep: quic.NewEndpoint(nil), all: cs}
	defer func() {
		if err != nil {
			c.ep.Close()
			c, err = nil, fmt.Errorf("client: %w", err)
		}
	}()
	var socket quic.Socket
	listen := func() (err error) {
		socket, err = quic.ListenUDP("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), 0), "")
		return err
	}
	if cfg.Within == nil {
		err = listen()
	} else {
		err = cfg.Within(listen)
	}
	if err != nil {
		return c, err
	}
	c.ep.AddSocket(socket)
	conn, err := c.ep.Dial(ctx, socket, cfg.Server, &quic.Config{
		Datagrams: true,
		KeepAlive: keepAlive,
		// The server's certificate is of no interest: both ends are ours.
		TLS: &tls.Config{ServerName: serverName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{http3.NextProto}},
	})
	if err != nil {
		return c, err
	}
	h3, err := http3.NewClientConn(ctx, conn)
	if err != nil {
		return c, err
	}
	if c.session, _, err = masque.Dial(ctx, h3, masque.Request{Authority: cfg.Server.String(), Token: cfg.Token}); err != nil {
		return c, err
	}
	c.session.SetHandler(c)
	for len(c.session.Assigned()) == 0 || len(c.session.Routes()) == 0 {
		select {
		case <-c.session.Changed():
		case <-c.session.Done():
			return c, c.session.Err()
		case <-ctx.Done():
			return c, context.Cause(ctx)
		}
	}
	c.addr = c.session.Assigned()[0].Addr()
	return c, conn.WaitMTU(ctx)
}

// Len is the number of clients.
func (cs *Clients) Len() int { return len(cs.all) }

// Addr is the inner address of client i.
func (cs *Clients) Addr(i int) netip.Addr { return cs.all[i].addr }

// Received is the number of packets that the clients have received.
func (cs *Clients) Received() int64 { return cs.received.Load() }

// Burst is how many packets a client sends at once: what a TUN device that was not
// read for a moment holds of one flow.
const Burst = 16

// Prepare makes the packets that Send sends: UDP to an address behind the server, with
// size bytes of payload.
func (cs *Clients) Prepare(to netip.AddrPort, size int) {
	for _, c := range cs.all {
		c.packet = udpPacket(netip.AddrPortFrom(c.addr, to.Port()), to, size)
	}
}

// Send lets client i send a burst.
func (cs *Clients) Send(i int) {
	c := cs.all[i]
	clear(cs.bufs[:])
	quic.FillPacketBufs(cs.bufs[:])
	for _, b := range cs.bufs {
		b.SetLen(copy(b.Space(), c.packet))
		b.Flow, b.Class = 1, sched.ClassUDP
	}
	c.session.Send(cs.bufs[:])
}

// Close disconnects all.
func (cs *Clients) Close() {
	var run sync.WaitGroup
	for _, c := range cs.all {
		if c == nil {
			continue
		}
		run.Go(func() {
			c.session.Close()
			c.session.Conn().CloseWithError(uint64(http3.ErrNoError), "")
			c.ep.Close()
		})
	}
	run.Wait()
}

const (
	ipv4Header = 20
	udpHeader  = 8
	udpNumber  = 17 // protocol number
)

// udpPacket is an IPv4 packet as a socket of Linux sends it: not to be fragmented.
func udpPacket(from, to netip.AddrPort, size int) []byte {
	b := make([]byte, ipv4Header+udpHeader+size)
	src, dst := from.Addr().As4(), to.Addr().As4()
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[6] = 0x40 // DF
	b[8], b[9] = 64, udpNumber
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^checksum(0, b[:ipv4Header]))
	udp := b[ipv4Header:]
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	sum := ^checksum(uint32(udpNumber+len(udp)), b[12:20], udp)
	if sum == 0 {
		sum = 0xffff // 0 would mean "none" (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return b
}

// checksum is the Internet checksum (RFC 1071), not complemented, of parts of even
// length, but the last.
func checksum(sum uint32, parts ...[]byte) uint16 {
	for _, p := range parts {
		for ; len(p) > 1; p = p[2:] {
			sum += uint32(binary.BigEndian.Uint16(p))
		}
		if len(p) == 1 {
			sum += uint32(p[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
