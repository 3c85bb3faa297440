// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
)

var (
	clientAddr = netip.MustParseAddrPort("10.0.1.2:5000")
	serverAddr = netip.MustParseAddrPort("192.0.2.1:443")
)

// simulate runs f in a bubble with a network of one link between a client and a
// server that is bound to the unspecified address.
func simulate(t *testing.T, cfg LinkConfig, f func(n *Net, client, server *Socket)) {
	synctest.Test(t, func(*testing.T) {
		n := NewNet(1)
		defer n.Close()
		n.AddLink("10.0.1.2", "192.0.2.1/24", cfg)
		f(n, n.Socket(clientAddr, 1500), n.Socket(netip.MustParseAddrPort("0.0.0.0:443"), 1500))
	})
}

func run(to netip.AddrPort, data string) []udpio.Run {
	return []udpio.Run{{Data: []byte(data), SegSize: len(data), Dst: to, ECN: udpio.ECT0}}
}

// read returns the messages of one ReadBatch.
func read(t *testing.T, s *Socket) []udpio.Received {
	t.Helper()
	ms := make([]udpio.Received, 8)
	for i := range ms {
		ms[i].Buf = make([]byte, 2000)
	}
	n, err := s.ReadBatch(ms)
	if err != nil {
		t.Fatal(err)
	}
	return ms[:n]
}

func write(t *testing.T, s *Socket, runs []udpio.Run) {
	t.Helper()
	if n, err := s.WriteBatch(runs); n != len(runs) || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
}

func TestNetEcho(t *testing.T) {
	simulate(t, LinkConfig{Delay: 20 * time.Millisecond}, func(n *Net, client, server *Socket) {
		start := time.Now()
		write(t, client, run(serverAddr, "question"))
		m := read(t, server)[0]
		if got := string(m.Buf[:m.N]); got != "question" || m.Src != clientAddr || m.Dst != serverAddr.Addr() ||
			m.ECN != udpio.ECT0 || m.SegSize != m.N {
			t.Errorf("server got %q, %+v", got, m)
		}
		if d := time.Since(start) - 20*time.Millisecond; d < 0 || d > LinkTick {
			t.Errorf("arrived %v off", d)
		}
		reply := run(m.Src, "answer")
		reply[0].Src = m.Dst
		write(t, server, reply)
		m = read(t, client)[0]
		if got := string(m.Buf[:m.N]); got != "answer" || m.Src != serverAddr {
			t.Errorf("client got %q from %v", got, m.Src)
		}
		if s := n.Stats(); s != (NetStats{Sent: 2, Delivered: 2}) {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestNetClose(t *testing.T) {
	simulate(t, LinkConfig{}, func(n *Net, client, server *Socket) {
		client.SetWritable(false)
		errs := make(chan error)
		go func() { _, err := server.ReadBatch(make([]udpio.Received, 1)); errs <- err }()
		go func() { errs <- client.WaitWritable() }()
		synctest.Wait()
		n.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v, want net.ErrClosed", err)
			}
		}
		if _, err := client.WriteBatch(run(serverAddr, "x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("WriteBatch after Close: %v", err)
		}
	})
}
