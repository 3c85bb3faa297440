// SPDX-License-Identifier: Apache-2.0

package quic

import "encoding/binary"

// A ticketScanner looks at the messages that follow a client's handshake for a
// NewSessionTicket with a max_early_data_size that QUIC does not know.
type ticketScanner struct{ message []byte }

const (
	typeNewSessionTicket  = 4
	extensionEarlyData    = 42
	quicMaxEarlyDataSize  = 0xffffffff
	maxPostHandshakeBytes = 1 << 16 // of one message: what crypto/tls takes
)

// take takes the next bytes of a message, its last ones if end is set, and reports
// whether it violates RFC 9001 section 4.6.1. // R9001-4.6.1-2
func (t *ticketScanner) take(b []byte, end bool) (violation bool) {
	if len(t.message)+len(b) > maxPostHandshakeBytes {
		return false // crypto/tls refuses it
	}
	t.message = append(t.message, b...)
	if !end {
		return false
	}
	m := t.message
	t.message = nil
	size, ok := maxEarlyDataSize(m)
	return ok && size != quicMaxEarlyDataSize
}

// maxEarlyDataSize reads the extension early_data of a NewSessionTicket message (RFC 8446
// section 4.6.1); ok is false if there is none, or no such message.
func maxEarlyDataSize(m []byte) (size uint32, ok bool) {
	const head = 4 + 4 + 4 // type and length, ticket_lifetime, ticket_age_add
	if len(m) < head || m[0] != typeNewSessionTicket {
		return 0, false
	}
	m = m[head:]
	for _, lengthSize := range []int{1, 2} { // ticket_nonce, ticket
		if _, m, ok = cutVector(m, lengthSize); !ok {
			return 0, false
		}
	}
	extensions, _, ok := cutVector(m, 2)
	for ok && len(extensions) >= 2 {
		id := binary.BigEndian.Uint16(extensions)
		var value []byte
		if value, extensions, ok = cutVector(extensions[2:], 2); ok && id == extensionEarlyData && len(value) == 4 {
			return binary.BigEndian.Uint32(value), true
		}
	}
	return 0, false
}

// cutVector cuts a vector of TLS, behind a length of so many bytes, off the front of b.
func cutVector(b []byte, lengthSize int) (v, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:lengthSize] {
		n = n<<8 | int(c)
	}
	b = b[lengthSize:]
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
