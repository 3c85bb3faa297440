// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math"
	"testing"
	"time"
)

// Each congestion controller against what its specification lets expect.

func forEachCC(t *testing.T, f func(t *testing.T, cc CongestionControl)) {
	t.Helper()
	for cc := range numCongestionControls {
		t.Run(cc.String(), func(t *testing.T) { f(t, cc) })
	}
}

// TestCleanLink: the link is used, and the queue is what the controller is made for:
// up to full with the ones that need a loss, short with BBR.
func TestCleanLink(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		for _, rtt := range []time.Duration{20 * ms, 200 * ms} {
			s := newCCSim(t, ccLink(100e6, rtt, 1, 0), cc)
			share, queue := s.rates(5*time.Second, 16*time.Second)
			t.Logf("%v: %.3f of the link, queue %v", rtt, share[0], queue)
			least, most := 0.98, rtt
			if cc == BBR { // 1 % margin, 2 % for ProbeRTT
				least, most = 0.95, rtt/3
			}
			if share[0] < least || queue > most {
				t.Errorf("RTT %v: %.3f of the link, want %.2f; queue %v, want at most %v", rtt, share[0], least, queue, most)
			}
		}
	})
}

// TestStartOfTransfer: a link of 100 Mbit/s and 100 ms is in use after 1.5 seconds.
func TestStartOfTransfer(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		s := newCCSim(t, ccLink(100e6, 100*ms, 1, 0), cc)
		share, _ := s.rates(1500*ms, 2500*ms)
		lost := s.flows[0].loss.packetsLost
		t.Logf("%.3f of the link, %d packets lost", share[0], lost)
		if share[0] < 0.6 {
			t.Errorf("%.3f of the link", share[0])
		}
	})
}

// TestRandomLoss compares with the models: the response function of Reno
// (RFC 5681; window 1.22/sqrt(p)), which CUBIC follows or exceeds at these windows
// (RFC 9438 section 5.2), and BBR's tolerance of up to 2 %.
func TestRandomLoss(t *testing.T) {
	longSimulation(t)
	for _, tt := range []struct {
		rtt   time.Duration
		p     float64
		reno  float64 // factors on the model
		cubic float64
		bbr   float64 // share of the link
	}{
		{20 * ms, 0.001, 0.75, 0.8, 0.8},
		{20 * ms, 0.01, 0.7, 0.8, 0.65},
		{200 * ms, 0.001, 0.6, 0.8, 0.8},
		{200 * ms, 0.01, 0.6, 0.7, 0.75},
	} {
		forEachCC(t, func(t *testing.T, cc CongestionControl) {
			s := newCCSim(t, ccLink(100e6, tt.rtt, 1, tt.p), cc)
			from, length := 10*time.Second, 90*time.Second
			if cc == BBR { // no sawtooth of minutes
				from, length = 4*time.Second, 10*time.Second
			}
			share, queue := s.rates(from, from+length)
			model := 1.22 / math.Sqrt(tt.p) * ccIPPacket * 8 / tt.rtt.Seconds() / 100e6
			t.Logf("%v, %v: %.4f of the link, model %.4f, queue %v", tt.rtt, tt.p, share[0], model, queue)
			least, most := tt.reno*model, 1.3*model
			switch cc {
			case CUBIC:
				least, most = tt.cubic*model, 2.2*model
			case BBR:
				least, most = tt.bbr, 1
			}
			if share[0] < least || share[0] > most {
				t.Errorf("RTT %v, loss %v: %.4f of the link, want %.4f to %.4f", tt.rtt, tt.p, share[0], least, most)
			}
		})
	}
}

// TestMarks: a link that marks from half of a bandwidth-delay product on is used
// without losses, and its queue stays there.
func TestMarks(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		link := ccLink(50e6, 40*ms, 10, 0)
		link.MarkBytes = link.QueueBytes / 20
		s := newCCSim(t, link, cc)
		share, queue := s.rates(5*time.Second, 20*time.Second)
		lost, marked := s.flows[0].loss.packetsLost, s.link.Stats().Marked
		t.Logf("%.3f of the link, queue %v, %d lost, %d marked", share[0], queue, lost, marked)
		if share[0] < 0.9 || queue > 20*ms || lost > 0 || marked == 0 {
			t.Errorf("%.3f of the link, queue %v, %d lost, %d marked", share[0], queue, lost, marked)
		}
	})
}

