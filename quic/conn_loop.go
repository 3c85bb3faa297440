// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"time"
)

// maxTurnPackets bounds how many datagrams a turn processes before it sends.
const maxTurnPackets = 256

// earlyWait is how long a client that uses 0-RTT waits for the application's first data.
const earlyWait = time.Millisecond

// loop runs turns when there is input that nobody else takes, and when a timer is due.
func (c *Conn) loop() {
	defer close(c.loopDone)
	c.timer = time.NewTimer(time.Hour)
	defer c.timer.Stop()
	c.startTLS(c.turnTime)
	if c.zeroRTT.write != nil {
		// What the application writes at once shares a datagram with the ClientHello.
		time.Sleep(earlyWait)
	}
	for held := true; ; held = c.turns.acquire() {
		if held {
			c.run()
			if c.closing.ended {
				break
			}
			if c.turns.release() {
				continue
			}
		}
		select {
		case <-c.mb.wake:
		case <-c.timer.C:
		}
	}
	c.end() // still holding the token, for ever
}

// notify has a turn run for what was put into the mailbox.
func (c *Conn) notify() {
	if !c.turns.held() {
		c.mb.signal()
	}
}

// maxTurns is how many turns a holder runs one after the other when there is more to send
// than fits the batches of one. That is as much as a TUN device hands over at once: leaving
// the rest to the loop would cost a wake-up for each batch.
const maxTurns = 4

// run runs turns until nothing is due, maxTurns at most, and sets the timer. The caller holds
// the token.
func (c *Conn) run() {
	for n := 1; !c.closing.ended; n++ {
		now := c.e.now()
		if wake := c.turn(now); n == maxTurns || !wake.due(now) {
			c.arm(wake)
			break
		}
	}
}

// arm sets the timer for the next turn without input. It is set again only when it would
// fire too late; one that fires early costs a turn without work.
func (c *Conn) arm(wake instant) {
	now := c.turnTime
	switch {
	case wake == 0:
	case wake <= now:
		c.mb.signal()
	case wake < c.armed || c.armed <= now:
		c.timer.Reset(wake.sub(now))
		c.armed = wake
	}
}

// receiveHere runs a turn for what the calling goroutine has received, unless another one
// holds the connection, which then runs it.
func (c *Conn) receiveHere() {
	select {
	case <-c.confirmedC:
	default: // signatures take long
		c.notify()
		return
	}
	if c.turns.acquire() {
		c.run()
		c.releaseHere()
	}
}

// sendHere sends datagrams from the mailbox, unless another goroutine holds the connection,
// which then does it. It calls no handler: the application may hold locks that they take.
func (c *Conn) sendHere() {
	select {
	case <-c.confirmedC:
	default:
		c.notify()
		return
	}
	if !c.turns.acquire() {
		return
	}
	if c.closing.phase == notClosing {
		for n := 1; ; n++ {
			now := c.e.now()
			c.turnTime = now
			c.box.dgrams = c.mb.takeDatagrams(c.box.dgrams)
			c.queueDatagrams(now)
			c.box.release()
			wake := c.send(now)
			if c.qlog != nil {
				c.qlog.turnEnded()
			}
			if n == maxTurns || !wake.due(now) {
				c.arm(earliest(wake, c.nextTimer(now)))
				break
			}
		}
	}
	c.releaseHere()
}

// releaseHere gives the token back, and leaves to the loop what else there is to do.
func (c *Conn) releaseHere() {
	more := c.closing.ended || len(c.happened) > 0
	if c.turns.release() || more {
		c.mb.signal()
	}
}

// turn processes all input, runs the timers, and sends. It returns when to run again
// without input.
func (c *Conn) turn(now instant) (wake instant) {
	c.turnTime = now
	box := &c.box
	c.mb.take(box)
	for _, f := range box.cmds {
		f(now)
	}
	c.queueDatagrams(now)
	n := 0
	for i := range box.rx {
		m := &box.rx[i]
		for data := m.data; len(data) > 0; {
			d := data[:min(m.segSize, len(data))]
			data = data[len(d):]
			c.handleDatagram(m, d)
			if n++; n == maxTurnPackets {
				n = 0
				c.endReceive()
				c.send(now)
			}
		}
	}
	c.endReceive()
	box.release()
	c.advance(now)
	wake = c.send(now)
	if c.qlog != nil {
		c.qlog.turnEnded()
	}
	c.tellEvents()
	return earliest(wake, c.nextTimer(now))
}

// queueDatagrams moves the application's datagrams from the inbox to the queue.
func (c *Conn) queueDatagrams(now instant) {
	for _, b := range c.box.dgrams {
		c.dgrams.push(now, b)
	}
	if len(c.box.dgrams) > 0 {
		c.lastDatagram = now
	}
}

// endReceive ends a batch of received packets.
func (c *Conn) endReceive() {
	if c.handler != nil {
		c.handler.FlushDatagrams()
	}
}

// end frees everything when the loop is over.
func (c *Conn) end() {
	c.finish(&TransportError{Code: NoError})
	for _, s := range c.ids {
		c.dropLocalCIDs(s)
		c.dropRemoteCIDs(s)
		if s.path != nil {
			s.path.batch.release()
		}
	}
	for _, id := range c.retiredCIDs {
		c.e.table.remove(id, c)
	}
	if !c.isClient {
		c.e.table.removeInitial(c.initialDCID, c)
		if !c.handshakeSeen {
			c.e.handshakeEnded(c, false)
		}
	}
	c.dgrams.close()
	c.mb.close()
	if c.tls != nil {
		c.tls.Close()
	}
	c.e.forget(c)
	if c.qlog != nil {
		c.qlog.close()
	}
}
