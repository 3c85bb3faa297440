// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/udpio"
	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// What the scripted peer consists of besides its frames: sockets without a network,
// packets, transport parameters, and the other end of TLS. Only packet protection
// is shared with the connection under test; the vectors of RFC 9001 prove it.

// peerPacketType is the type of a packet: the two bits of a long header, or one of
// the others.
type peerPacketType byte

const (
	packetInitial peerPacketType = iota
	packetZeroRTT
	packetHandshake
	packetRetry
	packetOneRTT
	packetVersionNegotiation
	packetReset // not a packet that can be read: perhaps a stateless reset
)

func (t peerPacketType) String() string {
	return [...]string{"Initial", "0-RTT", "Handshake", "Retry", "1-RTT", "Version Negotiation", "unreadable packet"}[t]
}

// space is the index of the packet number space, 1-RTT spaces being one per path.
func (t peerPacketType) space() spaceID {
	return map[peerPacketType]spaceID{packetInitial: initialSpace, packetHandshake: handshakeSpace, packetOneRTT: appSpace, packetZeroRTT: appSpace}[t]
}

// A peerPacket is one packet, sent or received by the peer. When it is to be sent,
// zero fields have their regular values.
type peerPacket struct {
	typ        peerPacketType
	version    uint32 // long header, 0: version 1
	dcid, scid []byte
	token      []byte
	path       uint32
	num        uint64 // to send: the next one, if numSet is false
	numSet     bool
	phase      bool // one key phase ahead of the peer's
	flipFirst  byte // bits of the first byte to invert, before protection
	corrupt    bool // to send: invert a bit after protection
	keys       *keys
	frames     []testFrame

	first    byte // received: without protection
	versions []uint32
	raw      []byte
	dgram    *peerDatagram
}

func (p *peerPacket) String() string {
	if p.typ == packetOneRTT {
		return fmt.Sprintf("1-RTT packet %d of path %d %v", p.num, p.path, p.frames)
	}
	return fmt.Sprintf("%v packet %d %v", p.typ, p.num, p.frames)
}

// has returns the first frame of the given type.
func (p *peerPacket) has(typ uint64) (testFrame, bool) {
	i := slices.IndexFunc(p.frames, func(f testFrame) bool { return f.typ == typ })
	if i < 0 {
		return testFrame{}, false
	}
	return p.frames[i], true
}

// A peerDatagram is a UDP datagram from the connection under test.
type peerDatagram struct {
	sock    *testSocket
	from    netip.Addr // invalid: the kernel's choice
	to      netip.AddrPort
	data    []byte
	ecn     udpio.ECN
	at      time.Time
	packets []*peerPacket
}

// A testSocket is a socket of the endpoint under test. What it sends is kept for
// the test, and what it receives comes from there.
type testSocket struct {
	tc     *testConn
	addr   netip.AddrPort
	mtu    int
	in     chan udpio.Received
	closed chan struct{}
	full   chan struct{} // writes are refused until it is closed; owned by the test
	err    error         // of writes; owned by the test
}

