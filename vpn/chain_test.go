// SPDX-License-Identifier: Apache-2.0

//go:build !race

// The race detector allocates.

package vpn

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// pumpDevice is a TUN device with a kernel that sends one packet over and over, on
// demand, and counts what it gets. Neither allocates.
type pumpDevice struct {
	*tuntest.Device
	pkt    []byte
	demand chan int // packets for the next Read
	got    chan int // packets of each Write
}

func newPumpDevice() *pumpDevice {
	return &pumpDevice{Device: tuntest.New("pump"), demand: make(chan int), got: make(chan int, 1000)}
}

func (d *pumpDevice) BatchSize() int { return 64 }

func (d *pumpDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case n := <-d.demand:
		for i := range n {
			sizes[i] = copy(bufs[i][offset:], d.pkt)
		}
		return n, nil
	case <-d.Closed():
		return 0, os.ErrClosed
	}
}

func (d *pumpDevice) Write(bufs [][]byte, _ int) (int, error) {
	d.got <- len(bufs)
	return len(bufs), nil
}

// loopHost is a host whose only interface is loopback.
type loopHost struct {
	*simHost
	pump *pumpDevice
	port chan netip.AddrPort // where a server listens
}

func newLoopHost() *loopHost {
	return &loopHost{&simHost{addrs: map[string]netip.Addr{"lo": netip.IPv4Unspecified()}}, newPumpDevice(), make(chan netip.AddrPort, 1)}
}

func (h *loopHost) createTUN() (tunDevice, error) { return h.pump, nil }

func (h *loopHost) listen(netip.AddrPort, string) (quic.Socket, error) {
	s, err := quic.ListenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), "")
	if err == nil {
		select {
		case h.port <- s.LocalAddr():
		default:
		}
	}
	return s, err
}

// chain runs client and server over real sockets and returns their devices. The
// client's packets have 1400 bytes.
func chain(tb testing.TB) (client, server *pumpDevice) {
	certPEM, keyPEM, pin, err := selfSigned("x", time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	serverConf, clientConf := defaultConfig(ModeServer), defaultConfig(ModeClient)
	serverConf.CertFile, serverConf.KeyFile = dir+"/c", dir+"/k"
	os.WriteFile(serverConf.CertFile, certPEM, 0o600)
	os.WriteFile(serverConf.KeyFile, keyPEM, 0o600)
	serverConf.Listen, serverConf.AuthKey, serverConf.Control = serverConf.Listen[:1], "k", "off"
	clientConf.AuthKey, clientConf.Pin, clientConf.Control, clientConf.Paths = "k", pin[:], "off", []string{"lo"}

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	sh, ch := newLoopHost(), newLoopHost()
	go func() { ended <- newServer(serverConf, discardLog, sh).run(ctx) }()
	addr := <-sh.port
	clientConf.Servers = []ServerAddr{{addr.Addr().String(), addr.Port()}}
	go func() { ended <- newClient(clientConf, discardLog, ch, nil).run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				tb.Error(err)
			}
		}
	})
	up := udp(1000, 2000, string(make([]byte, 1372)))
	ch.pump.pkt = ipPacket("10.0.0.2", "192.0.2.9", protoUDP, up)
	sh.pump.pkt = ipPacket("192.0.2.9", "10.0.0.2", protoUDP, up)
	for len(ch.tunnelRoutes()) == 0 {
		select {
		case err := <-ended:
			ended <- nil
			tb.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	return ch.pump, sh.pump
}

// move sends packets from one device to the other in batches and returns how many
// arrived; those that were dropped on the way are not waited for longer than wait.
func move(from, to *pumpDevice, batches, batch int, wait *time.Timer) (arrived int) {
	const timeout = 200 * time.Millisecond
	for range batches {
		from.demand <- batch
		wait.Reset(timeout)
		for n := 0; n < batch; {
			select {
			case k := <-to.got:
				n += k
				arrived += k
			case <-wait.C:
				n = batch
			}
		}
	}
	return arrived
}

// TestChainAllocs: no allocation per packet on the whole way, from the TUN device of
// one end through UDP sockets to that of the other, with acknowledgments and timers.
func TestChainAllocs(t *testing.T) {
	client, server := chain(t)
	wait := time.NewTimer(0)
	for _, dir := range []struct {
		name     string
		from, to *pumpDevice
	}{{"up", client, server}, {"down", server, client}} {
		const batches, batch = 300, 32
		move(dir.from, dir.to, batches, batch, wait) // rings and pools grow to their size
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		arrived := move(dir.from, dir.to, batches, batch, wait)
		runtime.ReadMemStats(&after)
		// Timers, garbage collections that empty pools, and status calls remain.
		perPacket := float64(after.Mallocs-before.Mallocs) / float64(batches*batch)
		t.Logf("%s: %d of %d packets arrived, %.4f allocations per packet", dir.name, arrived, batches*batch, perPacket)
		if arrived < batches*batch*9/10 {
			t.Errorf("%s: only %d of %d packets arrived", dir.name, arrived, batches*batch)
		}
		if perPacket > 0.05 {
			t.Errorf("%s: %.4f allocations per packet", dir.name, perPacket)
		}
	}
}

func BenchmarkChain(b *testing.B) {
	client, server := chain(b)
	wait := time.NewTimer(0)
	for _, dir := range []struct {
		name     string
		from, to *pumpDevice
	}{{"up", client, server}, {"down", server, client}} {
		b.Run(dir.name, func(b *testing.B) {
			const batch = 32
			b.ReportAllocs()
			b.SetBytes(int64(batch * len(dir.from.pkt)))
			move(dir.from, dir.to, 100, batch, wait)
			for b.Loop() {
				move(dir.from, dir.to, 1, batch, wait)
			}
		})
	}
}
