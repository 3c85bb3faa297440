// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// Tests of several paths over the simulated network.

// addPaths opens the client's paths over all links but the first, with the labels "b", "c"
// and so on, and waits until both ends use them.
func (n *testNet) addPaths(t *testing.T, client, server *Conn) {
	t.Helper()
	for i, s := range n.sockets[1:] {
		if err := client.OpenPath(s, serverAddr, string(rune('b'+i))); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		time.Sleep(10 * time.Millisecond)
		if activeIn(client.Stats()) == len(n.sockets) && activeIn(server.Stats()) == len(n.sockets) {
			return
		}
	}
	t.Fatalf("not all paths: client %+v, server %+v", client.Stats().Paths, server.Stats().Paths)
}

func activeIn(st ConnStats) (n int) {
	for _, p := range st.Paths {
		if p.State == "active" {
			n++
		}
	}
	return n
}

func TestTwoPathsAggregate(t *testing.T) {
	longSimulation(t)
	slow := lan
	slow.Delay = 25 * time.Millisecond
	simulate(t, []quictest.LinkConfig{lan, slow}, nil, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		d := transfer(t, client, server, 8e6)
		t.Logf("up %v", d)
		if d > 2400*time.Millisecond { // one link alone needs 3.2 s
			t.Errorf("8 MB took %v over two links", d)
		}
		d = transfer(t, server, client, 8e6)
		t.Logf("down %v", d)
		if d > 2400*time.Millisecond {
			t.Errorf("8 MB took %v over two links", d)
		}
	})
}

// probe sends a datagram every 5 ms for d, and returns the longest gap between two
// arrivals.
func probe(from, to *Conn, d time.Duration) time.Duration {
	sink := &datagramSink{}
	to.SetDatagramHandler(sink)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		from.SendDatagrams([]*PacketBuf{datagram(1, 100)})
	}
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
	return slices.Max(sink.gaps)
}

func TestSilentPathIsLeft(t *testing.T) {
	slow := lan
	slow.Delay = 25 * time.Millisecond
	for cut := range 2 {
		for _, up := range []bool{true, false} {
			simulate(t, []quictest.LinkConfig{lan, slow}, nil, func(n *testNet) {
				client, server := n.connect(t)
				n.addPaths(t, client, server)
				time.Sleep(500 * time.Millisecond)
				go func() {
					time.Sleep(time.Second)
					n.up[cut].SetBlackhole(true)
					n.down[cut].SetBlackhole(true)
					time.Sleep(3 * time.Second)
					n.up[cut].SetBlackhole(false)
					n.down[cut].SetBlackhole(false)
				}()
				from, to := client, server
				if !up {
					from, to = server, client
				}
				gap := probe(from, to, 8*time.Second)
				t.Logf("cut %d, up %v: longest gap %v", cut, up, gap)
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
