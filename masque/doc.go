// SPDX-License-Identifier: Apache-2.0

// Package masque is IP proxying over HTTP/3 (RFC 9484, CONNECT-IP), for both ends.
//
// A client calls Dial on an http3.ClientConn, a server calls Server.Accept in the
// handler of its http3.Server; both get a Session. It carries inner packets: Send
// takes them in the PacketBufs that they came in, SetHandler names who gets those
// of the peer. It tells each end its addresses (AssignAddresses, Assigned) and
// what the other end forwards to (AdvertiseRoutes, Routes).
//
// Each inner packet is checked in both directions: form, hop limit, link-local
// addresses, source and destination against what was assigned, destination against
// the routes. What fails is dropped and counted by reason; it is never an error of
// the tunnel. The sender of a packet that Send cannot carry is told by ICMP. The
// hop limit is not changed: packets pass a kernel before and behind the tunnel,
// and it has decremented it already.
package masque
