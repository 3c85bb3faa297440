// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
func simulate(t *testing.T, cfg LinkConfig, f func(t *testing.T, n *Net, client, server *Socket)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet(1)
		defer n.Close()
		n.AddLink("10.0.1.2", "192.0.2.1/24", cfg)
		f(t, n, n.Socket(clientAddr, 1500), n.Socket(netip.MustParseAddrPort("0.0.0.0:443"), 1500))
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
		t.Errorf("WriteBatch = %d, %v", n, err)
	}
}

func TestNetEcho(t *testing.T) {
	simulate(t, LinkConfig{Delay: 20 * time.Millisecond}, func(t *testing.T, n *Net, client, server *Socket) {
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
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
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

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// A server with an address on each of two links says where a packet came to and
// answers from there; without a wish it answers from the near end of the link.
func TestNetMultihomed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet(1)
		defer n.Close()
		_, back1 := n.AddLink("10.0.1.2", "192.0.2.1", LinkConfig{})
		_, back2 := n.AddLink("10.0.2.2", "198.51.100.1", LinkConfig{})
		server := n.Socket(addrPort("0.0.0.0:443"), 1500)
		for i, c := range []struct{ client, server string }{
			{"10.0.1.2:1", "192.0.2.1:443"}, {"10.0.2.2:2", "198.51.100.1:443"},
		} {
			client := n.Socket(addrPort(c.client), 1500)
			write(t, client, run(addrPort(c.server), "x"))
			m := read(t, server)[0]
			if m.Dst != addrPort(c.server).Addr() || m.Src != client.LocalAddr() {
				t.Errorf("message %d: %v to %v", i, m.Src, m.Dst)
			}
			for _, src := range []netip.Addr{m.Dst, {}} {
				reply := run(m.Src, "y")
				reply[0].Src = src
				write(t, server, reply)
				if m := read(t, client)[0]; m.Src != addrPort(c.server) {
					t.Errorf("reply %d comes from %v, want %v", i, m.Src, c.server)
				}
			}
		}
		if a, b := back1.Stats().Packets, back2.Stats().Packets; a != 2 || b != 2 {
			t.Errorf("the links carried %d and %d replies", a, b)
		}
	})
}

// A socket with a specific address is preferred to one without.
func TestNetSpecificSocket(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
		specific := n.Socket(serverAddr, 0)
		write(t, client, run(serverAddr, "x"))
		read(t, specific)
		specific.Close()
		write(t, client, run(serverAddr, "x"))
		read(t, server)
		server.Close()
		write(t, client, run(serverAddr, "x"))
		if got := n.Stats(); got != (NetStats{Sent: 3, Delivered: 2, Unwanted: 1}) {
			t.Errorf("stats %+v", got)
		}
	})
}

// What arrives together is read together, and a run becomes single datagrams.
func TestNetBatch(t *testing.T) {
	simulate(t, LinkConfig{Delay: time.Millisecond}, func(t *testing.T, n *Net, client, server *Socket) {
		write(t, client, []udpio.Run{
			{Data: []byte("aaabbbcc"), SegSize: 3, Dst: serverAddr, ECN: udpio.ECT0},
			{Data: []byte("ddd"), SegSize: 10, Dst: serverAddr, ECN: udpio.CE},
		})
		var got []string
		ms := read(t, server)
		for _, m := range ms {
			got = append(got, string(m.Buf[:m.N]))
		}
		if want := []string{"aaa", "bbb", "cc", "ddd"}; !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if ms[2].ECN != udpio.ECT0 || ms[3].ECN != udpio.CE {
			t.Errorf("ECN %d, %d", ms[2].ECN, ms[3].ECN)
		}
	})
}

func TestNetMTU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet(1)
		defer n.Close()
		ab, _ := n.AddLink("10.0.1.2", "192.0.2.1", LinkConfig{MTU: 1400})
		n.AddLink("2001:db8::2", "2001:db8::1", LinkConfig{})
		for _, c := range []struct {
			client, server string
			overhead       int
		}{{"10.0.1.2:1", "192.0.2.1:443", 28}, {"[2001:db8::2]:1", "[2001:db8::1]:443", 48}} {
			s := n.Socket(addrPort(c.client), 1500)
			fits := run(addrPort(c.server), strings.Repeat("x", 1500-c.overhead))[0]
			tooLong := run(addrPort(c.server), strings.Repeat("x", 1501-c.overhead))[0]
			if done, err := s.WriteBatch([]udpio.Run{fits, tooLong, fits}); done != 1 || err != udpio.ErrMessageTooLong {
				t.Errorf("WriteBatch = %d, %v", done, err)
			}
			s.SetMTU(1501)
			if s.MTU() != 1501 {
				t.Errorf("MTU = %d", s.MTU())
			}
			write(t, s, []udpio.Run{tooLong})
		}
		if got := ab.Stats().Dropped[DropMTU]; got != 2 {
			t.Errorf("the link dropped %d, want 2", got)
		}
	})
}

