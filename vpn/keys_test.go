// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
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

// TestInitInterrupted: whatever was written before init was killed, the next run
// completes it.
func TestInitInterrupted(t *testing.T) {
	run := func(dir string) (out string, code int) {
		var b bytes.Buffer
		code = Main(t.Context(), ModeServer, []string{"init", "--dir", dir, "--address", "203.0.113.1"}, &b, &b)
		return b.String(), code
	}
	for written := range 3 {
		dir := t.TempDir()
		if out, code := run(dir); code != 0 {
			t.Fatalf("init: %d, %s", code, out)
		}
		before := map[string][]byte{}
		for i, name := range []string{"server.key", "server.crt", "server.conf"} {
			path := filepath.Join(dir, name)
			if i < written {
				before[path], _ = os.ReadFile(path)
			} else {
				must(t, os.Remove(path))
			}
		}
		out, code := run(dir)
		if code != 0 {
			t.Fatalf("init after %d files: %d, %s", written, code, out)
		}
		for path, data := range before {
			if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
				t.Errorf("%s was overwritten", path)
			}
		}
		cert, err := loadCertificate(&Config{CertFile: filepath.Join(dir, "server.crt"), KeyFile: filepath.Join(dir, "server.key")})
		must(t, err)
		if pin := fmt.Sprintf("%x", spkiPin(cert.Leaf)); !strings.Contains(out, pin) {
			t.Errorf("the certificate's pin is %s; init says\n%s", pin, out)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 3 {
			t.Errorf("files: %v", entries)
		}
	}
	// Somebody's certificate without its key, or something that is no key, stays.
	for _, name := range []string{"server.crt", "server.key"} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600))
		if out, code := run(dir); code != int(ExitFailure) || !strings.Contains(out, name+" exists and is left as it is") {
			t.Errorf("%s was there: %d, %s", name, code, out)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("files: %v", entries)
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
