// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// The receive path against a peer that has all keys and no manners: it runs the
// handshake as far as the input says, and sends whatever the input says from then on.

// An attacker takes the place of an end.
type attacker struct {
	r      *randomRun
	in     fuzzInput
	end    *randomEnd // that it has replaced
	victim *randomEnd
	keys   [wire.OneRTT + 1]*keys // by wire.PacketType, nil: not there yet
	phase  bool
	next   map[PathID]int64 // packet numbers
	long   [2]int64         // of Initial and Handshake packets
	seal   sealScratch
	src    bool // from another address
}

// fuzzInput is what is left of the input.
type fuzzInput []byte

func (in *fuzzInput) byte() byte {
	if len(*in) == 0 {
		return 0
	}
	b := (*in)[0]
	*in = (*in)[1:]
	return b
}

func (in *fuzzInput) bytes(n int) []byte {
	n = min(n, len(*in))
	b := (*in)[:n]
	*in = (*in)[n:]
	return b
}

// Operations of the input: the first byte, of which the upper bits are flags, an
// argument, and for packets the length and the bytes of the payload.
const (
	fuzzOneRTT byte = iota
	fuzzInitial
	fuzzHandshake
	fuzzZeroRTT
	fuzzDatagram // anything
	fuzzWait
	fuzzApplication
	fuzzBehave // what a peer should do
	numFuzzOps

	fuzzOld   = 0x80 // a packet number that was used
	fuzzSkip  = 0x40 // packet numbers are left out
	fuzzFull  = 0x20 // padded
	fuzzMoved = 0x10 // from another address
)

// Flags of the first byte of the input, and of the second.
const (
	fuzzVictimClient = 1 << iota
	fuzzSinglePath
	fuzzSecondPath
	fuzzEarly
	fuzzRepeat // frames of the payload are repeated
)

const maxFuzzOps = 100

func FuzzReceive(f *testing.F) {
	for i, seed := range fuzzReceiveSeeds() {
		if !raceDetector || i%10 == 0 { // one goroutine
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		session := earlySession(t)
		cryptotest.SetGlobalRandom(t, 1)
		synctest.Test(t, func(t *testing.T) {
			a := newAttacker(t, b, session)
			err := a.run()
			a.r.cleanup()
			if err == nil {
				err = a.r.checkReleased()
			}
			if err != nil {
				t.Error(err)
			}
		})
	})
}

func newAttacker(t *testing.T, b []byte, session storedSession) *attacker {
	a := &attacker{in: b, next: make(map[PathID]int64)}
	flags := a.in.byte()
	a.r = newRandomRun(t, uint64(a.in.byte()), randomTLS(), func(cfg *Config) {
		cfg.AllowEarlyData, cfg.Sessions, cfg.Datagrams = true, NewSessionStore(1), true
		cfg.InitialMaxPathID, cfg.MaxIdleTimeout = 2, 20*time.Second
		cfg.StreamReceiveWindow, cfg.ConnReceiveWindow = 20_000, 30_000
		cfg.MaxIncomingStreams, cfg.MaxIncomingUniStreams = 5, 3
		if flags&fuzzSinglePath != 0 {
			cfg.InitialMaxPathID = -1
		}
	})
	r := a.r
	for len(r.net.links) < 2 {
		r.ends[0].addSocket(r.net.addLink("other").socket)
	}
	for _, l := range r.net.links {
		l.heal()
	}
	a.victim, a.end = r.ends[1], r.ends[0]
	if flags&fuzzVictimClient != 0 {
		a.victim, a.end = a.end, a.victim
	}
	if flags&fuzzEarly != 0 {
		r.useSession(session)
	}
	return a
}

// run executes the input.
func (a *attacker) run() error {
	if err := a.start(); err != nil {
		return err
	}
	for n := 0; len(a.in) > 0 && n < maxFuzzOps; n++ {
		op := a.in.byte()
		if err := a.do(op); err != nil {
			return fmt.Errorf("operation %d, %#x: %w", n, op, err)
		}
		if a.victim.ended {
			break
		}
		if err := a.r.check(); err != nil {
			return fmt.Errorf("after operation %d, %#x: %w", n, op, err)
		}
	}
	return a.finish()
}

// start lets both ends run as far as the input says.
func (a *attacker) start() error {
	r := a.r
	if err := r.dial(); err != nil {
		return err
	}
	stage := a.in.byte()
	second := stage&0x80 != 0
	for range stage & 0x3f {
		if err := r.advance(8 * time.Millisecond); err != nil {
			return err
		}
		a.noteKeys()
		if client := r.ends[0]; second && client.c.confirmed {
			second = false
			l := r.net.links[1]
			if err := r.call(client, func() { client.c.OpenPath(l.socket, serverAddr, l.label) }); err != nil {
				return err
			}
		}
		if r.ends[0].ended || r.ends[1].ended {
			return fmt.Errorf("the handshake failed: %v, %v", r.ends[0].c.Err(), r.ends[1].c.Err())
		}
	}
	a.noteKeys()
	a.end.held = true
	for _, p := range a.end.c.paths {
		a.next[p.id] = int64(p.space.next)
	}
	a.victim.c.handler = nil
	a.phase = a.end.c.appKeys.phase
	return nil
}

