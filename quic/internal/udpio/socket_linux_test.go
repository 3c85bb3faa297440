// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback = map[string]netip.AddrPort{
	"udp4": netip.MustParseAddrPort("127.0.0.1:0"),
	"udp6": netip.MustParseAddrPort("[::1]:0"),
}

func mustListen(tb testing.TB, network string, addr netip.AddrPort, opt Options) *UDPSocket {
	tb.Helper()
	s, err := Listen(network, addr, opt)
	if err != nil {
		tb.Fatal(err)
	}
	// A lost datagram shall end the test, not hang it.
	watchdog := time.AfterFunc(20*time.Second, func() { s.Close() })
	tb.Cleanup(func() { watchdog.Stop(); s.Close() })
	return s
}

func newReceived(n int) []Received {
	ms := make([]Received, n)
	for i := range ms {
		ms[i].Buf = make([]byte, 1<<16)
	}
	return ms
}

// datagram is one segment of a Received.
type datagram struct {
	data string
	src  netip.AddrPort
	dst  netip.Addr
	ecn  ECN
}

// receive reads n datagrams.
func receive(tb testing.TB, s *UDPSocket, n int) (ds []datagram) {
	tb.Helper()
	ms := newReceived(8)
	for len(ds) < n {
		got, err := s.ReadBatch(ms)
		if err != nil {
			tb.Fatalf("after %d of %d datagrams: %v", len(ds), n, err)
		}
		for _, m := range ms[:got] {
			for off := 0; off < m.N; off += m.SegSize {
				ds = append(ds, datagram{string(m.Buf[off:min(off+m.SegSize, m.N)]), m.Src, m.Dst, m.ECN})
			}
		}
	}
	return ds
}

// expect reads datagrams until there are as many as in want, and compares them. The
// order does not count: two processors may work on the loopback interface at once.
func expect(tb testing.TB, s *UDPSocket, want []datagram) {
	tb.Helper()
	missing := make(map[datagram]int)
	for _, d := range want {
		missing[d]++
	}
	for _, d := range receive(tb, s, len(want)) {
		if missing[d] == 0 {
			tb.Fatalf("got %.40q from %v to %v ECN %d, which was not sent or came twice", d.data, d.src, d.dst, d.ecn)
		}
		missing[d]--
	}
}

// datagramsOf is what arrives when runs are sent from a socket bound to src.
func datagramsOf(src netip.AddrPort, runs []Run) (ds []datagram) {
	for _, r := range runs {
		for off := 0; off < len(r.Data); off += r.SegSize {
			data := r.Data[off:min(off+r.SegSize, len(r.Data))]
			ds = append(ds, datagram{string(data), src, r.Dst.Addr(), r.ECN})
		}
	}
	return ds
}

// pattern makes n bytes, each segment of which is different.
func pattern(n, segSize int) []byte {
	b := bytes.Repeat([]byte{0xa5}, n)
	for off := 0; off < n; off += segSize {
		copy(b[off:], fmt.Sprintf("%d of %d", off, n))
	}
	return b
}

func mustWrite(tb testing.TB, s *UDPSocket, runs []Run) {
	tb.Helper()
	if n, err := s.WriteBatch(runs); n != len(runs) || err != nil {
		tb.Fatalf("WriteBatch = %d, %v; want %d", n, err, len(runs))
	}
}

func TestRoundTrip(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		for _, opt := range []Options{{}, {NoGSO: true}, {NoGRO: true}, {NoGSO: true, NoGRO: true}, {NoEqualTail: true}} {
			t.Run(fmt.Sprintf("%s/%+v", network, opt), func(t *testing.T) {
				from := mustListen(t, network, loopback[network], opt)
				to := mustListen(t, network, loopback[network], opt)
				run := func(n, segSize int, ecn ECN) Run {
					return Run{Data: pattern(n, segSize), SegSize: segSize, Dst: to.LocalAddr(), ECN: ecn}
				}
				runs := []Run{
					run(44*1400, 1400, ECT0),
					run(1, 1, NotECT),
					run(3*1200+7, 1200, CE),
					run(64, 1, ECT1),
					run(900, 1200, ECT0),
					run(2*1000, 1000, NotECT),
				}
				mustWrite(t, from, runs)
				expect(t, to, datagramsOf(from.LocalAddr(), runs))
				if s := from.Stats(); s.GSORefused != 0 || s.GSO != !opt.NoGSO || s.GRO != !opt.NoGRO {
					t.Errorf("stats %+v", s)
				}
			})
		}
	}
}

