// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/mqvpn/mqvpn/interop/endpoint"
)

// The peers written in Go, made to do what the runner asks for. Each side of a test case
// is a process of its own: this test binary, started again with the environment of the
// runner's contract and the variables below.
const (
	envPeer      = "MQVPN_INTEROP_PEER" // which implementation
	envDirectory = "MQVPN_INTEROP_DIR"  // holds www, downloads and certs
	envListen    = "MQVPN_INTEROP_LISTEN"
	envHTTP3     = "MQVPN_INTEROP_HTTP3" // not empty: the other side has nothing else
)

var errUnsupported = errors.New("unsupported test case")

// peers are the implementations that the test binary can be.
var peers = map[string]func(context.Context, endpoint.Options) int{
	"mqvpn":   endpoint.Run,
	"quic-go": exitCode(runQUICGo),
	"x/net":   exitCode(runXNet),
	"ngtcp2":  exitCode(runNgtcp2),
}

func exitCode(run func(context.Context, endpoint.Options) error) func(context.Context, endpoint.Options) int {
	return func(ctx context.Context, o endpoint.Options) int {
		err := run(ctx, o)
		switch {
		case err == nil:
			return 0
		case errors.Is(err, errUnsupported):
			return 127
		}
		fmt.Fprintln(os.Stderr, "failed:", err)
		return 1
	}
}

// An hqConn is a connection of a peer, for HTTP/0.9.
type hqConn struct {
	open   func(context.Context) (hqStream, error)
	accept func(context.Context) (hqStream, error)
	close  func()
	// resumed and early tell what became of the session and of 0-RTT.
	resumed, early func() bool
}

// hqStream is a stream whose Close ends what is sent.
type hqStream interface{ io.ReadWriteCloser }

// fetchHQ does what a client's test case asks for. dial opens a connection, and returns
// before the handshake is complete if it is to use 0-RTT; ticket waits until the server
// has given what a resumption takes.
func fetchHQ(ctx context.Context, o endpoint.Options, dial func(early bool) (*hqConn, error), ticket func() error) error {
	fetch := func(early bool, urls []string) (*hqConn, error) {
		c, err := dial(early)
		if err != nil {
			return nil, err
		}
		results := make(chan error)
		for _, u := range urls {
			go func() { results <- fetchFile(ctx, o.Downloads, c, u) }()
		}
		for range urls {
			err = errors.Join(err, <-results)
		}
		return c, err
	}
	switch o.TestCase {
	case "multiconnect":
		for _, u := range o.Requests {
			c, err := fetch(false, []string{u})
			if err != nil {
				return err
			}
			c.close()
		}
		return nil
	case "resumption", "zerortt":
		c, err := fetch(false, o.Requests[:1])
		if err == nil {
			err = ticket()
		}
		if err != nil {
			return err
		}
		c.close()
		early := o.TestCase == "zerortt"
		if c, err = fetch(early, o.Requests[1:]); err != nil {
			return err
		}
		defer c.close()
		if !c.resumed() || c.early() != early {
			return fmt.Errorf("resumed %v, 0-RTT %v", c.resumed(), c.early())
		}
		return nil
	}
	c, err := fetch(false, o.Requests)
	if err == nil {
		c.close()
	}
	return err
}

func fetchFile(ctx context.Context, dir string, c *hqConn, request string) error {
	u, err := url.Parse(request)
	if err != nil {
		return err
	}
	st, err := c.open(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(st, "GET %s\r\n", u.Path); err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	return saveFile(dir, u.Path, st)
}

func saveFile(dir, name string, content io.Reader) error {
	f, err := os.Create(filepath.Join(dir, filepath.Base(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, content)
	return err
}

// serveHQ answers the requests of a connection until it ends.
func serveHQ(ctx context.Context, o endpoint.Options, c *hqConn) {
	for {
		st, err := c.accept(ctx)
		if err != nil {
			return
		}
		go func() {
			defer st.Close()
			line, err := io.ReadAll(io.LimitReader(st, 4096))
			name, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "GET ")
			if !ok {
				fmt.Fprintf(os.Stderr, "request %q: %v\n", line, err)
				return
			}
			f, err := os.Open(filepath.Join(o.WWW, filepath.Base(name)))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			defer f.Close()
			io.Copy(st, f)
		}()
	}
}

func listening(a netip.AddrPort) { fmt.Fprintf(os.Stderr, "listening on %v\n", a) }
