// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
)

func TestRunToken(t *testing.T) {
	var token runToken // held by the loop, which starts the connection
	if token.acquire() {
		t.Fatal("taken from its holder")
	}
	if !token.release() {
		t.Fatal("the holder is not told that there is input")
	}
	if token.held() {
		t.Fatal("held after its release")
	}
	if !token.acquire() {
		t.Fatal("not taken although idle")
	}
	if token.release() {
		t.Fatal("a turn without input")
	}
	token.acquire()
	for range 2 {
		if !token.held() {
			t.Fatal("not held")
		}
	}
	if !token.release() {
		t.Fatal("the holder is not told that there is input")
	}
}

// What each goroutine adds is seen by a turn, of whichever goroutine, and there is one
// turn at a time.
func TestRunTokenHandsOver(t *testing.T) {
	var token runToken
	token.release()
	var mu sync.Mutex
	input, seen := 0, 0 // seen belongs to the holder
	turns := func() {
		for token.acquire() {
			mu.Lock()
			seen += input
			input = 0
			mu.Unlock()
			if !token.release() {
				return
			}
		}
	}
	const goroutines, each = 4, 10000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				mu.Lock()
				input++
				mu.Unlock()
				turns()
			}
		})
	}
	wg.Wait()
	if !token.acquire() || seen != goroutines*each {
		t.Errorf("%d of %d seen", seen, goroutines*each)
	}
}

// TestTurnOfTheSender: a datagram is on its way when SendDatagrams returns, although the
// loop has not run; but no handler was called, as the sender may hold a lock of it.
func TestTurnOfTheSender(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		handled := 0
		tc.conn.SetDatagramHandler(datagramFunc(func([]byte) { handled++ }))
		tc.settle()
		c := tc.core()
		// Received, but the reader has not said so yet.
		d := tc.datagram(0, &peerPacket{typ: packetOneRTT, frames: []testFrame{frDatagram("x")}})
		c.mb.putReceived(rxMsg{data: d, segSize: len(d), sock: c.paths[0].sock, src: tc.addr, dst: tc.sockets[0].addr.Addr(), at: c.e.now()})
		c.SendDatagrams([]*PacketBuf{datagram(1, 100)})
		if n := len(tc.sent); n != 1 || handled != 0 {
			t.Errorf("%d datagrams were sent and %d handled at once", n, handled)
		}
		c.notify()
		synctest.Wait()
		if handled != 1 {
			t.Errorf("%d datagrams were handled", handled)
		}
	})
}

// ccOfGoroutine counts the packets that one goroutine has sent.
type ccOfGoroutine struct {
	ccRecorder
	goroutine string
	sent      atomic.Int32
}

func (c *ccOfGoroutine) PacketSent(time.Duration, int, int, bool) {
	if thisGoroutine() == c.goroutine {
		c.sent.Add(1)
	}
}

func thisGoroutine() string {
	var b [64]byte
	return strings.Fields(string(b[:runtime.Stack(b[:], false)]))[1]
}

// TestTurnsOfTheSender: what does not fit one batch leaves in the next turns, of the same
// goroutine, but not without end: then it is the loop's.
func TestTurnsOfTheSender(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		c := tc.core()
		l := &c.paths[0].loss
		cc := &ccOfGoroutine{ccRecorder: ccRecorder{window: 1 << 30}, goroutine: thisGoroutine()}
		l.cc, l.pacer = cc, congestion.NewPacer(cc.Window())
		const size, inBatch = 1000, txBatchSize / (1000 + 100)
		for _, n := range []int{2 * inBatch, 2 * maxTurns * inBatch} {
			tc.sent = make(chan *peerDatagram, n+10)
			var bufs []*PacketBuf
			for range n {
				bufs = append(bufs, datagram(1, size))
			}
			c.mb.putDatagrams(bufs)
			cc.sent.Store(0)
			c.sendHere()
			least, most := n, n
			if n > maxTurns*inBatch {
				least, most = maxTurns*inBatch, maxTurns*txBatchSize/size
			}
			if got := int(cc.sent.Load()); got < least || got > most {
				t.Errorf("%d of %d datagrams were sent at once", got, n)
			}
			synctest.Wait()
			if got := len(tc.sent); got != n {
				t.Errorf("%d of %d datagrams were sent", got, n)
			}
		}
	})
}

// TestTurnOfTheReader: the goroutine that reads from the socket handles a datagram, and the
// loop stays asleep.
func TestTurnOfTheReader(t *testing.T) {
	bothSides(t, func(t *testing.T, tc *testConn) {
		var stack [1 << 14]byte
		n := 0
		tc.conn.SetDatagramHandler(datagramFunc(func([]byte) { n = runtime.Stack(stack[:], false) }))
		tc.settle()
		tc.write(frDatagram("x"))
		if !strings.Contains(string(stack[:n]), "readLoop") {
			t.Errorf("handled by\n%s", stack[:n])
		}
	})
}
