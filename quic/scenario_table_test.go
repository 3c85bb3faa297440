// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// Scenarios of links in trouble, in virtual time. Each runs with both drivers: endpoints
// with their goroutines on quictest.Net, and connections driven by hand, by one goroutine,
// on the network of the random operations. What a scenario transfers must arrive within
// its bound, and the qlogs of a run that fails are kept.

// A scenario is one row. Its connection has two paths when run is called.
type scenario struct {
	name   string
	links  []quictest.LinkConfig
	dup    float64 // fraction of the packets that arrive twice
	flip   float64 // fraction of the packets of which a bit is changed
	change func(client, server *Config)
	// within bounds what run returns, by what the links allow; why says how.
	within time.Duration
	why    string
	// run does what the applications do, with trouble meanwhile, and returns how long what
	// it has transferred took.
	run func(t *testing.T, n *testNet, client, server *Conn) time.Duration
}

// satellite and terrestrial are the links of a moving vehicle: one is slow to answer.
var (
	satellite   = quictest.LinkConfig{Rate: 20e6, Delay: 300 * ms, QueueBytes: 750_000, Loss: 0.005}
	terrestrial = quictest.LinkConfig{Rate: 5e6, Delay: 20 * ms, QueueBytes: 60_000}
)

// duplexTransfer transfers size bytes in each direction, one after the other.
func duplexTransfer(t *testing.T, client, server *Conn, size int) time.Duration {
	t.Helper()
	return transfer(t, client, server, size) + transfer(t, server, client, size)
}

// linkEdit changes the configuration of both directions of a link.
type linkEdit func(cfg *quictest.LinkConfig)

func (l linkEdit) on(n *testNet, i int) {
	for _, d := range []*quictest.Link{n.up[i], n.down[i]} {
		cfg := d.Config()
		l(&cfg)
		d.SetConfig(cfg)
	}
}

// wantPaths checks how many paths each side has in the end, and that all are active.
func wantPaths(t *testing.T, want int, conns ...*Conn) {
	t.Helper()
	for _, c := range conns {
		if st := c.Stats(); len(st.Paths) != want || activeIn(st) != want {
			t.Errorf("paths %+v, want %d active ones", st.Paths, want)
		}
	}
}

