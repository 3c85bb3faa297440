// SPDX-License-Identifier: Apache-2.0

// Package vpn is the client and the server of mqvpn: what the programs mqvpn-client
// and mqvpn-server do behind their flags.
//
//	os.Exit(vpn.Main(ctx, vpn.ModeClient, os.Args[1:], os.Stdout, os.Stderr))
//
// # Packets
//
// A packet from the kernel is read by the TUN reader (router.go) straight into a
// buffer of package quic. It gets its flow key (flow.go), the router finds the
// session by its destination, and each session gets its share of the batch. A
// packet from a peer comes on the loop of its connection; a tunSink (tunwriter.go)
// collects it until the end of the batch, which it writes if nobody else is writing;
// else it queues a copy for the TUN writer. Neither side ever waits for the other:
// queues are bounded, and what does not fit is dropped and counted.
//
//	goroutine      number           owns
//	TUN reader     1                outlet.pending, the buffers being filled
//	TUN writer     1                batches taken from its queue
//	connection     1 per client     the tunSink of its session (package quic runs it)
//	session        1 per client     server: the handler of the request
//	client         1                TUN configuration, routes, the tunnel in use
//	rescue         at most 1        client: a second connection while the first is silent
//	control        at most 9        control socket
//
// Traffic between two clients of a server is not short-cut: it goes into the kernel
// and comes back, if forwarding is on there, so that the firewall of the server
// decides about it.
//
// # The host
//
// All that is changed in the system, apart from the TUN interface, which ends with
// the process, is written to a journal first (journal_linux.go). It is undone at
// the end, and by the next run when this one is killed. Routes and rules bear a
// protocol number of ours, so that nobody else's can be hit.
//
// # Addresses
//
// The n-th user of a server's configuration owns the n-th pair of addresses
// (addrpool.go). A user has one session; a newer connection takes over the place of
// an older one.
package vpn
