// SPDX-License-Identifier: Apache-2.0

// Package http3 is the part of HTTP/3 (RFC 9114) that a tunnel needs: requests and
// responses with a header and content, extended CONNECT (RFC 9220), HTTP Datagrams
// and the Capsule Protocol (RFC 9297). QPACK (RFC 9204) works with the static table
// and Huffman coding; a dynamic table is refused by announcing none. There is no
// push, and there are no priorities.
//
// A client calls NewClientConn on a QUIC connection and then Do for each request.
// A server passes each accepted connection to Server.Serve. Both get a
// RequestStream: an ordered stream of bytes or capsules, and datagrams beside it.
//
// Datagrams take no lock and no allocation on their way out; in PacketBuf's
// headroom the quarter stream id is prepended. On the way in they are given to the
// stream's handler on the loop of the QUIC connection.
//
// A violation by the peer is a *ConnError, which closes the connection, or a
// *StreamError, which resets the one stream. What ends on the peer's account shows
// as the *quic.ApplicationError or *quic.StreamError that it is; codes that nobody
// knows have no meaning of their own.
//
// Bounds: a field section has 16 KiB, a capsule 64 KiB, 32 datagrams are kept per
// connection for streams that are not ready, and the limits of the quic.Config
// bound the number of streams, which should be at least 100 for requests and 3 for
// unidirectional streams.
package http3
