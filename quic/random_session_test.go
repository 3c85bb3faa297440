// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/tls"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// randomTLS is the configuration of all random connections, so that they can share a
// session. It is the same in every process if its randomness is.
var randomTLS = sync.OnceValue(func() *tls.Config {
	cert, pool := quictest.Cert("server.test")
	config := &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: "server.test",
		NextProtos: []string{"test"}, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
	}
	config.SetSessionTicketKeys([][32]byte{{1}})
	return config
})

var randomSession struct {
	once  sync.Once
	state storedSession
}

// earlySession returns a session that allows 0-RTT. It makes randomTLS, too.
func earlySession(t *testing.T) storedSession {
	randomSession.once.Do(func() {
		cryptotest.SetGlobalRandom(t, 0)
		randomTLS()
		synctest.Test(t, func(t *testing.T) {
			r := newRandomRun(t, 0, randomTLS(), func(cfg *Config) {
				cfg.AllowEarlyData, cfg.Sessions, cfg.Datagrams = true, NewSessionStore(1), true
				cfg.StreamReceiveWindow, cfg.ConnReceiveWindow = 4000, 8000
				cfg.MaxIncomingStreams, cfg.MaxIncomingUniStreams = 3, 3
			})
			r.dial()
			r.advance(2 * time.Second)
			client := r.ends[0]
			if e := client.e.cfg.Sessions.of(client.c.serverKey()); e != nil {
				randomSession.state = takeNewest(&e.sessions)
			}
			r.cleanup()
		})
	})
	if randomSession.state.ClientSessionState == nil {
		t.Fatal("no session")
	}
	return randomSession.state
}

// sessionAge is the age of earlySession where it is used, more than it is in truth: each
// bubble begins at the same time.
const sessionAge = 10 * time.Second

// useSession has the client use 0-RTT.
func (r *randomRun) useSession(s storedSession) {
	client := r.ends[0]
	client.early = true
	if client.e.cfg.Sessions == nil {
		client.e.cfg.Sessions = NewSessionStore(1)
	}
	e := client.e.cfg.Sessions.touch(serverKey{name: "server.test", addr: serverAddr})
	e.sessions = pushNewest(e.sessions, s)
}