// noteKeys keeps the keys with which the attacker can send.
func (a *attacker) noteKeys() {
	c := a.end.c
	client, server := initialKeys(a.r.ends[0].c.originalDCID)
	if a.keys[wire.Initial] = client; !c.isClient {
		a.keys[wire.Initial] = server
	}
	if c.initial != nil {
		a.long[0] = int64(c.initial.space.next)
	}
	if c.handshake != nil && c.handshake.write != nil {
		a.keys[wire.Handshake], a.long[1] = c.handshake.write, int64(c.handshake.space.next)
	}
	if c.zeroRTT.write != nil {
		a.keys[wire.ZeroRTT] = c.zeroRTT.write
	}
	if c.appKeys.write != nil {
		a.keys[wire.OneRTT] = c.appKeys.write
	}
}

// do executes an operation.
func (a *attacker) do(op byte) error {
	arg := a.in.byte()
	a.src = op&fuzzMoved != 0
	switch kind := op & 0x0f % numFuzzOps; kind {
	case fuzzOneRTT, fuzzInitial, fuzzHandshake, fuzzZeroRTT:
		payload := a.in.bytes(int(a.in.byte()))
		typ := [...]wire.PacketType{wire.OneRTT, wire.Initial, wire.Handshake, wire.ZeroRTT}[kind]
		a.send(PathID(arg&7), a.packet(op, typ, arg, payload))
	case fuzzDatagram:
		d := append([]byte{arg}, a.in.bytes(int(a.in.byte()))...)
		if op&fuzzFull != 0 && len(d) > 8 && len(a.victim.c.ids) > 0 && len(a.victim.c.ids[0].local) > 0 {
			copy(d[1:], a.victim.c.ids[0].local[0].id[:])
		}
		a.send(0, d)
	case fuzzWait:
		return a.r.advance(time.Duration(arg) * time.Duration(arg) * time.Millisecond / 4)
	case fuzzApplication:
		return a.application(arg)
	case fuzzBehave:
		a.behave(arg)
	}
	return a.r.advance(0)
}

// packet encrypts a payload, nil if there is no key for it.
func (a *attacker) packet(op byte, typ wire.PacketType, arg byte, payload []byte) []byte {
	k := a.keys[typ]
	if k == nil || len(a.victim.c.ids) == 0 {
		return nil
	}
	pathID := PathID(0)
	number := &a.long[0]
	switch typ {
	case wire.Handshake:
		number = &a.long[1]
	case wire.OneRTT, wire.ZeroRTT:
		if typ == wire.OneRTT {
			pathID = PathID(arg & 7)
		}
		n := a.next[pathID]
		number = &n
		defer func() { a.next[pathID] = n }()
	}
	pn := *number
	switch {
	case op&fuzzOld != 0 && pn > 0:
		pn -= 1 + int64(arg>>3)%pn
	case op&fuzzSkip != 0:
		pn += 1 + int64(arg>>3)
		*number = pn + 1
	default:
		*number = pn + 1
	}
	size := max(len(payload), minPacketBody)
	if op&fuzzFull != 0 || typ == wire.Initial && a.victim == a.r.ends[1] {
		size = max(size, 1150)
	}
	b := make([]byte, 0, size+200)
	var lenOff int
	if typ == wire.OneRTT {
		cid := randomCID()
		if s := a.victim.c.pathID(pathID); s != nil && len(s.local) > 0 {
			cid = s.local[int(arg>>3)%len(s.local)].id
		}
		b = wire.AppendShortHeader(b, cid[:], a.phase, pnLen)
	} else {
		dcid := a.victim.c.ids[0].local
		if len(dcid) == 0 {
			return nil
		}
		b, lenOff = wire.AppendLongHeader(b, typ, version1, dcid[0].id[:], a.end.c.ids[0].local[0].id[:], nil, pnLen)
	}
	b = wire.AppendPacketNumber(b, uint64(pn), pnLen)
	hdrLen := len(b)
	b = append(b, payload...)
	b = b[:hdrLen+size]
	if typ != wire.OneRTT {
		wire.SetLength(b, lenOff, pnLen+size+aeadTagLen)
	}
	nonceID := pathID
	if !a.victim.c.multipath {
		nonceID = 0
	}
	return k.seal(&a.seal, b, hdrLen, pnLen, nonceID, uint64(pn))
}

// send has the victim receive a datagram on a path.
func (a *attacker) send(path PathID, d []byte) {
	if len(d) == 0 {
		return
	}
	to, from := a.r.net.server, a.r.net.links[int(path)%len(a.r.net.links)].socket.public
	if a.victim == a.r.ends[0] {
		to, from = a.r.net.links[int(path)%len(a.r.net.links)].socket, serverAddr
	}
	if s := a.victim.c.pathID(path); s != nil && s.path != nil {
		from = s.path.remote
		to = s.path.sock.Socket.(*randomSocket)
	}
	if a.src {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(path)}), 7)
	}
	a.victim.receive(randomPacket{to: to, from: from, data: d})
}

