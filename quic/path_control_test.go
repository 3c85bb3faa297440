// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// Tests of what the application tells about links.

// pathOf returns the statistics of the live path of that label.
func pathOf(t *testing.T, c *Conn, label string) PathStats {
	t.Helper()
	for _, p := range c.Stats().Paths {
		if p.Label == label && p.State != "abandoning" && p.State != "draining" {
			return p
		}
	}
	t.Fatalf("no path %q in %+v", label, c.Stats().Paths)
	return PathStats{}
}

// TestLinkDownMovesTraffic: the application says that a link is down. The peer, told so by
// PATH_STATUS_BACKUP, leaves it too. RMP21-3.3-2
func TestLinkDownMovesTraffic(t *testing.T) {
	for _, up := range []bool{true, false} {
		simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
			client, server := n.connect(t)
			client.LabelPath(0, "a")
			n.addPaths(t, client, server)
			go func() {
				time.Sleep(time.Second)
				n.up[0].SetBlackhole(true)
				n.down[0].SetBlackhole(true)
				client.LinkDown("a")
				time.Sleep(3 * time.Second)
				if p := pathOf(t, client, "a"); p.State != "dead" || p.Reason != "link down" {
					t.Errorf("path %+v", p)
				}
				if p := server.Stats().Paths[0]; !p.Backup {
					t.Errorf("the server was not told: %+v", p)
				}
				n.up[0].SetBlackhole(false)
				n.down[0].SetBlackhole(false)
				time.Sleep(time.Second)
				if p := pathOf(t, client, "a"); p.State != "dead" {
					t.Errorf("path %+v before its link is up", p)
				}
				client.LinkUp("a")
				time.Sleep(200 * time.Millisecond)
				if p := pathOf(t, client, "a"); p.State != "active" {
					t.Errorf("path %+v after its link is up", p)
				}
				if p := server.Stats().Paths[0]; p.Backup {
					t.Errorf("the server was not told: %+v", p)
				}
			}()
			from, to := client, server
			if !up {
				from, to = server, client
			}
			gap := probe(from, to, 7*time.Second)
			t.Logf("up %v: longest gap %v", up, gap)
			if limit := 50 * time.Millisecond; up && gap > limit || !up && gap > limit+25*time.Millisecond {
				t.Errorf("longest gap %v", gap)
			}
		})
	}
}

func TestPathPriorities(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		n.addPaths(t, client, server)
		server.SetDatagramHandler(&datagramSink{})
		carried := func() (a, b uint64) {
			before := [2]uint64{pathOf(t, client, "a").DatagramsSent, pathOf(t, client, "b").DatagramsSent}
			for range 100 { // more than one path carries
				client.SendDatagrams([]*PacketBuf{datagram(0, 1000), datagram(0, 1000), datagram(0, 1000)})
				time.Sleep(time.Millisecond)
			}
			return pathOf(t, client, "a").DatagramsSent - before[0], pathOf(t, client, "b").DatagramsSent - before[1]
		}
		for _, tt := range []struct {
			a, b       sched.Priority
			onA, onB   bool
			toldBackup bool // about b
		}{
			{sched.PriorityPrimary, sched.PriorityPrimary, true, true, false},
			{sched.PriorityPrimary, sched.PrioritySecondary, true, false, false},
			{sched.PriorityPrimary, sched.PriorityBackup, true, false, true},
			{sched.PriorityBackup, sched.PrioritySecondary, false, true, false},
			{sched.PriorityBackup, sched.PriorityNever, true, false, true},
			{sched.PriorityNever, sched.PriorityNever, false, false, true},
			{sched.PriorityPrimary, sched.PriorityPrimary, true, true, false},
		} {
			for label, priority := range map[string]sched.Priority{"a": tt.a, "b": tt.b} {
				if err := client.SetPathPriority(label, priority); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			a, b := carried()
			if (a > 0) != tt.onA || (b > 0) != tt.onB {
				t.Errorf("priorities %d, %d: %d and %d datagrams", tt.a, tt.b, a, b)
			}
			if got := server.Stats().Paths[1].Backup; got != tt.toldBackup {
				t.Errorf("priorities %d, %d: the server's path is backup: %v", tt.a, tt.b, got)
			}
		}
		if err := client.SetPathPriority("c", sched.PriorityBackup); err != errNoPath {
			t.Errorf("priority of no path: %v", err)
		}
	})
}

