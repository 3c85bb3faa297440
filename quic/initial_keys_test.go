// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"
)

// TestInitialKeysLikeHKDF: for connection ids of every length the keys are those that
// crypto/hkdf derives. R9001-5.2-1
func TestInitialKeysLikeHKDF(t *testing.T) {
	for n := range maxCIDLen + 1 {
		dcid := bytes.Repeat([]byte{byte(0x80 + n)}, n)
		secret, err := hkdf.Extract(sha256.New, dcid, initialSalt[:])
		if err != nil {
			t.Fatal(err)
		}
		client, server := initialKeys(dcid)
		for _, side := range []struct {
			k     *keys
			label string
		}{{client, "client in"}, {server, "server in"}, {clientInitialKeys(dcid), "client in"}} {
			want, err := suiteAES128.newKeys(expandLabel(sha256.New, secret, side.label, sha256.Size))
			if err != nil {
				t.Fatal(err)
			}
			var a, b sealScratch
			const hdrLen, pnLen = 20, 4
			pkt := make([]byte, 100, 100+aeadTagLen)
			other := append(make([]byte, 0, 100+aeadTagLen), pkt...)
			got, expected := side.k.seal(&a, pkt, hdrLen, pnLen, 0, 7), want.seal(&b, other, hdrLen, pnLen, 0, 7)
			if !bytes.Equal(side.k.secret, want.secret) || !bytes.Equal(got, expected) {
				t.Errorf("%s of a connection id of %d bytes differs", side.label, n)
			}
		}
	}
}