var scenarios = []scenario{
	{
		name: "break, then recover", links: []quictest.LinkConfig{lan, slowLink()},
		within: 2500 * ms, why: "4 MB take 1.6 s at 20 Mbit/s, what one link carries, and each break 0.2 s until it is noticed",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				for i := range 2 {
					time.Sleep(200 * ms)
					n.blackhole(i, 500*ms)
				}
			})
			d := transfer(t, client, server, 4e6)
			time.Sleep(2 * time.Second)
			wantPaths(t, 2, client, server)
			return d
		},
	},
	{
		name: "NAT rebinding", links: []quictest.LinkConfig{lan, slowLink()},
		within: 3 * time.Second, why: "4 MB take 1.6 s at 20 Mbit/s, what one link carries, and four times a path is silent for 0.2 s and then validated",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				for i := range 4 {
					time.Sleep(200 * ms)
					n.rebind(i%2, uint16(60000+i))
				}
			})
			d := duplexTransfer(t, client, server, 2e6)
			time.Sleep(time.Second)
			wantPaths(t, 2, client, server)
			for _, p := range server.Stats().Paths {
				if p.Remote.Port() < 60000 {
					t.Errorf("server's path %+v", p)
				}
			}
			return d
		},
	},
	{
		name: "rotation of paths", links: []quictest.LinkConfig{lan, slowLink()},
		within: 5 * time.Second, why: "2 MB take 0.8 s on one link, and six times one of two links starts anew",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			start := time.Now()
			for range 6 {
				ids := activeIDs(client)
				transfer(t, client, server, 350e3)
				client.AbandonPath(ids[0])
				i := 0
				if ids[0]%2 == 1 {
					i = 1
				}
				if err := client.OpenPath(n.sockets[i], serverAddr, "again"); err != nil {
					t.Fatal(err)
				}
				n.waitActive(t, 2, client, server)
			}
			return time.Since(start)
		},
	},
	{
		name: "abandon by either side", links: []quictest.LinkConfig{lan, slowLink()},
		within: 2500 * ms, why: "4 MB take 1.6 s at 20 Mbit/s: the path left is one link",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				time.Sleep(300 * ms)
				server.AbandonPath(0)
				n.waitActive(t, 1, client, server)
				if err := client.OpenPath(n.sockets[0], serverAddr, "again"); err != nil {
					t.Error(err)
				}
				n.waitActive(t, 2, client, server)
				client.AbandonPath(1)
			})
			d := duplexTransfer(t, client, server, 2e6)
			time.Sleep(3 * time.Second)
			wantPaths(t, 1, client, server)
			return d
		},
	},
	{
		name: "backup", links: []quictest.LinkConfig{lan, slowLink()},
		within: 1500 * ms, why: "2 MB take 0.8 s on either link alone, and the break 0.2 s until it is noticed",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			client.SetPathBackup(1, true)
			server.SetPathBackup(1, true)
			time.Sleep(200 * ms)
			before := n.up[1].Stats().Bytes
			n.troubles.Go(func() {
				time.Sleep(300 * ms)
				if used := n.up[1].Stats().Bytes - before; used > 50_000 {
					t.Errorf("%d bytes on the backup path", used)
				}
				n.blackhole(0, 2*time.Second)
			})
			return transfer(t, client, server, 2e6)
		},
	},
	{
		name: "satellite and terrestrial", links: []quictest.LinkConfig{satellite, terrestrial},
		within: 8 * time.Second, why: "2 MB take 3.2 s on the terrestrial link alone, up, and as long down; what is lost on the satellite costs two of its round trips, 0.8 s",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			return duplexTransfer(t, client, server, 2e6)
		},
	},
	{
		name: "tunnel of datagrams", links: []quictest.LinkConfig{lan, slowLink()},
		within: 300 * ms, why: "the longest gap: a break is noticed within 35 ms + the time of a PING's round trip, at 60 ms, and two PTOs for luck",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				time.Sleep(time.Second)
				n.blackhole(0, time.Second)
				time.Sleep(500 * ms) // until the server too knows that the link is back
				n.blackhole(1, time.Second)
			})
			return probe(client, server, 5*time.Second)
		},
	},
	{
		name: "reordering", links: []quictest.LinkConfig{disorderly(lan), disorderly(slowLink())},
		within: 3 * time.Second, why: "4 MB take 0.8 s at 40 Mbit/s; what seems lost makes the window smaller, in some rounds to a third",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			return duplexTransfer(t, client, server, 2e6)
		},
	},
	{
		name: "corruption", links: []quictest.LinkConfig{lan, slowLink()}, flip: 0.02,
		within: 8 * time.Second, why: "as with 2 % loss: the window of CUBIC is then 10 packets, which is 4 Mbit/s",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			return duplexTransfer(t, client, server, 500e3)
		},
	},
	{
		name: "duplicates", links: []quictest.LinkConfig{lan, slowLink()}, dup: 0.3,
		within: 4 * time.Second, why: "4 MB take 1.6 s at 20 Mbit/s, of which one or two copies of a third of the packets take nearly a third",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			return duplexTransfer(t, client, server, 2e6)
		},
	},
	{
		name: "both paths broken at once", links: []quictest.LinkConfig{lan, slowLink()},
		within: 8 * time.Second, why: "4 s without links, 2 s of back-off at most, with which the PTO is capped, and 0.8 s",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				time.Sleep(200 * ms)
				n.troubles.Go(func() { n.blackhole(0, 4*time.Second) })
				n.blackhole(1, 4*time.Second)
			})
			return transfer(t, client, server, 2e6)
		},
	},
	{
		name: "path MTU changes", links: []quictest.LinkConfig{lan, slowLink()},
		within: 5 * time.Second, why: "4 MB take 0.8 s at 40 Mbit/s; the packets that are too large are lost until the size is doubted, in some PTOs",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			if err := client.WaitMTU(context.Background()); err != nil {
				t.Fatal(err)
			}
			n.troubles.Go(func() {
				time.Sleep(300 * ms)
				linkEdit(func(cfg *quictest.LinkConfig) { cfg.MTU = 1400 }).on(n, 0)
				linkEdit(func(cfg *quictest.LinkConfig) { cfg.MTU = 1350 }).on(n, 1)
			})
			return duplexTransfer(t, client, server, 2e6)
		},
	},
	{
		name: "ECN bleaching", links: []quictest.LinkConfig{markingLink(lan), markingLink(slowLink())},
		within: 2 * time.Second, why: "4 MB take 0.8 s at 40 Mbit/s, and marks make the windows somewhat smaller",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				time.Sleep(300 * ms)
				for i := range 2 {
					linkEdit(func(cfg *quictest.LinkConfig) { cfg.ClearECN = true }).on(n, i)
				}
			})
			return duplexTransfer(t, client, server, 2e6)
		},
	},
	{
		name: "30 % loss", links: []quictest.LinkConfig{lossyLink(lan), lossyLink(slowLink())},
		within: 5 * time.Second, why: "300 kB take 0.1 s at 20 Mbit/s; what is lost is lost again, and the last of it waits for PTOs of 0.1 s, five times doubled",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			return duplexTransfer(t, client, server, 150e3)
		},
	},
	{
		name: "ids used up", links: []quictest.LinkConfig{lan, slowLink()},
		change: func(client, server *Config) { client.InitialMaxPathID, server.InitialMaxPathID = 2, 2 },
		within: 20 * time.Second, why: "20 paths, each of which may have to wait for 3 PTOs of the one before, 0.3 s, and for an id",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			start := time.Now()
			for range 20 {
				ids := activeIDs(client)
				last := ids[len(ids)-1]
				client.AbandonPath(last)
				if err := client.OpenPath(n.sockets[1], serverAddr, "b"); err != nil {
					t.Fatal(err)
				}
				n.waitActive(t, 2, client, server)
				if ids = activeIDs(client); ids[len(ids)-1] <= last {
					t.Fatalf("path ids %v after %d", ids, last)
				}
			}
			transfer(t, client, server, 10e3)
			return time.Since(start)
		},
	},
	{
		name: "flapping", links: []quictest.LinkConfig{lan, slowLink()},
		within: 300 * ms, why: "the longest gap between datagrams, as in the tunnel: the link that flaps is left each time",
		run: func(t *testing.T, n *testNet, client, server *Conn) time.Duration {
			n.troubles.Go(func() {
				for range 8 {
					time.Sleep(300 * ms)
					n.blackhole(0, 300*ms)
				}
			})
			return probe(client, server, 6*time.Second)
		},
	},
}