// TestPathStatsTellUse checks what people are told about the use of paths.
func TestPathStatsTellUse(t *testing.T) {
	longSimulation(t)
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		n.addPaths(t, client, server)
		it := startInnerTCP(client, server, 4)
		defer it.close()
		time.Sleep(5 * time.Second)
		a, b := pathOf(t, client, "a"), pathOf(t, client, "b")
		if a.Pins+b.Pins != 4 || a.Pins == 0 || b.Pins == 0 {
			t.Errorf("%d and %d pins of 4 flows", a.Pins, b.Pins)
		}
		if a.Share < 0.4 || b.Share < 0.4 || a.Share+b.Share < 0.999 {
			t.Errorf("shares %.2f and %.2f", a.Share, b.Share)
		}
		for _, p := range []PathStats{a, b} {
			if p.Weight < 0.3*20e6/8 || p.Weight > 1.5*20e6/8 || p.Reason != "" {
				t.Errorf("weight %.0f, reason %q", p.Weight, p.Reason)
			}
		}
		client.SetPathPriority("b", sched.PriorityBackup)
		time.Sleep(3 * time.Second)
		if b := pathOf(t, client, "b"); b.Reason != "standby" || b.Share > 0.1 || b.Priority != sched.PriorityBackup {
			t.Errorf("standby path %+v", b)
		}
		client.LinkDown("b")
		if b := pathOf(t, client, "b"); b.Pins != 0 || b.Reason != "link down" {
			t.Errorf("dead path %+v", b)
		}
	})
}

// TestAddressOfOnlyPath: the only path of a client changes its address, and the server goes on
// at the new one with what it may send before that is validated. Nothing can reach the client
// sooner than a round trip after the change, but nothing has to come later.
func TestAddressOfOnlyPath(t *testing.T) {
	far := lan
	far.Delay = 30 * ms
	for _, up := range []bool{true, false} {
		simulate(t, []quictest.LinkConfig{far, {}}, nil, func(n *testNet) {
			client, server := n.connect(t)
			client.LabelPath(0, "a")
			n.AddLink("10.0.3.2", "192.0.2.1", far)
			go func() {
				time.Sleep(time.Second)
				old := n.sockets[0]
				s := n.Socket(netip.MustParseAddrPort("10.0.3.2:7001"), 1500)
				n.client.AddSocket(s)
				if err := client.ReplacePathSocket("a", s); err != nil {
					t.Error(err)
				}
				n.client.RemoveSocket(old)
				n.sockets[0] = s
			}()
			from, to, most := client, server, 10*ms // the interval of the probe, twice
			if !up {
				from, to, most = server, client, 2*far.Delay+10*ms
			}
			if gap := probe(from, to, 3*time.Second); gap > most {
				t.Errorf("up %v: longest gap %v, want %v", up, gap, most)
			}
			if p := server.Stats().Paths[0]; p.State != "active" || p.Remote.Port() != 7001 {
				t.Errorf("path %+v", p)
			}
		})
	}
}

// TestReplaceSocket changes the address of either path while a transfer runs: of the
// only one by migration, of one of two by a new path.
func TestReplaceSocket(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		replace := func(label string, i int, port uint16) {
			old := n.sockets[i]
			s := n.Socket(netip.AddrPortFrom(old.LocalAddr().Addr(), port), 1500)
			n.client.AddSocket(s)
			if err := client.ReplacePathSocket(label, s); err != nil {
				t.Fatal(err)
			}
			n.client.RemoveSocket(old)
			n.sockets[i] = s
		}
		go func() {
			time.Sleep(time.Second)
			replace("a", 0, 7001)
		}()
		gap := probe(client, server, 3*time.Second)
		if gap > 70*time.Millisecond {
			t.Errorf("longest gap %v while the only path migrated", gap)
		}
		if p := client.Stats().Paths; len(p) != 1 || p[0].ID != 0 || p[0].State != "active" || server.Stats().Paths[0].Remote.Port() != 7001 {
			t.Errorf("paths %+v", p)
		}
		n.addPaths(t, client, server)
		time.Sleep(time.Second)
		go func() {
			time.Sleep(time.Second)
			replace("b", 1, 7002)
			time.Sleep(time.Second)
			replace("a", 0, 7003)
		}()
		gap = probe(client, server, 5*time.Second)
		if gap > 70*time.Millisecond {
			t.Errorf("longest gap %v while paths were replaced", gap)
		}
		for label, port := range map[string]uint16{"a": 7003, "b": 7002} {
			if p := pathOf(t, client, label); p.State != "active" || p.Local.Port() != port || p.ID < 2 {
				t.Errorf("path %+v", p)
			}
		}
		if err := client.RemovePath("b"); err != nil {
			t.Error(err)
		}
		if err := client.RemovePath("a"); err != errLastPath {
			t.Errorf("removing the last path: %v", err)
		}
	})
}

