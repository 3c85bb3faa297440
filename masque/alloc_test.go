// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"crypto/tls"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// raceDetector is set by race_test.go. With it sync.Pool drops buffers at random, to
// find races, so that allocations cannot be counted.
var raceDetector bool

// packetCounter is a PacketHandler that counts.
type packetCounter struct{ packets atomic.Int64 }

func (c *packetCounter) HandlePacket([]byte) { c.packets.Add(1) }
func (c *packetCounter) FlushPackets()       {}

// takeTurns is a scheduler that uses all paths alike, whatever is measured of them.
type takeTurns struct{ next int }

func (s *takeTurns) Pick(_ time.Duration, _ sched.Work, paths []sched.Path) (first, second int) {
	for range paths {
		s.next++
		if i := s.next % len(paths); paths[i].Blocked == sched.NotBlocked {
			return i, -1
		}
	}
	return -1, -1
}

func (*takeTurns) Sent(time.Duration, sched.Work, int, int) {}
func (*takeTurns) Event(time.Duration, uint32, sched.Event) {}
func (*takeTurns) Usage(uint32) sched.Usage                 { return sched.Usage{} }

// loopbackTunnel returns a tunnel over UDP sockets of this host with two paths.
func loopbackTunnel(t *testing.T) (client, server *Session) {
	t.Helper()
	scheduler := func() sched.Scheduler { return new(takeTurns) }
	listen := func(addr string) quic.Socket {
		s, err := quic.ListenUDP("udp4", netip.MustParseAddrPort(addr), "")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	cert, pool := quictest.Cert("server.test")
	socket := listen("127.0.0.1:0")
	addr := socket.LocalAddr()
	se := quic.NewEndpoint(&quic.Config{Datagrams: true, NewScheduler: scheduler, TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{http3.NextProto}, MinVersion: tls.VersionTLS13}})
	t.Cleanup(func() { se.Close() })
	se.AddSocket(socket)
	ce := quic.NewEndpoint(nil)
	t.Cleanup(func() { ce.Close() })
	sockets := []quic.Socket{listen("127.0.0.1:0"), listen("127.0.0.2:0")}
	for _, s := range sockets {
		ce.AddSocket(s)
	}
	cc, err := ce.Dial(t.Context(), sockets[0], addr, &quic.Config{Datagrams: true, NewScheduler: scheduler, TLS: &tls.Config{
		RootCAs: pool, ServerName: "server.test", NextProtos: []string{http3.NextProto}, MinVersion: tls.VersionTLS13}})
	if err != nil {
		t.Fatal(err)
	}
	sc, err := se.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{}, 1)
	cc.SetEventHandler(func(ev quic.Event) {
		if ev.Kind == quic.PathUp && ev.Path == 1 {
			up <- struct{}{}
		}
	})
	if err := cc.OpenPath(sockets[1], addr, "second"); err != nil {
		t.Fatal(err)
	}
	sessions := make(chan *Session, 1)
	m := &Server{Authorize: func(*http3.Request, string) error { return nil }}
	h := &http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
		if s, err := m.Accept(req, st); err == nil {
			sessions <- s
			<-s.Done()
		}
	}}
	go h.Serve(sc)
	hc, err := http3.NewClientConn(t.Context(), cc)
	if err != nil {
		t.Fatal(err)
	}
	if client, _, err = Dial(t.Context(), hc, Request{Authority: "server.test"}); err != nil {
		t.Fatal(err)
	}
	server = <-sessions
	<-up
	if err := cc.WaitMTU(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.AssignAddresses([]netip.Prefix{addr4}); err != nil {
		t.Fatal(err)
	}
	if err := server.AdvertiseRoutes([]Route{default4}); err != nil {
		t.Fatal(err)
	}
	for len(client.Routes()) == 0 || len(client.Assigned()) == 0 {
		<-client.Changed()
	}
	return client, server
}

// TestPacketAllocs: nothing is allocated per packet on the way from the buffer of a
// TUN device through masque, http3 and quic to a socket of the kernel, and from
// there to the PacketHandler, both ways at once, over two paths, with acknowledgments.
// That the parts owned by the loop allocate nothing at all is shown in package quic,
// where they are driven by hand. Here goroutines and the kernel decide how packets
// meet, and once in a while a queue may still grow or the runtime allocate for itself:
// less than one allocation in a hundred packets is allowed.
func TestPacketAllocs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool allocate")
	}
	client, server := loopbackTunnel(t)
	var toClient, toServer packetCounter
	client.SetHandler(&toClient)
	server.SetHandler(&toServer)
	const burst = 32
	up, down := packet4("10.9.0.2", "1.1.1.1", 1200), packet4("1.1.1.1", "10.9.0.2", 1200)
	bufs := make([]*quic.PacketBuf, burst)
	send := func(s *Session, pkt []byte) {
		clear(bufs)
		quic.FillPacketBufs(bufs)
		for i, b := range bufs {
			b.SetLen(copy(b.Space(), pkt))
			b.Flow, b.Class = uint64(i%4+1), sched.ClassTCP+sched.Class(i%2)
		}
		s.Send(bufs)
	}
	// exchange sends bursts both ways, and waits until few packets are under way.
	exchange := func(rounds int) (received int64) {
		before := toClient.packets.Load() + toServer.packets.Load()
		for i := range rounds {
			send(client, up)
			send(server, down)
			for range 100 { // then some were lost
				received = toClient.packets.Load() + toServer.packets.Load() - before
				if received >= int64(2*burst*i) {
					break
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
		return received
	}
	exchange(500)                                    // rings, queues and windows grow
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	const rounds = 500
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := exchange(rounds)
	runtime.ReadMemStats(&after)
	if n < rounds*burst {
		t.Fatalf("received %d packets of %d", n, 2*rounds*burst)
	}
	perPacket := float64(after.Mallocs-before.Mallocs) / float64(n)
	t.Logf("%d packets, %.4f allocations each", n, perPacket)
	if perPacket >= 0.01 {
		t.Errorf("%v allocations per packet", perPacket)
	}
	for _, s := range []*Session{client, server} {
		for _, p := range s.Conn().Stats().Paths {
			t.Logf("path %d sent %d packets, received %d", p.ID, p.PacketsSent, p.PacketsReceived)
			if p.DatagramsSent < rounds {
				t.Errorf("path %d sent only %d datagrams", p.ID, p.DatagramsSent)
			}
		}
	}
}
