// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

var printGoodput = flag.Bool("goodput", false, "print the table of TestGoodputTable")

// simConn is a net.PacketConn at one end of a simulated link.
type simConn struct {
	local, remote netip.AddrPort
	link          *quictest.Link // to the other end
	peer          *simConn
	epoch         time.Time

	arrived chan struct{} // one slot
	closed  chan struct{}
	once    sync.Once

	mu       sync.Mutex
	inbox    quictest.Arrivals[[]byte]
	deadline time.Time
}

// newSimConns joins two ends by a link, each direction with its own configuration.
func newSimConns(ab, ba quictest.LinkConfig) (a, b *simConn) {
	a = &simConn{local: netip.MustParseAddrPort("10.0.1.2:4433"), link: quictest.NewLink(ab)}
	b = &simConn{local: netip.MustParseAddrPort("192.0.2.1:4433"), link: quictest.NewLink(ba)}
	a.peer, b.peer = b, a
	for _, c := range []*simConn{a, b} {
		c.remote, c.epoch = c.peer.local, time.Now()
		c.arrived, c.closed = make(chan struct{}, 1), make(chan struct{})
	}
	return a, b
}

func (c *simConn) wake() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

func (c *simConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	at, ok := c.link.Admit(time.Since(c.epoch), len(b)+28)
	if ok {
		c.peer.mu.Lock()
		c.peer.inbox.Push(at, append([]byte(nil), b...))
		c.peer.mu.Unlock()
		c.peer.wake()
	}
	return len(b), nil
}

func (c *simConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		now := time.Since(c.epoch)
		data, ok := c.inbox.Pop(now)
		next, waiting := c.inbox.Next()
		deadline := c.deadline
		c.mu.Unlock()
		if ok {
			return copy(b, data), net.UDPAddrFromAddrPort(c.remote), nil
		}
		if !deadline.IsZero() {
			if !time.Now().Before(deadline) {
				return 0, nil, os.ErrDeadlineExceeded
			}
			if end := deadline.Sub(c.epoch); !waiting || end < next {
				next, waiting = end, true
			}
		}
		var due <-chan time.Time // none when nothing is to come: the bubble must notice that
		if waiting {
			due = time.After(next - now)
		}
		select {
		case <-c.arrived:
		case <-due:
		case <-c.closed:
			return 0, nil, net.ErrClosed
		}
	}
}

func (c *simConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	c.wake()
	return nil
}

func (c *simConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *simConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.local) }
func (c *simConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *simConn) SetWriteDeadline(time.Time) error { return nil }
func (c *simConn) SetReadBuffer(int) error          { return nil }
func (c *simConn) SetWriteBuffer(int) error         { return nil }

const (
	goodputStreams = 8
	goodputWindow  = 32 << 20
)

// received counts what comes in the time that is measured.
type received struct {
	start, end time.Time
	n          atomic.Int64
}

func (r *received) readAll(in io.Reader) {
	for b := make([]byte, 1<<16); ; {
		n, err := in.Read(b)
		if now := time.Now(); now.After(r.start) && now.Before(r.end) {
			r.n.Add(int64(n))
		}
		if err != nil {
			return
		}
	}
}

func writeAll(out io.Writer) {
	for b := make([]byte, 1<<16); ; {
		if _, err := out.Write(b); err != nil {
			return
		}
	}
}

// goodputTrial is a link and the time after the start in which its use is measured.
type goodputTrial struct {
	link     quictest.LinkConfig
	from, to time.Duration
}

// newTrial has a queue of one bandwidth-delay product, and loss in one direction.
func newTrial(rate int64, rtt time.Duration, loss float64, from, to time.Duration) goodputTrial {
	queue := int(math.Max(float64(rate)/8*rtt.Seconds(), 15_000))
	return goodputTrial{quictest.LinkConfig{Rate: rate, Delay: rtt / 2, QueueBytes: queue, Loss: loss, Seed: 7}, from, to}
}

// back is the other direction of the link.
func (g *goodputTrial) back() quictest.LinkConfig {
	back := g.link
	back.Loss, back.Seed = 0, 8
	return back
}

// transfer writes to streams that open makes and reads those that accept gets until the
// end of the time that is measured, and ends with end. It returns the share of the link
// that was used.
func (g *goodputTrial) transfer(open func() (io.Writer, error), accept func() (io.Reader, error), end func()) float64 {
	start := time.Now()
	r := &received{start: start.Add(g.from), end: start.Add(g.to)}
	var wg sync.WaitGroup
	for range goodputStreams {
		wg.Go(func() {
			if out, err := open(); err == nil {
				writeAll(out)
			}
		})
		wg.Go(func() {
			if in, err := accept(); err == nil {
				r.readAll(in)
			}
		})
	}
	time.Sleep(g.to)
	n := r.n.Load()
	end()
	wg.Wait()
	return float64(n) * 8 / (g.to - g.from).Seconds() / float64(g.link.Rate)
}

