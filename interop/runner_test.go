// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

// runnerCase is a test case of the QUIC interop runner, with less data.
type runnerCase struct {
	name           string
	client, server string // TESTCASE of each side
	files          []int  // sizes
	relay          relayConfig
	v6             bool
	largeCert      bool
	check          func(*outcome) error // what the runner finds in its packet trace
}

// outcome is what is known of a run in which all files have arrived.
type outcome struct {
	observed
	clientPeer, serverPeer string
	clientLog, serverLog   string
}

const kB, ms = 1000, time.Millisecond

var runnerCases = []runnerCase{ // those that wait for the longest first
	{name: "amplificationlimit", client: "transfer", server: "transfer", files: []int{5 * kB}, largeCert: true,
		relay: relayConfig{dropFirst: []int{2, 3, 4, 5}}, check: wantAmplificationLimit},
	{name: "longrtt", client: "handshake", server: "handshake", files: []int{kB}, relay: relayConfig{delay: 750 * ms}},
	{name: "handshakeloss", client: "multiconnect", server: "multiconnect", files: repeat(4, kB), relay: relayConfig{drop: 0.3}, check: wantDamage},
	{name: "handshakecorruption", client: "multiconnect", server: "multiconnect", files: repeat(4, kB), relay: relayConfig{corrupt: 0.3}, check: wantDamage},
	// The first PTO is a second, and doubles: a period of a second could swallow every probe.
	{name: "blackhole", client: "transfer", server: "transfer", files: []int{1200 * kB}, check: wantBlackhole,
		relay: relayConfig{blackholeEvery: 1300 * ms, blackholeFor: 500 * ms}},
	{name: "transferloss", client: "transfer", server: "transfer", files: []int{500 * kB}, relay: relayConfig{drop: 0.02}, check: wantDamage},
	{name: "transfercorruption", client: "transfer", server: "transfer", files: []int{500 * kB}, relay: relayConfig{corrupt: 0.02}, check: wantDamage},
	{name: "rebind-port", client: "transfer", server: "transfer", files: []int{800 * kB}, relay: relayConfig{rebindEvery: 300 * ms}, check: wantRebinding},
	{name: "rebind-addr", client: "transfer", server: "transfer", files: []int{800 * kB}, relay: relayConfig{rebindEvery: 300 * ms, rebindAddr: true}, check: wantRebinding},
	{name: "connectionmigration", client: "transfer", server: "connectionmigration", files: []int{800 * kB}, check: wantMigration},
	{name: "keyupdate", client: "keyupdate", server: "transfer", files: []int{900 * kB}, check: wantKeyUpdate},
	{name: "multiplexing", client: "transfer", server: "transfer", files: repeat(400, 32)},
	{name: "transfer", client: "transfer", server: "transfer", files: []int{200 * kB, 300 * kB, 500 * kB}},
	{name: "http3", client: "http3", server: "http3", files: []int{5 * kB, 100 * kB, 200 * kB}},
	{name: "handshake", client: "handshake", server: "handshake", files: []int{kB}, check: wantNoRetry},
	{name: "chacha20", client: "chacha20", server: "chacha20", files: []int{100 * kB}, check: wantChaCha20},
	{name: "retry", client: "retry", server: "retry", files: []int{kB}, check: wantRetry},
	{name: "ecn", client: "ecn", server: "ecn", files: []int{100 * kB}, check: wantECN},
	{name: "resumption", client: "resumption", server: "resumption", files: repeat(3, 5*kB), check: wantNo0RTT},
	{name: "zerortt", client: "zerortt", server: "zerortt", files: repeat(20, kB), check: want0RTT},
	{name: "ipv6", client: "transfer", server: "transfer", files: []int{5 * kB}, v6: true},
	{name: "v2", client: "v2", server: "v2", files: []int{kB}},
}

