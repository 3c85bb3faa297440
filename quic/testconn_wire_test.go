// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// What the peer sends, and how it reads what it receives.

// destination is the connection id with which the peer addresses a path.
func (tc *testConn) destination(path uint32) []byte {
	tc.t.Helper()
	cid := tc.cids[path][tc.use[path]]
	if cid == nil {
		if path != 0 || tc.connSCID != nil {
			tc.t.Fatalf("the peer has no connection id for path %d", path)
		}
		return tc.initialDCID
	}
	return cid
}

// deliver has a datagram arrive.
func (tc *testConn) deliver(m udpio.Received) {
	if m.Dst == (netip.Addr{}) {
		m.Dst = tc.sockets[0].addr.Addr()
	}
	for _, s := range tc.sockets {
		if s.addr.Addr() == m.Dst {
			s.in <- m
			break
		}
	}
	synctest.Wait()
	if tc.conn == nil {
		tc.findConn()
	}
}

// writeRaw has a datagram with these bytes arrive from the peer's address on path 0.
func (tc *testConn) writeRaw(b []byte) { tc.deliver(udpio.Received{Buf: b, Src: tc.addr}) }

// writePackets sends packets in one datagram. Those with Initial packets are padded
// to 1200 bytes, as both sides must.
func (tc *testConn) writePackets(packets ...*peerPacket) {
	tc.t.Helper()
	tc.writeRaw(tc.datagram(1200, packets...))
}

// datagram encodes packets; an Initial is padded so that the datagram has size bytes.
func (tc *testConn) datagram(size int, packets ...*peerPacket) (b []byte) {
	tc.t.Helper()
	for _, p := range packets {
		b = append(b, tc.seal(p)...)
	}
	if packets[0].typ == packetInitial && len(b) < size {
		p := packets[len(packets)-1]
		p.frames = append(slices.Clip(p.frames), frPadding(size-len(b)))
		b = nil
		for _, p := range packets {
			p.numSet = true
			b = append(b, tc.seal(p)...)
		}
	}
	return b
}

// write sends a packet with frames on path 0, at the highest level with keys.
func (tc *testConn) write(frames ...testFrame) {
	tc.t.Helper()
	tc.writePackets(&peerPacket{typ: packetOneRTT, frames: frames})
}

// writeOn sends a 1-RTT packet on a path, from where the peer is on it.
func (tc *testConn) writeOn(path uint32, frames ...testFrame) {
	tc.t.Helper()
	tc.writeFrom(tc.remotes[path], &peerPacket{typ: packetOneRTT, path: path, frames: frames})
}

// writeFrom sends a packet from another address of the peer.
func (tc *testConn) writeFrom(src netip.AddrPort, p *peerPacket) {
	tc.t.Helper()
	m := udpio.Received{Buf: tc.datagram(1200, p), Src: src}
	if tc.isClient && int(p.path) < len(tc.sockets) {
		m.Dst = tc.sockets[p.path].addr.Addr()
	}
	tc.deliver(m)
}

// ackFrame acknowledges everything that the peer has read on a path.
func (tc *testConn) ackFrame(path uint32) testFrame {
	nums := slices.Sorted(maps.Keys(tc.received[path]))
	if !tc.multipath {
		return withECN(frAck(nums...), tc.ecn[path])
	}
	return withECN(frPathAck(uint64(path), nums...), tc.ecn[path])
}

// withECN adds counts to an acknowledgment, if there are any.
func withECN(f testFrame, c *wire.ECNCounts) testFrame {
	if c != nil && *c != (wire.ECNCounts{}) {
		f.typ++
		f.ints = append(f.ints, c.ECT0, c.ECT1, c.CE)
	}
	return f
}

// count counts the ECN field of a packet received.
func (tc *testConn) count(p *peerPacket) {
	if tc.ecn == nil {
		return
	}
	c := &tc.levels[p.typ.space()].ecn
	if p.typ == packetOneRTT {
		if tc.ecn[p.path] == nil {
			tc.ecn[p.path] = new(wire.ECNCounts)
		}
		c = tc.ecn[p.path]
	}
	switch p.dgram.ecn {
	case udpio.ECT0:
		c.ECT0++
	case udpio.ECT1:
		c.ECT1++
	case udpio.CE:
		c.CE++
	}
}

