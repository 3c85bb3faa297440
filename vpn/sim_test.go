// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// simServerAddr is where the server of a simulation listens.
var simServerAddr = netip.MustParseAddrPort("203.0.113.1:443")

// sim is a simulated network with one server and clients, in a synctest bubble.
type sim struct {
	t     *testing.T
	net   *quictest.Net
	roots *x509.CertPool
	pin   []byte
	dir   string
	users []User
	log   io.Writer
}

// simulate runs a test in a bubble. The certificate is made for the time in there.
func simulate(t *testing.T, users int, f func(t *testing.T, s *sim)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, net: quictest.NewNet(1), roots: x509.NewCertPool(), dir: dir, log: t.Output()}
		defer s.net.Close()
		for i := range users {
			s.users = append(s.users, User{fmt.Sprintf("user%d", i), fmt.Sprintf("key%d", i)})
		}
		s.roots, s.pin = s.newCertificate("203.0.113.1", time.Now())
		f(t, s)
	})
}

// newCertificate puts a certificate in place of the server's.
func (s *sim) newCertificate(host string, now time.Time) (*x509.CertPool, []byte) {
	certPEM, keyPEM, pin, err := selfSigned(host, now)
	must(s.t, err)
	must(s.t, os.WriteFile(filepath.Join(s.dir, "c"), certPEM, 0o600))
	must(s.t, os.WriteFile(filepath.Join(s.dir, "k"), keyPEM, 0o600))
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(s.t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots, pin[:]
}

// simHost stands for the system of one host.
type simHost struct {
	sim   *sim
	dev   *tuntest.Device
	addrs map[string]netip.Addr // of interfaces

	mu       sync.Mutex
	routes   []netip.Prefix
	limits   map[netip.Addr]int // set by limitPackets
	closed   bool
	indexes  map[string]int // of interfaces that were made anew
	down     map[string]bool
	routeErr error // of routeServer
	events   chan struct{}
}

func (s *sim) newHost(name string) *simHost {
	return &simHost{
		sim: s, dev: tuntest.New(name), addrs: map[string]netip.Addr{}, limits: map[netip.Addr]int{},
		indexes: map[string]int{}, down: map[string]bool{}, events: make(chan struct{}, 1),
	}
}

func (h *simHost) createTUN() (tunDevice, error) { return h.dev, nil }

func (h *simHost) listen(addr netip.AddrPort, iface string) (quic.Socket, error) {
	if iface != "" {
		h.mu.Lock()
		addr = netip.AddrPortFrom(h.addrs[iface], addr.Port())
		h.mu.Unlock()
	}
	return h.sim.net.Socket(addr, 1500), nil
}

func (h *simHost) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed, h.routes = true, nil
	return nil
}

func (h *simHost) interfaces(wanted []string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range wanted {
		if !isPattern(w) && !h.addrs[w].IsValid() {
			return nil, failf(ExitInterface, "no interface %s", w)
		}
	}
	names := selectInterfaces(wanted, slices.Sorted(maps.Keys(h.addrs)))
	if len(names) == 0 {
		return nil, failf(ExitInterface, "no interface")
	}
	return names, nil
}

func (h *simHost) lookup(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{simServerAddr.Addr()}, nil
}

func (h *simHost) routePath(string) error         { return nil }
func (h *simHost) checkInner(netip.Addr) error    { return nil }
func (h *simHost) changed() <-chan struct{}       { return h.events }
func (h *simHost) enableNAT([]netip.Prefix) error { return nil }
func (h *simHost) enableForwarding([]netip.Prefix) error {
	return nil
}

func (h *simHost) checkPools([]netip.Prefix) error { return nil }

func (h *simHost) limitPackets(client netip.Addr, mtu int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if mtu == 0 {
		delete(h.limits, client)
	} else {
		h.limits[client] = mtu
	}
	return nil
}

// packetLimits are the clients with a limit of their own.
func (h *simHost) packetLimits() map[netip.Addr]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.limits)
}

func (h *simHost) routeServer(string, netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.routeErr
}

func (h *simHost) link(iface string, _ bool) linkState {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.addrs[iface]
	if !ok {
		return linkState{}
	}
	return linkState{index: 1 + h.indexes[iface], up: !h.down[iface], addrs: []netip.Addr{a}}
}

func (h *simHost) routeTunnel(dests, _ []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routes = dests
	return nil
}

// tunnelRoutes are the destinations that go into the tunnel.
func (h *simHost) tunnelRoutes() []netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.routes)
}

func (h *simHost) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// simProgram is a running client or server.
type simProgram struct {
	*simHost
	client *client // nil: a server
	t      *testing.T
	stop   context.CancelFunc
	done   chan struct{}
	err    error
}