// TestThousandPaths opens and closes a thousand paths on one connection, which leave neither
// memory nor goroutines.
func TestThousandPaths(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		const every = 100
		var bytes, goroutines []int
		for i := range 10*every + 1 {
			if i%every == 0 {
				bytes, goroutines = append(bytes, quictest.HeapInUse()), append(goroutines, runtime.NumGoroutine())
			}
			n.addPaths(t, client, server)
			if err := client.RemovePath("b"); err != nil {
				t.Fatal(i, err)
			}
			// State stays for three PTOs.
			time.Sleep(400 * time.Millisecond)
		}
		// Pools and maps have filled by the 300th path. What a pool holds comes and goes.
		if grown := slices.Min(bytes[8:]) - slices.Max(bytes[3:6]); !raceDetector && grown > 16<<10 {
			t.Errorf("300 paths left %d bytes: %d", grown, bytes)
		}
		if slices.Max(goroutines[1:]) > goroutines[1] {
			t.Errorf("%d goroutines", goroutines)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, c := range []*Conn{client, server} {
			if got := c.Stats().Paths; len(got) != 1 {
				t.Errorf("%d paths are left", len(got))
			}
			c.do(func(instant) {
				if len(c.ids) > 2*maxPathsLimit || !slices.IsSortedFunc(c.ids, func(a, b *idState) int { return int(a.id) - int(b.id) }) {
					t.Errorf("%d path ids", len(c.ids))
				}
			})
		}
		transfer(t, client, server, 10e3)
	})
}

// TestLinkUpBeforeConfirmation: the only path is probed again as soon as its link works,
// even if the client does not know yet that the handshake is confirmed.
func TestLinkUpBeforeConfirmation(t *testing.T) {
	scripted(t, clientSide, func(t *testing.T, tc *testConn) {
		tc.completeHandshake()
		c := tc.core()
		if c.confirmed {
			t.Fatal("the handshake is confirmed")
		}
		c.LabelPath(0, "a")
		c.LinkDown("a")
		tc.ignore(tCrypto) // Finished is repeated
		tc.skip()
		tc.wantSilence("the link is down", time.Second)
		c.LinkUp("a")
		tc.wantFrame("the link is up", frPing())
	})
}

// TestNothingOpenedWhileLinkDown: a path that cannot be opened eats no path ids while its
// link is known to be down, and opens when the link is up.
func TestNothingOpenedWhileLinkDown(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		setDown := func(down bool) {
			n.up[1].SetBlackhole(down)
			n.down[1].SetBlackhole(down)
		}
		setDown(true)
		if err := client.OpenPath(n.sockets[1], serverAddr, "b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		client.LinkDown("b")
		time.Sleep(time.Minute)
		client.do(func(instant) {
			if len(client.paths) != 1 || len(client.wishes) != 1 || client.ids[1].id > 2 {
				t.Errorf("%d paths, %d wishes, the next id is %d", len(client.paths), len(client.wishes), client.ids[1].id)
			}
		})
		setDown(false)
		client.LinkUp("b")
		time.Sleep(200 * time.Millisecond)
		if p := pathOf(t, client, "b"); p.State != "active" || activeIn(server.Stats()) != 2 {
			t.Errorf("path %+v", p)
		}
	})
}

