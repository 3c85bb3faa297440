// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// What links in trouble do besides the scenarios of scenario_table_test.go.

func slowLink() quictest.LinkConfig {
	l := lan
	l.Delay = 25 * time.Millisecond
	return l
}

// blackhole silences link i for d.
func (n *testNet) blackhole(i int, d time.Duration) {
	n.up[i].SetBlackhole(true)
	n.down[i].SetBlackhole(true)
	time.Sleep(d)
	n.up[i].SetBlackhole(false)
	n.down[i].SetBlackhole(false)
}

func TestOneDirectionSilent(t *testing.T) {
	for cut := range 2 {
		for _, upDead := range []bool{true, false} {
			for _, up := range []bool{true, false} {
				simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
					client, server := n.connect(t)
					n.addPaths(t, client, server)
					go func() {
						time.Sleep(2 * time.Second)
						l := n.down[cut]
						if upDead {
							l = n.up[cut]
						}
						l.SetBlackhole(true)
						time.Sleep(3 * time.Second)
						l.SetBlackhole(false)
					}()
					from, to := client, server
					if !up {
						from, to = server, client
					}
					gap := probe(from, to, 8*time.Second)
					t.Logf("link %d, up dead %v, probe up %v: %v", cut, upDead, up, gap)
					if gap > 200*time.Millisecond {
						t.Errorf("longest gap %v", gap)
					}
					if activeIn(client.Stats()) != 2 || activeIn(server.Stats()) != 2 {
						t.Errorf("paths did not come back: client %+v server %+v", client.Stats().Paths, server.Stats().Paths)
					}
				})
			}
		}
	}
}

func TestLossyPathDoesNotHurt(t *testing.T) {
	lossy := slowLink()
	lossy.Loss = 0.02
	simulate(t, []quictest.LinkConfig{lan, lossy}, nil, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		d := transfer(t, client, server, 8e6)
		t.Logf("8 MB over a clean and a lossy link: %v", d)
		if d > 3500*time.Millisecond { // the clean one alone: 3.3 s
			t.Errorf("took %v", d)
		}
	})
}

func TestAbandonAndOpenAgain(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, slowLink()}, nil, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		id := PathID(1)
		for range 30 { // beyond the first limit on path ids
			client.AbandonPath(id)
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			if got := activeIn(client.Stats()); got != 1 {
				t.Fatalf("%d paths after abandoning %d", got, id)
			}
			n.addPaths(t, client, server)
			paths := client.Stats().Paths
			last := paths[len(paths)-1].ID
			if last <= id {
				t.Fatalf("path id %d after %d", last, id)
			}
			id = last
			transfer(t, client, server, 10e3)
		}
		time.Sleep(5 * time.Second)
		for _, c := range []*Conn{client, server} {
			if got := len(c.Stats().Paths); got != 2 {
				t.Errorf("%d paths are left", got)
			}
		}
	})
}

// TestLinkMTUShrinks: a link silently stops to carry large packets, and carries them
// again later.
func TestLinkMTUShrinks(t *testing.T) {
	simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
		client, server := n.connect(t)
		sink := &datagramSink{}
		server.SetDatagramHandler(sink)
		if err := client.WaitMTU(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := client.MaxDatagramPayload()
		send := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				client.SendDatagrams([]*PacketBuf{datagram(1, client.MaxDatagramPayload())})
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		send(time.Second)
		small := lan
		small.MTU = 1400
		n.up[0].SetConfig(small)
		send(2 * time.Second)
		if got := client.MaxDatagramPayload(); got >= before || got < 1280 {
			t.Errorf("MaxDatagramPayload is %d, was %d", got, before)
		}
		count := sink.count
		send(time.Second)
		if got := sink.count - count; got < 190 {
			t.Errorf("%d of 200 datagrams arrived after the link shrank", got)
		}
		n.up[0].SetConfig(lan)
		for range mtuRaiseAfter / (10 * time.Second) { // not idle
			time.Sleep(10 * time.Second)
			client.SendDatagrams([]*PacketBuf{datagram(1, 100)})
		}
		time.Sleep(time.Second)
		if got := client.MaxDatagramPayload(); got != before {
			t.Errorf("MaxDatagramPayload is %d ten minutes after the link is as before, want %d", got, before)
		}
	})
}

