// SPDX-License-Identifier: Apache-2.0

package http3

import "fmt"

// ErrorCode is an application error code of HTTP/3, QPACK or HTTP Datagrams. It
// is the code of a CONNECTION_CLOSE, RESET_STREAM or STOP_SENDING frame.
type ErrorCode uint64

// The codes of RFC 9114 section 8.1, RFC 9204 section 6 and RFC 9297 section 5.2.
const (
	ErrDatagram             ErrorCode = 0x33
	ErrNoError              ErrorCode = 0x100
	ErrGeneralProtocol      ErrorCode = 0x101
	ErrInternal             ErrorCode = 0x102
	ErrStreamCreation       ErrorCode = 0x103
	ErrClosedCriticalStream ErrorCode = 0x104
	ErrFrameUnexpected      ErrorCode = 0x105
	ErrFrame                ErrorCode = 0x106
	ErrExcessiveLoad        ErrorCode = 0x107
	ErrID                   ErrorCode = 0x108
	ErrSettings             ErrorCode = 0x109
	ErrMissingSettings      ErrorCode = 0x10a
	ErrRequestRejected      ErrorCode = 0x10b
	ErrRequestCancelled     ErrorCode = 0x10c
	ErrRequestIncomplete    ErrorCode = 0x10d
	ErrMessage              ErrorCode = 0x10e
	ErrConnect              ErrorCode = 0x10f
	ErrVersionFallback      ErrorCode = 0x110
	ErrQPACKDecompression   ErrorCode = 0x200
	ErrQPACKEncoderStream   ErrorCode = 0x201
	ErrQPACKDecoderStream   ErrorCode = 0x202
)

var errorNames = map[ErrorCode]string{
	ErrDatagram:             "H3_DATAGRAM_ERROR",
	ErrNoError:              "H3_NO_ERROR",
	ErrGeneralProtocol:      "H3_GENERAL_PROTOCOL_ERROR",
	ErrInternal:             "H3_INTERNAL_ERROR",
	ErrStreamCreation:       "H3_STREAM_CREATION_ERROR",
	ErrClosedCriticalStream: "H3_CLOSED_CRITICAL_STREAM",
	ErrFrameUnexpected:      "H3_FRAME_UNEXPECTED",
	ErrFrame:                "H3_FRAME_ERROR",
	ErrExcessiveLoad:        "H3_EXCESSIVE_LOAD",
	ErrID:                   "H3_ID_ERROR",
	ErrSettings:             "H3_SETTINGS_ERROR",
	ErrMissingSettings:      "H3_MISSING_SETTINGS",
	ErrRequestRejected:      "H3_REQUEST_REJECTED",
	ErrRequestCancelled:     "H3_REQUEST_CANCELLED",
	ErrRequestIncomplete:    "H3_REQUEST_INCOMPLETE",
	ErrMessage:              "H3_MESSAGE_ERROR",
	ErrConnect:              "H3_CONNECT_ERROR",
	ErrVersionFallback:      "H3_VERSION_FALLBACK",
	ErrQPACKDecompression:   "QPACK_DECOMPRESSION_FAILED",
	ErrQPACKEncoderStream:   "QPACK_ENCODER_STREAM_ERROR",
	ErrQPACKDecoderStream:   "QPACK_DECODER_STREAM_ERROR",
}

func (c ErrorCode) String() string {
	if s, ok := errorNames[c]; ok {
		return s
	}
	return fmt.Sprintf("0x%x", uint64(c))
}

// ConnError is a violation by the peer that closes the whole connection.
type ConnError struct {
	Code   ErrorCode
	Reason string
}

func (e *ConnError) Error() string { return "http3: connection error " + describe(e.Code, e.Reason) }

// StreamError is a violation by the peer, or a decision of ours, that ends one
// request; the stream is reset in both directions with Code.
type StreamError struct {
	Code   ErrorCode
	Reason string
}

func (e *StreamError) Error() string { return "http3: stream error " + describe(e.Code, e.Reason) }

func describe(c ErrorCode, reason string) string {
	if reason == "" {
		return c.String()
	}
	return c.String() + ": " + reason
}

// malformed is the error for a message that RFC 9114 section 4.1.2 calls so.
func malformed(reason string) *StreamError { return &StreamError{ErrMessage, reason} }
