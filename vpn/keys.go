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

// selfSigned makes a P-256 key and a certificate for it.
func selfSigned(host string, now time.Time) (certPEM, keyPEM []byte, pin [sha256.Size]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, pin, err
	}
	return certificateFor(key, host, now)
}

// certificateFor makes a certificate for host that is valid for ten years: clients
// know it by its pin, and no one reminds an operator to renew it.
func certificateFor(key *ecdsa.PrivateKey, host string, now time.Time) (certPEM, keyPEM []byte, pin [sha256.Size]byte, err error) {
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

// initServer writes a key, a certificate and a configuration that works, in this
// order, and prints what to run on both ends. It overwrites nothing: what an earlier
// run wrote that did not get to the end is used.
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
	dir, err := filepath.Abs(opt.dir)
	if err != nil {
		return err
	}
	confFile := filepath.Join(dir, "server.conf")
	if _, err := os.Lstat(confFile); err == nil {
		return errExists(confFile)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return failf(exitCode(err), "--dir: %w", err)
	}
	certFile, keyFile := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	pin, err := initCertificate(certFile, keyFile, server.Host)
	if err != nil {
		return failf(exitCode(err), "%w", err)
	}
	conf := fmt.Sprintf(serverConf, server.Port, server.Port, freeSubnet(), uniqueLocalPrefix(), certFile, keyFile, opt.user, key)
	if err := writeNew(confFile, []byte(conf), 0o600); err != nil {
		return failf(exitCode(err), "%w", err)
	}
	dial := net.JoinHostPort(server.Host, fmt.Sprint(server.Port))
	_, err = fmt.Fprintf(out, `Configuration %s, certificate %s, key %s.

On this host:
  mqvpn-server --config %s

On the client, one --path for each of its links:
  mqvpn-client --server %s --auth-key %s --pin %s --path auto
`, confFile, certFile, keyFile, confFile, dial, key, hex.EncodeToString(pin[:]))
	return err
}

// initCertificate makes a key and a certificate, or as much of them as is missing,
// and returns the pin.
func initCertificate(certFile, keyFile, host string) (pin [sha256.Size]byte, err error) {
	_, certErr := os.Lstat(certFile)
	_, keyErr := os.Lstat(keyFile)
	if certErr == nil && keyErr == nil {
		cert, err := loadCertificate(&Config{CertFile: certFile, KeyFile: keyFile})
		if err != nil {
			return pin, err
		}
		return spkiPin(cert.Leaf), nil
	}
	if certErr == nil {
		return pin, errExists(certFile)
	}
	var key *ecdsa.PrivateKey
	if keyErr == nil {
		key, err = readKey(keyFile)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return pin, err
	}
	certPEM, keyPEM, pin, err := certificateFor(key, host, time.Now())
	if err == nil && keyErr != nil {
		err = writeNew(keyFile, keyPEM, 0o600)
	}
	if err == nil {
		err = writeNew(certFile, certPEM, 0o644)
	}
	return pin, err
}

// readKey reads a key that an earlier run of init wrote.
func readKey(name string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := k.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, errExists(name)
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

func errExists(name string) error {
	return fmt.Errorf("%s exists and is left as it is: remove it first, or choose another place with --dir", name)
}

// writeNew makes a file, whole or not at all.
func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	err = os.Link(f.Name(), name) // unlike a rename this replaces nothing
	if errors.Is(err, fs.ErrExist) {
		return errExists(name)
	}
	return err
}
