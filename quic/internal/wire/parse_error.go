// SPDX-License-Identifier: Apache-2.0

package wire

// ParseError tells why a frame cannot be parsed. It is a plain number, so that hostile
// input costs no allocation; the zero value means success.
type ParseError uint8

const (
	ParseOK           ParseError = iota
	ErrTruncated                 // the packet ends within the frame
	ErrUnknownType               // frame type not known, or multipath not negotiated
	ErrTypeNotMinimal            // frame type not in its shortest encoding
	ErrAckRange                  // ACK range below packet number 0
	ErrOffset                    // stream or CRYPTO data beyond offset 2^62-1
	ErrStreamCount               // more than 2^60 streams
	ErrConnIDLength              // connection id of 0 or more than 20 bytes
	ErrRetirePriorTo             // Retire Prior To above the frame's sequence number
	ErrEmptyToken                // NEW_TOKEN without a token
	ErrPathID                    // path id above 2^32-1
)

var parseErrorNames = [...]string{
	ParseOK:           "ok",
	ErrTruncated:      "frame is cut short",
	ErrUnknownType:    "unknown frame type",
	ErrTypeNotMinimal: "frame type is not in its shortest encoding",
	ErrAckRange:       "ACK range below packet number 0",
	ErrOffset:         "data beyond offset 2^62-1",
	ErrStreamCount:    "more than 2^60 streams",
	ErrConnIDLength:   "connection id of invalid length",
	ErrRetirePriorTo:  "Retire Prior To above the sequence number",
	ErrEmptyToken:     "empty token",
	ErrPathID:         "path id above 2^32-1",
}

func (e ParseError) String() string { return parseErrorNames[e] }

// TransportCode is the error code of RFC 9000 section 20.1 with which the connection
// is to be closed.
func (e ParseError) TransportCode() uint64 {
	const frameEncodingError, protocolViolation = 0x7, 0xa
	switch e {
	case ParseOK:
		return 0
	case ErrTypeNotMinimal, ErrPathID:
		return protocolViolation
	}
	return frameEncodingError
}
