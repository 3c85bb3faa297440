// SPDX-License-Identifier: Apache-2.0

package quic

const (
	version1 = 1
	// minInitialSize is the smallest UDP payload with an Initial packet, and what every
	// path must carry (RFC 9000 section 14).
	minInitialSize = 1200
	// maxCIDLen is the largest connection id of QUIC version 1.
	maxCIDLen = 20
)

var supportedVersions = []uint32{version1}
