// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package bench measures the raw speed of the tunnel over an ideal cable, and what
// it costs in processor time and memory.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Options say how to run the benchmark.
type Options struct {
	Programs lab.Programs
	Dir      string        // for bench.json; must exist
	Measure  time.Duration // of each row
	Stdout   io.Writer
}

// Report is what was measured.
type Report struct {
	Started time.Time `json:"started"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Rows    []Row     `json:"rows"`
	// Memory in MB: when no traffic has passed yet, and at most.
	ClientIdle float64 `json:"client_idle_mb"`
	ServerIdle float64 `json:"server_idle_mb"`
	ClientPeak float64 `json:"client_peak_mb"`
	ServerPeak float64 `json:"server_peak_mb"`
}

// Row is one measurement. The traffic's sender and receiver run on the same cores.
type Row struct {
	Name      string  `json:"name"`
	Tunnel    bool    `json:"tunnel"`
	Flows     int     `json:"flows"`
	Way       string  `json:"way"` // up: sent by the client
	Mbps      float64 `json:"mbps"`
	ClientCPU float64 `json:"client_cpu_s_per_gb"`
	ServerCPU float64 `json:"server_cpu_s_per_gb"`
}

const (
	warmUp    = time.Second
	setUpTime = 10 * time.Second
	// serverPort is the VPN server's, peerPort that of the traffic's far end.
	serverPort = 443
	peerPort   = 7000
)

// insideAddr is what mqvpn-server init gives to the server's end of the tunnel.
var insideAddr = netip.MustParseAddr("10.0.0.1")

// bench is a run of the benchmark.
type bench struct {
	options        Options
	report         *Report
	client, server *lab.Host
	programs       [2]*lab.Process // client's and server's, while the tunnel is up
}

// Run measures, prints a table and writes bench.json.
func Run(ctx context.Context, o Options) (*Report, error) {
	b := &bench{options: o, report: &Report{Started: time.Now(), CPUs: runtime.NumCPU(), Go: runtime.Version()}}
	for _, h := range []struct {
		host **lab.Host
		name string
	}{{&b.client, "client"}, {&b.server, "server"}} {
		var err error
		if *h.host, err = lab.NewHost(h.name); err != nil {
			return nil, err
		}
		defer (*h.host).Close()
	}
	if err := b.run(ctx); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(b.report, "", " ")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(o.Dir, "bench.json")
	fmt.Fprintf(o.Stdout, "\nData: %s\n", path)
	return b.report, os.WriteFile(path, append(out, '\n'), 0o644)
}

func (b *bench) run(ctx context.Context) error {
	const mtu = 1500
	err := lab.NewCable(
		lab.Port{Host: b.client, Interface: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(lab.ServerAddr4.Next(), 24)}},
		lab.Port{Host: b.server, Interface: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(lab.ServerAddr4, 24)}}, mtu)
	if err != nil {
		return err
	}
	// The client wants a default route to replace.
	if err := b.client.AddRoute(lab.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: lab.ServerAddr4, Interface: "eth0"}); err != nil {
		return err
	}
	fmt.Fprintf(b.options.Stdout, "Two hosts and an ideal cable on %d cores; sender and receiver of the traffic run on them too.\n\n", b.report.CPUs)
	fmt.Fprintf(b.options.Stdout, "%-26s %10s  %s\n", "", "Mbit/s", "CPU seconds per GB, client + server")
	if err := b.rows(ctx, lab.ServerAddr4); err != nil {
		return err
	}
	if err := b.startTunnel(ctx); err != nil {
		return err
	}
	if err := b.usage(func(i int, u lab.Usage) {
		*[]*float64{&b.report.ClientIdle, &b.report.ServerIdle}[i] = megabytes(u.RSS)
	}); err != nil {
		return err
	}
	if err := b.rows(ctx, insideAddr); err != nil {
		return fmt.Errorf("%w; output of mqvpn-client:\n%s\nof mqvpn-server:\n%s", err, b.programs[0].Output(), b.programs[1].Output())
	}
	if err := b.usage(func(i int, u lab.Usage) {
		*[]*float64{&b.report.ClientPeak, &b.report.ServerPeak}[i] = megabytes(u.PeakRSS)
	}); err != nil {
		return err
	}
	r := b.report
	fmt.Fprintf(b.options.Stdout, "\nMemory, client / server: idle %.1f / %.1f MB, at most %.1f / %.1f MB\n",
		r.ClientIdle, r.ServerIdle, r.ClientPeak, r.ServerPeak)
	for _, p := range b.programs {
		if _, err := p.Stop(setUpTime); err != nil {
			return err
		}
	}
	return nil
}

// startTunnel starts both programs. They die with their hosts.
func (b *bench) startTunnel(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	args, err := b.options.Programs.InitServer(ctx, b.server, netip.AddrPortFrom(lab.ServerAddr4, serverPort), "bench")
	if err != nil {
		return err
	}
	if b.programs[1], err = b.options.Programs.StartServer(ctx, b.server, "--config", lab.ServerConfig); err != nil {
		return err
	}
	b.programs[0], err = b.options.Programs.StartClient(ctx, b.client, append(args, "--path", "eth0"))
	return err
}

// rows measures 1 and 4 flows in both directions to an address of the server.
func (b *bench) rows(ctx context.Context, to netip.Addr) error {
	peer, err := lab.NewPeer(b.server, netip.AddrPortFrom(to, peerPort))
	if err != nil {
		return err
	}
	defer peer.Close()
	for _, flows := range []int{1, 4} {
		for _, way := range []lab.Way{lab.Up, lab.Down} {
			row, err := b.measure(ctx, peer, flows, way)
			if err != nil {
				return err
			}
			b.report.Rows = append(b.report.Rows, row)
			fmt.Fprintf(b.options.Stdout, "%-26s %10.0f", row.Name, row.Mbps)
			if row.Tunnel {
				fmt.Fprintf(b.options.Stdout, "  %.2f + %.2f = %.2f", row.ClientCPU, row.ServerCPU, row.ClientCPU+row.ServerCPU)
			}
			fmt.Fprintln(b.options.Stdout)
		}
	}
	return nil
}

func (b *bench) measure(ctx context.Context, peer *lab.Peer, flows int, way lab.Way) (Row, error) {
	row := Row{Tunnel: b.programs[0] != nil, Flows: flows, Way: way.String()}
	row.Name = fmt.Sprintf("no tunnel, TCP %d flow %s", flows, way)
	if row.Tunnel {
		row.Name = fmt.Sprintf("mqvpn, TCP %d flow %s", flows, way)
	}
	bulk, err := peer.Flood(ctx, b.client, way, flows)
	if err != nil {
		return row, err
	}
	defer bulk.Close()
	if _, err := bulk.Goodput(ctx, 0, warmUp); err != nil {
		return row, err
	}
	var before, after [2]lab.Usage
	read := func(into *[2]lab.Usage) error {
		return b.usage(func(i int, u lab.Usage) { into[i] = u })
	}
	if err := read(&before); err != nil {
		return row, err
	}
	received := bulk.Received()
	bitsPerSecond, err := bulk.Goodput(ctx, 0, b.options.Measure)
	if err != nil {
		return row, err
	}
	gigabytes := float64(bulk.Received()-received) / 1e9
	if err := read(&after); err != nil {
		return row, err
	}
	row.Mbps = bitsPerSecond / 1e6
	row.ClientCPU = (after[0].CPU - before[0].CPU).Seconds() / gigabytes
	row.ServerCPU = (after[1].CPU - before[1].CPU).Seconds() / gigabytes
	return row, nil
}

// usage calls f with what each program has consumed; without a tunnel it does
// nothing.
func (b *bench) usage(f func(i int, u lab.Usage)) error {
	for i, p := range b.programs {
		if p == nil {
			continue
		}
		u, err := p.Usage()
		if err != nil {
			return errors.Join(err, fmt.Errorf("output of the program:\n%s", p.Output()))
		}
		f(i, u)
	}
	return nil
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
