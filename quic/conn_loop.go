// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// maxTurnPackets bounds how many datagrams a turn processes before it sends.
const maxTurnPackets = 256

// earlyWait is how long a client that uses 0-RTT waits for the application's first data.
const earlyWait = time.Millisecond

// loop is the goroutine that owns the connection: it sleeps until input or a timer,
// and runs a turn.
func (c *Conn) loop() {
	defer close(c.loopDone)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	c.startTLS(c.turnTime)
	if c.zeroRTT.write != nil {
		// What the application writes at once shares a datagram with the ClientHello.
		time.Sleep(earlyWait)
	}
	var armed instant // when the timer fires, unset: not armed
	for {
		wake := c.turn(c.e.now())
		if c.closing.ended {
			break
		}
		// The timer is set again only when it would fire too late; one that fires early
		// costs a turn without work.
		if now := c.turnTime; wake != 0 && (armed == 0 || wake < armed || armed <= now) {
			timer.Reset(max(0, wake.sub(now)))
			armed = wake
		}
		select {
		case <-c.mb.wake:
		case <-timer.C:
			armed = 0
		}
	}
	c.end()
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
	for _, b := range box.dgrams {
		c.dgrams.push(now, b)
	}
	if len(box.dgrams) > 0 {
		c.lastDatagram = now
	}
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
	return earliest(c.send(now), c.nextTimer(now))
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
	if !c.isClient {
		c.e.table.removeInitial(c.initialDCID, c)
		if !c.handshakeSeen {
			c.e.handshakeEnded(c, false)
		}
	}
	c.dgrams.close()
	c.mb.close()
	c.tls.Close()
	c.e.forget(c)
}
