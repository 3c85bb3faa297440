// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/nulltunnel"
)

const (
	setUpTime = 10 * time.Second
	linkMTU   = 1500
	// Ports: of the VPN server, the null tunnel, the far end of the traffic, and the
	// receiver of UDP.
	serverPort = 443
	nullPort   = 5000
	peerPort   = 7000
	sinkPort   = 7001
	// sharedKey is the key of all clients of the load generator.
	sharedKey = "the-key-of-the-load-generator"
	// manySubnet has addresses for them.
	manySubnet = "10.0.0.0/16"
)

var (
	// insideAddr is the server's end of mqvpn's tunnel.
	insideAddr                 = netip.MustParseAddr("10.0.0.1")
	nullServer, nullClient     = netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("10.9.0.2/24")
	secondServer, secondClient = netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")
	firstServer, firstClient   = netip.PrefixFrom(lab.ServerAddr4, 24), netip.PrefixFrom(lab.ServerAddr4.Next(), 24)
	defaultRoute               = netip.MustParsePrefix("0.0.0.0/0")
)

// worldConfig says what is in a world.
type worldConfig struct {
	paths   int
	client  bool   // run a client; else the server is made for the load generator
	profile string // where CPU profiles go; "": nowhere
}

// world is two hosts with cables between them, and a tunnel.
type world struct {
	client, server *lab.Host
	ends           [2]*lab.Process // the client's and the server's end; nil where there is none
	to             netip.Addr      // the server's host, through the tunnel if there is one
	mtu            int             // on the way there; 0 without a client
	idle           [2]lab.Usage    // of the ends, before any traffic
	peer           *lab.Peer       // at to
	sink           *lab.Sink       // at to
	profiles       []string        // CPU profiles that the ends write, without their suffix
}

func newWorld(ctx context.Context, s *subject, cfg worldConfig) (w *world, err error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	w = &world{to: firstServer.Addr()}
	defer func() {
		if err != nil {
			err = w.explain(err)
			w.close()
		}
	}()
	if err = w.makeHosts(cfg.paths); err != nil {
		return nil, err
	}
	switch s.kind {
	case nullTunnel:
		err = w.startNull(ctx)
	case vpnPrograms:
		err = w.startPrograms(ctx, s, cfg)
	}
	if err != nil {
		return nil, err
	}
	if s.kind == bareCable || cfg.client {
		iface, err := w.client.RouteTo(w.to)
		if err != nil {
			return nil, err
		}
		if w.mtu, err = w.client.MTU(iface); err != nil {
			return nil, err
		}
	}
	if w.peer, err = lab.NewPeer(w.server, netip.AddrPortFrom(w.to, peerPort)); err != nil {
		return nil, err
	}
	if w.sink, err = lab.NewSink(w.server, netip.AddrPortFrom(w.to, sinkPort)); err != nil {
		return nil, err
	}
	if w.idle, err = w.usage(); err != nil {
		return nil, err
	}
	return w, nil
}

// makeHosts makes the hosts and a cable for each path.
func (w *world) makeHosts(paths int) (err error) {
	if w.client, err = lab.NewHost("client"); err != nil {
		return err
	}
	if w.server, err = lab.NewHost("server"); err != nil {
		return err
	}
	for i, ends := range [][2]netip.Prefix{{firstClient, firstServer}, {secondClient, secondServer}}[:paths] {
		iface := pathName(i)
		err := lab.NewCable(
			lab.Port{Host: w.client, Interface: iface, Addrs: ends[:1]},
			lab.Port{Host: w.server, Interface: iface, Addrs: ends[1:]}, linkMTU)
		if err != nil {
			return err
		}
		// mqvpn-client wants a default route on each path.
		route := lab.Route{Dst: defaultRoute, Via: ends[1].Addr(), Interface: iface, Metric: 100 * (i + 1)}
		if err := w.client.AddRoute(route); err != nil {
			return err
		}
	}
	return nil
}

// pathName is the interface of a path on both hosts.
func pathName(i int) string { return fmt.Sprintf("eth%d", i) }

