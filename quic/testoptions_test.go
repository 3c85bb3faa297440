// SPDX-License-Identifier: Apache-2.0

package quic

// Options of scripted and established, besides func(*Config), func(*testParams) and
// func(*tls.Config).

// multipathUpTo is an option: the peer announces initial_max_path_id n, and so does
// the connection.
type multipathUpTo uint64

// originalDCID is an option: a server's original_destination_connection_id, nil for
// none.
type originalDCID struct{ value []byte }

// draft15 is an option after multipathUpTo: the peer knows only the code points of
// draft-ietf-quic-multipath-15.
type draft15 struct{}

// dialEarly is an option: a client uses 0-RTT if it can, and the application does this as
// soon as it may send.
type dialEarly func(c *Conn)

// rejectEarly is an option: a server as peer rejects 0-RTT.
type rejectEarly struct{}

// socketMTU is an option: the MTU of the interface of the first socket.
type socketMTU int

// reportECN is an option: the peer reports the ECN fields of what it receives.
type reportECN struct{}
