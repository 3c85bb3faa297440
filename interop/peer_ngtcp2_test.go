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
	"slices"
	"strconv"
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
	case "handshake", "transfer", "multiconnect", "resumption", "zerortt", "http3", "keyupdate", "ecn", "connectionmigration":
	case "retry":
		args = append(args, "--validate-addr")
	case "chacha20":
		args = append(args, onlyChaCha20)
	default:
		return errUnsupported
	}
	// It takes no port of the system's choice, and somebody else may have bound the port
	// that was free a moment ago.
	for attempt := 1; ; attempt++ {
		listened, err := ngtcp2ServerAt(ctx, o, args)
		if err == nil || listened || ctx.Err() != nil || attempt == 5 {
			return err
		}
	}
}

// ngtcp2ServerAt runs the server at a free port and reports whether it came to listen there.
func ngtcp2ServerAt(ctx context.Context, o endpoint.Options, args []string) (listened bool, err error) {
	address, err := freeAddress(o.Listen)
	if err != nil {
		return false, err
	}
	bound := []int{address.Port}
	args = slices.Clip(args)
	if o.TestCase == "connectionmigration" {
		preferred, err := freeAddress(o.Listen)
		if err != nil {
			return false, err
		}
		bound = append(bound, preferred.Port)
		args = append(args, "--preferred-ipv4-addr="+preferred.String())
	}
	args = append(args, address.IP.String(), fmt.Sprint(address.Port), filepath.Join(o.Certs, "priv.key"), filepath.Join(o.Certs, "cert.pem"))
	cmd := exec.CommandContext(ctx, "gtlsserver", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !hasBound(cmd.Process.Pid, bound) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("gtlsserver has ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	listening(address.AddrPort())
	if err := <-ended; ctx.Err() == nil {
		return true, err
	}
	return true, nil
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

// hasBound reports whether the process has UDP sockets at all of these ports. Binding them
// to find out would keep the process from it.
func hasBound(pid int, ports []int) bool {
	inodes := make(map[string]int) // of the links in /proc/PID/fd: port
	for _, table := range []string{"udp", "udp6"} {
		text, _ := os.ReadFile("/proc/net/" + table)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line) // number, address:port in hex, …, the inode as tenth
			if len(f) < 10 {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
				inodes["socket:["+f[9]+"]"] = int(port)
			}
		}
	}
	found := make(map[int]bool)
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if link, err := os.Readlink(dir + entry.Name()); err == nil {
			found[inodes[link]] = true
		}
	}
	return !slices.ContainsFunc(ports, func(port int) bool { return !found[port] })
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