func disorderly(l quictest.LinkConfig) quictest.LinkConfig {
	l.Jitter, l.Reorder = 5*ms, true
	return l
}

func lossyLink(l quictest.LinkConfig) quictest.LinkConfig {
	l.Loss = 0.3
	return l
}

func markingLink(l quictest.LinkConfig) quictest.LinkConfig {
	l.MarkBytes = 30_000
	return l
}

// activeIDs are the ids of the active paths, in ascending order.
func activeIDs(c *Conn) (ids []PathID) {
	for _, p := range c.Stats().Paths {
		if p.State == "active" {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// waitActive waits until both ends have that many active paths.
func (n *testNet) waitActive(t *testing.T, want int, conns ...*Conn) {
	t.Helper()
	for range 3000 {
		ready := true
		for _, c := range conns {
			ready = ready && activeIn(c.Stats()) == want
		}
		if ready {
			return
		}
		time.Sleep(10 * ms)
	}
	for _, c := range conns {
		t.Errorf("paths %+v, want %d active ones", c.Stats().Paths, want)
	}
	t.FailNow()
}

func TestScenarios(t *testing.T) {
	longSimulation(t)
	for _, s := range scenarios {
		for _, driver := range []struct {
			name string
			run  func(*testing.T, *scenario, *qlogBuffers)
		}{{"goroutines", runOnNet}, {"by hand", runByHand}} {
			t.Run(s.name+", "+driver.name, func(t *testing.T) {
				var logs qlogBuffers
				defer logs.keep(t)
				driver.run(t, &s, &logs)
			})
		}
	}
}

// measure runs s on n and compares with its bound.
func (s *scenario) measure(t *testing.T, n *testNet, client, server *Conn) {
	t.Helper()
	if err := client.OpenPath(n.sockets[1], serverAddr, "b"); err != nil {
		t.Fatal(err)
	}
	n.waitActive(t, 2, client, server)
	d := s.run(t, n, client, server)
	n.troubles.Wait()
	t.Logf("%v of %v", d, s.within)
	if d > s.within {
		t.Errorf("took %v, more than %v: %s", d, s.within, s.why)
	}
}

// runOnNet runs s with endpoints and their goroutines.
func runOnNet(t *testing.T, s *scenario, logs *qlogBuffers) {
	change := func(client, server *Config) {
		if s.change != nil {
			s.change(client, server)
		}
		logs.logged(client, server)
	}
	simulate(t, s.links, change, func(n *testNet) {
		rng := rand.New(rand.NewPCG(1, 1))
		n.AddTap(func(from, to netip.AddrPort, data []byte) bool { // one goroutine at a time holds it
			if rng.Float64() < s.dup {
				n.Inject(from, to, data, 0)
			}
			if rng.Float64() < s.flip {
				data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
			}
			return false
		})
		n.rebind = func(i int, port uint16) {
			a := n.sockets[i].LocalAddr()
			n.Rebind(a, netip.AddrPortFrom(a.Addr(), port))
		}
		client, server := n.connect(t)
		s.measure(t, n, client, server)
	})
}

// runByHand runs s with connections whose turns one goroutine runs.
func runByHand(t *testing.T, s *scenario, logs *qlogBuffers) {
	cryptotest.SetGlobalRandom(t, 0)
	tlsConfig := randomTLS()
	cryptotest.SetGlobalRandom(t, 1)
	synctest.Test(t, func(t *testing.T) {
		configs := [2]*Config{{Datagrams: true, TLS: tlsConfig}, {Datagrams: true, TLS: tlsConfig}}
		if s.change != nil {
			s.change(configs[0], configs[1])
		}
		logs.logged(configs[0], configs[1])
		r := newFixedRun(t, configs)
		defer r.cleanup()
		n := &testNet{}
		for i, cfg := range s.links {
			l := r.net.addLink(string(rune('a' + i)))
			l.up.SetConfig(cfg)
			l.down.SetConfig(cfg)
			l.dup, l.flip = s.dup, s.flip
			r.ends[0].addSocket(l.socket)
			n.up, n.down, n.sockets = append(n.up, l.up), append(n.down, l.down), append(n.sockets, l.socket)
		}
		edits := make(chan func(), 16)
		n.rebind = func(i int, port uint16) {
			edits <- func() { r.net.rebindTo(r.net.links[i].socket, port) }
		}
		if err := r.dial(); err != nil {
			t.Fatal(err)
		}
		client, server := r.ends[0].c, r.ends[1].c
		var over atomic.Bool
		driven := make(chan struct{})
		go func() {
			defer close(driven)
			for !over.Load() {
				if err := r.advance(ms); err != nil {
					t.Error(err)
					return
				}
				select {
				case f := <-edits:
					f()
				default:
				}
			}
		}()
		defer func() {
			over.Store(true)
			<-driven
		}()
		for _, c := range []*Conn{client, server} {
			select {
			case <-c.HandshakeConfirmed():
			case <-time.After(5 * time.Second):
				t.Fatal("no handshake")
			}
		}
		s.measure(t, n, client, server)
	})
}

// newFixedRun is newRandomRun without anything random.
func newFixedRun(t *testing.T, configs [2]*Config) *randomRun {
	r := &randomRun{t: t, rng: rand.New(rand.NewPCG(1, 1))}
	r.net = newRandomNet(r.rng, func() instant { return r.now }, r.logf)
	for i, name := range []string{"client", "server"} {
		e := NewEndpoint(configs[i])
		r.ends[i] = &randomEnd{r: r, name: name, e: e, byID: make(map[uint64]*randomOpStream), datagrams: make(map[uint64]int), cids: make(map[localCIDKey]randomCIDUse)}
	}
	r.ends[0].peer, r.ends[1].peer = r.ends[1], r.ends[0]
	r.now = r.ends[0].e.now()
	r.ends[1].addSocket(r.net.server)
	return r
}

// rebindTo gives s another public port.
func (n *randomNet) rebindTo(s *randomSocket, port uint16) {
	delete(n.byPublic, s.public)
	s.public = netip.AddrPortFrom(s.public.Addr(), port)
	n.byPublic[s.public] = s
}

// keep writes the logs of a test that has failed, and says where.
func (l *qlogBuffers) keep(t *testing.T) {
	if !t.Failed() {
		return
	}
	dir := t.ArtifactDir()
	if f := flag.Lookup("test.artifacts"); f == nil || f.Value.String() != "true" {
		// That directory does not outlive the test.
		var err error
		if dir, err = os.MkdirTemp("", "qlog-"+strings.NewReplacer(" ", "-", "/", "-", ",", "", "%", "").Replace(t.Name())+"-"); err != nil {
			t.Fatal(err)
		}
	}
	for _, logs := range [][]*qlogBuffer{l.client, l.server} {
		for _, b := range logs {
			if err := os.WriteFile(filepath.Join(dir, string(b.vantage)+".sqlog"), b.Bytes(), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("the qlogs are in %s", dir)
}