// ack acknowledges all 1-RTT packets that were sent, each path on itself, except
// those that the test has made the peer forget.
func (tc *testConn) ack() {
	tc.t.Helper()
	tc.fill()
	for _, path := range slices.Sorted(maps.Keys(tc.received)) {
		if len(tc.received[path]) > 0 {
			tc.writeOn(path, tc.ackFrame(path))
		}
	}
}

// forget makes the peer miss a packet: it will not be acknowledged.
func (tc *testConn) forget(p *peerPacket) {
	if p.typ == packetOneRTT {
		delete(tc.received[p.path], p.num)
	} else {
		delete(tc.levels[p.typ.space()].received, p.num)
	}
}

// udpReceived is a datagram from the peer's address on a path.
func udpReceived(tc *testConn, path uint32, b []byte) udpio.Received {
	m := udpio.Received{Buf: b, Src: tc.remotes[path]}
	if tc.isClient {
		m.Dst = tc.sockets[path].addr.Addr()
	}
	return m
}

// udpReceivedFrom is a datagram from any address.
func udpReceivedFrom(src netip.AddrPort, b []byte) udpio.Received {
	return udpio.Received{Buf: b, Src: src}
}

// advance lets time pass.
func (tc *testConn) advance(d time.Duration) {
	tc.handOver()
	time.Sleep(d)
	synctest.Wait()
}

func (tc *testConn) readDatagram(d *peerDatagram) {
	tc.t.Helper()
	for b := d.data; len(b) > 0; {
		p := &peerPacket{dgram: d, raw: b}
		if b[0]&0x80 == 0 {
			tc.openShort(p)
		} else {
			p.raw = b[:tc.openLong(p)]
		}
		b = b[len(p.raw):]
		d.packets = append(d.packets, p)
		tc.packets = append(tc.packets, p)
		tc.count(p)
		tc.checkPacket(p)
		for _, f := range p.frames {
			tc.learn(p, f)
		}
	}
}

// learn takes what the peer needs from a frame: TLS messages and connection ids.
func (tc *testConn) learn(p *peerPacket, f testFrame) {
	if p.typ == packetInitial && tc.connSCID == nil {
		tc.connSCID = bytes.Clone(p.scid)
		tc.cids[0] = map[uint64][]byte{0: tc.connSCID}
	}
	var path uint64
	v := f.ints
	switch f.typ {
	case tCrypto:
		tc.feedTLS(p.typ.space(), f)
		return
	case tPathNewConnectionID:
		path, v = v[0], v[1:]
	case tNewConnectionID:
	default:
		return
	}
	if tc.cids[uint32(path)] == nil {
		tc.cids[uint32(path)] = make(map[uint64][]byte)
	}
	tc.cids[uint32(path)][v[0]] = bytes.Clone(f.blobs[0])
	tc.tokens[string(f.blobs[0])] = [16]byte(f.blobs[1])
}

// fill reads what was sent so far.
func (tc *testConn) fill() {
	tc.t.Helper()
	tc.handOver()
	synctest.Wait()
	for {
		select {
		case d := <-tc.sent:
			tc.readDatagram(d)
		default:
			return
		}
	}
}

// nextFrame takes the next frame that is not ignored; ok is false if there is none.
func (tc *testConn) nextFrame() (f testFrame, p *peerPacket, ok bool) {
	tc.t.Helper()
	tc.fill()
	for len(tc.packets) > 0 {
		p := tc.packets[0]
		for tc.frame < len(p.frames) {
			f := p.frames[tc.frame]
			tc.frame++
			if !tc.ignored[f.typ] {
				return f, p, true
			}
		}
		tc.packets, tc.frame = tc.packets[1:], 0
		if p.typ >= packetRetry && p.typ != packetOneRTT {
			return testFrame{}, p, true
		}
	}
	return testFrame{}, nil, false
}

// nextPacket takes the next packet that is not begun yet, nil if there is none.
func (tc *testConn) nextPacket() *peerPacket {
	tc.t.Helper()
	tc.fill()
	if tc.frame > 0 {
		tc.packets, tc.frame = tc.packets[1:], 0
	}
	if len(tc.packets) == 0 {
		return nil
	}
	p := tc.packets[0]
	tc.packets = tc.packets[1:]
	return p
}
