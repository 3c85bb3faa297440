// SPDX-License-Identifier: Apache-2.0

package http3

import "io"

// The frame types of RFC 9114 section 7.2.
const (
	frameData        = 0x00
	frameHeaders     = 0x01
	frameCancelPush  = 0x03
	frameSettings    = 0x04
	framePushPromise = 0x05
	frameGoAway      = 0x07
	frameMaxPushID   = 0x0d
)

// reservedFrame: types of HTTP/2 that HTTP/3 does not use.
func reservedFrame(t uint64) bool {
	return t == 0x02 || t == 0x06 || t == 0x08 || t == 0x09
}

// knownFrame tells whether RFC 9114 gives t a meaning; other types are skipped.
func knownFrame(t uint64) bool {
	switch t {
	case frameData, frameHeaders, frameCancelPush, frameSettings, framePushPromise, frameGoAway, frameMaxPushID:
		return true
	}
	return reservedFrame(t)
}

func unexpectedFrame(reason string) *ConnError { return &ConnError{ErrFrameUnexpected, reason} }

func appendFrameHeader(b []byte, typ, length uint64) []byte {
	return AppendVarint(AppendVarint(b, typ), length)
}

// newFrameReader reads the frames of a stream. A stream that ends inside a frame
// is a connection error. // R9114-7.1-2
func newFrameReader(r io.Reader) *tlvReader {
	return newTLVReader(r, &ConnError{ErrFrame, "stream ends inside a frame"})
}