// TestReplaceSocketBesideDeadLink: a link that carries nothing delays no other path.
func TestReplaceSocketBesideDeadLink(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		n.addPaths(t, client, server)
		dead := n.Socket(netip.MustParseAddrPort("10.9.0.1:7009"), 1500)
		up, down := n.AddLink("10.9.0.1", serverAddr.Addr().String(), lan)
		up.SetBlackhole(true)
		down.SetBlackhole(true)
		n.client.AddSocket(dead)
		if err := client.OpenPath(dead, serverAddr, "c"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*initialPTO + retryPathAfter/4) // it has been tried in vain, and rests
		s := n.Socket(netip.AddrPortFrom(n.sockets[1].LocalAddr().Addr(), 7002), 1500)
		n.client.AddSocket(s)
		if err := client.ReplacePathSocket("b", s); err != nil {
			t.Fatal(err)
		}
		n.client.RemoveSocket(n.sockets[1])
		time.Sleep(100 * time.Millisecond)
		if p := pathOf(t, client, "b"); p.State != "active" || p.Local.Port() != 7002 {
			t.Errorf("path %+v", p)
		}
	})
}

// TestRemoveWorkingPath: the last path that works is not given up for a dead one. What
// is not there is removed already.
func TestRemoveWorkingPath(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		n.addPaths(t, client, server)
		client.LinkDown("a")
		if err := client.RemovePath("b"); err != errLastPath {
			t.Errorf("removing the only path that works: %v", err)
		}
		if err := client.RemovePath("a"); err != nil {
			t.Errorf("removing a dead path: %v", err)
		}
		if err := client.RemovePath("c"); err != nil {
			t.Errorf("removing what is not there: %v", err)
		}
	})
}

// TestRemoveWaitingPath: nor is the last path given up that waits to be opened.
func TestRemoveWaitingPath(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, _ := n.connect(t)
		<-client.HandshakeConfirmed()
		client.do(func(now instant) {
			for _, label := range []string{"b", "c"} {
				client.wishes = append(client.wishes, pathWish{sock: client.paths[0].sock, label: label, notBefore: now.add(time.Second)})
			}
			client.abandonPath(now, client.ids[0], client.cp.ApplicationAbandonPath, "")
			if err := client.removePath(now, "b"); err != nil {
				t.Errorf("removing one of two that wait: %v", err)
			}
			if err := client.removePath(now, "c"); err != errLastPath {
				t.Errorf("removing the only one that waits: %v", err)
			}
		})
	})
}

// secondPath places everything on the second of two paths.
type secondPath struct{ sched.Scheduler }

func (secondPath) Pick(_ time.Duration, _ sched.Work, paths []sched.Path) (first, second int) {
	if i := len(paths) - 1; paths[i].Blocked == sched.NotBlocked {
		return i, -1
	}
	return -1, -1
}

func TestSetScheduler(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
		client, server := n.connect(t)
		client.LabelPath(0, "a")
		n.addPaths(t, client, server)
		server.SetDatagramHandler(&datagramSink{})
		for _, tt := range []struct {
			s        sched.Scheduler
			onA, onB uint64
		}{{sched.NewMinRTT(), 100, 0}, {secondPath{sched.NewMinRTT()}, 0, 100}} {
			client.SetScheduler(tt.s)
			a, b := pathOf(t, client, "a").DatagramsSent, pathOf(t, client, "b").DatagramsSent
			for range 100 {
				client.SendDatagrams([]*PacketBuf{datagram(0, 500)})
				time.Sleep(10 * time.Millisecond)
			}
			a, b = pathOf(t, client, "a").DatagramsSent-a, pathOf(t, client, "b").DatagramsSent-b
			if a != tt.onA || b != tt.onB {
				t.Errorf("%T: %d and %d datagrams", tt.s, a, b)
			}
		}
	})
}

// TestLinkDownWhileProbing: a path whose link is said to be down while it is validated is
// not used when that succeeds, and the last one that works is not given up for it.
func TestLinkDownWhileProbing(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
		client, _ := n.connect(t)
		<-client.HandshakeConfirmed()
		client.LabelPath(0, "a")
		time.Sleep(time.Second)
		if err := client.OpenPath(n.sockets[1], serverAddr, "b"); err != nil {
			t.Fatal(err)
		}
		client.LinkDown("b")
		time.Sleep(time.Second)
		if p := pathOf(t, client, "b"); p.State != "dead" {
			t.Errorf("path %+v", p)
		}
		if err := client.RemovePath("a"); err != errLastPath {
			t.Errorf("removing the only path that works: %v", err)
		}
		client.LinkUp("b")
		time.Sleep(200 * time.Millisecond)
		if p := pathOf(t, client, "b"); p.State != "active" {
			t.Errorf("path %+v", p)
		}
	})
}