func TestEmptyDatagram(t *testing.T) {
	s := mustListen(t, "udp4", loopback["udp4"], Options{})
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(nil); err != nil {
		t.Fatal(err)
	}
	ms := newReceived(1)
	if n, err := s.ReadBatch(ms); n != 1 || err != nil || ms[0].N != 0 || ms[0].SegSize != 0 {
		t.Fatalf("ReadBatch = %d, %v, %+v", n, err, ms[0])
	}
}

// A socket bound to the unspecified address tells where a datagram came to, and
// answers from there.
func TestLocalAddress(t *testing.T) {
	for network, addrs := range map[string][]string{"udp4": {"127.0.0.1", "127.0.0.5", "127.8.8.8"}, "udp6": {"::1"}} {
		t.Run(network, func(t *testing.T) {
			unspecified := netip.IPv4Unspecified()
			if network == "udp6" {
				unspecified = netip.IPv6Unspecified()
			}
			server := mustListen(t, network, netip.AddrPortFrom(unspecified, 0), Options{})
			client := mustListen(t, network, loopback[network], Options{})
			for _, a := range addrs {
				addr := netip.MustParseAddr(a)
				to := netip.AddrPortFrom(addr, server.LocalAddr().Port())
				mustWrite(t, client, []Run{{Data: []byte("question"), SegSize: 8, Dst: to}})
				got := receive(t, server, 1)[0]
				if got.dst != addr {
					t.Errorf("came to %v, want %v", got.dst, addr)
				}
				mustWrite(t, server, []Run{{Data: []byte("answeranswer"), SegSize: 6, Dst: got.src, Src: got.dst, ECN: ECT0}})
				for _, d := range receive(t, client, 2) {
					if d.src != to || d.data != "answer" || d.ecn != ECT0 {
						t.Errorf("got %+v, want answer from %v", d, to)
					}
				}
			}
		})
	}
}

// More messages than one system call takes.
func TestManyRuns(t *testing.T) {
	for _, opt := range []Options{{}, {NoGSO: true}} {
		from := mustListen(t, "udp4", loopback["udp4"], opt)
		to := mustListen(t, "udp4", loopback["udp4"], opt)
		var runs []Run
		for i := range maxMessages + 5 {
			runs = append(runs, Run{Data: pattern(3*100+i, 100), SegSize: 100, Dst: to.LocalAddr()})
		}
		mustWrite(t, from, runs)
		expect(t, to, datagramsOf(from.LocalAddr(), runs))
	}
}

func TestWrongFamily(t *testing.T) {
	s := mustListen(t, "udp4", loopback["udp4"], Options{})
	ok := Run{Data: []byte("x"), SegSize: 1, Dst: s.LocalAddr()}
	wrongDst := Run{Data: []byte("x"), SegSize: 1, Dst: netip.MustParseAddrPort("[::1]:9")}
	wrongSrc := ok
	wrongSrc.Src = netip.MustParseAddr("::1")
	mapped := ok
	mapped.Dst = netip.AddrPortFrom(netip.AddrFrom16(ok.Dst.Addr().As16()), ok.Dst.Port())
	for _, wrong := range []Run{wrongDst, wrongSrc} {
		if n, err := s.WriteBatch([]Run{ok, mapped, wrong, ok}); n != 2 || err != syscall.EAFNOSUPPORT {
			t.Errorf("WriteBatch = %d, %v; want 2, EAFNOSUPPORT", n, err)
		}
	}
	receive(t, s, 4)
}

