// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// What must have come of a random sequence in the end.

// settle lets the links work again and the applications finish, and checks what has
// become of everything.
func (r *randomRun) settle() error {
	r.logf("settle")
	client := r.ends[0]
	// An end that has not heard anything for long may be about to give up.
	patient := true
	for _, end := range r.ends {
		patient = patient && !end.ended && end.c.Err() == nil && r.now.sub(end.c.lastReceived) < end.c.idleTimeout()/4 && end.c.complete
		end.stalled = 0
	}
	r.net.server.setFull(false)
	for _, l := range r.net.links {
		l.heal()
		if err := r.call(client, func() { client.c.LinkUp(l.label) }); err != nil {
			return err
		}
	}
	client.c.SetKeepAlive(time.Second) // the server learns of a new address by packets only
	var last [2]*randomOpStream
	for i := 0; !r.over(last); i++ {
		step := 20 * time.Millisecond
		if i > 100 {
			step = time.Second
		}
		if i == 500 {
			return errors.New("not everything is delivered: " + r.describe())
		}
		if err := r.advance(step); err != nil {
			return err
		}
		for j, end := range r.ends {
			if last[j] == nil || last[j].rejected() { // the connection still works
				if last[j] = end.open(uniStream); last[j] != nil {
					r.write(end, last[j], 3000)
				}
			}
			if err := r.finishStreams(end); err != nil {
				return err
			}
		}
		if err := r.replaceLost(); err != nil {
			return err
		}
		if i%20 == 0 {
			if err := r.check(); err != nil {
				return err
			}
		}
	}
	if err := r.checkEnds(patient); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	return r.closeAll()
}

// finishStreams has the application of end end all its streams.
func (r *randomRun) finishStreams(end *randomEnd) error {
	end.accept()
	for _, a := range end.streams {
		if a.s.canSend && !a.finished && !a.reset {
			a.finished = true
			a.s.CloseWrite()
		}
		if !a.s.canRecv {
			continue
		}
		for range 20 {
			before := a.read
			if err := r.read(end, a, 1<<16); err != nil {
				return err
			}
			if a.read == before {
				break
			}
		}
	}
	return nil
}

// over says that nothing more is to happen: everything is delivered and acknowledged,
// or the connection is gone.
func (r *randomRun) over(last [2]*randomOpStream) bool {
	gone := 0
	for j, end := range r.ends {
		if end.ended || end.c.closing.phase != notClosing {
			gone++
			continue
		}
		if !end.c.confirmed || last[j] == nil || slices.ContainsFunc(end.streams, func(a *randomOpStream) bool { return !a.s.gone }) {
			return false
		}
	}
	return gone != 1 // one end alone must notice
}

// describe tells what is left.
func (r *randomRun) describe() (what string) {
	for _, end := range r.ends {
		c := end.c
		what += fmt.Sprintf("\n%s: complete %v, confirmed %v, closing %v (%v)", end.name, c.complete, c.confirmed, c.closing.phase, c.Err())
		for _, p := range c.paths {
			what += fmt.Sprintf("\n  path %d %q: %v (%s), validated %v, doubted %v, in flight %d of %d, PTO count %d, priority %d, peer backup %v, blocked %v, link down %v, MTU %d",
				p.id, p.label, p.phase, p.why, p.validated, p.doubted, p.loss.inFlight, p.loss.cc.Window(), p.loss.ptoCount, p.priority, p.ids.peerBackup, p.sockBlocked, p.linkDown, p.mtu.size)
		}
		for _, w := range c.wishes {
			what += fmt.Sprintf("\n  wish %q: link down %v, not before %v", w.label, w.linkDown, w.notBefore)
		}
		what += fmt.Sprintf("\n  packets dropped, by reason: %v", c.drops)
		f := &c.streams.flow
		what += fmt.Sprintf("\n  sent %d of %d, received %d of %d, %d read", f.sent, f.sendLimit, f.received, f.recvLimit, c.streams.box.consumed.Load())
		for _, a := range end.streams {
			if s := a.s; !s.gone {
				what += fmt.Sprintf("\n  stream %d: wrote %d, sent %d, acknowledged %d, limit %d, closed %v, reset %v; received %d, read %d of %d, stopped %v",
					s.id, a.wrote, s.send.buf.sent, s.send.buf.pipe.start, s.send.limit, s.send.closed, s.send.reset.isSet(), s.recv.highest, a.read, s.recv.finalSize, s.recv.stopped)
			}
		}
	}
	return what
}

// checkEnds checks that both ends have everything, or have ended for a reason.
func (r *randomRun) checkEnds(patient bool) error {
	gone := false
	for _, end := range r.ends {
		err := end.c.Err()
		if err == nil {
			continue
		}
		gone = true
		r.logf("%s: %v", end.name, err)
		if !r.excused(end, err, patient) {
			return fmt.Errorf("%s has ended with %v%s", end.name, err, r.describe())
		}
	}
	if gone {
		return nil
	}
	for _, end := range r.ends {
		for _, a := range end.streams {
			if a.rejected() {
				continue
			}
			b := end.peer.byID[a.s.id]
			if b == nil {
				return fmt.Errorf("%s: the other end has never seen stream %d", end.name, a.s.id)
			}
			if !a.s.canSend || a.reset || b.stopped {
				continue
			}
			if b.read != a.wrote || b.readErr != io.EOF {
				return fmt.Errorf("%s: wrote %d bytes of stream %d, of which %d were read, with %v", end.name, a.wrote, a.s.id, b.read, b.readErr)
			}
		}
	}
	return nil
}

// excused says that err is what may have come of what happened.
func (r *randomRun) excused(end *randomEnd, err error, patient bool) bool {
	if r.vanished && (end.ended || end.peer.ended) {
		return true
	}
	switch e := err.(type) {
	case *ApplicationError:
		return r.closed && e.Code == 1
	case *IdleTimeoutError:
		return !patient || r.bothSides || end.peer.endedItself()
	case *HandshakeTimeoutError:
		return r.net.faults
	case *StatelessResetError:
		return end.peer.c.Err() != nil
	case *TransportError:
		switch e.Code {
		case NoError:
			return r.abandoned || r.net.faults
		case NoViablePath:
			return r.net.faults
		case InternalError: // how the end of the handshake time is told
			return e.Remote && !patient
		case ConnectionRefused: // by an endpoint that has forgotten the connection
			return e.Remote && end.peer.c.Err() != nil
		case ApplicationErrorCode: // how a close is told before the handshake is complete
			return e.Remote && r.closed
		}
	}
	return false
}

// endedItself says that end has closed the connection, or given it up without paths,
// which it may be unable to tell.
func (end *randomEnd) endedItself() bool {
	switch e := end.c.Err().(type) {
	case *ApplicationError:
		return !e.Remote
	case *TransportError:
		return !e.Remote && e.Code == NoError
	}
	return false
}

// closeAll closes the connection, and both ends notice.
func (r *randomRun) closeAll() error {
	end := r.ends[r.rng.IntN(2)]
	if end.ended || end.peer.ended || end.c.Err() != nil {
		return nil
	}
	end.c.CloseWithError(2, "done")
	for i := 0; !end.ended || !end.peer.ended; i++ {
		if i == 1000 {
			return fmt.Errorf("the loops do not end after the connection was closed: %s", r.describe())
		}
		if err := r.advance(time.Second); err != nil {
			return err
		}
	}
	if e, ok := end.peer.c.Err().(*ApplicationError); !ok || e.Code != 2 || !e.Remote {
		return fmt.Errorf("%s was closed; the other end has %v", end.name, end.peer.c.Err())
	}
	return nil
}