func repeat(n, size int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

func wantDamage(o *outcome) error {
	if o.dropped[up]+o.dropped[down]+o.corrupted == 0 {
		return errors.New("nothing was lost nor damaged")
	}
	return nil
}

func wantBlackhole(o *outcome) error {
	if o.blackholed == 0 {
		return errors.New("the black hole swallowed nothing")
	}
	return nil
}

func wantRebinding(o *outcome) error {
	if o.rebound < 2 {
		return fmt.Errorf("the server answered to %d new addresses", o.rebound)
	}
	return nil
}

// wantMigration: the server's preferred address is not behind the relay.
func wantMigration(o *outcome) error {
	if o.bytes[down] > 400*kB {
		return fmt.Errorf("%d bytes have come from the first address", o.bytes[down])
	}
	return nil
}

func wantNoRetry(o *outcome) error {
	if o.retries > 0 {
		return errors.New("a Retry packet")
	}
	return nil
}

func wantRetry(o *outcome) error {
	if o.retries == 0 || o.withToken == 0 {
		return fmt.Errorf("%d Retry packets, %d Initial packets with a token", o.retries, o.withToken)
	}
	return nil
}

func want0RTT(o *outcome) error {
	if o.zeroRTT == 0 {
		return errors.New("no 0-RTT packet")
	}
	return nil
}

func wantNo0RTT(o *outcome) error {
	if o.zeroRTT > 0 {
		return errors.New("0-RTT packets")
	}
	return nil
}

func wantECN(o *outcome) error {
	for d := range 2 {
		if o.ecn[d][ect0]+o.ecn[d][ect1] == 0 {
			return fmt.Errorf("the ECN fields are %v", o.ecn)
		}
	}
	return nil
}

func wantAmplificationLimit(o *outcome) error {
	switch {
	case o.dropped[up] < 4:
		return fmt.Errorf("the client has sent only %d datagrams", o.datagrams[up])
	case o.tooMuch > 0 && o.serverPeer == "mqvpn": // quic-go looks only whether it has reached the limit
		return fmt.Errorf("%d bytes beyond three times those of the client", o.tooMuch)
	}
	return nil
}

var keyUpdates = regexp.MustCompile(`(\d+) key updates`)

// wantKeyUpdate reads the log of our side.
func wantKeyUpdate(o *outcome) error {
	log := o.clientLog
	if o.clientPeer != "mqvpn" {
		log = o.serverLog
	}
	for _, m := range keyUpdates.FindAllStringSubmatch(log, -1) {
		if n, _ := strconv.Atoi(m[1]); n > 0 {
			return nil
		}
	}
	return errors.New("no key update")
}

func wantChaCha20(o *outcome) error {
	log := o.clientLog
	if o.clientPeer != "mqvpn" {
		log = o.serverLog
	}
	if !strings.Contains(log, tls.CipherSuiteName(tls.TLS_CHACHA20_POLY1305_SHA256)) {
		return errors.New("another cipher suite")
	}
	return nil
}

// pairs are who talks to whom: client and server.
var pairs = [][2]string{
	{"mqvpn", "mqvpn"},
	{"mqvpn", "quic-go"}, {"quic-go", "mqvpn"},
	{"mqvpn", "x/net"}, {"x/net", "mqvpn"},
	{"mqvpn", "ngtcp2"}, {"ngtcp2", "mqvpn"},
}

// missing says why a peer that is not written in Go is not there, or "".
func missing(pair [2]string) string {
	if pair[0] == "ngtcp2" || pair[1] == "ngtcp2" {
		return missingNgtcp2()
	}
	return ""
}

// lacking are cases that a side of a peer fails for lack of something, which it does not say.
var lacking = map[string]map[string]string{
	"x/net server": {
		"rebind-port": "its server drops packets that come from another address",
		"rebind-addr": "its server drops packets that come from another address",
	},
	"x/net client":   {"connectionmigration": "its client does not move to the preferred address"},
	"quic-go client": {"connectionmigration": "its client does not move to the preferred address"},
}

// cannot are cases that end in 127 on the side of mqvpn.
var cannot = map[string]bool{"v2": true}

// TestRunner runs the cases of the QUIC interop runner between us and others, each
// side as a process of its own, and prints the table of what passed.
func TestRunner(t *testing.T) {
	www, small, large := makeFiles(t)
	slots := make(chan struct{}, 12) // most of the time they wait
	var mu sync.Mutex
	results := make(map[string]string)
	var wg sync.WaitGroup
	var present [][2]string
	for _, pair := range pairs {
		if why := missing(pair); why != "" {
			t.Logf("skipped: %s → %s: %s", pair[0], pair[1], why)
			continue
		}
		present = append(present, pair)
	}
	for _, c := range runnerCases {
		for _, pair := range present {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				name := fmt.Sprintf("%s/%s to %s", c.name, strings.ReplaceAll(pair[0], "/", "-"), strings.ReplaceAll(pair[1], "/", "-"))
				t.Run(name, func(t *testing.T) {
					result := "failed"
					defer func() {
						mu.Lock()
						results[c.name+pair[0]+pair[1]] = result
						mu.Unlock()
					}()
					dir := t.TempDir()
					certs := small
					if c.largeCert {
						certs = large
					}
					for _, l := range [][2]string{{www, "www"}, {certs, "certs"}} {
						if err := os.Symlink(l[0], filepath.Join(dir, l[1])); err != nil {
							t.Fatal(err)
						}
					}
					if err := os.Mkdir(filepath.Join(dir, "downloads"), 0o755); err != nil {
						t.Fatal(err)
					}
					result = runCase(t, &c, pair[0], pair[1], dir)
				})
			})
		}
	}
	wg.Wait()
	var table strings.Builder
	for _, pair := range present {
		fmt.Fprintf(&table, " | %s → %s", pair[0], pair[1])
	}
	documented := documentedResults(t)
	for _, c := range runnerCases {
		fmt.Fprintf(&table, " |\n| %s", c.name)
		for _, pair := range present {
			column := pair[0] + " → " + pair[1]
			result, ran := results[c.name+pair[0]+pair[1]]
			fmt.Fprintf(&table, " | %s", result)
			if want := documented[column][c.name]; ran && want != result {
				t.Errorf("docs/conformance.md has %q for %s, %s", want, c.name, column)
			}
		}
	}
	t.Logf("client → server; – is not supported\n| case%s |", table.String())
}