// Without checksums the kernel does not segment.
func forbidGSO(t *testing.T, s *UDPSocket, forbid int) {
	t.Helper()
	err := s.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, forbid); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestGSORefused(t *testing.T) {
	from := mustListen(t, "udp4", loopback["udp4"], Options{})
	to := mustListen(t, "udp4", loopback["udp4"], Options{})
	single := Run{Data: []byte("single"), SegSize: 6, Dst: to.LocalAddr()}
	segmented := Run{Data: pattern(40*100, 100), SegSize: 100, Dst: to.LocalAddr()}
	send := func() {
		t.Helper()
		runs := []Run{single, segmented, single}
		mustWrite(t, from, runs)
		expect(t, to, datagramsOf(from.LocalAddr(), runs))
	}
	steps := []struct {
		forbid int
		want   Stats
	}{
		{1, Stats{GSO: true, GRO: true, GSORefused: 1}},
		{1, Stats{GSO: true, GRO: true, GSORefused: 2}},
		{0, Stats{GSO: true, GRO: true, GSORefused: 2}}, // a success: counting starts anew
		{1, Stats{GSO: true, GRO: true, GSORefused: 3}},
		{1, Stats{GSO: true, GRO: true, GSORefused: 4}},
		{1, Stats{GSO: false, GRO: true, GSORefused: 5}},
		{0, Stats{GSO: false, GRO: true, GSORefused: 5}}, // for good
	}
	for i, step := range steps {
		forbidGSO(t, from, step.forbid)
		send()
		if got := from.Stats(); got != step.want {
			t.Errorf("step %d: %+v, want %+v", i, got, step.want)
		}
	}
}

func TestConcurrentWriteBatch(t *testing.T) {
	const writers, rounds, segments = 4, 50, 40
	for _, opt := range []Options{{}, {NoGSO: true}} {
		from := mustListen(t, "udp4", loopback["udp4"], opt)
		to := mustListen(t, "udp4", loopback["udp4"], opt)
		for round := range rounds {
			var wg sync.WaitGroup
			var all []Run
			for w := range writers {
				data := pattern(segments*20, 20)
				for off := 0; off < len(data); off += 20 {
					binary.BigEndian.PutUint16(data[off+16:], uint16(round))
					binary.BigEndian.PutUint16(data[off+18:], uint16(w))
				}
				runs := []Run{{Data: data, SegSize: 20, Dst: to.LocalAddr(), ECN: ECN(w)}}
				all = append(all, runs...)
				wg.Go(func() {
					if n, err := from.WriteBatch(runs); n != 1 || err != nil {
						t.Errorf("WriteBatch = %d, %v", n, err)
					}
				})
			}
			expect(t, to, datagramsOf(from.LocalAddr(), all))
			wg.Wait()
		}
	}
}

