// SPDX-License-Identifier: Apache-2.0

// Package wire is the encoding of QUIC version 1 packets and frames: variable-length
// integers, packet headers, packet numbers, and the frames of RFC 9000, RFC 9221 and
// draft-ietf-quic-multipath-21.
//
// It holds no state and knows no connection: whatever can be decided by looking at one
// header or one frame is checked here, everything else is the caller's. Parsers neither
// allocate nor copy: byte slices in their results alias the input. Append functions
// extend a slice that the caller has made large enough; a value that the encoding cannot
// represent is a bug of the caller and panics. All functions are safe for concurrent use.
package wire