// startNull runs the ends of the null tunnel.
func (w *world) startNull(ctx context.Context) (err error) {
	w.to = nullServer.Addr()
	outer := [2]string{netip.AddrPortFrom(firstClient.Addr(), nullPort).String(), netip.AddrPortFrom(firstServer.Addr(), nullPort).String()}
	for i, end := range []struct {
		host  *lab.Host
		inner netip.Prefix
	}{{w.client, nullClient}, {w.server, nullServer}} {
		w.ends[i], err = end.host.StartUp(ctx, lab.Command{
			Path: "/proc/self/exe", Args: []string{NullCommand, outer[i], outer[1-i], end.inner.String()}})
		if err != nil {
			return err
		}
	}
	return nil
}

// NullCommand is the first argument of the program that calls Run when it is to be an
// end of the null tunnel. RunNull gets those that follow.
const NullCommand = "null-tunnel"

// RunNull is an end of the null tunnel. It returns only when something fails.
func RunNull(args []string) error {
	if len(args) != 3 {
		return errors.New("null-tunnel: want LOCAL, REMOTE and PREFIX")
	}
	local, err1 := netip.ParseAddrPort(args[0])
	remote, err2 := netip.ParseAddrPort(args[1])
	inside, err3 := netip.ParsePrefix(args[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("null-tunnel: %w", err)
	}
	signal.Reset() // whoever waits for signals does not run
	err := nulltunnel.Run(local, remote, inside, func() { fmt.Println(lab.UpLine) })
	return fmt.Errorf("null-tunnel: %w", err)
}

// startPrograms runs mqvpn-server and, if there is to be one, mqvpn-client.
func (w *world) startPrograms(ctx context.Context, s *subject, cfg worldConfig) error {
	w.to = insideAddr
	clientArgs, err := s.programs.InitServer(ctx, w.server, netip.AddrPortFrom(firstServer.Addr(), serverPort), "bench")
	if err != nil {
		return err
	}
	serverArgs := []string{"--config", lab.ServerConfig}
	if !cfg.client {
		serverArgs = append(serverArgs, "--auth-key", sharedKey, "--subnet", manySubnet)
	}
	if cfg.profile != "" {
		ends := []string{cfg.profile + "client", cfg.profile + "server"}
		clientArgs = append(clientArgs, "--cpuprofile", ends[0]+".pprof")
		serverArgs = append(serverArgs, "--cpuprofile", ends[1]+".pprof")
		if !cfg.client {
			ends = ends[1:]
		}
		w.profiles = ends
	}
	w.ends[1], err = w.server.StartUp(ctx, lab.Command{Path: s.programs.Server, Args: serverArgs, Env: s.env})
	if err != nil || !cfg.client {
		return err
	}
	for i := range cfg.paths {
		clientArgs = append(clientArgs, "--path", pathName(i))
	}
	w.ends[0], err = w.client.StartUp(ctx, lab.Command{Path: s.programs.Client, Args: clientArgs, Env: s.env})
	if err != nil {
		return err
	}
	for cfg.paths > 1 {
		st, err := s.programs.ClientStatus(ctx, w.client)
		if err != nil {
			return err
		}
		used := 0
		for _, p := range st.Paths {
			if p.Used {
				used++
			}
		}
		if used == cfg.paths {
			break
		}
		if err := lab.Sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d paths are used: %w", used, cfg.paths, err)
		}
	}
	return nil
}

// usage is what each end has consumed so far; nothing where there is none.
func (w *world) usage() (u [2]lab.Usage, err error) {
	for i, p := range w.ends {
		if p == nil {
			continue
		}
		if u[i], err = p.Usage(); err != nil {
			return u, err
		}
	}
	return u, nil
}

// explain adds to an error what the programs have said.
func (w *world) explain(err error) error { return lab.Explain(err, w.ends[0], w.ends[1]) }

// close ends the programs, in order, so that they write their profiles, and draws those.
func (w *world) close() (err error) {
	if w.peer != nil {
		w.peer.Close()
	}
	if w.sink != nil {
		w.sink.Close()
	}
	err = lab.StopAll(setUpTime, w.ends[:]...)
	for _, name := range w.profiles {
		if err == nil {
			err = writeFlameGraph(name+".pprof", name+".svg", filepath.Base(name))
		}
	}
	for _, h := range []*lab.Host{w.client, w.server} {
		if h != nil {
			h.Close()
		}
	}
	return err
}