func TestClose(t *testing.T) {
	s := mustListen(t, "udp4", loopback["udp4"], Options{})
	errs := make(chan error)
	go func() {
		_, err := s.ReadBatch(newReceived(1))
		errs <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != net.ErrClosed {
		t.Errorf("ReadBatch: %v", err)
	}
	if _, err := s.WriteBatch([]Run{{Data: []byte("x"), SegSize: 1, Dst: s.LocalAddr()}}); err != net.ErrClosed {
		t.Errorf("WriteBatch: %v", err)
	}
	if err := s.WaitWritable(); err != net.ErrClosed {
		t.Errorf("WaitWritable: %v", err)
	}
}

func TestListenGroup(t *testing.T) {
	group, err := ListenGroup("udp4", loopback["udp4"], Options{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	addr := group[0].LocalAddr()
	var wg sync.WaitGroup
	got := make(chan string)
	for _, s := range group {
		if s.LocalAddr() != addr {
			t.Errorf("bound to %v, want %v", s.LocalAddr(), addr)
		}
		wg.Go(func() {
			ms := newReceived(1)
			for {
				if _, err := s.ReadBatch(ms); err != nil {
					return
				}
				got <- string(ms[0].Buf[:ms[0].N])
			}
		})
	}
	if _, err := Listen("udp4", addr, Options{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("bound a taken port: %v", err)
	}
	if _, err := ListenGroup("udp4", addr, Options{}, 2); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a group took a taken port: %v", err)
	}
	for range 16 {
		client := mustListen(t, "udp4", loopback["udp4"], Options{})
		mustWrite(t, client, []Run{{Data: []byte("hello"), SegSize: 5, Dst: addr}})
		if s := <-got; s != "hello" {
			t.Errorf("got %q", s)
		}
	}
	for _, s := range group {
		s.Close()
	}
	wg.Wait()
}

func TestAllocs(t *testing.T) {
	for _, opt := range []Options{{}, {NoGSO: true, NoGRO: true}} {
		from := mustListen(t, "udp6", loopback["udp6"], opt)
		to := mustListen(t, "udp6", loopback["udp6"], opt)
		ms := newReceived(8)
		data := pattern(3*1200, 1200)
		runs := make([]Run, 2)
		allocs := testing.AllocsPerRun(100, func() {
			for i := range runs {
				runs[i] = Run{Data: data, SegSize: 1200, Dst: to.LocalAddr(), Src: from.LocalAddr().Addr(), ECN: ECT0}
			}
			if n, err := from.WriteBatch(runs); n != len(runs) || err != nil {
				t.Fatal(n, err)
			}
			for got := 0; got < len(runs)*len(data); {
				n, err := to.ReadBatch(ms)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					got += ms[i].N
				}
			}
		})
		if allocs != 0 {
			t.Errorf("%+v: %v allocations per run, want 0", opt, allocs)
		}
	}
}

func TestListenErrors(t *testing.T) {
	if _, err := Listen("udp", loopback["udp4"], Options{}); err == nil {
		t.Error("network udp was accepted")
	}
	if _, err := Listen("udp4", loopback["udp4"], Options{Device: "no-such-device"}); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("device that does not exist: %v", err)
	}
	if _, err := Listen("udp4", netip.MustParseAddrPort("192.0.2.1:0"), Options{}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("address that is not ours: %v", err)
	}
}

func TestBufferWarning(t *testing.T) {
	s := mustListen(t, "udp4", loopback["udp4"], Options{})
	const unprivileged = -1 // an option that the kernel refuses, like SO_RCVBUFFORCE without privilege
	err := s.raw.Control(func(fd uintptr) {
		s.warnings = nil
		s.growBuffer(int(fd), "receive", 1000, unix.SO_RCVBUF, unprivileged, "net.core.rmem_max")
		if w := s.Warnings(); len(w) != 0 {
			t.Errorf("a small buffer gives %q", w)
		}
		s.growBuffer(int(fd), "receive", 1<<30, unix.SO_RCVBUF, unprivileged, "net.core.rmem_max")
		if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "net.core.rmem_max") {
			t.Errorf("a huge buffer gives %q", w)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// BenchmarkLoopback sends a run of 44 datagrams and receives it; the time is that
// of a datagram.
func BenchmarkLoopback(b *testing.B) {
	for _, opt := range []Options{{}, {NoGRO: true}, {NoGSO: true}, {NoGSO: true, NoGRO: true}} {
		b.Run(fmt.Sprintf("GSO=%t,GRO=%t", !opt.NoGSO, !opt.NoGRO), func(b *testing.B) {
			from := mustListen(b, "udp4", loopback["udp4"], opt)
			to := mustListen(b, "udp4", loopback["udp4"], opt)
			const segments, segSize = 44, 1400
			ms := newReceived(32)
			runs := []Run{{Data: pattern(segments*segSize, segSize), SegSize: segSize, Dst: to.LocalAddr(), ECN: ECT0}}
			b.SetBytes(segSize)
			b.ReportAllocs()
			for i := 0; i < b.N; i += segments {
				if _, err := from.WriteBatch(runs); err != nil {
					b.Fatal(err)
				}
				for got := 0; got < segments*segSize; {
					n, err := to.ReadBatch(ms)
					if err != nil {
						b.Fatal(err)
					}
					for j := range n {
						got += ms[j].N
					}
				}
			}
		})
	}
}
