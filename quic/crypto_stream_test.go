// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"errors"
	"testing"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

func cryptoFrame(off uint64, n int) *wire.Frame {
	return &wire.Frame{Type: wire.FrameTypeCrypto, WireType: 6, Offset: off, Data: patternBytes(0, off, n)}
}

// readCrypto takes all that can be read in order, from offset off on.
func readCrypto(t *testing.T, c *cryptoStream, off uint64) uint64 {
	for p := c.peek(); len(p) > 0; p = c.peek() {
		checkPattern(t, 0, off, p)
		off += uint64(len(p))
		c.advance(len(p))
	}
	return off
}

func TestCryptoStreamExchange(t *testing.T) {
	var from, to cryptoStream
	const size = 10_000
	from.write(patternBytes(0, 0, size))
	var lost []frameRecord
	read := uint64(0)
	for i := 0; from.hasData(); i++ {
		var w packetWriter
		w.reset(make([]byte, 0, 1200), 1200)
		if !from.appendData(&w) || !w.ackEliciting || len(w.recs) == 0 {
			t.Fatal("nothing appended")
		}
		for _, f := range parseFrames(t, w.buf) {
			if i%3 == 0 && i < 9 {
				lost = append(lost, w.recs...)
				continue
			}
			if err := to.handleFrame(&f); err != nil {
				t.Fatal(err)
			}
		}
		read = readCrypto(t, &to, read)
		if !from.hasData() {
			for _, r := range lost {
				from.handleFate(r, fateLost)
			}
			lost = nil
		}
	}
	if read != size {
		t.Errorf("read %d of %d bytes", read, size)
	}
}

func TestCryptoStreamReordered(t *testing.T) {
	var c cryptoStream
	for off := 4096; off >= 0; off -= 512 { // R9000-7.5-1
		if err := c.handleFrame(cryptoFrame(uint64(off), 512)); err != nil {
			t.Fatal(err)
		}
	}
	if n := readCrypto(t, &c, 0); n != 4096+512 {
		t.Errorf("read %d bytes", n)
	}
}

func TestCryptoStreamBuffersABoundedAmount(t *testing.T) {
	exceeded := func(c *cryptoStream, f *wire.Frame) bool {
		te, ok := errors.AsType[*TransportError](c.handleFrame(f))
		return ok && te.Code == CryptoBufferExceeded && te.FrameType == 6
	}
	var c cryptoStream
	if !exceeded(&c, cryptoFrame(cryptoReceiveWindow, 1)) { // R9000-7.5-2
		t.Error("data beyond the buffer accepted")
	}
	if !exceeded(&c, cryptoFrame(wire.MaxVarint, 1)) { // R9000-19.6-1
		t.Error("offset 2^62 accepted")
	}
	if exceeded(&c, cryptoFrame(0, cryptoReceiveWindow)) {
		t.Error("the whole buffer in one frame refused")
	}
	readCrypto(t, &c, 0)
	if exceeded(&c, cryptoFrame(cryptoReceiveWindow, 1)) {
		t.Error("refused although the data before was taken")
	}
	if exceeded(&c, cryptoFrame(0, 100)) {
		t.Error("old data refused")
	}
}

func TestCryptoStreamResend(t *testing.T) {
	var c cryptoStream
	c.write(make([]byte, 100))
	w := packetWriter{}
	w.reset(make([]byte, 0, 1200), 1200)
	c.appendData(&w)
	c.handleFate(frameRecord{kind: recordCrypto, a: 0, b: 50}, fateAcked)
	c.resend()
	if r := c.out.next(1 << 20); r != (numberRange[uint64]{50, 100}) {
		t.Errorf("sends %v again, want what is not acknowledged", r)
	}
	c.discard()
	if c.hasData() || c.peek() != nil {
		t.Error("data left after discard")
	}
}
