// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

const (
	setUpTime = 10 * time.Second
	// Ports: of the VPN server, of the far ends of the traffic, and of QUIC flows.
	serverPort = 443
	peerPort   = 7000
	quicPort   = 7100
)

// world is a client with emulated links to a server, a host behind that, and at most one
// tunnel.
type world struct {
	programs lab.Programs
	net      *lab.Internet
	host     *lab.Host // the client's
	links    []*lab.Link
	configs  []lab.LinkConfig // also of links that are to come
	peer     *lab.Peer        // behind the server
	outside  []*lab.Peer      // at the far end of each link

	clientArgs []string // that mqvpn-server init printed
	server     *lab.Process
	client     *lab.Process
	paths      []string // of the client that runs
	flows      int      // QUIC flows so far: each has a port of its own
}

// newWorld makes hosts and links, all or the first of them, and starts the server.
func newWorld(ctx context.Context, programs lab.Programs, links []lab.LinkConfig, present int) (w *world, err error) {
	w = &world{programs: programs, configs: links}
	if present > 0 {
		links = links[:present]
	}
	if w.net, err = lab.NewInternet(lab.InternetConfig{Clients: [][]lab.LinkConfig{links}}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	w.host, w.links = w.net.Clients[0], w.net.Links[0]
	if w.peer, err = lab.NewPeer(w.net.Inside, netip.AddrPortFrom(lab.InsideAddr4, peerPort)); err != nil {
		return nil, err
	}
	for i := range w.links {
		p, err := lab.NewPeer(w.net.Router, netip.AddrPortFrom(lab.ClientAddr(0, i).Prev(), peerPort))
		if err != nil {
			return nil, err
		}
		w.outside = append(w.outside, p)
	}
	limited, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	if w.clientArgs, err = programs.InitServer(limited, w.net.Server, netip.AddrPortFrom(lab.ServerAddr4, serverPort), "suite"); err != nil {
		return nil, err
	}
	return w, w.startServer(ctx)
}

func (w *world) startServer(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	w.server, err = w.programs.StartServer(ctx, w.net.Server, "--config", lab.ServerConfig)
	return err
}

// close ends the tunnel and removes everything.
func (w *world) close() error {
	err := w.stopClient()
	if w.peer != nil {
		w.peer.Close()
	}
	for _, p := range w.outside {
		p.Close()
	}
	w.net.Close()
	return err
}

// interfaces are the names of the client's interfaces on some links.
func interfaces(links ...int) (names []string) {
	for _, i := range links {
		names = append(names, fmt.Sprintf("eth%d", i))
	}
	return names
}

// allInterfaces are those on all links.
func (w *world) allInterfaces() (names []string) {
	for i := range w.links {
		names = append(names, interfaces(i)...)
	}
	return names
}

// useClient makes the client run over these paths, and waits until all of them are used.
func (w *world) useClient(ctx context.Context, paths []string) error {
	if !slices.Equal(paths, w.paths) {
		if err := w.startClient(ctx, paths); err != nil {
			return err
		}
	}
	if len(paths) == 0 {
		return nil
	}
	return w.awaitPaths(ctx, len(paths))
}

// startClient starts the client anew, and waits until it is up.
func (w *world) startClient(ctx context.Context, paths []string) error {
	if err := w.stopClient(); err != nil || len(paths) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	args := slices.Clone(w.clientArgs)
	for _, p := range paths {
		args = append(args, "--path", p)
	}
	client, err := w.programs.StartClient(ctx, w.host, args)
	if err != nil {
		return err
	}
	w.client, w.paths = client, paths
	return nil
}

// stopClient ends the client as a user would.
func (w *world) stopClient() error {
	if w.client == nil {
		return nil
	}
	client := w.client
	w.client, w.paths = nil, nil
	code, err := client.Stop(setUpTime)
	if err == nil && code != 0 {
		err = fmt.Errorf("mqvpn-client exited with code %d; its output:\n%s", code, client.Output())
	}
	return err
}

// awaitPaths waits until n paths are used.
func (w *world) awaitPaths(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	for {
		st, err := w.programs.ClientStatus(ctx, w.host)
		if err != nil {
			return w.explain(err)
		}
		used := 0
		for _, p := range st.Paths {
			if p.Used {
				used++
			}
		}
		if used == n {
			return nil
		}
		if err := lab.Sleep(ctx, 50*time.Millisecond); err != nil {
			return w.explain(fmt.Errorf("%d of %d paths are used: %w", used, n, err))
		}
	}
}

// explain adds to an error what the programs have said.
func (w *world) explain(err error) error { return lab.Explain(err, w.client, w.server) }

// heal ends everything that a script may have done to the links, and restarts the server
// if it does not run.
func (w *world) heal(ctx context.Context) (err error) {
	for _, l := range w.links {
		l.SetSilent(false)
		err = errors.Join(err, l.SetCarrier(true))
		l.SetModel(lab.AtoB, l.Config().AtoB)
		l.SetModel(lab.BtoA, l.Config().BtoA)
	}
	select {
	case <-w.server.Done():
		err = errors.Join(err, w.startServer(ctx))
	default:
	}
	return err
}

// quicAddr is where the next QUIC flow ends.
func (w *world) quicAddr() netip.AddrPort {
	w.flows++
	return netip.AddrPortFrom(lab.InsideAddr4, quicPort+uint16(w.flows))
}