func TestNetErrors(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
		for _, c := range []struct {
			socket *Socket
			to     string
			want   error
		}{
			{client, "203.0.113.9:443", syscall.ENETUNREACH},
			{server, "203.0.113.9:443", syscall.ENETUNREACH},
			{client, "[2001:db8::1]:443", syscall.EAFNOSUPPORT},
		} {
			if done, err := c.socket.WriteBatch(run(addrPort(c.to), "x")); done != 0 || err != c.want {
				t.Errorf("to %s: WriteBatch = %d, %v; want %v", c.to, done, err, c.want)
			}
		}
		defer func() {
			if recover() == nil {
				t.Error("a taken address was given away")
			}
		}()
		n.Socket(clientAddr, 0)
	})
}

func TestNetFreePort(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, _, _ *Socket) {
		a, b := n.Socket(addrPort("10.0.1.2:0"), 0), n.Socket(addrPort("10.0.1.2:0"), 0)
		if a.LocalAddr().Port() == 0 || a.LocalAddr() == b.LocalAddr() {
			t.Errorf("bound to %v and %v", a.LocalAddr(), b.LocalAddr())
		}
	})
}

func TestNetTap(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
		var seen []string
		n.AddTap(func(from, to netip.AddrPort, data []byte) bool {
			seen = append(seen, fmt.Sprintf("%v %v %s", from, to, data))
			if len(seen) == 1 {
				n.Inject(to, from, []byte("injected"), uint8(udpio.CE))
			}
			data[0] = 'X'
			return len(seen) == 2
		})
		data := []byte("abc")
		write(t, client, []udpio.Run{{Data: data, SegSize: 1, Dst: serverAddr}})
		var got []string
		for _, m := range read(t, server) {
			got = append(got, string(m.Buf[:m.N]))
		}
		if want := []string{"X", "X"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if want := fmt.Sprintf("%v %v b", clientAddr, serverAddr); len(seen) != 3 || seen[1] != want {
			t.Errorf("tap saw %q", seen)
		}
		if string(data) != "abc" {
			t.Errorf("the tap changed the sender's data: %q", data)
		}
		m := read(t, client)[0]
		if string(m.Buf[:m.N]) != "injected" || m.Src != serverAddr || m.ECN != udpio.CE {
			t.Errorf("injected packet came as %+v", m)
		}
		if s := n.Stats(); s != (NetStats{Sent: 4, Tapped: 1, Delivered: 3}) {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestNetRebind(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
		seenBefore := clientAddr
		for i, outside := range []netip.AddrPort{addrPort("203.0.113.1:1000"), addrPort("203.0.113.1:1001"), addrPort("203.0.113.2:1")} {
			n.Rebind(clientAddr, outside)
			write(t, client, run(serverAddr, "x"))
			if m := read(t, server)[0]; m.Src != outside || m.Dst != serverAddr.Addr() {
				t.Errorf("rebinding %d: seen as %v", i, m.Src)
			}
			for _, to := range []netip.AddrPort{seenBefore, outside} {
				if _, err := server.WriteBatch(run(to, to.String())); err != nil && err != syscall.ENETUNREACH {
					t.Error(err)
				}
			}
			ms := read(t, client)
			if got := string(ms[0].Buf[:ms[0].N]); len(ms) != 1 || got != outside.String() || ms[0].Dst != clientAddr.Addr() {
				t.Errorf("rebinding %d: %d packets, to %s", i, len(ms), got)
			}
			seenBefore = outside
		}
	})
}

func TestNetWritable(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
		client.SetWritable(false)
		if done, err := client.WriteBatch(run(serverAddr, "x")); done != 0 || err != udpio.ErrWouldBlock {
			t.Errorf("WriteBatch = %d, %v", done, err)
		}
		time.AfterFunc(time.Second, func() { client.SetWritable(true) })
		start := time.Now()
		if err := client.WaitWritable(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v", d)
		}
		write(t, client, run(serverAddr, "x"))
	})
}

