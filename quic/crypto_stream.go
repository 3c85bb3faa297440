// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"math"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// cryptoReceiveWindow is how many bytes of handshake messages a peer may send ahead
// of what crypto/tls has taken, in one encryption level. RFC 9000 section 7.5 asks
// for 4096 at least; certificate chains are larger. R9000-7.5-1
const cryptoReceiveWindow = 64 << 10

// A cryptoStream is the CRYPTO frames of one encryption level, both directions. It
// belongs to the token holder.
type cryptoStream struct {
	out      sendBuffer
	in       recvBuffer
	messages messageScanner // of what was taken from in
}

// write takes a handshake message, copied, to be sent.
func (c *cryptoStream) write(p []byte) { c.out.write(p) }

// hasData reports whether appendData has something to send.
func (c *cryptoStream) hasData() bool { return c.out.next(math.MaxUint64).size() > 0 }

// appendData appends CRYPTO frames as far as they fit, lost data first, and reports
// whether there was one.
func (c *cryptoStream) appendData(w *packetWriter) bool {
	appended := false
	for {
		r := c.out.next(math.MaxUint64)
		if r.size() == 0 {
			return appended
		}
		data, added := w.appendCrypto(r)
		if !added {
			return appended
		}
		c.out.pipe.readAt(data, r.start)
		c.out.markSent(r.start, r.start+uint64(len(data)))
		appended = true
	}
}

// resend makes everything unacknowledged due again, for a probe.
func (c *cryptoStream) resend() { c.out.handleFate(0, c.out.sent, fateLost) }

// handleFate takes the fate of a CRYPTO frame.
func (c *cryptoStream) handleFate(r frameRecord, f fate) {
	c.out.handleFate(r.a, r.a+r.b, f)
}

// handleFrame stores the data of a CRYPTO frame.
func (c *cryptoStream) handleFrame(f *wire.Frame) error {
	if f.Offset+uint64(len(f.Data)) > c.in.readOffset()+cryptoReceiveWindow || // R9000-7.5-2 R9000-19.6-1
		!c.in.add(f.Offset, f.Data) {
		return &TransportError{Code: CryptoBufferExceeded, FrameType: f.WireType, Reason: "too much handshake data out of order"}
	}
	return nil
}

// peek returns the next bytes received in order, not always all of them; nil when
// there are none. The slice is valid until advance.
func (c *cryptoStream) peek() []byte { return c.in.peek() }

// advance consumes n bytes of those that peek returned.
func (c *cryptoStream) advance(n int) { c.in.advance(uint64(n)) }

// discard drops everything, when the keys of the encryption level are dropped.
func (c *cryptoStream) discard() {
	c.out.discard()
	c.in.discard()
}
