// SPDX-License-Identifier: Apache-2.0

package tun_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/tun"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// linked is two hosts with a device each, and goroutines that carry the packets of
// one to the other.
type linked struct {
	hosts   [2]*lab.Host
	devices [2]*tun.Device
	packets [2]atomic.Int64 // read from each device
	reads   [2]atomic.Int64
	damage  atomic.Bool // spoil the last byte of every tenth packet
}

const tunMTU = 1400

func link(t *testing.T, create func(string) (*tun.Device, error)) *linked {
	l := new(linked)
	var carriers sync.WaitGroup
	t.Cleanup(func() {
		for i := range l.devices {
			if l.devices[i] != nil {
				l.devices[i].Close()
			}
		}
		carriers.Wait()
		for _, h := range l.hosts {
			if h != nil {
				h.Close()
			}
		}
	})
	for i := range l.hosts {
		var err error
		if l.hosts[i], err = lab.NewHost(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if err := l.hosts[i].Do(func() (err error) {
			if l.devices[i], err = create("mqtest0"); err != nil {
				return err
			}
			return errors.Join(
				l.devices[i].SetMTU(tunMTU),
				l.devices[i].AddAddress(netip.MustParsePrefix(fmt.Sprintf("10.9.0.%d/24", i+1))),
				l.devices[i].AddAddress(netip.MustParsePrefix(fmt.Sprintf("fd09::%d/64", i+1))),
				l.devices[i].Up(),
			)
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range l.devices {
		carriers.Go(func() { l.carry(t, i) })
	}
	return l
}

// carry moves packets from device i to the other until one is closed.
func (l *linked) carry(t *testing.T, i int) {
	const offset = 16
	bufs, sizes := make([][]byte, tun.BatchSize), make([]int, tun.BatchSize)
	space := make([][]byte, len(bufs))
	for i := range space {
		space[i] = make([]byte, offset+1984)
	}
	for {
		n, err := l.devices[i].Read(space, sizes, offset)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.Error("Read: ", err)
			}
			return
		}
		l.reads[i].Add(1)
		for k := range n {
			if sizes[k] > tunMTU {
				t.Errorf("packet of %d bytes, MTU %d", sizes[k], tunMTU)
			}
			bufs[k] = space[k][:offset+sizes[k]]
			if l.packets[i].Add(1)%10 == 0 && l.damage.Load() {
				bufs[k][len(bufs[k])-1] ^= 0xff
			}
		}
		if m, err := l.devices[1-i].Write(bufs[:n], offset); m != n && !errors.Is(err, os.ErrClosed) {
			t.Errorf("Write took %d packets of %d: %v", m, n, err)
		}
	}
}

// transfer sends size random bytes by TCP in both directions at once.
func (l *linked) transfer(t *testing.T, addr string, size int64) {
	t.Helper()
	listener, err := l.hosts[1].Listen("tcp", net.JoinHostPort(addr, "7000"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var conns [2]net.Conn
	if conns[0], err = l.hosts[0].Dial(t.Context(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer conns[0].Close()
	if conns[1], err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	defer conns[1].Close()
	var sent, received [2][]byte
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			sum := sha256.New()
			random := rand.NewChaCha8([32]byte{byte(i)})
			if _, err := io.CopyN(io.MultiWriter(c, sum), random, size); err != nil {
				t.Error("sending: ", err)
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			sent[i] = sum.Sum(nil)
		})
		all.Go(func() {
			sum := sha256.New()
			if n, err := io.Copy(sum, c); n != size || err != nil {
				t.Errorf("received %d bytes of %d: %v", n, size, err)
			}
			received[1-i] = sum.Sum(nil)
		})
	}
	all.Wait()
	for i := range sent {
		if string(sent[i]) != string(received[i]) {
			t.Errorf("direction %d: received something else than what was sent", i)
		}
	}
}

// forms are the ways of making a device.
var forms = map[string]func(string) (*tun.Device, error){"offload": tun.Create, "plain": tun.CreatePlain}

func TestOffloadTCP(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	for name, create := range forms {
		for _, addr := range []string{"10.9.0.2", "fd09::2"} {
			t.Run(name+" "+addr, func(t *testing.T) {
				l := link(t, create)
				l.transfer(t, addr, 8<<20)
				o := l.devices[0].Offloads()
				t.Logf("%+v: %d packets in %d reads", o, l.packets[0].Load(), l.reads[0].Load())
				if name == "plain" && o != (tun.Offloads{}) {
					t.Error("a plain device has offloads")
				}
				for _, d := range l.devices {
					if n := d.Dropped(); n != 0 {
						t.Errorf("%d packets dropped", n)
					}
				}
			})
		}
	}
}

// Packets that are damaged on the way stay so: the receiver's kernel must see it.
func TestOffloadKeepsDamage(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	l := link(t, tun.Create)
	l.damage.Store(true)
	l.transfer(t, "10.9.0.2", 256<<10)
}

// TestOffloadUDP sends a super-packet of UDP, which leaves the device as datagrams, is
// written to the other one as a super-packet again, and is received as datagrams.
func TestOffloadUDP(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	for name, create := range forms {
		for _, addr := range []string{"10.9.0.2", "fd09::2"} {
			t.Run(name+" "+addr, func(t *testing.T) {
				l := link(t, create)
				l.transfer(t, addr, 1) // a fresh IPv6 address may lose the first packets
				in, err := l.hosts[1].ListenPacket("udp", net.JoinHostPort(addr, "7000"))
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				out, err := l.hosts[0].Dial(t.Context(), "udp", in.LocalAddr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				const size, count = 1100, 40
				burst(t, out.(*net.UDPConn), size, count)
				in.SetReadDeadline(time.Now().Add(10 * time.Second)) // a lost one is an error, not a hang
				buf := make([]byte, 2000)
				for i := range count {
					want := bytes.Repeat([]byte{byte(i)}, size)
					if n, _, err := in.ReadFrom(buf); err != nil || string(buf[:n]) != string(want) {
						t.Fatalf("datagram %d: %d bytes, %v; want %d", i, n, err, size)
					}
				}
			})
		}
	}
}

// burst sends count datagrams of size bytes, all of the value of their number, in one
// super-packet.
func burst(tb testing.TB, conn *net.UDPConn, size, count int) {
	tb.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	}); cerr != nil || err != nil {
		refused(tb, "no UDP_SEGMENT: ", cerr, err)
	}
	data := make([]byte, size*count)
	for i := range data {
		data[i] = byte(i / size)
	}
	if _, err := conn.Write(data); err != nil {
		tb.Fatal(err)
	}
}

func dialUDP(tb testing.TB) *net.UDPConn {
	tb.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.2:7")))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// TestOffloadSmallBatch reads super-packets with fewer buffers than they have packets.
func TestOffloadSmallBatch(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	conn := dialUDP(t)
	burst(t, conn, 1000, 30)
	burst(t, conn, 900, 30)
	bufs, sizes := make([][]byte, 8), make([]int, 8)
	for i := range bufs {
		bufs[i] = make([]byte, 1400)
	}
	for got := 0; got < 60; {
		n, err := d.Read(bufs, sizes, 2)
		if err != nil {
			t.Fatal(err)
		}
		if n != min(60-got, len(bufs)) {
			t.Fatalf("Read returned %d packets while %d were waiting", n, 60-got)
		}
		for i := range n {
			size := 28 + 1000 - got/30*100
			if sizes[i] != size || bufs[i][2+size-1] != byte(got%30) {
				t.Fatalf("packet %d has %d bytes, the last is %d", got, sizes[i], bufs[i][2+size-1])
			}
			got++
		}
	}
}

// refused skips the test because of what this machine lacks, or fails it where that
// must not be missing (see MQVPN_LAB_REQUIRED of package lab).
func refused(tb testing.TB, why ...any) {
	tb.Helper()
	if os.Getenv("MQVPN_LAB_REQUIRED") != "" {
		tb.Fatal(why...)
	}
	tb.Skip(why...)
}

// What is too long for its buffer is dropped and counted, what follows is read.
func TestOffloadShortBuffer(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	if d.Offloads() == (tun.Offloads{}) {
		refused(t, "no offloads")
	}
	conn := dialUDP(t)
	burst(t, conn, 1000, 30)
	burst(t, conn, 100, 1)
	bufs, sizes := [][]byte{make([]byte, 1000)}, make([]int, 1)
	if n, err := d.Read(bufs, sizes, 0); n != 1 || sizes[0] != 128 || err != nil {
		t.Fatalf("Read = %d packets, the first of %d bytes, %v; want the one of 128", n, sizes[0], err)
	}
	if n := d.Dropped(); n != 30 {
		t.Errorf("%d packets dropped, want 30", n)
	}
}

func TestOffloadAllocs(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	conn := dialUDP(t)
	bufs, sizes := make([][]byte, 64), make([]int, 64)
	for i := range bufs {
		bufs[i] = make([]byte, 1400)
	}
	for range 12 {
		burst(t, conn, 1000, 32)
	}
	n := 0
	if allocs := testing.AllocsPerRun(5, func() { n, _ = d.Read(bufs, sizes, 0) }); allocs != 0 || n != 64 {
		t.Errorf("Read of %d packets allocates %v times", n, allocs)
	}
	for i := range n {
		swap(bufs[i][12:16], bufs[i][16:20])
		swap(bufs[i][20:22], bufs[i][22:24])
		bufs[i] = bufs[i][:sizes[i]]
	}
	if allocs := testing.AllocsPerRun(5, func() { n, _ = d.Write(bufs, 0) }); allocs != 0 || n != 64 {
		t.Errorf("Write of %d packets allocates %v times", n, allocs)
	}
}

// A super-packet that is refused counts as what it is made of.
func TestOffloadWriteRefused(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	burst(t, dialUDP(t), 1000, 32)
	bufs, sizes := make([][]byte, 32), make([]int, 32)
	for i := range bufs {
		bufs[i] = make([]byte, 1400)
	}
	n, err := d.Read(bufs, sizes, 0)
	if n != 32 || err != nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	for i := range bufs {
		bufs[i] = bufs[i][:sizes[i]]
	}
	down, err := netlink.LinkByName(d.Name())
	if err == nil {
		err = netlink.LinkSetDown(down)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Write(bufs, 0); n != 0 || !errors.Is(err, unix.EIO) {
		t.Errorf("Write to an interface that is down = %d, %v; want 0 and EIO", n, err)
	}
}
