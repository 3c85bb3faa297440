// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/interop/endpoint"
)

// ngtcp2 with GnuTLS, as Debian has it: gtlsclient and gtlsserver, which speak HTTP/3 only.

// missingNgtcp2 says why ngtcp2 cannot be a peer, or "".
func missingNgtcp2() string {
	for _, name := range []string{"gtlsclient", "gtlsserver"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return name + " is not installed"
		}
		if help, _ := exec.Command(path, "--help").Output(); !strings.Contains(string(help), "--available-versions") {
			return path + " is older than version 1"
		}
	}
	return ""
}

const onlyChaCha20 = "--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"

func runNgtcp2(ctx context.Context, o endpoint.Options) error {
	if o.Role == "server" {
		return ngtcp2Server(ctx, o)
	}
	return ngtcp2Client(ctx, o)
}

func ngtcp2Server(ctx context.Context, o endpoint.Options) error {
	args := []string{"-q", "--htdocs=" + o.WWW}
	switch o.TestCase {
	case "handshake", "transfer", "multiconnect", "resumption", "zerortt", "http3", "keyupdate", "ecn":
	case "retry":
		args = append(args, "--validate-addr")
	case "connectionmigration":
		preferred, err := freeAddress(o.Listen)
		if err != nil {
			return err
		}
		args = append(args, "--preferred-ipv4-addr="+preferred.String())
	case "chacha20":
		args = append(args, onlyChaCha20)
	default:
		return errUnsupported
	}
	address, err := freeAddress(o.Listen)
	if err != nil {
		return err
	}
	host := address.IP.String()
	args = append(args, host, fmt.Sprint(address.Port), filepath.Join(o.Certs, "priv.key"), filepath.Join(o.Certs, "cert.pem"))
	cmd := exec.CommandContext(ctx, "gtlsserver", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for { // until it listens
		probe, err := net.ListenUDP("udp", address)
		if err != nil {
			break
		}
		probe.Close()
		select {
		case err := <-ended:
			return fmt.Errorf("gtlsserver has ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	listening(address.AddrPort())
	if err := <-ended; ctx.Err() == nil {
		return err
	}
	return nil
}

// freeAddress finds a port for a program that does not tell which one it has chosen.
func freeAddress(listen string) (*net.UDPAddr, error) {
	address, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", address)
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	return udp.LocalAddr().(*net.UDPAddr), nil
}

func ngtcp2Client(ctx context.Context, o endpoint.Options) error {
	args := []string{"-q", "--exit-on-all-streams-close", "--download=" + o.Downloads}
	session := []string{
		"--session-file=" + filepath.Join(o.Downloads, ".session"),
		"--tp-file=" + filepath.Join(o.Downloads, ".parameters"),
		"--wait-for-ticket",
	}
	fetch := func(urls []string, more ...string) error {
		u, err := url.Parse(urls[0])
		if err != nil {
			return err
		}
		all := append(append(append([]string{}, args...), more...), u.Hostname(), u.Port())
		cmd := exec.CommandContext(ctx, "gtlsclient", append(all, urls...)...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		return cmd.Run()
	}
	switch o.TestCase {
	case "handshake", "retry", "http3", "ecn":
		return fetch(o.Requests)
	case "transfer":
		return fetch(o.Requests, "--max-data=128K", "--max-stream-data-bidi-local=64K", "--max-window=6M", "--max-stream-window=6M")
	case "keyupdate":
		return fetch(o.Requests, "--key-update=300ms")
	case "chacha20":
		return fetch(o.Requests, onlyChaCha20)
	case "multiconnect":
		for i := range o.Requests {
			if err := fetch(o.Requests[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	case "resumption", "zerortt":
		if o.TestCase == "resumption" {
			session = append(session, "--disable-early-data")
		}
		if err := fetch(o.Requests[:1], session...); err != nil {
			return err
		}
		return fetch(o.Requests[1:], session...)
	}
	return errUnsupported
}
