// SPDX-License-Identifier: Apache-2.0

// Package interop tests mqvpn against other implementations. It is a module of its
// own, so that peers used only for testing never enter the product's dependencies.
//
// TestRunner runs the test cases of the QUIC interop runner, with less data: each
// side is a process of its own with the runner's environment, between them a relay that
// is slow, loses, damages, is a black hole, or gives the client another address. It
// prints the table that stands in docs/conformance.md. One case, or one pair:
//
//	go test -v -run 'TestRunner/rebind-addr' .
//	go test -v -run 'TestRunner/.*/mqvpn_to_quic-go' .
//
// TestGoodput compares the goodput of one connection with that of quic-go, and
// TestGoodputTable prints more of that (-goodput).
//
// quicflow is no test: it is the QUIC flow of quic-go inside the tunnel that mqvpn-lab suite
// measures.
//
// The endpoint that the runner itself starts is cmd/mqvpn-interop; in the runner's image
// it stands alone behind the set-up script. By hand, with the runner's variables or flags:
//
//	go build -o /tmp/mqvpn-interop ./cmd/mqvpn-interop
//	TESTCASE=http3 /tmp/mqvpn-interop -role server -www DIR -certs DIR -listen 127.0.0.1:4433
//	TESTCASE=http3 REQUESTS=https://127.0.0.1:4433/FILE /tmp/mqvpn-interop -role client -downloads DIR
//
// DIR of -certs holds cert.pem and priv.key. The exit code is 0, 1 for a failure, 127
// for a test case that is not supported.
package interop
