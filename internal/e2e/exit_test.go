// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Exit codes that the programs document in --help.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitPermission  = 3
	exitNoTUN       = 4
	exitInterface   = 5
	exitAddressUsed = 6
	exitWrongKey    = 7
	exitCertificate = 8
	exitUnreachable = 9
	exitRefused     = 10
	exitNotRunning  = 11
)

// runClient runs client 0 to its end, which must come by itself.
func (w *world) runClient(env []string, args ...string) (output string, code int) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	out, code, err := w.Clients[0].Run(ctx, lab.Command{Path: programs.Client, Args: args, Env: env})
	if err != nil {
		w.t.Errorf("mqvpn-client does not end; its output:\n%s", out)
	}
	return out, code
}

// expectExit checks an exit code and that one line says why.
func expectExit(t *testing.T, output string, code, want int, says ...string) {
	t.Helper()
	if code != want {
		t.Errorf("exit code %d, want %d; output:\n%s", code, want, output)
	}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	last := lines[len(lines)-1]
	for _, s := range says {
		if !strings.Contains(last, s) {
			t.Errorf("%q is not in the last line: %s", s, last)
		}
	}
}

func TestHelpListsTheExitCodes(t *testing.T) {
	for _, program := range []string{programs.Client, programs.Server} {
		help, err := exec.Command(program, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		_, list, _ := strings.Cut(string(help), "Exit codes:")
		for _, code := range []int{0, exitFailure, exitUsage, exitPermission, exitNoTUN, exitInterface, exitAddressUsed,
			exitWrongKey, exitCertificate, exitUnreachable, exitRefused, exitNotRunning} {
			if !strings.Contains(list, fmt.Sprintf("\n  %2d  ", code)) {
				t.Errorf("%s --help does not tell what exit code %d is", program, code)
			}
		}
	}
}

func TestExitCodesOfTheClient(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast})
	w.startServer()
	noPin := without(w.login, "--pin")
	for _, test := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"wrong key", append(without(w.login, "--auth-key"), "--auth-key", "wrong"), exitWrongKey, []string{"key"}},
		{"untrusted certificate", noPin, exitCertificate, []string{"certificate"}},
		{"wrong pin", append(slices.Clone(noPin), "--pin", strings.Repeat("00", 32)), exitCertificate, []string{"pin"}},
		{"unknown interface", append(slices.Clone(w.login), "--path", "eth9"), exitInterface, []string{"eth9", "eth0"}},
		{"nobody listens", append(without(w.login, "--server"), "--server", "203.0.113.1:444", "--no-reconnect"), exitUnreachable, []string{"203.0.113.1:444"}},
		{"unknown flag", []string{"--servr", "x"}, exitUsage, []string{"--servr", "--server"}},
		{"status of nothing", []string{"status"}, exitNotRunning, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.t = t
			out, code := w.runClient(nil, test.args...)
			expectExit(t, out, code, test.code, test.says...)
		})
	}
	// None of this has left anything.
	if iface, err := w.Clients[0].RouteTo(lab.InsideAddr4); err != nil || iface != "eth0" {
		t.Errorf("the inside is routed through %q, %v", iface, err)
	}
}

// TestCertificates gives the server certificates that the client's system would
// trust, but for one thing each.
func TestCertificates(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name     string
		host     string
		notAfter time.Time
		says     string // empty: the client comes up
	}{
		{"good", lab.ServerAddr4.String(), now.Add(time.Hour), ""},
		{"wrong name", "198.51.100.7", now.Add(time.Hour), "198.51.100.7"},
		{"expired", lab.ServerAddr4.String(), now.Add(-time.Hour), "valid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast})
			cert, key := selfSigned(t, test.host, test.notAfter)
			for _, f := range []struct {
				host *lab.Host
				name string
				data []byte
			}{{w.Server, "/run/lab/other.crt", cert}, {w.Server, "/run/lab/other.key", key}, {w.Clients[0], "/run/lab/roots.pem", cert}} {
				if err := f.host.WriteFile(f.name, f.data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.startServer("--config", lab.ServerConfig, "--cert", "/run/lab/other.crt", "--key", "/run/lab/other.key")
			trust := []string{"SSL_CERT_FILE=/run/lab/roots.pem"}
			args := w.clientArgs(0, without(w.login, "--pin")...)
			if test.says != "" {
				out, code := w.runClient(trust, args...)
				expectExit(t, out, code, exitCertificate, test.says)
				return
			}
			ctx, cancel := w.context()
			defer cancel()
			if _, err := programs.StartClient(ctx, w.Clients[0], args, trust...); err != nil {
				t.Fatal(err)
			}
			w.ping(w.Clients[0], lab.InsideAddr4)
		})
	}
}

// selfSigned makes a certificate for an address, PEM encoded.
func selfSigned(t *testing.T, host string, notAfter time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             notAfter.Add(-24 * time.Hour),
		NotAfter:              notAfter,
		IPAddresses:           []net.IP{net.ParseIP(host)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func TestExitCodesOfTheServer(t *testing.T) {
	w := newWorld(t, lab.ServerAddr4, []lab.LinkConfig{fast})
	taken, err := w.Server.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", serverPort))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"taken port", []string{"--config", lab.ServerConfig}, exitAddressUsed, []string{"443"}},
		{"no certificate", []string{"--config", lab.ServerConfig, "--cert", "/run/nothing.crt"}, exitCertificate, []string{"/run/nothing.crt"}},
		{"no users", []string{"--cert", "/run/lab/server.crt", "--key", "/run/lab/server.key"}, exitUsage, []string{"--user"}},
		{"init again", []string{"init", "--dir", "/run/lab", "--address", "203.0.113.1:443"}, exitFailure, []string{"/run/lab/server.conf"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := w.context()
			defer cancel()
			out, code, err := w.Server.Run(ctx, lab.Command{Path: programs.Server, Args: test.args})
			if err != nil {
				t.Fatalf("mqvpn-server does not end: %v; its output:\n%s", err, out)
			}
			expectExit(t, out, code, test.code, test.says...)
		})
	}
}
