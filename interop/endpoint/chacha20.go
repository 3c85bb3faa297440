// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/tls"
	_ "unsafe" // for go:linkname
)

// crypto/tls does not let its users choose the cipher suites of TLS 1.3, which the test
// case chacha20 does. These are the lists that it chooses from.
//
//go:linkname defaultCipherSuitesTLS13 crypto/tls.defaultCipherSuitesTLS13
var defaultCipherSuitesTLS13 []uint16

//go:linkname defaultCipherSuitesTLS13NoAES crypto/tls.defaultCipherSuitesTLS13NoAES
var defaultCipherSuitesTLS13NoAES []uint16

// OnlyChaCha20 leaves one cipher suite to the whole process.
func OnlyChaCha20() {
	only := []uint16{tls.TLS_CHACHA20_POLY1305_SHA256}
	defaultCipherSuitesTLS13, defaultCipherSuitesTLS13NoAES = only, only
}
