// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// alpnH3 is the application protocol of HTTP/3.
	alpnH3 = "h3"
	// noName is sent as the server's name when that is an IP address: names in SNI
	// are host names, Go leaves an address out, and servers that insist on SNI exist.
	noName = "mqvpn.invalid"
)

// serverTLS is the TLS configuration of a server. The curves are Go's defaults,
// which include P-256 for clients that know no other.
func serverTLS(cert *tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{*cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpnH3},
		SessionTicketsDisabled: true,
	}
}

// statelessResetKey follows from the server's private key, so that a restarted
// server can end the connections of the former one.
func statelessResetKey(cert *tls.Certificate) (*[32]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "mqvpn stateless reset", 32)
	return (*[32]byte)(key), err
}

// clientTLS is the TLS configuration for connecting to host. roots are the
// certificate authorities, nil for those of the system.
func clientTLS(cfg *Config, host string, roots *x509.CertPool) *tls.Config {
	name := cfg.TLSServerName
	if name == "" {
		name = host
	}
	sni := name
	if _, err := netip.ParseAddr(name); err == nil {
		sni = noName
	}
	return &tls.Config{
		ServerName: sni,
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpnH3},
		// The certificate is verified below in each case but --insecure: against an
		// address although another name is sent, or against a pin.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			switch {
			case cfg.Insecure:
				return nil
			case cfg.Pin != nil:
				return checkPin(cs.PeerCertificates[0], cfg.Pin)
			}
			return verifyCertificate(cs.PeerCertificates, name, roots, time.Now())
		},
	}
}

func checkPin(cert *x509.Certificate, pin []byte) error {
	got := spkiPin(cert)
	if subtle.ConstantTimeCompare(got[:], pin) != 1 {
		return failf(ExitCertificate, "the server's certificate has another key than --pin says: it has %s. If nobody replaced it on purpose, someone is in between", hex.EncodeToString(got[:]))
	}
	return nil
}

// verifyCertificate checks chain and name and says in one line what is wrong and
// what to do.
func verifyCertificate(chain []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) error {
	leaf := chain[0]
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates, CurrentTime: now})
	if err == nil {
		return nil
	}
	pin := spkiPin(leaf)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return failf(ExitCertificate, "the server's certificate is signed by nobody that this host trusts; if it is yours, add --pin %x", pin)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return failf(ExitCertificate, "the server's certificate is not for %s but for %s; see --tls-server-name, or add --pin %x", name, certNames(leaf), pin)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return failf(ExitCertificate, "the server's certificate is valid from %s to %s, and it is %s: renew it, or set this host's clock",
			leaf.NotBefore.UTC().Format(time.DateTime), leaf.NotAfter.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	return failf(ExitCertificate, "the server's certificate is not accepted: %w", err)
}

func certNames(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}
