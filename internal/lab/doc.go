// SPDX-License-Identifier: Apache-2.0

// Package lab makes a small internet inside one process, to show and to test
// the real mqvpn binaries: hosts, links that behave like real ones, faults,
// traffic, and measurements. It needs Linux, and no external program.
//
// A [Host] is a network namespace without a name. It is held by a thread of
// this process and by a file descriptor, so nothing is left behind when the
// process ends, however it ends. Sockets are made in a host by [Host.Dial],
// [Host.Listen] and [Host.ListenPacket] and can then be used from any
// goroutine; processes are started in it by [Host.Start] and die with the lab.
//
// A [Link] joins two hosts by two TAP devices. One thread per direction reads
// the frames of one device, asks the link model of package quictest when each
// is to be delivered, and writes it to the other device at that moment. Links
// can be cut silently, taken down, watched and counted while traffic runs.
//
// All of this needs CAP_NET_ADMIN over the new namespaces. [Enter] obtains it by
// running the program again in a user namespace of its own when it has to.
package lab
