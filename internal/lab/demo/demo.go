// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package demo shows and checks what mqvpn does on two links: it builds a small
// internet with package lab, runs the real programs in it, and measures.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// Options say how to run the demo.
type Options struct {
	Programs lab.Programs
	Dir      string    // for the outputs; must exist
	Stdout   io.Writer // for people
	Terminal bool      // Stdout understands cursor movements
}

const (
	linkRate  = 50e6
	linkQueue = 50 * time.Millisecond
	// serverPort is where the clients find the VPN server.
	serverPort = 443
	// peerPort is that of the far ends of the traffic.
	peerPort = 7000
	// setUpTime is how long programs and connections may take to come up.
	setUpTime = 10 * time.Second
	// repeatTime is how long the repetitions of a run may take, so that the run
	// stays below a minute.
	repeatTime = 14 * time.Second
)

// linkConfigs are the two links of the client.
var linkConfigs = []lab.LinkConfig{
	lab.Symmetric("A", linkRate, 10*time.Millisecond, linkQueue),
	lab.Symmetric("B", linkRate, 25*time.Millisecond, linkQueue),
}

// runner is a run of the demo.
type runner struct {
	options Options
	report  *Report
	net     *lab.Internet
	client  *lab.Host
	links   []*lab.Link
	peer    *lab.Peer // behind the server
	sampler *lab.Sampler
	view    *view

	repeats    time.Duration // left of repeatTime
	clientArgs []string      // that mqvpn-server init printed
	plain      [2]float64
	single     [2]float64
	both       float64
	markers    []func() uint64 // count the probes' markers on the links
}

// Run runs the demo and writes report.json, plot.svg and plot.png. The report is
// valid even if err is not nil: then it tells how far the run came.
func Run(ctx context.Context, o Options) (*Report, error) {
	machine := lab.ThisMachine()
	r := &runner{options: o, report: &Report{Started: time.Now(), Kernel: machine.Kernel, CPUs: machine.CPUs}, repeats: repeatTime}
	for _, c := range linkConfigs {
		r.report.Links = append(r.report.Links, Link{
			Name: c.Name, Rate: float64(c.AtoB.Rate) / 1e6,
			Delay: milliseconds(c.AtoB.Delay), Queue: milliseconds(linkQueue),
		})
	}
	r.view = &view{w: o.Stdout, terminal: o.Terminal, links: r.report.Links}
	err := r.run(ctx)
	r.report.Seconds = time.Since(r.report.Started).Seconds()
	r.report.conclude()
	if err != nil {
		r.report.Passed = false
		return r.report, err
	}
	return r.report, r.conclude()
}

func (r *runner) run(ctx context.Context) error {
	lab.ProgramsYield() // the demo has the machine to itself, or is void
	n, err := lab.NewInternet(lab.InternetConfig{Clients: [][]lab.LinkConfig{linkConfigs}})
	if err != nil {
		return err
	}
	defer n.Close()
	r.net, r.client, r.links = n, n.Clients[0], n.Links[0]
	r.view.say("Made a client, a router, a server and a host behind it, and two links to the client:")
	for _, l := range r.report.Links {
		r.view.say("  %s  %.0f Mbit/s, %.0f ms each way, queue %.0f ms", l.Name, l.Rate, l.Delay, l.Queue)
	}
	r.peer, err = lab.NewPeer(n.Inside, netip.AddrPortFrom(lab.InsideAddr4, peerPort))
	if err != nil {
		return err
	}
	defer r.peer.Close()
	r.sampler = lab.NewSampler(r.links, r.view.show)
	defer func() {
		r.sampler.Close()
		r.report.Timeline = r.sampler.Timeline()
		var cpu time.Duration
		for _, l := range r.links {
			cpu += l.CPU()
		}
		r.report.EmulatorCPU = float64(cpu) / float64(r.sampler.Elapsed())
	}()
	for _, step := range []func(context.Context) error{r.checkEmulator, r.startServer, r.checkSingle, r.checkBoth} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// conclude writes the outputs and the summary.
func (r *runner) conclude() error {
	path := func(name string) string { return filepath.Join(r.options.Dir, name) }
	err := errors.Join(
		r.report.writeJSON(path("report.json")),
		r.report.writePlots(path("plot.svg"), path("plot.png")))
	r.view.say("")
	r.report.writeTable(r.options.Stdout)
	r.view.say("\n  the run took %.0f s, the link emulator %.0f %% of a core", r.report.Seconds, 100*r.report.EmulatorCPU)
	r.view.say("  plot and data: %s, %s, %s\n", path("plot.svg"), path("plot.png"), path("report.json"))
	r.view.say("%s", r.report.verdict())
	return err
}

// measured makes a part of the measurements, and makes it again as long as the
// emulator was late in it and there is time: now and then the host of a virtual
// machine takes the processor away for a moment, and often after a build. The samples
// of what is made again stay in the report, as void.
func (r *runner) measured(ctx context.Context, part func(context.Context) error) error {
	for {
		began, checks, first := time.Now(), len(r.report.Checks), r.sampler.Count()
		if err := part(ctx); err != nil {
			return err
		}
		took, late := time.Since(began), r.sampler.Lateness(first)
		if late <= milliseconds(MaxLateness) || took > r.repeats {
			return nil
		}
		r.repeats -= took
		r.sampler.Void(first)
		r.report.Checks = r.report.Checks[:checks]
		r.announce("emulator %.0f ms late: measured again", late)
	}
}

// announce records an event and shows it.
func (r *runner) announce(what string, args ...any) lab.Event {
	e := r.sampler.Event(fmt.Sprintf(what, args...))
	r.view.say("    %5.1f s   %s", e.Time, e.What)
	return e
}

// check adds a line to the summary.
func (r *runner) check(passed bool, id, unit string, value float64, want, what string, args ...any) {
	r.report.Checks = append(r.report.Checks, Check{
		ID: id, What: fmt.Sprintf(what, args...), Value: value, Unit: unit, Want: want, Passed: passed,
	})
}

// startServer starts mqvpn-server as its own init says. It dies with its host.
func (r *runner) startServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	address := netip.AddrPortFrom(lab.ServerAddr4, serverPort)
	var err error
	if r.clientArgs, err = r.options.Programs.InitServer(ctx, r.net.Server, address, "demo"); err != nil {
		return err
	}
	if _, err := r.options.Programs.StartServer(ctx, r.net.Server, "--config", lab.ServerConfig); err != nil {
		return err
	}
	r.view.say("\nOn the server:  mqvpn-server init --address %s", address)
	r.view.say("                mqvpn-server --config %s", lab.ServerConfig)
	return nil
}

// startClient starts mqvpn-client over some of the links.
func (r *runner) startClient(ctx context.Context, links ...int) (*lab.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	args := append([]string(nil), r.clientArgs...)
	for _, i := range links {
		args = append(args, "--path", fmt.Sprintf("eth%d", i))
	}
	r.view.say("\nOn the client:  mqvpn-client %s", strings.Join(args, " "))
	return r.options.Programs.StartClient(ctx, r.client, args)
}

// stopClient ends the client as a user would.
func stopClient(p *lab.Process) error {
	code, err := p.Stop(5 * time.Second)
	if err == nil && code != 0 {
		err = fmt.Errorf("mqvpn-client exited with code %d; its output:\n%s", code, p.Output())
	}
	return err
}