// documentedResults reads the table of docs/conformance.md: column, then case.
func documentedResults(t *testing.T) map[string]map[string]string {
	t.Helper()
	doc, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n| case |")
	lines := strings.Split(table, "\n")
	columns := strings.Split(lines[0], "|")
	results := make(map[string]map[string]string)
	for _, line := range lines[2:] {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			break
		}
		for i, cell := range cells[2:] {
			if i >= len(columns) {
				break
			}
			column := strings.TrimSpace(columns[i])
			if results[column] == nil {
				results[column] = make(map[string]string)
			}
			results[column][strings.TrimSpace(cells[1])] = strings.TrimSpace(cell)
		}
	}
	return results
}

// runCase runs one case and returns what goes into the table.
func runCase(t *testing.T, c *runnerCase, clientPeer, serverPeer, dir string) string {
	began := time.Now()
	for _, side := range [][2]string{{serverPeer, "server"}, {clientPeer, "client"}} {
		if why := lacking[side[0]+" "+side[1]][c.name]; why != "" {
			t.Logf("%s: %s", side[0], why)
			return unsupported(t, c, side[0])
		}
	}
	listen := "127.0.0.1:0"
	if c.v6 {
		listen = "[::1]:0"
	}
	server := start(t, asPeer(serverPeer, "server", c.server, dir, envListen+"="+listen))
	address, err := server.address()
	if err != nil {
		if server.wait(time.Second) == 127 {
			return unsupported(t, c, serverPeer)
		}
		t.Fatalf("server: %v", err)
	}
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	r := newRelay(t, address, c.relay, h.Sum64())
	var urls []string
	for i, size := range c.files {
		urls = append(urls, fmt.Sprintf("https://%v/%s", r.addr(), fileName(i, size)))
	}
	env := []string{"REQUESTS=" + strings.Join(urls, " ")}
	if serverPeer == "ngtcp2" {
		env = append(env, envHTTP3+"=1")
	}
	client := start(t, asPeer(clientPeer, "client", c.client, dir, env...))
	code := client.wait(60 * time.Second)
	serverCode := server.stop()
	o := &outcome{observed: r.close(), clientPeer: clientPeer, serverPeer: serverPeer, clientLog: client.log(), serverLog: server.log()}
	defer func() {
		if t.Failed() {
			t.Logf("%+v\nclient:\n%s\nserver:\n%s", o.observed, o.clientLog, o.serverLog)
		}
	}()
	t.Logf("%.1f s", time.Since(began).Seconds())
	switch {
	case code == 127:
		return unsupported(t, c, clientPeer)
	case code != 0:
		t.Fatalf("the client's exit code is %d", code)
	case serverCode != 0:
		t.Fatalf("the server's exit code is %d", serverCode)
	}
	for i, size := range c.files {
		want, err := os.ReadFile(filepath.Join(dir, "www", fileName(i, size)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "downloads", fileName(i, size)))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("file %d of %d bytes: got %d, %v", i, size, len(got), err)
		}
	}
	if c.check != nil {
		if err := c.check(o); err != nil {
			t.Fatal(err)
		}
	}
	return "passed"
}

func unsupported(t *testing.T, c *runnerCase, peer string) string {
	if peer == "mqvpn" && !cannot[c.name] {
		t.Fatalf("mqvpn does not support %s", c.name)
	}
	return "–"
}

func fileName(i, size int) string { return fmt.Sprintf("%d-%d", i, size) }

// makeFiles makes all files that the cases ask for, and a directory with a certificate of
// common and one of uncommon size.
func makeFiles(t *testing.T) (www, small, large string) {
	t.Helper()
	www, small, large = t.TempDir(), t.TempDir(), t.TempDir()
	content := rand.NewChaCha8([32]byte{})
	for _, c := range runnerCases {
		for i, size := range c.files {
			b := make([]byte, size)
			content.Read(b)
			writeFile(t, filepath.Join(www, fileName(i, size)), b)
		}
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	writeCert(t, small, names)
	for i := range 100 {
		names = append(names, fmt.Sprintf("a-name-that-makes-the-certificate-large-%d.example", i))
	}
	writeCert(t, large, names)
	return www, small, large
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeCert(t *testing.T, dir string, names []string) {
	t.Helper()
	cert, _ := quictest.Cert(names...)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	writeFile(t, filepath.Join(dir, "priv.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}