// TestSmallLink: what a link carries is found, although its interface promises more,
// and the tunnel is not told of each step.
func TestSmallLink(t *testing.T) {
	small := lan
	small.MTU = 1400
	simulate(t, []quictest.LinkConfig{small, {}}, nil, func(n *testNet) {
		client, server := n.connect(t)
		for _, c := range []*Conn{client, server} {
			changes := 0
			c.SetEventHandler(func(e Event) {
				if e.Kind == MTUChanged {
					changes++
				}
			})
			if err := c.WaitMTU(context.Background()); err != nil {
				t.Fatal(err)
			}
			// What IPv6 needs is there before the rest is known.
			if got := c.MaxDatagramPayload(); got < 1280 {
				t.Errorf("MaxDatagramPayload %d at first", got)
			}
			time.Sleep(time.Second)
			if got := c.Stats().Paths[0].MTU; got > 1400-28 || got <= 1400-28-mtuStep {
				t.Errorf("MTU %d", got)
			}
			if changes > 2 {
				t.Errorf("%d changes", changes)
			}
		}
		if lost := client.Stats().Paths[0].PacketsLost; lost != 0 {
			t.Errorf("%d packets lost, probes aside", lost)
		}
	})
}

// TestLinkMTUShrinksUnderStreams: what is sent is lost all of a sudden because it is
// too large, much at once or a little now and then.
func TestLinkMTUShrinksUnderStreams(t *testing.T) {
	small := lan
	small.MTU = 1350
	for _, paths := range []int{1, 2} {
		simulate(t, []quictest.LinkConfig{lan, lan}, nil, func(n *testNet) {
			client, server := n.connect(t)
			if paths == 2 {
				n.addPaths(t, client, server)
			}
			go func() {
				time.Sleep(500 * time.Millisecond)
				n.up[0].SetConfig(small)
			}()
			d := transfer(t, client, server, 4e6)
			t.Logf("4 MB over %d paths: %v", paths, d)
			if d > 2500*time.Millisecond { // 1.6 s without the change
				t.Errorf("4 MB over %d paths took %v", paths, d)
			}
		})
	}
	// A TCP connection inside repeats its packet ever more seldom.
	simulate(t, []quictest.LinkConfig{lan, {}}, nil, func(n *testNet) {
		client, _ := n.connect(t)
		if err := client.WaitMTU(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := client.MaxDatagramPayload()
		n.up[0].SetConfig(small)
		start := time.Now()
		for wait := 200 * time.Millisecond; client.MaxDatagramPayload() == before && wait < 30*time.Second; wait *= 2 {
			client.SendDatagrams([]*PacketBuf{datagram(1, before)})
			time.Sleep(wait)
		}
		d := time.Since(start)
		t.Logf("found after %v", d)
		if got := client.MaxDatagramPayload(); d > 4*time.Second || got > 1350 || got < 1280 {
			t.Errorf("MaxDatagramPayload is %d after %v", got, d)
		}
	})
}

// TestBurstLossKeepsMTU: a full queue that drops many large packets in a row says
// nothing about their size.
func TestBurstLossKeepsMTU(t *testing.T) {
	shallow := lan
	shallow.QueueBytes = 12_000
	simulate(t, []quictest.LinkConfig{shallow, {}}, nil, func(n *testNet) {
		client, server := n.connect(t)
		if err := client.WaitMTU(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := client.MaxDatagramPayload()
		changed := false
		client.SetEventHandler(func(e Event) { changed = changed || e.Kind == MTUChanged })
		for range 5 {
			transfer(t, client, server, 800e3)
			lossy := shallow
			lossy.Loss = 0.5
			n.up[0].SetConfig(lossy)
			transfer(t, client, server, 50e3)
			n.up[0].SetConfig(shallow)
		}
		synctest.Wait()
		if changed || client.MaxDatagramPayload() != before {
			t.Errorf("MaxDatagramPayload is %d, was %d", client.MaxDatagramPayload(), before)
		}
	})
}
