// SPDX-License-Identifier: Apache-2.0

package quic

import "fmt"

// TransportErrorCode is an error code of RFC 9000 section 20.1.
type TransportErrorCode uint64

const (
	NoError                 TransportErrorCode = 0x0
	InternalError           TransportErrorCode = 0x1
	ConnectionRefused       TransportErrorCode = 0x2
	FlowControlError        TransportErrorCode = 0x3
	StreamLimitError        TransportErrorCode = 0x4
	StreamStateError        TransportErrorCode = 0x5
	FinalSizeError          TransportErrorCode = 0x6
	FrameEncodingError      TransportErrorCode = 0x7
	TransportParameterError TransportErrorCode = 0x8
	ConnectionIDLimitError  TransportErrorCode = 0x9
	ProtocolViolation       TransportErrorCode = 0xa
	InvalidToken            TransportErrorCode = 0xb
	ApplicationErrorCode    TransportErrorCode = 0xc
	CryptoBufferExceeded    TransportErrorCode = 0xd
	KeyUpdateError          TransportErrorCode = 0xe
	AEADLimitReached        TransportErrorCode = 0xf
	NoViablePath            TransportErrorCode = 0x10
	// CryptoErrorBase plus a TLS alert is the code of a handshake failure.
	CryptoErrorBase TransportErrorCode = 0x100
)

var transportErrorNames = [...]string{
	"NO_ERROR", "INTERNAL_ERROR", "CONNECTION_REFUSED", "FLOW_CONTROL_ERROR",
	"STREAM_LIMIT_ERROR", "STREAM_STATE_ERROR", "FINAL_SIZE_ERROR", "FRAME_ENCODING_ERROR",
	"TRANSPORT_PARAMETER_ERROR", "CONNECTION_ID_LIMIT_ERROR", "PROTOCOL_VIOLATION", "INVALID_TOKEN",
	"APPLICATION_ERROR", "CRYPTO_BUFFER_EXCEEDED", "KEY_UPDATE_ERROR", "AEAD_LIMIT_REACHED", "NO_VIABLE_PATH",
}

func (c TransportErrorCode) String() string {
	switch {
	case c < TransportErrorCode(len(transportErrorNames)):
		return transportErrorNames[c]
	case c >= CryptoErrorBase && c < CryptoErrorBase+0x100:
		return fmt.Sprintf("CRYPTO_ERROR(0x%x)", uint64(c))
	}
	return fmt.Sprintf("0x%x", uint64(c))
}

// TransportError closes a connection with a transport error code: CONNECTION_CLOSE of type 0x1c.
type TransportError struct {
	Code      TransportErrorCode
	FrameType uint64 // frame that caused it, 0 when unknown
	Reason    string
	Remote    bool  // the peer closed the connection
	Err       error // cause on our side, for instance of crypto/tls; may be nil
}

func (e *TransportError) Error() string {
	s := "quic: " + who(e.Remote) + " closed the connection: " + e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

func (e *TransportError) Unwrap() error { return e.Err }

// ApplicationError closes a connection with a code of the application: CONNECTION_CLOSE of type 0x1d.
type ApplicationError struct {
	Code   uint64
	Reason string
	Remote bool
}

func (e *ApplicationError) Error() string {
	return fmt.Sprintf("quic: %s closed the connection: application error 0x%x %s", who(e.Remote), e.Code, e.Reason)
}

func who(remote bool) string {
	if remote {
		return "peer"
	}
	return "local"
}

// StreamError is returned by a stream's Read or Write after RESET_STREAM or STOP_SENDING.
type StreamError struct {
	StreamID uint64
	Code     uint64
	Remote   bool
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("quic: stream %d cancelled by %s with code 0x%x", e.StreamID, who(e.Remote), e.Code)
}

// IdleTimeoutError: nothing was received on any path for the idle timeout.
type IdleTimeoutError struct{}

func (*IdleTimeoutError) Error() string {
	return "quic: no packet from the peer within the idle timeout"
}
func (*IdleTimeoutError) Timeout() bool   { return true }
func (*IdleTimeoutError) Temporary() bool { return true }

// HandshakeTimeoutError: the handshake did not complete in time.
type HandshakeTimeoutError struct{}

func (*HandshakeTimeoutError) Error() string   { return "quic: handshake did not complete in time" }
func (*HandshakeTimeoutError) Timeout() bool   { return true }
func (*HandshakeTimeoutError) Temporary() bool { return true }

// StatelessResetError: the peer has lost the state of the connection.
type StatelessResetError struct{}

func (*StatelessResetError) Error() string { return "quic: stateless reset by the peer" }

// VersionNegotiationError: the server offers no version that we speak.
type VersionNegotiationError struct{ Offered []uint32 }

func (e *VersionNegotiationError) Error() string {
	return fmt.Sprintf("quic: no common version; the server offers %#x", e.Offered)
}
