// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// TestFirstStartFails: what will not get better by itself ends the client at once,
// with its own exit code and a line that helps.
func TestFirstStartFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(s *sim)
		client  func(s *sim, c *Config)
		code    ExitCode
		says    string
	}{
		{name: "wrong key", code: ExitWrongKey, says: "--auth-key",
			client: func(_ *sim, c *Config) { c.AuthKey = "nobody's" }},
		{name: "unknown interface", code: ExitInterface, says: "eth9",
			client: func(_ *sim, c *Config) { c.Paths = []string{"eth9"} }},
		{name: "wrong pin", code: ExitCertificate, says: "--pin",
			client: func(_ *sim, c *Config) { c.Pin = make([]byte, 32) }},
		{name: "untrusted", code: ExitCertificate, says: "nobody that this host trusts",
			prepare: func(s *sim) { s.newCertificate("203.0.113.1", time.Now()) }},
		{name: "wrong name", code: ExitCertificate, says: "not for 203.0.113.1 but for vpn.example.com",
			prepare: func(s *sim) { s.roots, _ = s.newCertificate("vpn.example.com", time.Now()) }},
		{name: "other name asked for", code: ExitCertificate, says: "not for vpn.example.com but for 203.0.113.1",
			client: func(_ *sim, c *Config) { c.TLSServerName = "vpn.example.com" }},
		{name: "expired", code: ExitCertificate, says: "valid from",
			prepare: func(s *sim) { s.roots, _ = s.newCertificate("203.0.113.1", time.Now().AddDate(-11, 0, 0)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, 1, func(t *testing.T, s *sim) {
				if tt.prepare != nil {
					tt.prepare(s)
				}
				server := s.startServer(nil)
				client := s.startClient(0, func(c *Config) {
					if tt.client != nil {
						tt.client(s, c)
					}
				})
				start := time.Now()
				<-client.done
				if exitCode(client.err) != tt.code || !strings.Contains(client.err.Error(), tt.says) {
					t.Errorf("error %v with exit code %d, want %d and %q", client.err, exitCode(client.err), tt.code, tt.says)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("took %v", took)
				}
				if !client.isClosed() {
					t.Error("changes of the system were not undone")
				}
				server.end()
			})
		})
	}
}

// TestCertificateAccepted: the ways to accept a certificate.
func TestCertificateAccepted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server func(s *sim)
		client func(s *sim, c *Config)
	}{
		{name: "address", client: func(*sim, *Config) {}},
		{name: "name of the server", server: func(s *sim) { s.roots, _ = s.newCertificate("vpn.example.com", time.Now()) },
			client: func(_ *sim, c *Config) { c.Servers[0].Host = "vpn.example.com" }},
		{name: "name given", server: func(s *sim) { s.roots, _ = s.newCertificate("vpn.example.com", time.Now()) },
			client: func(_ *sim, c *Config) { c.TLSServerName = "vpn.example.com" }},
		{name: "pin", server: func(s *sim) { _, s.pin = s.newCertificate("x", time.Now().AddDate(-11, 0, 0)) },
			client: func(s *sim, c *Config) { c.Pin = s.pin }},
		{name: "insecure", server: func(s *sim) { s.newCertificate("x", time.Now()) },
			client: func(_ *sim, c *Config) { c.Insecure = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, 1, func(t *testing.T, s *sim) {
				if tt.server != nil {
					tt.server(s)
				}
				server := s.startServer(nil)
				client := s.startClient(0, func(c *Config) { tt.client(s, c) })
				client.waitUp(time.Second)
				client.end()
				server.end()
			})
		})
	}
}

func TestPinMessageShowsPin(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		_, pin := s.newCertificate("203.0.113.1", time.Now())
		server := s.startServer(nil)
		client := s.startClient(0, nil)
		<-client.done
		if want := "--pin " + hex.EncodeToString(pin); client.err == nil || !strings.Contains(client.err.Error(), want) {
			t.Errorf("%v; want it to say %s", client.err, want)
		}
		server.end()
	})
}

// TestStartOverSecondLink: a link that is dead at the start costs less than 300 ms; the
// tunnel of the other needs less than that itself.
func TestStartOverSecondLink(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		h, links := s.newClientHost(0)
		links[0][0].SetBlackhole(true)
		client := s.runClient(h, 0, nil)
		client.waitUp(600 * time.Millisecond)
		wantPassed(t, client.simHost, server.simHost, ipPacket("10.0.0.2", "192.0.2.9", protoUDP, udp(1, 2, "x")))
		client.end()
		server.end()
	})
}

// TestServerNotThereYet: without a server the client tries again, unless told not to.
func TestServerNotThereYet(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		once := s.startClient(0, func(c *Config) { c.Reconnect = false })
		<-once.done
		if exitCode(once.err) != ExitUnreachable {
			t.Errorf("--no-reconnect: %v", once.err)
		}
		h, _ := s.newClientHost(1)
		client := s.runClient(h, 0, nil)
		time.Sleep(17 * time.Second)
		server := s.startServer(nil)
		client.waitUp(6 * time.Second)
		client.end()
		server.end()
	})
}

// TestNoReconnect: the loss of the connection ends the client, if it is told so.
func TestNoReconnect(t *testing.T) {
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		client := s.startClient(0, func(c *Config) { c.Reconnect = false })
		client.waitUp(time.Second)
		server.end()
		<-client.done
		if exitCode(client.err) != ExitUnreachable || !strings.Contains(client.err.Error(), "stopped") {
			t.Errorf("%v", client.err)
		}
	})
}
