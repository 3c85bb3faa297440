// SPDX-License-Identifier: Apache-2.0

// Package quictest helps to test what is built on QUIC: a link model (Link), a
// simulated network whose sockets take the place of the kernel's (Net), and
// certificates (Cert).
//
// Link is a pure function of its inputs and its seed. Net drives it in the virtual
// time of a testing/synctest bubble, so that minutes of network time take
// milliseconds:
//
//	synctest.Test(t, func(t *testing.T) {
//		net := quictest.NewNet(1)
//		defer net.Close()
//		net.AddLink("10.0.1.2", "192.0.2.1", quictest.LinkConfig{Rate: 100e6, Delay: 20 * time.Millisecond})
//		client := net.Socket(netip.MustParseAddrPort("10.0.1.2:5000"), 1500)
//		server := net.Socket(netip.MustParseAddrPort("0.0.0.0:443"), 1500)
//		…
//	})
//
// The network works in real time as well, without the bubble.
package quictest
