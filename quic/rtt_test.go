// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"testing"
	"time"
)

func TestRTTEstimation(t *testing.T) {
	type sample struct{ latest, ackDelay time.Duration }
	type want struct{ min, smoothed, variation time.Duration }
	tests := []struct {
		name    string
		samples []sample
		want    want
	}{
		// R9002-6.2.2-1
		{"before the first sample", nil, want{0, 333 * ms, 333 * ms / 2}},
		// R9002-5.3-1: the first sample counts whole, without its delay.
		{"first", []sample{{100 * ms, 10 * ms}}, want{100 * ms, 100 * ms, 50 * ms}},
		// R9002-5.3-1: 7/8·100+1/8·180 and 3/4·50+1/4·80.
		{"second", []sample{{100 * ms, 0}, {180 * ms, 0}}, want{100 * ms, 110 * ms, 57500 * time.Microsecond}},
		{"delay is subtracted", []sample{{100 * ms, 0}, {190 * ms, 10 * ms}}, want{100 * ms, 110 * ms, 57500 * time.Microsecond}},
		// R9002-5.3-4: 105-10 would be below the minimum.
		{"delay below the minimum", []sample{{100 * ms, 0}, {105 * ms, 10 * ms}},
			want{100 * ms, 100625 * time.Microsecond, 38750 * time.Microsecond}},
		// R9002-5.2-1: the delay does not lower the minimum, a smaller sample does.
		{"minimum", []sample{{100 * ms, 0}, {60 * ms, 30 * ms}}, want{60 * ms, 95 * ms, 47500 * time.Microsecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r rttState
			r.init()
			for i, s := range tt.samples {
				r.update(at(time.Duration(i)*time.Second), s.latest, s.ackDelay)
			}
			if got := (want{r.min, r.smoothed, r.variation}); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRTTGranularity(t *testing.T) {
	r := rttState{smoothed: 100 * time.Microsecond, latest: 100 * time.Microsecond}
	// R9002-6.2.1-2
	if got := r.pto(); got != 1100*time.Microsecond {
		t.Errorf("PTO %v with a tiny RTT, want RTT + 1 ms", got)
	}
	// R9002-6.1.2-2
	if got := r.lossDelay(); got != ms {
		t.Errorf("loss delay %v with a tiny RTT, want 1 ms", got)
	}
}

func TestRTTSamples(t *testing.T) {
	t.Run("only of ack-eliciting packets", func(t *testing.T) {
		lt := newLossTest(t)
		lt.sendAs(0, appSpace, 0)
		lt.ack(100*ms, r(0, 0))
		// R9002-5.1-1
		if lt.rtt.hasSample() {
			t.Errorf("sample %v of an ACK-only packet", lt.rtt.latest)
		}
		lt.send(200 * ms)
		lt.sendAs(210*ms, appSpace, 0)
		lt.ack(300*ms, r(0, 2))
		if lt.rtt.latest != 90*ms {
			t.Errorf("sample %v, want that of the largest packet, 90ms", lt.rtt.latest)
		}
	})
	t.Run("only of the largest packet", func(t *testing.T) {
		lt := newLossTest(t)
		lt.sendN(0, 2)
		lt.ack(50*ms, r(1, 1))
		// R9002-5.1-2
		lt.ack(90*ms, r(0, 1))
		if lt.rtt.latest != 50*ms || lt.rtt.smoothed != 50*ms {
			t.Errorf("RTT %v, smoothed %v after the late packet, want 50ms", lt.rtt.latest, lt.rtt.smoothed)
		}
	})
	t.Run("delay of the peer", func(t *testing.T) {
		for _, tt := range []struct {
			name      string
			handshake bool
			sp        spaceID
			want      time.Duration // of the adjusted sample
		}{
			// R9002-5.3-3
			{"limited after confirmation", false, appSpace, 175 * ms},
			// R9002-5.3-2
			{"unlimited before confirmation", true, appSpace, 160 * ms},
			{"unlimited in the handshake", true, handshakeSpace, 160 * ms},
			{"ignored in Initial", true, initialSpace, 200 * ms},
		} {
			lt := newLossTest(t, withHandshake(true))
			if !tt.handshake {
				lt.setConfirmed()
			}
			lt.setMaxAckDelay(25 * ms)
			lt.sendAs(0, tt.sp, sentAckEliciting|packetInFlight)
			lt.ackIn(100*ms, tt.sp, 0, r(0, 0))
			lt.sendAs(time.Second, tt.sp, sentAckEliciting|packetInFlight)
			lt.ackIn(time.Second+200*ms, tt.sp, 40*ms, r(0, 1))
			if want := 100*ms + (tt.want-100*ms)/8; lt.rtt.smoothed != want {
				t.Errorf("%s: smoothed RTT %v, want %v", tt.name, lt.rtt.smoothed, want)
			}
		}
	})
	t.Run("return path", func(t *testing.T) {
		lt := newLossTest(t)
		foreign := func(d time.Duration, pn uint64) {
			if _, err := lt.handleAck(at(d), appSpace, ackFrame(t, r(pn, pn)), 0, false, lt.out); err != nil {
				t.Fatal(err)
			}
		}
		lt.warm(100 * ms)
		lt.send(0)
		foreign(50*ms, 1)
		if lt.rtt.latest != 100*ms {
			t.Errorf("sample %v over another path", lt.rtt.latest)
		}
		lt.send(2 * time.Second)
		foreign(2*time.Second+120*ms, 2)
		if lt.rtt.latest != 120*ms || lt.rtt.min != 120*ms {
			t.Errorf("latest %v, minimum %v after two seconds without own samples, want 120ms", lt.rtt.latest, lt.rtt.min)
		}
		lt.send(3 * time.Second)
		lt.ack(3*time.Second+130*ms, r(3, 3))
		if lt.rtt.min != 130*ms {
			t.Errorf("minimum %v when samples came on the path again, want 130ms", lt.rtt.min)
		}
	})
}
