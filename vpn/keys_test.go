// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewKey(t *testing.T) {
	a, b := newKey(), newKey()
	raw, err := base64.StdEncoding.DecodeString(a)
	if err != nil || len(raw) != 32 || a == b {
		t.Errorf("keys %q, %q", a, b)
	}
	if err := checkKey(a); err != nil {
		t.Error(err)
	}
}

// TestInit: the written server configuration and the printed client's command line
// are accepted and belong together.
func TestInit(t *testing.T) {
	for _, address := range []string{"vpn.example.com:8443", "203.0.113.1", "[2001:db8::1]:443", ""} {
		dir := filepath.Join(t.TempDir(), "etc")
		args := []string{"init", "--dir", dir, "--name", "alice"}
		if address != "" {
			args = append(args, "--address", address)
		}
		var out, errOut bytes.Buffer
		if code := Main(t.Context(), ModeServer, args, &out, &errOut); code != 0 {
			if address == "" && strings.Contains(errOut.String(), "--address") {
				continue // no default route where the test runs
			}
			t.Fatalf("%q: exit code %d: %s", address, code, &errOut)
		}
		settings, err := readConfigFile(filepath.Join(dir, "server.conf"))
		if err != nil {
			t.Fatal(err)
		}
		server, err := newConfig(ModeServer, settings, nil)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := loadCertificate(server)
		if err != nil {
			t.Fatal(err)
		}
		var line string
		for l := range strings.Lines(out.String()) {
			if strings.Contains(l, "mqvpn-client") {
				line = l
			}
		}
		inv, err := parseArgs(ModeClient, strings.Fields(line)[1:])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		client, err := newConfig(ModeClient, nil, inv.given)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if pin := spkiPin(cert.Leaf); !bytes.Equal(client.Pin, pin[:]) {
			t.Errorf("pin %x, certificate has %x", client.Pin, pin)
		}
		if server.Users[0] != (User{"alice", client.AuthKey}) {
			t.Errorf("client's key %q, server's users %v", client.AuthKey, server.Users)
		}
		if _, ok := cert.Leaf.PublicKey.(*ecdsa.PublicKey); !ok || cert.Leaf.PublicKey.(*ecdsa.PublicKey).Params().BitSize != 256 {
			t.Errorf("public key %T", cert.Leaf.PublicKey)
		}
		pool := x509.NewCertPool()
		pool.AddCert(cert.Leaf)
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: client.Servers[0].Host}); err != nil {
			t.Error(err)
		}
		if fi, err := os.Stat(server.KeyFile); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("key file: %v, %v", fi.Mode(), err)
		}
		if code := Main(t.Context(), ModeServer, args, &out, &errOut); code != int(ExitFailure) || !strings.Contains(errOut.String(), "left as it is") {
			t.Errorf("second init: exit code %d: %s", code, &errOut)
		}
	}
}

func TestLoadCertificateMessages(t *testing.T) {
	dir := t.TempDir()
	cert, _, _, err := selfSigned("a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, _, err := selfSigned("b", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{CertFile: filepath.Join(dir, "c"), KeyFile: filepath.Join(dir, "k")}
	if _, err := loadCertificate(cfg); exitCode(err) != ExitCertificate || !strings.Contains(err.Error(), "init") {
		t.Errorf("no files: %v", err)
	}
	os.WriteFile(cfg.CertFile, cert, 0o600)
	os.WriteFile(cfg.KeyFile, otherKey, 0o600)
	if _, err := loadCertificate(cfg); exitCode(err) != ExitCertificate || !strings.Contains(err.Error(), cfg.KeyFile) {
		t.Errorf("key of another certificate: %v", err)
	}
}
