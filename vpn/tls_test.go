// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

// TestCurves: both ends get along with a peer that knows only P-256.
func TestCurves(t *testing.T) {
	p256 := []tls.CurveID{tls.CurveP256}
	for _, tt := range []struct {
		name           string
		client, server []tls.CurveID
	}{
		{"server", nil, p256},
		{"client", p256, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, 1, func(t *testing.T, s *sim) {
				cert, err := loadCertificate(s.serverConfig())
				must(t, err)
				serverConf, clientConf := serverTLS(cert), clientTLS(&Config{}, "203.0.113.1", s.roots)
				serverConf.CurvePreferences, clientConf.CurvePreferences = tt.server, tt.client
				sni := ""
				serverConf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
					sni = h.ServerName
					return nil, nil
				}
				server := quic.NewEndpoint(&quic.Config{TLS: serverConf})
				server.AddSocket(s.net.Socket(simServerAddr, 1500))
				client := quic.NewEndpoint(nil)
				h, _ := s.newClientHost(0)
				socket, err := h.listen(netip.MustParseAddrPort("0.0.0.0:0"), "if0")
				must(t, err)
				client.AddSocket(socket)
				conn, err := client.Dial(t.Context(), socket, simServerAddr, &quic.Config{TLS: clientConf, HandshakeTimeout: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				if got := conn.ConnectionState().CurveID; got != tls.CurveP256 {
					t.Errorf("curve %v", got)
				}
				if sni != noName {
					t.Errorf("SNI %q for a server without a name, want %q", sni, noName)
				}
				client.Close()
				server.Close()
			})
		})
	}
}

// TestServerName: a name is sent as it was configured, and the certificate must be for it
// and from somebody who is trusted.
func TestServerName(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		strangers := s.roots
		roots, _ := s.newCertificate("vpn.example", time.Now())
		cert, err := loadCertificate(s.serverConfig())
		must(t, err)
		conf, sni := serverTLS(cert), ""
		conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			sni = h.ServerName
			return nil, nil
		}
		server := quic.NewEndpoint(&quic.Config{TLS: conf})
		server.AddSocket(s.net.Socket(simServerAddr, 1500))
		defer server.Close()
		h, _ := s.newClientHost(0)
		for _, tt := range []struct {
			name  string
			roots *x509.CertPool
			ok    bool
		}{
			{"vpn.example", roots, true},
			{"other.example", roots, false},   // R9114-3.1-1
			{"vpn.example", strangers, false}, // R9114-3.1-1
			{"sub.vpn.example", roots, false}, // R9114-3.1-1
		} {
			client := quic.NewEndpoint(nil)
			socket, err := h.listen(netip.MustParseAddrPort("0.0.0.0:0"), "if0")
			must(t, err)
			client.AddSocket(socket)
			_, err = client.Dial(t.Context(), socket, simServerAddr, &quic.Config{TLS: clientTLS(&Config{}, tt.name, tt.roots), HandshakeTimeout: time.Second})
			if (err == nil) != tt.ok || err != nil && exitCode(explain(err)) != ExitCertificate {
				t.Errorf("%s: %v", tt.name, err)
			}
			if sni != tt.name { // R9114-3.2-1
				t.Errorf("SNI %q, want %q", sni, tt.name)
			}
			client.Close()
		}
	})
}

// TestStatelessResetKey: it follows from the key of the certificate and nothing else.
func TestStatelessResetKey(t *testing.T) {
	keys := map[[32]byte]bool{}
	for range 2 {
		certPEM, keyPEM, _, err := selfSigned("x", time.Now())
		must(t, err)
		cert, err := tls.X509KeyPair(certPEM, keyPEM)
		must(t, err)
		a, err := statelessResetKey(&cert)
		must(t, err)
		b, err := statelessResetKey(&cert)
		must(t, err)
		if *a != *b {
			t.Error("not the same after a restart")
		}
		keys[*a] = true
	}
	if len(keys) != 2 {
		t.Error("two certificates have one key")
	}
}
