// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"context"
	"flag"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

var runProfiles = flag.String("profiles", "", "run the cases of TestNeverWorseThanBestLink that match; . for all")

// profile is a pair of links that differ.
type profile struct {
	name  string
	links []quictest.LinkConfig
	noisy bool // one of them has loss or jitter
}

// profiles reads the pairs of links that mqvpn-lab measures, too.
func profiles(t *testing.T) (all []profile) {
	t.Helper()
	table, err := os.ReadFile("../internal/lab/profiles.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
		fields := strings.Split(line, "\t")
		p := profile{name: fields[0]}
		for i := range 2 {
			var x [4]float64 // rate, delay, jitter, loss
			for j := range x {
				if x[j], err = strconv.ParseFloat(fields[1+4*i+j], 64); err != nil {
					t.Fatal(err)
				}
			}
			l := queued(x[0], time.Duration(2*x[1]*float64(ms)))
			l.NormalJitter, l.Loss = time.Duration(x[2]*float64(ms)), x[3]/100
			p.links = append(p.links, l)
			p.noisy = p.noisy || x[2] > 0 || x[3] > 0
		}
		all = append(all, p)
	}
	return all
}

// candidates are the links of p that may be the better one for any load.
func (p *profile) candidates() []int {
	a, b := p.links[0], p.links[1]
	if a.Rate >= b.Rate && a.Delay <= b.Delay && a.NormalJitter <= b.NormalJitter && a.Loss <= b.Loss {
		return []int{0}
	}
	return []int{0, 1}
}

// carried is what bulk flows get downwards of links, in Mbit/s, between two times after their
// start.
func carried(t *testing.T, links []quictest.LinkConfig, flows int, class sched.Class, from, to time.Duration) (mbps float64) {
	t.Helper()
	simulate(t, links, nil, func(n *testNet) {
		client, server := n.connect(t)
		if len(links) > 1 {
			n.addPaths(t, client, server)
		}
		if err := server.WaitMTU(context.Background()); err != nil {
			t.Fatal(err)
		}
		it := startInner(server, client, flows, class)
		defer it.close()
		time.Sleep(from)
		before := it.delivered()
		time.Sleep(to - from)
		mbps = float64(it.delivered()-before) * 8 / 1e6 / (to - from).Seconds()
	})
	return mbps
}

// TestNeverWorseThanBestLink: whatever the second link is like, flows get as much as over the
// better one alone. The lines that always run are those that say most in the least time; the
// others are of one night:
//
//	go test ./quic -run TestNeverWorseThanBestLink -profiles . -timeout 1h -v
func TestNeverWorseThanBestLink(t *testing.T) {
	longSimulation(t)
	usual := []string{"bw_4to1, 4 TCP flows", "bw_4to1, 1 QUIC flow"}
	for _, p := range profiles(t) {
		for _, load := range []struct {
			name  string
			flows int
			class sched.Class
		}{{"1 TCP flow", 1, sched.ClassTCP}, {"4 TCP flows", 4, sched.ClassTCP}, {"1 QUIC flow", 1, sched.ClassUDP}} {
			name := p.name + ", " + load.name
			if wanted, _ := regexp.MatchString(*runProfiles, name); *runProfiles == "" && !slices.Contains(usual, name) || !wanted {
				continue
			}
			from, to, least := 3*time.Second, 6*time.Second, 0.97
			if p.noisy {
				to, least = 33*time.Second, 0.93
			}
			best := 0.0
			for _, i := range p.candidates() {
				best = max(best, carried(t, p.links[i:i+1], load.flows, load.class, from, to))
			}
			both := carried(t, p.links, load.flows, load.class, from, to)
			t.Logf("| %s | %.1f | %.1f | %.2f |", name, best, both, both/best)
			if both < least*best {
				t.Errorf("%s: %.1f Mbit/s over both links, %.1f over the better one", name, both, best)
			}
		}
	}
}