func TestNetRefuse(t *testing.T) {
	simulate(t, LinkConfig{}, func(t *testing.T, n *Net, client, server *Socket) {
		client.Refuse(syscall.ENETUNREACH)
		if done, err := client.WriteBatch(run(serverAddr, "x")); done != 0 || err != syscall.ENETUNREACH {
			t.Errorf("WriteBatch = %d, %v", done, err)
		}
		client.Refuse(nil)
		write(t, client, run(serverAddr, "x"))
	})
}

// Packets of several links come to one reader in the order of their arrival, at the
// times of the links.
func TestNetArrivalTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNet(1)
		defer n.Close()
		server := n.Socket(addrPort("192.0.2.1:443"), 0)
		start := time.Now()
		for i, delay := range []time.Duration{30, 10, 20} {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(i), 2})
			n.AddLink(addr.String(), "192.0.2.1", LinkConfig{Delay: delay * time.Millisecond})
			s := n.Socket(netip.AddrPortFrom(addr, 1), 0)
			go func() {
				for range 2 {
					write(t, s, run(serverAddr, strconv.Itoa(int(delay))))
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}
		for _, want := range []struct {
			at   time.Duration
			data string
		}{{10, "10"}, {15, "10"}, {20, "20"}, {25, "20"}, {30, "30"}, {35, "30"}} {
			ms := read(t, server)
			late := time.Since(start) - want.at*time.Millisecond
			if got := string(ms[0].Buf[:ms[0].N]); len(ms) != 1 || got != want.data || late < 0 || late > LinkTick {
				t.Errorf("%d packets, first %s, %v late; want %+v", len(ms), got, late, want)
			}
		}
	})
}

// Two simulations of one seed are equal, packet by packet.
func TestNetDeterminism(t *testing.T) {
	trace := func(seed uint64) (events []string) {
		synctest.Test(t, func(t *testing.T) {
			n := NewNet(seed)
			start := time.Now()
			server := n.Socket(addrPort("0.0.0.0:443"), 0)
			cfg := LinkConfig{Rate: 20e6, Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, QueueBytes: 8000}
			for i := range 3 {
				addr := netip.AddrFrom4([4]byte{10, 0, byte(i), 2})
				n.AddLink(addr.String(), "192.0.2.1", cfg)
				s := n.Socket(netip.AddrPortFrom(addr, 1), 0)
				go func() { // answers
					ms := make([]udpio.Received, 4)
					for j := range ms {
						ms[j].Buf = make([]byte, 2000)
					}
					write(t, s, run(serverAddr, strings.Repeat("x", 1000)))
					for {
						got, err := s.ReadBatch(ms)
						if err != nil {
							return
						}
						for range got {
							write(t, s, run(serverAddr, strings.Repeat("x", 1000)))
							write(t, s, run(serverAddr, strings.Repeat("y", 500)))
						}
					}
				}()
			}
			for len(events) < 1000 && time.Since(start) < time.Minute {
				for _, m := range read(t, server) {
					events = append(events, fmt.Sprint(time.Since(start), m.Src, m.N))
					reply := run(m.Src, "ok")
					reply[0].Src = m.Dst
					write(t, server, reply)
				}
			}
			n.Close()
		})
		return events
	}
	first := trace(1)
	if !slices.Equal(first, trace(1)) {
		t.Error("two runs differ")
	}
	if slices.Equal(first, trace(2)) {
		t.Error("the seed makes no difference")
	}
	if len(first) < 1000 {
		t.Errorf("the simulation died after %d events", len(first))
	}
}

// BenchmarkNet measures a packet through the simulated network, in real time.
func BenchmarkNet(b *testing.B) {
	n := NewNet(1)
	defer n.Close()
	n.AddLink("10.0.1.2", "192.0.2.1", LinkConfig{})
	client, server := n.Socket(clientAddr, 0), n.Socket(serverAddr, 0)
	runs := run(serverAddr, strings.Repeat("x", 1200))
	ms := []udpio.Received{{Buf: make([]byte, 2000)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.WriteBatch(runs); err != nil {
			b.Fatal(err)
		}
		if _, err := server.ReadBatch(ms); err != nil {
			b.Fatal(err)
		}
	}
}
