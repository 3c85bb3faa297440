// SPDX-License-Identifier: Apache-2.0

// Command mqvpn-interop is the endpoint that the QUIC interop runner starts. What it
// does is said by the environment: ROLE (client or server), TESTCASE, REQUESTS (URLs of
// the client), SSLKEYLOGFILE, QLOGDIR. The server serves /www on port 443 with
// /certs/cert.pem and /certs/priv.key, the client writes to /downloads; the flags change
// that for use by hand. It exits with 0 when all went well, 127 when it does not support
// the test case, else 1.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"github.com/mqvpn/mqvpn/interop/endpoint"
)

func main() {
	o := endpoint.FromEnv()
	flag.StringVar(&o.Role, "role", o.Role, "client or server")
	flag.StringVar(&o.TestCase, "testcase", o.TestCase, "name of the test case")
	flag.StringVar(&o.WWW, "www", o.WWW, "server: directory that is served")
	flag.StringVar(&o.Downloads, "downloads", o.Downloads, "client: directory for the files")
	flag.StringVar(&o.Certs, "certs", o.Certs, "server: directory of cert.pem and priv.key")
	flag.StringVar(&o.Listen, "listen", o.Listen, "server: `address` and port")
	flag.BoolVar(&o.HTTP3, "http3", o.HTTP3, "client: HTTP/3 in every test case")
	flag.Parse()
	o.Requests = append(o.Requests, flag.Args()...)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := endpoint.Run(ctx, o)
	stop()
	os.Exit(code)
}