func (s *testSocket) ReadBatch(ms []udpio.Received) (int, error) {
	select {
	case m := <-s.in:
		ms[0].N = copy(ms[0].Buf, m.Buf)
		ms[0].SegSize, ms[0].Src, ms[0].Dst, ms[0].ECN = ms[0].N, m.Src, m.Dst, m.ECN
		if m.SegSize != 0 {
			ms[0].SegSize = m.SegSize
		}
		return 1, nil
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

func (s *testSocket) WriteBatch(runs []udpio.Run) (int, error) {
	switch {
	case s.isFull():
		return 0, udpio.ErrWouldBlock
	case s.err != nil:
		return 0, s.err
	}
	for i := range runs {
		runs[i].Check()
		for data := runs[i].Data; len(data) > 0; {
			d := data[:min(runs[i].SegSize, len(data))]
			data = data[len(d):]
			if s.mtu > 0 && len(d)+28 > s.mtu {
				return i, udpio.ErrMessageTooLong
			}
			s.tc.sent <- &peerDatagram{sock: s, from: runs[i].Src, to: runs[i].Dst, data: bytes.Clone(d), ecn: runs[i].ECN, at: time.Now()}
		}
	}
	return len(runs), nil
}

func (s *testSocket) isFull() bool {
	if s.full == nil {
		return false
	}
	select {
	case <-s.full:
		return false
	default:
		return true
	}
}

func (s *testSocket) WaitWritable() error {
	select {
	case <-s.full:
	case <-s.closed:
	}
	return nil
}

func (s *testSocket) LocalAddr() netip.AddrPort { return s.addr }
func (s *testSocket) Seed() [32]byte            { return testSeed(s.addr) }
func (s *testSocket) MTU() int                  { return s.mtu }
func (s *testSocket) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

// testParams are transport parameters in the order in which they are sent: RFC 9000
// section 18.
type testParams []testParam

type testParam struct {
	id    uint64
	value []byte
}

const (
	paramMaxIdleTimeout      = 0x01
	paramMaxUDPPayloadSize   = 0x03
	paramMaxData             = 0x04
	paramStreamDataBidiLocal = 0x05
	paramStreamDataBidi      = 0x06
	paramStreamDataUni       = 0x07
	paramMaxStreamsBidi      = 0x08
	paramMaxStreamsUni       = 0x09
	paramAckDelayExponent    = 0x0a
	paramMaxAckDelay         = 0x0b
	paramActiveCIDLimit      = 0x0e
	paramMaxDatagramFrame    = 0x20
	paramMaxPathID           = 0x3e
	paramMaxPathIDDraft15    = 0x0f739bbc1b666d0d
)

func (p *testParams) remove(id uint64) {
	*p = slices.DeleteFunc(*p, func(q testParam) bool { return q.id == id })
}

func (p *testParams) setBytes(id uint64, v []byte) {
	p.remove(id)
	*p = append(*p, testParam{id, v})
}

func (p *testParams) set(id, v uint64) { p.setBytes(id, appendInt(nil, v)) }

func (p testParams) encode() (b []byte) {
	for _, q := range p {
		b = appendInt(appendInt(b, q.id), uint64(len(q.value)))
		b = append(b, q.value...)
	}
	return b
}

// parseTestParams returns the parameters in b by id; twice the same one panics.
func parseTestParams(b []byte) map[uint64][]byte {
	params := make(map[uint64][]byte)
	for r := testReader(b); len(r) > 0; {
		id := r.int()
		if _, dup := params[id]; dup { // R9000-7.4-2
			panic(fmt.Sprintf("transport parameter 0x%x twice", id))
		}
		params[id] = r.bytes(r.int())
	}
	return params
}

// peerCID is the connection id with which the peer receives: number seq of a path.
func peerCID(path uint32, seq uint64) []byte {
	b := []byte{0xc1, 0xd0}
	b = binary.BigEndian.AppendUint16(b, uint16(path))
	return binary.BigEndian.AppendUint32(b, uint32(seq))
}

// peerToken is the stateless reset token of that connection id.
func peerToken(path uint32, seq uint64) (t [16]byte) {
	copy(t[:], "reset")
	copy(t[8:], peerCID(path, seq))
	return t
}

// peerCIDFrame returns the (PATH_)NEW_CONNECTION_ID that issues peerCID(path, seq).
func (tc *testConn) peerCIDFrame(path uint32, seq, retirePriorTo uint64) testFrame {
	if !tc.multipath {
		return frNewConnectionID(seq, retirePriorTo, peerCID(path, seq), peerToken(path, seq))
	}
	return frPathNewConnectionID(uint64(path), seq, retirePriorTo, peerCID(path, seq), peerToken(path, seq))
}

// testLevel is the peer's state of one encryption level.
type testLevel struct {
	read, write *keys
	next        uint64 // packet number
	received    map[uint64]bool
	ecn         wire.ECNCounts
	crypto      []byte // from TLS, from cryptoSent on not sent yet
	cryptoSent  uint64
	cryptoRead  uint64
}

// startPeerTLS makes the peer's end of TLS.
func (tc *testConn) startPeerTLS() {
	qc := &tls.QUICConfig{TLSConfig: tc.peerTLSConfig}
	if tc.isClient {
		qc.EnableSessionEvents = tc.rejectEarly
		tc.tls = tls.QUICServer(qc)
	} else {
		tc.tls = tls.QUICClient(qc)
		tc.tls.SetTransportParameters(tc.params.encode())
	}
	if err := tc.tls.Start(tc.t.Context()); err != nil {
		tc.t.Fatal(err)
	}
	tc.peerTLSEvents()
}

func (tc *testConn) peerTLSEvents() {
	tc.t.Helper()
	for {
		ev := tc.tls.NextEvent()
		level := map[tls.QUICEncryptionLevel]spaceID{tls.QUICEncryptionLevelHandshake: handshakeSpace, tls.QUICEncryptionLevelApplication: appSpace}[ev.Level]
		switch ev.Kind {
		case tls.QUICNoEvent:
			return
		case tls.QUICSetReadSecret, tls.QUICSetWriteSecret:
			k, err := newKeys(ev.Suite, ev.Data)
			if err != nil {
				tc.t.Fatal(err)
			}
			if ev.Level == tls.QUICEncryptionLevelEarly {
				tc.earlyKeys = k
			} else if ev.Kind == tls.QUICSetReadSecret {
				tc.levels[level].read = k
			} else {
				tc.levels[level].write = k
			}
		case tls.QUICWriteData:
			tc.levels[level].crypto = append(tc.levels[level].crypto, ev.Data...)
		case tls.QUICResumeSession:
			ev.SessionState.EarlyData = false
		case tls.QUICTransportParameters:
			tc.connParams = parseTestParams(ev.Data)
		case tls.QUICTransportParametersRequired:
			tc.tls.SetTransportParameters(tc.params.encode())
		case tls.QUICHandshakeDone:
			tc.peerComplete = true
		case tls.QUICErrorEvent:
			tc.tlsErr = ev.Err
		}
	}
}

// feedTLS gives a CRYPTO frame to the peer's TLS. Frames come in order or repeated.
func (tc *testConn) feedTLS(sp spaceID, f testFrame) {
	l := &tc.levels[sp]
	off, data := f.ints[0], f.blobs[0]
	if off > l.cryptoRead || off+uint64(len(data)) <= l.cryptoRead || tc.tlsErr != nil {
		return
	}
	data = data[l.cryptoRead-off:]
	l.cryptoRead += uint64(len(data))
	if err := tc.tls.HandleData(levels[sp], data); err != nil {
		tc.tlsErr = err
	}
	tc.peerTLSEvents()
}

// seal encodes and protects a packet.
func (tc *testConn) seal(p *peerPacket) []byte {
	tc.t.Helper()
	const pnLen = 4
	l := &tc.levels[p.typ.space()]
	k, next := l.write, &l.next
	if p.typ == packetZeroRTT {
		k = tc.earlyKeys
		if p.dcid == nil {
			p.dcid = tc.initialDCID
		}
	}
	if p.typ == packetOneRTT || p.typ == packetZeroRTT {
		if p.phase {
			k = k.next()
		}
		if tc.nextNum[p.path] == nil {
			tc.nextNum[p.path] = new(uint64)
		}
		next = tc.nextNum[p.path]
	}
	if p.keys != nil {
		k = p.keys
	}
	if k == nil {
		tc.t.Fatalf("the peer has no keys for %v", p.typ)
	}
	if !p.numSet {
		p.num = *next
	}
	*next = max(*next, p.num+1)
	if p.dcid == nil {
		p.dcid = tc.destination(p.path)
	}
	var body []byte
	for _, f := range p.frames {
		body = f.append(body, tc.frameTypes)
	}
	var b []byte
	nonce := p.path
	if p.typ == packetOneRTT {
		first := byte(0x40 | pnLen - 1)
		if p.phase != tc.phase {
			first |= 4
		}
		b = append(b, first)
		b = append(b, p.dcid...)
	} else {
		nonce = 0
		if p.scid == nil && !tc.zeroSCID {
			p.scid = peerCID(0, 0)
		}
		b = append(b, 0xc0|byte(p.typ)<<4|pnLen-1)
		b = binary.BigEndian.AppendUint32(b, max(p.version, 1))
		b = append(append(b, byte(len(p.dcid))), p.dcid...)
		b = append(append(b, byte(len(p.scid))), p.scid...)
		if p.typ == packetInitial {
			b = append(appendInt(b, uint64(len(p.token))), p.token...)
		}
		n := pnLen + len(body) + 16
		b = append(b, 0x40|byte(n>>8), byte(n))
	}
	b[0] ^= p.flipFirst
	b = binary.BigEndian.AppendUint32(b, uint32(p.num))
	hdrLen := len(b)
	b = append(b, body...)
	var s sealScratch
	b = k.seal(&s, slices.Grow(b, 16), hdrLen, pnLen, nonce, p.num)
	if p.corrupt {
		b[len(b)-1] ^= 1
	}
	return b
}

// openLong reads a long header packet at the start of p.raw and returns its length.
func (tc *testConn) openLong(p *peerPacket) int {
	tc.t.Helper()
	r := testReader(p.raw)
	p.first = r.byte()
	p.version = binary.BigEndian.Uint32(r.bytes(4))
	p.dcid = r.bytes(uint64(r.byte()))
	p.scid = r.bytes(uint64(r.byte()))
	if p.version == 0 {
		p.typ = packetVersionNegotiation
		for len(r) > 0 {
			p.versions = append(p.versions, binary.BigEndian.Uint32(r.bytes(4)))
		}
		return len(p.raw)
	}
	p.typ = peerPacketType(p.first >> 4 & 3)
	if p.typ == packetInitial {
		p.token = r.bytes(r.int())
	}
	length := r.int()
	pnOff := len(p.raw) - len(r)
	end := pnOff + int(length)
	l := &tc.levels[p.typ.space()]
	k := l.read
	if p.typ == packetZeroRTT {
		if tc.received[0] == nil {
			tc.received[0] = make(map[uint64]bool)
		}
		l = &testLevel{received: tc.received[0]}
		if k = tc.earlyKeys; k == nil && tc.rejectEarly {
			return end
		}
	}
	if p.typ == packetInitial && !bytes.Equal(p.dcid, tc.keysDCID) && len(p.dcid) > 0 && !bytes.Equal(p.dcid, peerCID(0, 0)) {
		tc.t.Fatalf("Initial packet to unknown connection id %x", p.dcid)
	}
	if k == nil {
		tc.t.Fatalf("%v packet before its keys", p.typ)
	}
	if !tc.decrypt(p, k, bytes.Clone(p.raw[:end]), pnOff, 0) {
		tc.t.Fatalf("%v packet does not decrypt", p.typ)
	}
	if p.first&0x0c != 0 || p.first&0x40 == 0 && !tc.greases() {
		tc.t.Errorf("%v packet with first byte %#x", p.typ, p.first)
	}
	if l.received[p.num] {
		tc.t.Errorf("%v packet number %d used twice", p.typ, p.num) // R9000-12.3-2
	}
	l.received[p.num] = true
	return end
}

// greases says that the peer takes packets with QUIC Bit 0.
func (tc *testConn) greases() bool {
	return slices.ContainsFunc(tc.params, func(p testParam) bool { return p.id == paramGreaseQUICBit })
}

// openShort reads the 1-RTT packet p.raw, if it is one.
func (tc *testConn) openShort(p *peerPacket) {
	tc.t.Helper()
	p.typ = packetReset
	l := &tc.levels[appSpace]
	if len(p.raw) < 9 || l.read == nil {
		return
	}
	pnOff := 1
	if !tc.zeroSCID {
		pnOff = 9
		p.dcid = p.raw[1:9]
		p.path = uint32(binary.BigEndian.Uint16(p.dcid[2:]))
		if p.dcid[0] != 0xc1 || p.dcid[1] != 0xd0 {
			return
		}
	}
	nonce := p.path
	if !tc.multipath {
		nonce = 0
	}
	pkt := bytes.Clone(p.raw)
	switch {
	case tc.decrypt(p, l.read, pkt, pnOff, nonce):
	case tc.decrypt(p, l.read.next(), bytes.Clone(p.raw), pnOff, nonce):
		p.phase = true
	default:
		return
	}
	p.typ = packetOneRTT
	if p.first&0x38 != 0 || p.first&0x40 == 0 && !tc.greases() { // R9000-17.4-1: no spin bit
		tc.t.Errorf("%v with first byte %#x", p, p.first)
	}
	if want := p.phase != tc.phase; p.first&4 != 0 != want {
		tc.t.Errorf("%v with Key Phase %v", p, p.first&4 != 0)
	}
	seen := tc.received[p.path]
	if seen == nil {
		seen = make(map[uint64]bool)
		tc.received[p.path] = seen
	}
	if seen[p.num] {
		tc.t.Errorf("%v: number used twice", p) // R9000-12.3-2
	}
	seen[p.num] = true
}

// decrypt decrypts a packet and reads its frames.
func (tc *testConn) decrypt(p *peerPacket, k *keys, pkt []byte, pnOff int, nonce uint32) bool {
	tc.t.Helper()
	var s sealScratch
	first, pn, pnLen, ok := k.unprotectHeader(&s, pkt, pnOff)
	if !ok || pnLen != 4 { // R9000-17.1-1 R9000-17.1-2: long enough, always
		return false
	}
	payload, ok := k.open(&s, pkt, pnOff+pnLen, nonce, pn)
	if !ok {
		return false
	}
	p.first, p.num = first, pn
	for r := testReader(payload); len(r) > 0; {
		p.frames = append(p.frames, parseTestFrame(&r, tc.frameTypes))
	}
	return true
}

// checkPacket checks what must hold of each packet that the connection under test
// sends, in whatever test.
func (tc *testConn) checkPacket(p *peerPacket) {
	tc.t.Helper()
	challenges := 0
	for _, f := range p.frames {
		switch f.typ {
		case tPathChallenge:
			challenges++
		case tAck, tAckECN:
			_, nums := f.acked()
			if last := nums[len(nums)-1]; p.typ != packetOneRTT && last >= tc.levels[p.typ.space()].next { // R9000-13.2.6-1
				tc.t.Errorf("%v acknowledges a packet of another space", p)
			}
			if p.typ == packetOneRTT && tc.multipath { // RMP21-2.3-1
				tc.t.Errorf("%v: ACK instead of PATH_ACK", p)
			}
		case tApplicationClose:
			if p.typ != packetOneRTT { // R9000-12.5-1
				tc.t.Errorf("%v shows an error of the application", p)
			}
		}
		if (f.typ == tPathAck || f.typ == tPathAckECN || f.typ >= tPathAbandon) && (p.typ != packetOneRTT || !tc.multipath) { // RMP21-4-1 RMP21-2-1
			tc.t.Errorf("%v: multipath frame", p)
		}
	}
	if challenges > 1 { // R9000-8.2.1-3
		tc.t.Errorf("%v has %d challenges", p, challenges)
	}
	if tc.isClient && p.typ == packetInitial && len(p.dgram.data) < 1200 { // R9000-8.1-4
		tc.t.Errorf("%v in a datagram of %d bytes", p, len(p.dgram.data))
	}
}

// retryTag computes the Retry Integrity Tag with the key and nonce of RFC 9001
// section 5.8.
func retryTag(originalDCID, packet []byte) []byte {
	key, _ := hex.DecodeString("be0c690b9f66575a1d766b54e368c84e")
	nonce, _ := hex.DecodeString("461599d35d632bf2239825bb")
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	pseudo := append([]byte{byte(len(originalDCID))}, originalDCID...)
	return aead.Seal(nil, nonce, nil, append(pseudo, packet...))
}
