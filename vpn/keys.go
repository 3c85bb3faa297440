// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// newKey returns a pre-shared key of 256 random bits.
func newKey() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// spkiPin is what --pin compares: the SHA-256 of a certificate's public key with
// its algorithm, so that a renewed certificate for the same key keeps its pin.
func spkiPin(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// selfSigned makes a P-256 key and a certificate for host that is valid for ten
// years: clients know it by its pin, and no one reminds an operator to renew it.
func selfSigned(host string, now time.Time) (certPEM, keyPEM []byte, pin [sha256.Size]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, pin, err
	}
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(randomBytes(16)),
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             now.Add(-time.Hour), // clients' clocks may be late
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		template.IPAddresses = []net.IP{ip.AsSlice()}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, pin, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, pin, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, pin, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return certPEM, keyPEM, spkiPin(cert), nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// loadCertificate reads the server's certificate and key.
func loadCertificate(cfg *Config) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(ExitCertificate, "%w: give --cert and --key, or run \"mqvpn-server init\" to make them", err)
	case err != nil:
		return nil, failf(ExitCertificate, "--cert %s, --key %s: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	return &cert, nil
}

// initOptions are the flags of mqvpn-server init.
type initOptions struct {
	dir     string
	address string // what clients are to dial; "": the address of the default route
	user    string
}

// initServer writes a certificate, its key and a configuration that works, and
// prints what to run on both ends. It overwrites nothing.
func initServer(opt initOptions, out io.Writer) error {
	if opt.address == "" {
		addr, err := outgoingAddr()
		if err != nil {
			return failf(ExitUsage, "--address HOST:PORT is needed: %w", err)
		}
		opt.address = addr.String()
	}
	server, err := parseServerAddr(opt.address)
	if err != nil {
		return failf(ExitUsage, "--address: %q: %w", opt.address, err)
	}
	key := newKey()
	if err := setUser(new(Config), opt.user+":"+key); err != nil {
		return failf(ExitUsage, "--name: %q: %w", opt.user, err)
	}
	certPEM, keyPEM, pin, err := selfSigned(server.Host, time.Now())
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(opt.dir)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	confFile := filepath.Join(dir, "server.conf")
	conf := fmt.Sprintf(serverConf, server.Port, server.Port, freeSubnet(), uniqueLocalPrefix(), certFile, keyFile, opt.user, key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return failf(exitCode(err), "--dir: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{keyFile, keyPEM, 0o600}, {certFile, certPEM, 0o644}, {confFile, []byte(conf), 0o600}} {
		if err := writeNew(f.name, f.data, f.mode); err != nil {
			return failf(exitCode(err), "%w", err)
		}
	}
	dial := net.JoinHostPort(server.Host, fmt.Sprint(server.Port))
	_, err = fmt.Fprintf(out, `Wrote %s, %s and %s.

On this host:
  mqvpn-server --config %s

On the client, one --path for each of its links:
  mqvpn-client --server %s --auth-key %s --pin %s --path auto
`, keyFile, certFile, confFile, confFile, dial, key, hex.EncodeToString(pin[:]))
	return err
}

const serverConf = `[Interface]
Listen = 0.0.0.0:%d
Listen = [::]:%d
Subnet = %s
Subnet6 = %s
NAT = auto

[TLS]
Cert = %s
Key = %s

# One line for each device. Its inner address follows from its place in the list,
# so add new ones at the end. "mqvpn-server genkey" makes a key.
[Auth]
User = %s:%s
`

// uniqueLocalPrefix is a random /64 of fd00::/8 (RFC 4193).
func uniqueLocalPrefix() netip.Prefix {
	var b [16]byte
	b[0] = 0xfd
	copy(b[1:6], randomBytes(5))
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// outgoingAddr is the address of this host that the default route uses. Nothing is sent.
func outgoingAddr() (netip.Addr, error) {
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		conn, err = net.Dial("udp6", "[2001:db8::1]:9")
	}
	if err != nil {
		return netip.Addr{}, errors.New("this host has no default route that would show its address")
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is: remove it first, or choose another place with --dir", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
