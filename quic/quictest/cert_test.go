// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestCert(t *testing.T) {
	cert, pool := Cert("vpn.example", "192.0.2.1")
	for _, name := range []string{"vpn.example", "192.0.2.1"} {
		for _, year := range []int{2000, 2050} {
			_, err := cert.Leaf.Verify(x509.VerifyOptions{
				DNSName: name, Roots: pool, CurrentTime: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC),
			})
			if err != nil {
				t.Errorf("%s in %d: %v", name, year, err)
			}
		}
	}
	if err := cert.Leaf.VerifyHostname("other.example"); err == nil {
		t.Error("valid for another name")
	}
}