// behave does what a peer should do.
func (a *attacker) behave(arg byte) {
	c := a.victim.c
	path := PathID(arg & 3)
	s := c.pathID(path)
	var b []byte
	switch arg >> 2 & 3 {
	case 0: // acknowledge everything that was sent on a path
		if s == nil || s.path == nil || s.path.space.next == 0 {
			return
		}
		ranges := []wire.Range{{Lo: 0, Hi: uint64(s.path.space.next - 1)}}
		if c.multipath {
			b = wire.AppendPathAck(b, c.cp, uint64(path), 0, ranges, nil)
		} else {
			b = wire.AppendAck(b, 0, ranges, nil)
		}
	case 1: // answer challenges
		for _, p := range c.paths {
			for i := range min(p.numChallenges, len(p.challenges)) {
				b = wire.AppendPathResponse(b, p.challenges[i])
			}
			if p.prevValid {
				b = wire.AppendPathResponse(b, p.prevChallenge)
			}
		}
	case 2: // a key update
		if a.keys[wire.OneRTT] != nil {
			a.keys[wire.OneRTT], a.phase = a.keys[wire.OneRTT].next(), !a.phase
		}
		b = wire.AppendPing(b)
	case 3: // as many connection ids as are permitted
		if !c.multipath || s == nil {
			return
		}
		for i := range 2 {
			cid := randomCID()
			b = wire.AppendPathNewConnectionID(b, c.cp, uint64(path), s.largestRemote+uint64(i), 0, cid[:], [16]byte(append(cid[:], cid[:]...)))
		}
	}
	if len(b) > 0 {
		on := path
		if s == nil || s.path == nil {
			on = 0
		}
		a.send(on, a.packet(0, wire.OneRTT, byte(on), b))
	}
}

// application has the victim's application do something.
func (a *attacker) application(arg byte) error {
	r, v := a.r, a.victim
	switch arg & 15 {
	case 0, 1:
		if s := v.open(streamType(arg & 1)); s != nil {
			r.write(v, s, int(arg)*20)
		}
	case 2:
		v.accept()
	case 3, 4:
		v.accept()
		for _, s := range v.streams {
			if s.s.hasNews() && s.readErr == nil {
				_, s.readErr = s.s.Read(make([]byte, 1+int(arg)*100))
			}
		}
	case 5:
		v.accept()
		for _, s := range v.streams {
			s.s.Close()
		}
	case 6:
		for _, s := range v.streams {
			s.s.Reset(1)
		}
	case 7:
		bufs := make([]*PacketBuf, 3)
		FillPacketBufs(bufs)
		for _, b := range bufs {
			b.SetLen(int(arg) * 5)
			b.Class = sched.Class(arg >> 4 & 3)
		}
		v.c.SendDatagrams(bufs)
	case 8:
		return r.call(v, func() { v.c.AbandonPath(PathID(arg >> 4)) })
	case 9:
		return r.call(v, func() { v.c.SetPathBackup(PathID(arg>>4), arg&0x80 != 0) })
	case 10:
		v.c.appKeys.sealed = v.c.keyUpdateAfter
	case 11:
		return r.call(v, func() { v.c.LinkDown(r.net.links[0].label) })
	case 12:
		return r.call(v, func() { v.c.LinkUp(r.net.links[0].label) })
	case 13:
		if v.c.isClient {
			l := r.net.links[1]
			return r.call(v, func() { v.c.OpenPath(l.socket, serverAddr, l.label) })
		}
	case 14:
		if v.c.isClient {
			return r.replaceSocket(r.net.links[arg>>4&1])
		}
	case 15:
		if arg == 0xff {
			v.c.CloseWithError(3, "enough")
		}
	}
	return r.advance(0)
}

// finish checks how the connection has ended, if it has, and that it ends when nothing
// more comes.
func (a *attacker) finish() error {
	v := a.victim
	if err := a.checkErr(); err != nil {
		return err
	}
	for i := 0; !v.ended; i++ {
		if i == 100 {
			return fmt.Errorf("the connection does not end: %s", a.r.describe())
		}
		if err := a.r.advance(10 * time.Second); err != nil {
			return err
		}
		if err := a.r.check(); err != nil {
			return fmt.Errorf("when nothing comes any more: %w", err)
		}
	}
	return a.checkErr()
}

// checkErr: the error of the connection is one that the specifications have.
func (a *attacker) checkErr() error {
	e, ok := a.victim.c.Err().(*TransportError)
	if !ok || e.Remote {
		return nil
	}
	switch {
	case e.Code == InternalError && e.Reason != "too many gaps in a stream":
	case e.Code <= NoViablePath:
		return nil
	case e.Code >= CryptoErrorBase && e.Code < CryptoErrorBase+256:
		if _, alert := errors.AsType[tls.AlertError](e.Err); alert || e.Code != CryptoErrorBase+80 {
			return nil // also internal_error, if crypto/tls says so
		}
	}
	return fmt.Errorf("ended with %w", e)
}
