// SPDX-License-Identifier: Apache-2.0

// Package endpoint is mqvpn as the QUIC interop runner drives it: a client that
// downloads files and a server that serves them, over HTTP/0.9 (ALPN "hq-interop") or
// HTTP/3, in the way that a test case asks for.
package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/quic"
	"github.com/mqvpn/mqvpn/quic/qlog"
)

// Exit codes of the runner's contract.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUnsupported = 127
)

var errUnsupported = errors.New("unsupported test case")

// alpnHQ is the ALPN token of HTTP/0.9 over QUIC.
const alpnHQ = "hq-interop"

// Options say what to do. FromEnv fills them as the runner's contract has it.
type Options struct {
	Role     string   // "client" or "server"
	TestCase string   // name of the runner's TESTCASE
	Requests []string // client: URLs

	WWW       string // server: directory that is served
	Downloads string // client: directory for the files
	Certs     string // server: directory of cert.pem and priv.key
	Listen    string // server: address and port; without an address, all of both families
	KeyLog    string // file for TLS secrets, "" for none
	QLogDir   string // directory for qlog files, "" for none
	HTTP3     bool   // client: HTTP/3 in every test case, for servers that have only that

	Log io.Writer
}

// FromEnv reads the variables of the contract.
func FromEnv() Options {
	return Options{
		Role:      os.Getenv("ROLE"),
		TestCase:  os.Getenv("TESTCASE"),
		Requests:  strings.Fields(os.Getenv("REQUESTS")),
		WWW:       "/www",
		Downloads: "/downloads",
		Certs:     "/certs",
		Listen:    ":443",
		KeyLog:    os.Getenv("SSLKEYLOGFILE"),
		QLogDir:   os.Getenv("QLOGDIR"),
		Log:       os.Stderr,
	}
}

// Run plays the role, a server until ctx is done, and returns the exit code.
func Run(ctx context.Context, o Options) int {
	err := o.run(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUnsupported):
		o.logf("unsupported test case %q of a %s", o.TestCase, o.Role)
		return exitUnsupported
	}
	o.logf("failed: %v", err)
	return exitFailed
}

func (o *Options) logf(format string, args ...any) { fmt.Fprintf(o.Log, format+"\n", args...) }

func (o *Options) run(ctx context.Context) error {
	play := map[string]func(*Options, context.Context, *quic.Config) error{
		"client": (*Options).runClient,
		"server": (*Options).runServer,
	}[o.Role]
	if play == nil {
		return fmt.Errorf("the role is %q, neither client nor server", o.Role)
	}
	cfg := &quic.Config{
		TLS: &tls.Config{MinVersion: tls.VersionTLS13},
		// As long as the runner waits: some of its links lose a third of the packets.
		HandshakeTimeout: time.Minute,
		MaxIdleTimeout:   30 * time.Second,
	}
	if o.KeyLog != "" {
		f, err := os.OpenFile(o.KeyLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		cfg.TLS.KeyLogWriter = f
	}
	if o.QLogDir != "" {
		dir := qlog.NewDir(o.QLogDir)
		cfg.Qlog = dir.Open
		defer func() {
			if err := dir.Close(); err != nil {
				o.logf("qlog: %v", err)
			}
		}()
	}
	if o.TestCase == "chacha20" {
		OnlyChaCha20()
	}
	return play(o, ctx, cfg)
}

// localFile is the path of a URL as a name below a directory.
func localFile(path string) (string, error) {
	name := strings.TrimPrefix(path, "/")
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q names no file", path)
	}
	return name, nil
}

// listenAll opens the sockets for an address like ":443" or "127.0.0.1:0".
func listenAll(address string) ([]quic.Socket, error) {
	var addrs []netip.AddrPort
	if port, ok := strings.CutPrefix(address, ":"); ok {
		address = "0.0.0.0:" + port
		v6, err := netip.ParseAddrPort("[::]:" + port)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, v6)
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	var sockets []quic.Socket
	for _, a := range append(addrs, addr) {
		s, err := listen(a)
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

func listen(a netip.AddrPort) (quic.Socket, error) {
	network := "udp6"
	if a.Addr().Is4() {
		network = "udp4"
	}
	return quic.ListenUDP(network, a, "")
}