// quicGo is what quic-go gets through the link, as a fraction of it.
func (g *goodputTrial) quicGo(t *testing.T) (share float64) {
	synctest.Test(t, func(t *testing.T) {
		clientConn, serverConn := newSimConns(g.link, g.back())
		clientTLS, serverTLS := tlsConfigs(alpn)
		conf := &quicgo.Config{
			InitialStreamReceiveWindow: goodputWindow, MaxStreamReceiveWindow: goodputWindow,
			InitialConnectionReceiveWindow: goodputWindow, MaxConnectionReceiveWindow: goodputWindow,
		}
		clientTr, serverTr := &quicgo.Transport{Conn: clientConn}, &quicgo.Transport{Conn: serverConn}
		ln, err := serverTr.Listen(serverTLS, conf)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		client, err := clientTr.Dial(ctx, serverConn.LocalAddr(), clientTLS, conf)
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		share = g.transfer(
			func() (io.Writer, error) { return client.OpenUniStreamSync(ctx) },
			func() (io.Reader, error) { return server.AcceptUniStream(ctx) },
			func() {
				client.CloseWithError(0, "")
				server.CloseWithError(0, "")
			})
		ln.Close()
		clientTr.Close()
		serverTr.Close()
		clientConn.Close()
		serverConn.Close()
	})
	return share
}

// mqvpn is the same for us.
func (g *goodputTrial) mqvpn(t *testing.T, cc quic.CongestionControl) (share float64) {
	synctest.Test(t, func(t *testing.T) {
		n := quictest.NewNet(1)
		defer n.Close()
		_, down := n.AddLink("10.0.1.2", "192.0.2.1", g.link)
		down.SetConfig(g.back())
		clientTLS, serverTLS := tlsConfigs(alpn)
		conf := func() *quic.Config {
			return &quic.Config{CongestionControl: cc, StreamReceiveWindow: goodputWindow, ConnReceiveWindow: goodputWindow}
		}
		clientConf, serverConf := conf(), conf()
		clientConf.TLS, serverConf.TLS = clientTLS, serverTLS
		clientEnd, serverEnd := quic.NewEndpoint(nil), quic.NewEndpoint(serverConf)
		defer clientEnd.Close()
		defer serverEnd.Close()
		sock := n.Socket(netip.MustParseAddrPort("10.0.1.2:0"), 1500)
		clientEnd.AddSocket(sock)
		address := netip.MustParseAddrPort("192.0.2.1:4433")
		serverEnd.AddSocket(n.Socket(address, 1500))
		ctx := context.Background()
		client, err := clientEnd.Dial(ctx, sock, address, clientConf)
		if err != nil {
			t.Fatal(err)
		}
		server, err := serverEnd.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		share = g.transfer(
			func() (io.Writer, error) { return client.OpenUniStream(ctx) },
			func() (io.Reader, error) { return server.AcceptStream(ctx) },
			func() { client.CloseWithError(0, "") })
	})
	return share
}

// TestGoodput: our congestion controllers get out of a link with some loss what quic-go does.
func TestGoodput(t *testing.T) {
	g := newTrial(10e6, 20*ms, 0.01, time.Second, 6*time.Second)
	theirs := g.quicGo(t)
	for _, tt := range []struct {
		cc    quic.CongestionControl
		least float64
	}{{quic.CUBIC, 0.7}, {quic.BBR, 1.05}} {
		ours := g.mqvpn(t, tt.cc)
		t.Logf("quic-go %.3f of the link, %v %.3f", theirs, tt.cc, ours)
		if ours < tt.least*theirs {
			t.Errorf("quic-go %.3f of the link, %v %.3f: want %.2f of that", theirs, tt.cc, ours, tt.least)
		}
	}
}

// TestGoodputTable prints the goodput of quic-go and, in ratio to it, of each of our
// congestion controllers, over the same links in virtual time as TestGoodputTable of package
// quic.
func TestGoodputTable(t *testing.T) {
	if !*printGoodput {
		t.Skip("prints a table; -goodput asks for it")
	}
	var table strings.Builder
	controllers := []quic.CongestionControl{quic.CUBIC, quic.NewReno, quic.BBR}
	for _, rtt := range []time.Duration{20 * ms, 200 * ms} {
		for _, loss := range []float64{0, 0.001, 0.01, 0.05} {
			g := newTrial(100e6, rtt, loss, 5*time.Second, 25*time.Second)
			theirs := g.quicGo(t)
			fmt.Fprintf(&table, "| %v | %v %% | %.3f |", rtt, 100*loss, theirs)
			for _, cc := range controllers {
				ours := g.mqvpn(t, cc)
				fmt.Fprintf(&table, " %.3f (%.2f) |", ours, ours/theirs)
			}
			table.WriteString("\n")
		}
	}
	t.Logf("| RTT | loss | quic-go | cubic (ratio) | reno (ratio) | bbr (ratio) |\n%s", table.String())
}
