// SPDX-License-Identifier: Apache-2.0

package congestion

import (
	"testing"
	"time"
)

// resumed returns c after it had a window of 100 packets and resumed at 10 s, and
// the acknowledgment of a packet that was sent before.
func resumed(t *testing.T, c Controller) {
	t.Helper()
	ack(c, time.Second, 190*mss)
	lose(c, 2*time.Second)
	for c.Window() > 100*mss {
		c.Lost(Loss{Now: 2*time.Second + time.Duration(c.Window()), Bytes: mss, SentTime: 2*time.Second + time.Duration(c.Window())})
	}
	known := c.Window()
	c.Resume(10 * time.Second)
	if got, want := c.Window(), known/2; got != want || !inSlowStart(c) {
		t.Fatalf("window %d after Resume, want %d, in slow start", got, want)
	}
	if got, want := c.PacingRate(50*ms), float64(known/2)/0.05; got != want {
		t.Fatalf("pacing rate %.0f after Resume, want a window per round trip: %.0f", got, want)
	}
	// What was sent before has no say.
	c.Lost(Loss{Now: 10*time.Second + ms, Bytes: mss, SentTime: 9900 * ms})
	ack(c, 10*time.Second+ms, mss)
	if got := c.Window(); got != known/2 {
		t.Fatalf("window %d after a loss from before", got)
	}
}

// growth acknowledges whole windows from now on, and returns the windows after each
// of n round trips of 50 ms.
func growth(c Controller, now time.Duration, n int) (windows []int) {
	for range n {
		now += 50 * ms
		for acked, window := 0, c.Window(); acked < window; acked += mss {
			now++
			ack(c, now, mss)
		}
		windows = append(windows, c.Window())
	}
	return windows
}

func TestResumeGoesOn(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		resumed(t, c)
		half := c.Window()
		w := growth(c, 10*time.Second, 4)
		// A round trip to see that the guess was right, one of slow start, and the end of it.
		if w[0] > half+2*mss || w[1] < 2*half-4*mss || w[3] > 2*half+6*mss || inSlowStart(c) {
			t.Errorf("windows %d after Resume with %d", w, half)
		}
	})
}

func TestResumeUnlucky(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		resumed(t, c)
		half := c.Window()
		now := 10*time.Second + 100*ms
		ack(c, now, 3*mss)
		c.Lost(Loss{Now: now, Bytes: mss, SentTime: now - 50*ms})
		if got := c.Window(); got != 2*mss {
			t.Fatalf("window %d after a loss in the guess, want the minimum", got)
		}
		ack(c, now+10*ms, half-4*mss) // the rest of the flight
		// One loss says nothing about the window: slow start, up to the old one.
		w := growth(c, now+60*ms, 9)
		if w[0] < 3*mss || w[4] < 15*half/16 && w[4] < 50*mss || w[8] < 2*half-4*mss {
			t.Errorf("windows %d after the retreat from %d", w, half)
		}
	})
}

func TestResumeMuchTooLarge(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		resumed(t, c)
		half := c.Window()
		now := 10*time.Second + 100*ms
		ack(c, now, 3*mss)
		c.Lost(Loss{Now: now, Bytes: mss, SentTime: now - 50*ms})
		ack(c, now+10*ms, 17*mss) // 20 packets arrived, all others not
		c.Lost(Loss{Now: now + 20*ms, Bytes: half - 21*mss, SentTime: now - 40*ms})
		growth(c, now+60*ms, 1)
		if !inSlowStart(c) {
			t.Error("no slow start after the retreat")
		}
		for i := 0; inSlowStart(c) && i < 10; i++ {
			growth(c, now+time.Duration(i+2)*60*ms, 1)
		}
		// Slow start as far as the packets of the guess have shown room.
		if got := float64(c.Window()) / mss; got < beta*20-1 || got > beta*20+6 {
			t.Errorf("slow start ended at %.1f packets, want %.1f", got, beta*20)
		}
	})
}

func TestResumeKeepsMemory(t *testing.T) {
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		resumed(t, c)
		half := c.Window()
		now := 10*time.Second + 100*ms
		c.Lost(Loss{Now: now, Bytes: mss, SentTime: now - 50*ms})
		ack(c, now+10*ms, 20*mss)
		ack(c, now+60*ms, 2*mss)
		// Silent again, with the minimum window: what counts is the window before.
		c.Resume(12 * time.Second)
		if got := c.Window(); got != half {
			t.Errorf("window %d after the second Resume, want %d", got, half)
		}
	})
	forEach(t, func(t *testing.T, c Controller, beta float64) {
		c.Resume(time.Second)
		if got := c.Window(); got != 10*mss {
			t.Errorf("window %d after Resume of a controller that knows nothing", got)
		}
		growth(c, time.Second, 8)
		if !inSlowStart(c) || c.Window() < 300*mss {
			t.Errorf("window %d then", c.Window())
		}
	})
}