func (s *sim) start(h *simHost, run func(context.Context) error) *simProgram {
	ctx, cancel := context.WithCancel(s.t.Context())
	p := &simProgram{simHost: h, t: s.t, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = run(ctx)
	}()
	synctest.Wait() // a server listens now
	return p
}

// end stops a program and waits for it.
func (p *simProgram) end() error {
	p.stop()
	<-p.done
	return p.err
}

func (s *sim) logger(name string) *slog.Logger {
	h := slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelInfo})
	return slog.New(h).With("host", name)
}

func (s *sim) serverConfig() *Config {
	cfg := defaultConfig(ModeServer)
	cfg.Listen = []netip.AddrPort{simServerAddr}
	cfg.Subnet6 = pfx("fd00::/64")
	cfg.CertFile, cfg.KeyFile = filepath.Join(s.dir, "c"), filepath.Join(s.dir, "k")
	cfg.Users, cfg.Control = s.users, "off"
	return cfg
}

func (s *sim) startServer(edit func(*Config)) *simProgram {
	cfg := s.serverConfig()
	if edit != nil {
		edit(cfg)
	}
	h := s.newHost("server")
	return s.start(h, newServer(cfg, s.logger("server"), h).run)
}

// simClient is a client with two links.
type simClient struct {
	*simProgram
	links [2][2]*quictest.Link // per interface: to and from the server
}

var simLinks = [2]quictest.LinkConfig{
	{Rate: 50e6, Delay: 10 * time.Millisecond, QueueBytes: 300_000},
	{Rate: 50e6, Delay: 25 * time.Millisecond, QueueBytes: 300_000},
}

// newClient joins a client to the server; number 0 to 9, each with its own links.
func (s *sim) newClientHost(number int) (*simHost, [2][2]*quictest.Link) {
	h := s.newHost(fmt.Sprintf("client%d", number))
	var links [2][2]*quictest.Link
	for i, cfg := range simLinks {
		a := netip.AddrFrom4([4]byte{10, byte(i + 1), byte(number), 2})
		h.addrs[fmt.Sprintf("if%d", i)] = a
		links[i][0], links[i][1] = s.net.AddLink(a.String(), simServerAddr.Addr().String(), cfg)
	}
	return h, links
}

func (s *sim) startClient(number int, edit func(*Config)) *simClient {
	h, links := s.newClientHost(number)
	return &simClient{s.runClient(h, number, edit), links}
}

func (s *sim) clientConfig(number int) *Config {
	cfg := defaultConfig(ModeClient)
	cfg.Servers = []ServerAddr{{simServerAddr.Addr().String(), simServerAddr.Port()}}
	cfg.Paths, cfg.Control = []string{"if0", "if1"}, "off"
	cfg.AuthKey = s.users[number].Key
	return cfg
}

func (s *sim) runClient(h *simHost, number int, edit func(*Config)) *simProgram {
	cfg := s.clientConfig(number)
	if edit != nil {
		edit(cfg)
	}
	c := newClient(cfg, s.logger(h.dev.Name()), h, s.roots)
	p := s.start(h, c.run)
	p.client = c
	return p
}

// startTunnel starts a server and client 0, which has been up for a second.
func (s *sim) startTunnel(edit func(*Config)) (server *simProgram, client *simClient) {
	server, client = s.startServer(nil), s.startClient(0, edit)
	client.waitUp(time.Second)
	time.Sleep(time.Second)
	return server, client
}

// waitUp waits until the client's TUN device has its addresses.
func (p *simProgram) waitUp(limit time.Duration) []netip.Prefix {
	p.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		select {
		case <-p.done:
			p.t.Fatalf("ended instead of coming up: %v", p.err)
		default:
		}
		if addrs := p.dev.Addresses(); len(p.tunnelRoutes()) > 0 && len(addrs) > 0 {
			return addrs
		}
	}
	p.t.Fatalf("not up after %v", limit)
	return nil
}

// send puts a packet into the TUN device of from and waits for it at that of to.
func send(t *testing.T, from, to *simHost, pkt []byte) bool {
	t.Helper()
	if !from.dev.Inject(pkt) {
		t.Fatal("TUN device takes no packet")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for {
		got, err := to.dev.Receive(ctx)
		if err != nil {
			return false
		}
		if slices.Equal(got, pkt) {
			return true
		}
	}
}

func wantPassed(t *testing.T, from, to *simHost, pkt []byte) {
	t.Helper()
	if !send(t, from, to, pkt) {
		t.Errorf("packet lost: % x", pkt)
	}
}
