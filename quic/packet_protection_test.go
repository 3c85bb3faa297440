// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// unhex decodes hexadecimal digits, ignoring white space.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func equalHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if w := unhex(t, want); !bytes.Equal(got, w) {
		t.Errorf("%s is %x, want %x", what, got, w)
	}
}

// exampleDstConnID is the connection id of the examples of RFC 9001 appendix A.
const exampleDstConnID = "8394c8f03e515708"

// testKeys makes keys of a suite from a fixed secret.
func testKeys(t testing.TB, suite uint16) *keys {
	t.Helper()
	size := sha256.Size
	if suite == tls.TLS_AES_256_GCM_SHA384 {
		size = 48
	}
	k, err := newKeys(suite, bytes.Repeat([]byte{0x5e}, size))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var testSuites = []uint16{
	tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
}

// RFC 9001 appendix A.1.
func TestInitialKeys(t *testing.T) { // R9001-5.1-1, R9001-5.2-1
	client, server := initialKeys(unhex(t, exampleDstConnID))
	for _, side := range []struct {
		name                string
		k                   *keys
		secret, key, iv, hp string
	}{
		{"client", client, "c00cf151ca5be075ed0ebfb5c80323c4 2d6b7db67881289af4008f1f6c357aea",
			"1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"},
		{"server", server, "3c199828fd139efd216c155ad844cc81 fb82fa8d7446fa7d78be803acdda951b",
			"cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e", "c206b8d9b9f0f37644430b490eeaa314"},
	} {
		equalHex(t, side.name+" secret", side.k.secret, side.secret)
		equalHex(t, side.name+" iv", side.k.iv[:], side.iv)
		h := side.k.suite.hash
		equalHex(t, side.name+" key", expandLabel(h, side.k.secret, "quic key", 16), side.key)
		equalHex(t, side.name+" hp", expandLabel(h, side.k.secret, "quic hp", 16), side.hp)
	}
}

// checkPacket seals an example in place and from elsewhere, and opens it again.
func checkPacket(t *testing.T, k *keys, header, payload, want []byte, pnLen int, pn uint64) {
	t.Helper()
	var s sealScratch
	pkt := slices.Grow(slices.Concat(header, payload), aeadTagLen)
	pkt = k.seal(&s, pkt, len(header), pnLen, 0, pn)
	if !bytes.Equal(pkt, want) {
		t.Fatalf("sealed as\n%x, want\n%x", pkt, want)
	}
	dst := append(make([]byte, 0, len(want)), header...)
	if got := k.sealFrom(&s, dst, len(header), pnLen, payload, 0, pn); !bytes.Equal(got, want) {
		t.Errorf("sealed from elsewhere as\n%x, want\n%x", got, want)
	}

	pnOff := len(header) - pnLen
	first, truncated, gotLen, ok := k.unprotectHeader(&s, pkt, pnOff)
	if !ok || first != header[0] || gotLen != pnLen || truncated != pn&(1<<(8*pnLen)-1) {
		t.Fatalf("unprotectHeader = %x, %d, %d, %v", first, truncated, gotLen, ok)
	}
	if !bytes.Equal(pkt[:len(header)], header) {
		t.Errorf("header %x, want %x", pkt[:len(header)], header)
	}
	if got, ok := k.open(&s, pkt, len(header), 0, pn); !ok || !bytes.Equal(got, payload) {
		t.Errorf("opened as %x, %v, want %x", got, ok, payload)
	}
}

// RFC 9001 appendix A.2: R9001-A.2-1.
func TestClientInitialExample(t *testing.T) {
	want, err := os.ReadFile("testdata/rfc9001-a2-packet.hex")
	if err != nil {
		t.Fatal(err)
	}
	payload := unhex(t, `
		060040f1010000ed0303ebf8fa56f129 39b9584a3896472ec40bb863cfd3e868
		04fe3a47f06a2b69484c000004130113 02010000c000000010000e00000b6578
		616d706c652e636f6dff01000100000a 00080006001d00170018001000070005
		04616c706e0005000501000000000033 00260024001d00209370b2c9caa47fba
		baf4559fedba753de171fa71f50f1ce1 5d43e994ec74d748002b000302030400
		0d0010000e0403050306030203080408 050806002d00020101001c0002400100
		3900320408ffffffffffffffff050480 00ffff07048000ffff08011001048000
		75300901100f088394c8f03e51570806 048000ffff`)
	payload = append(payload, make([]byte, 1162-len(payload))...)
	client, _ := initialKeys(unhex(t, exampleDstConnID))
	checkPacket(t, client, unhex(t, "c300000001088394c8f03e5157080000449e00000002"),
		payload, unhex(t, string(want)), 4, 2)
}

// RFC 9001 appendix A.3: R9001-A.3-1.
func TestServerInitialExample(t *testing.T) {
	_, server := initialKeys(unhex(t, exampleDstConnID))
	checkPacket(t, server, unhex(t, "c1000000010008f067a5502a4262b50040750001"), unhex(t, `
		02000000000600405a020000560303ee fce7f7b37ba1d1632e96677825ddf739
		88cfc79825df566dc5430b9a045a1200 130100002e00330024001d00209d3c94
		0d89690b84d08a60993c144eca684d10 81287c834d5311bcf32bb9da1a002b00
		020304`), unhex(t, `
		cf000000010008f067a5502a4262b500 4075c0d95a482cd0991cd25b0aac406a
		5816b6394100f37a1c69797554780bb3 8cc5a99f5ede4cf73c3ec2493a1839b3
		dbcba3f6ea46c5b7684df3548e7ddeb9 c3bf9c73cc3f3bded74b562bfb19fb84
		022f8ef4cdd93795d77d06edbb7aaf2f 58891850abbdca3d20398c276456cbc4
		2158407dd074ee`), 2, 1)
}

// RFC 9001 appendix A.5: R9001-A.5-1.
func TestChaCha20Example(t *testing.T) {
	k, err := newKeys(tls.TLS_CHACHA20_POLY1305_SHA256,
		unhex(t, "9ac312a7f877468ebe69422748ad00a1 5443f18203a07d6060f688f30f21632b"))
	if err != nil {
		t.Fatal(err)
	}
	const pn = 654360564
	checkPacket(t, k, unhex(t, "4200bff4"), []byte{byte(wire.FrameTypePing)},
		unhex(t, "4cfe4189655e5cd55c41f69080575d7999c25a5bfb"), 3, pn)
	equalHex(t, "iv", k.iv[:], "e0459b3474bdd0e44a41c144")
	equalHex(t, "secret after a key update", k.next().secret,
		"1223504755036d556342ee9361d25342 1a826c9ecdf3c7148684b36b714881f9")
	var s sealScratch
	k.setNonce(&s, 0, pn)
	equalHex(t, "nonce", s.nonce[:], "e0459b3474bdd0e46d417eb0")
}

// The example of draft-ietf-quic-multipath-21 section 2.4.
func TestMultipathNonce(t *testing.T) { // RMP21-2.4-1
	k := &keys{iv: [aeadNonceLen]byte(unhex(t, "6b26114b9cba2b63a9e8dd4f"))}
	var s sealScratch
	k.setNonce(&s, 3, 54321)
	equalHex(t, "nonce", s.nonce[:], "6b2611489cba2b63a9e8097e")
	k.setNonce(&s, 0, 54321) // RMP21-2.4-2
	equalHex(t, "nonce of path 0", s.nonce[:], "6b26114b9cba2b63a9e8097e")
	k.setNonce(&s, 1<<32-1, 1<<62-1)
	equalHex(t, "largest nonce", s.nonce[:], "94d9eeb4a345d49c561722b0")
	equalHex(t, "iv afterwards", k.iv[:], "6b26114b9cba2b63a9e8dd4f")
}

// sealTest seals payload in a short header packet of path pathID with a connection id of
// 8 bytes.
func sealTest(k *keys, payload string, pathID uint32, pn uint64) (pkt []byte, pnOff int) {
	pkt = wire.AppendShortHeader(make([]byte, 0, 100), []byte("8 bytes."), false, 4)
	pnOff = len(pkt)
	pkt = wire.AppendPacketNumber(pkt, pn, 4)
	hdrLen := len(pkt)
	var s sealScratch
	return k.seal(&s, append(pkt, payload...), hdrLen, 4, pathID, pn), pnOff
}

// openTest opens a packet of sealTest.
func openTest(k *keys, pkt []byte, pnOff int, pathID uint32, pn uint64) (string, bool) {
	var s sealScratch
	_, _, pnLen, ok := k.unprotectHeader(&s, pkt, pnOff)
	if !ok {
		return "", false
	}
	payload, ok := k.open(&s, pkt, pnOff+pnLen, pathID, pn)
	return string(payload), ok
}

func TestSealOpen(t *testing.T) {
	for _, suite := range testSuites {
		k := testKeys(t, suite)
		pkt, pnOff := sealTest(k, "payload", 7, 1<<40+5)
		for what, open := range map[string]func(pkt []byte) (string, bool){
			"the path":              func(pkt []byte) (string, bool) { return openTest(k, pkt, pnOff, 7, 1<<40+5) },
			"another path":          func(pkt []byte) (string, bool) { return openTest(k, pkt, pnOff, 6, 1<<40+5) },
			"another packet number": func(pkt []byte) (string, bool) { return openTest(k, pkt, pnOff, 7, 5) },
			"the next key phase":    func(pkt []byte) (string, bool) { return openTest(k.next(), pkt, pnOff, 7, 1<<40+5) },
		} {
			if got, ok := open(bytes.Clone(pkt)); ok != (what == "the path") || ok && got != "payload" {
				t.Errorf("%s with %s: %q, %v", tls.CipherSuiteName(suite), what, got, ok)
			}
		}
		for i := range pkt {
			forged := bytes.Clone(pkt)
			forged[i] ^= 0x40
			if _, ok := openTest(k, forged, pnOff, 7, 1<<40+5); ok {
				t.Errorf("%s: opens with byte %d changed", tls.CipherSuiteName(suite), i)
			}
		}
	}
}

// A packet that cannot be opened may be a stateless reset: its last 16 bytes must survive.
func TestOpenFailureKeepsResetToken(t *testing.T) {
	for _, suite := range testSuites {
		pkt := bytes.Repeat([]byte{0x5a}, 60)
		copy(pkt[len(pkt)-16:], "stateless reset.")
		if _, ok := openTest(testKeys(t, suite), pkt, 9, 0, 0); ok {
			t.Fatal("opened")
		}
		if got := string(pkt[len(pkt)-16:]); got != "stateless reset." {
			t.Errorf("%s: token became %q", tls.CipherSuiteName(suite), got)
		}
	}
}

func TestKeyUpdateKeepsHeaderProtection(t *testing.T) {
	for _, suite := range testSuites {
		k := testKeys(t, suite)
		next := k.next().next()
		pkt, pnOff := sealTest(next, "payload", 0, 9)
		var s sealScratch
		if _, pn, pnLen, ok := k.unprotectHeader(&s, pkt, pnOff); !ok || pn != 9 || pnLen != 4 {
			t.Fatalf("header of the second next phase: %d, %d, %v", pn, pnLen, ok)
		}
		if got, ok := next.open(&s, pkt, pnOff+4, 0, 9); !ok || string(got) != "payload" {
			t.Errorf("%q, %v", got, ok)
		}
	}
}

func TestUnprotectHeaderShort(t *testing.T) { // R9001-5.4.2-1
	k := testKeys(t, tls.TLS_AES_128_GCM_SHA256)
	var s sealScratch
	for n := range 9 + hpSampleOffset + hpSampleLen + 1 {
		pkt := bytes.Repeat([]byte{0x41}, n)
		if _, _, _, ok := k.unprotectHeader(&s, pkt, 9); ok != (n == 9+4+16) {
			t.Errorf("%d bytes: %v", n, ok)
		}
	}
	// The smallest packet that has a sample may have no room for a tag.
	if _, ok := k.open(&s, make([]byte, 20), 5, 0, 0); ok {
		t.Error("opened a packet without a tag")
	}
}

func TestSealBugs(t *testing.T) {
	k := testKeys(t, tls.TLS_AES_128_GCM_SHA256)
	var s sealScratch
	for what, f := range map[string]func(){
		"no room for the tag":                  func() { k.seal(&s, make([]byte, 40), 13, 4, 0, 0) },
		"no header protection sample possible": func() { k.seal(&s, make([]byte, 16, 40), 14, 1, 0, 0) }, // R9001-5.4.2-2
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
}

func TestNewKeysUnknownSuite(t *testing.T) { // R9001-5.3-1
	const aes128CCM8 = 0x1305
	if k, err := newKeys(aes128CCM8, make([]byte, 32)); err == nil || k != nil {
		t.Errorf("%v, %v, want an error", k, err)
	}
}

// protectionBench is a packet with a payload of 1400 bytes.
type protectionBench struct {
	k      *keys
	s      sealScratch
	sealed []byte
	buf    [1500]byte
}

const benchHeaderLen, benchPayloadLen = 13, 1400

func newProtectionBench(tb testing.TB, suite uint16) *protectionBench {
	p := &protectionBench{k: testKeys(tb, suite)}
	p.sealed = bytes.Clone(p.seal())
	return p
}

func (p *protectionBench) seal() []byte {
	b := wire.AppendShortHeader(p.buf[:0], []byte("8 bytes."), false, 4)
	b = wire.AppendPacketNumber(b, 1, 4)
	return p.k.seal(&p.s, b[:benchHeaderLen+benchPayloadLen], benchHeaderLen, 4, 1, 1)
}

func (p *protectionBench) open() bool {
	pkt := p.buf[:copy(p.buf[:], p.sealed)]
	_, pn, pnLen, ok := p.k.unprotectHeader(&p.s, pkt, benchHeaderLen-4)
	if !ok {
		return false
	}
	_, ok = p.k.open(&p.s, pkt, benchHeaderLen-4+pnLen, 1, pn)
	return ok
}

func TestProtectionAllocs(t *testing.T) {
	for _, suite := range testSuites {
		p := newProtectionBench(t, suite)
		if n := testing.AllocsPerRun(100, func() { p.seal() }); n != 0 {
			t.Errorf("%s: %v allocations to seal, want 0", tls.CipherSuiteName(suite), n)
		}
		if n := testing.AllocsPerRun(100, func() {
			if !p.open() {
				t.Fatal("does not open")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations to open, want 0", tls.CipherSuiteName(suite), n)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, suite := range testSuites {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			p := newProtectionBench(b, suite)
			b.SetBytes(benchPayloadLen)
			b.ReportAllocs()
			for b.Loop() {
				p.seal()
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, suite := range testSuites {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			p := newProtectionBench(b, suite)
			b.SetBytes(benchPayloadLen)
			b.ReportAllocs()
			for b.Loop() {
				if !p.open() {
					b.Fatal("does not open")
				}
			}
		})
	}
}