// TestFairness: two flows of the same kind share a link, also if one comes late.
func TestFairness(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		for _, late := range []time.Duration{0, 5 * time.Second} {
			s := newCCSim(t, ccLink(20e6, 40*ms, 1, 0), cc)
			s.add(cc, late)
			share, queue := s.rates(30*time.Second, 60*time.Second)
			index := jain(share)
			t.Logf("second flow at %v: shares %.3f, index %.3f, queue %v", late, share, index, queue)
			if index < 0.85 || share[0]+share[1] < 0.93 {
				t.Errorf("second flow at %v: shares %.3f, index %.3f", late, share, index)
			}
		}
	})
}

// TestRateChange: the link becomes ten times as fast, and as slow again.
func TestRateChange(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		slow := ccLink(10e6, 40*ms, 1, 0)
		fast := ccLink(100e6, 40*ms, 1, 0)
		s := newCCSim(t, slow, cc)
		s.run(10 * time.Second)
		s.link.SetConfig(fast)
		wait := 6 * time.Second // of the slowest: Reno adds a packet per round trip
		switch cc {
		case NewReno:
			wait = 15 * time.Second
		case CUBIC:
			wait = 12 * time.Second
		}
		up, _ := s.rates(10*time.Second+wait, 15*time.Second+wait)
		s.link.SetConfig(slow)
		down, queue := s.rates(26*time.Second+wait, 36*time.Second+wait)
		lost := s.flows[0].loss.lossFraction
		t.Logf("%.3f of the fast link after %v, %.3f of the slow one, queue %v, loss %.3f", up[0], wait, down[0], queue, lost)
		if up[0] < 0.9 || down[0] < 0.9 || queue > 45*ms {
			t.Errorf("%.3f of the fast link after %v, %.3f of the slow one, queue %v", up[0], wait, down[0], queue)
		}
	})
}

// TestLimitedSender: a sender that has little to send does not let its window grow
// beyond use, and is not slowed down either.
func TestLimitedSender(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		s := newCCSim(t, ccLink(100e6, 40*ms, 1, 0), cc)
		f := s.flows[0]
		f.limit = 5e6 / 8 // 25 kB per round trip
		share, queue := s.rates(5*time.Second, 30*time.Second)
		t.Logf("%.4f of the link, window %d, queue %v", share[0], f.loss.cc.Window(), queue)
		if share[0] < 0.049 || f.loss.cc.Window() > 250_000 || queue > ms {
			t.Errorf("%.4f of the link, window %d, queue %v", share[0], f.loss.cc.Window(), queue)
		}
	})
}

// TestSubPacketLink: a link that holds less than a packet is used nevertheless.
func TestSubPacketLink(t *testing.T) {
	longSimulation(t)
	forEachCC(t, func(t *testing.T, cc CongestionControl) {
		s := newCCSim(t, ccLink(256e3, 20*ms, 1, 0), cc)
		share, queue := s.rates(10*time.Second, 60*time.Second)
		t.Logf("%.3f of the link, queue %v", share[0], queue)
		if share[0] < 0.9 {
			t.Errorf("%.3f of the link", share[0])
		}
	})
}

// TestBesideCubic: beside flows of CUBIC that fill the queue, BBR gets and leaves a share.
func TestBesideCubic(t *testing.T) {
	longSimulation(t)
	for _, tt := range []struct {
		others      int
		after       time.Duration // when BBR begins
		least, most float64
	}{
		{1, 0, 0.35, 0.65}, {1, 5 * time.Second, 0.35, 0.65}, {4, 0, 0.2, 0.5}, {4, 5 * time.Second, 0.2, 0.6},
	} {
		link := ccLink(100e6, 20*ms, 2.5, 0)
		s := newCCSim(t, link)
		s.add(BBR, tt.after)
		for i := range tt.others {
			s.add(CUBIC, 2*time.Second+time.Duration(i)*50*ms)
		}
		share, queue := s.rates(10*time.Second, 30*time.Second)
		t.Logf("beside %d, from %v on: %.2f, the others %.2f, queue %v", tt.others, tt.after, share[0], share[1:], queue)
		if share[0] < tt.least || share[0] > tt.most {
			t.Errorf("beside %d, from %v on: %.2f of the link, want %.2f to %.2f", tt.others, tt.after, share[0], tt.least, tt.most)
		}
	}
}
