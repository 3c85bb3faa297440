// SPDX-License-Identifier: Apache-2.0

//go:build linux

// mqvpn-lab shows and measures mqvpn on one machine: it makes hosts and links of
// its own and runs the real programs between them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/mqvpn/mqvpn/internal/lab"
	"github.com/mqvpn/mqvpn/internal/lab/bench"
	"github.com/mqvpn/mqvpn/internal/lab/flood"
)

// Exit codes.
const (
	exitPassed  = 0
	exitFailed  = 1 // a check failed, or the run could not be finished
	exitUsage   = 2
	exitVoid    = 3 // the machine was too busy for the figures to mean anything
	exitRefused = 4 // the machine allows no namespaces or TAP devices
	exitSignal  = 130
)

const usageText = `mqvpn-lab shows and measures mqvpn on this machine alone. It makes hosts (network
namespaces) and links of its own, changes nothing else, and leaves nothing behind.

Usage:
  mqvpn-lab demo   [--out DIR] [--bin DIR]
  mqvpn-lab bench  [--out DIR] [--bin DIR] [--rows PATTERNS] [--seconds N] [--rounds N]
                   [--null] [--vs DIR] [--without OFFLOADS] [--cpuprofile]
  mqvpn-lab flood  [--out DIR] [--bin DIR] [--kinds KINDS] [--rates N,...] [--seconds N] [--rounds N]

Commands:
  demo    two emulated internet links, mqvpn over them, real traffic, and a link that
          fails: a live view, a summary, a plot. Takes about a minute.
  bench   how fast the tunnel is on an ideal cable, and what it costs, beside what it is
          compared with: a table, bench.json, a plot
  flood   what the tunnel keeps of its speed while somebody floods the server, beside the
          same flood to a port that discards: a table, flood.json

Flags:
%s
Rows of the benchmark; those in parentheses are measured only if --rows names them:
%s
Exit codes:
  0  all checks hold
  1  a check failed, or the run could not be finished
  2  the command line is wrong
  3  the run is void: this machine was too busy for its figures to mean anything
  4  this machine refuses network namespaces or TAP devices; the message says what to change

Examples:
  mqvpn-lab demo
  mqvpn-lab demo --out /tmp/demo --bin /usr/local/bin
  mqvpn-lab bench --null --rounds 5
  mqvpn-lab bench --bin new --vs old --rounds 5 --rows 'tcp-*,udp-1100-*'
  mqvpn-lab bench --rows tcp-1-up --seconds 20 --cpuprofile
  mqvpn-lab bench --without gso --without gro --without tun --without gso,gro,tun
  mqvpn-lab flood --rounds 5
  mqvpn-lab flood --kinds forged --rates 20000,50000,100000
`

// options are the flags of all commands.
type options struct {
	out string
	bin string

	// Of bench:
	seconds    int
	rounds     int
	rows       []string
	null       bool
	vs         string
	without    []string
	cpuProfile bool

	// Of flood:
	kinds []string
	rates []int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == bench.NullCommand { // run by the benchmark
		fmt.Fprintf(stderr, "mqvpn-lab: %v\n", bench.RunNull(args[1:]))
		return exitFailed
	}
	var o options
	fs := pflag.NewFlagSet("mqvpn-lab", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {}
	fs.StringVar(&o.out, "out", "", "directory for the outputs (default ./mqvpn-demo, ./mqvpn-bench or ./mqvpn-flood)")
	fs.StringVar(&o.bin, "bin", "", "directory with mqvpn-server and mqvpn-client (default: built from the source tree)")
	fs.IntVar(&o.seconds, "seconds", 3, "bench, flood: length of each measurement")
	fs.IntVar(&o.rounds, "rounds", 1, "bench, flood: how often each row is measured; the table has the medians")
	fs.StringSliceVar(&o.rows, "rows", nil, "bench: rows to measure, `PATTERNS` separated by commas; * stands for anything")
	fs.BoolVar(&o.null, "null", false, "bench: compare with the null tunnel, which does only what every tunnel must")
	fs.StringVar(&o.vs, "vs", "", "bench: compare with the mqvpn-server and mqvpn-client in `DIR`")
	fs.StringArrayVar(&o.without, "without", nil, "bench: compare with mqvpn without some of gso, gro and tun, `OFFLOADS` separated by commas; may be repeated")
	fs.BoolVar(&o.cpuProfile, "cpuprofile", false, "bench: write CPU profiles of both ends, of all rows of a round")
	fs.StringSliceVar(&o.kinds, "kinds", nil, "flood: `KINDS` of datagrams, separated by commas: "+strings.Join(flood.Kinds(), ", ")+" (default all)")
	fs.IntSliceVar(&o.rates, "rates", []int{20000}, "flood: datagrams per second, several separated by commas")
	help := fs.BoolP("help", "h", false, "print this")
	if err := fs.Parse(args); err != nil {
		fmt.Fprintf(stderr, "mqvpn-lab: %v; \"mqvpn-lab --help\" lists all\n", err)
		return exitUsage
	}
	command := fs.Arg(0)
	switch {
	case *help || command == "help":
		fmt.Fprintf(stdout, usageText, fs.FlagUsages(), wrap(bench.RowIDs(), 88))
		return exitPassed
	case fs.NArg() > 1:
		fmt.Fprintf(stderr, "mqvpn-lab: %q: one command at a time; flags begin with --\n", fs.Arg(1))
		return exitUsage
	case o.seconds < 1 || o.seconds > 600:
		fmt.Fprintf(stderr, "mqvpn-lab: --seconds %d: want 1 to 600\n", o.seconds)
		return exitUsage
	case o.rounds < 1 || o.rounds > 1000:
		fmt.Fprintf(stderr, "mqvpn-lab: --rounds %d: want 1 to 1000\n", o.rounds)
		return exitUsage
	}
	for _, err := range []error{bench.CheckRows(o.rows), flood.Check(o.kinds, o.rates)} {
		if err != nil {
			fmt.Fprintf(stderr, "mqvpn-lab: %v\n", err)
			return exitUsage
		}
	}
	commands := map[string]func(context.Context, options, lab.Programs, io.Writer) (int, error){"demo": runDemo, "bench": runBench, "flood": runFlood}
	f := commands[command]
	if f == nil {
		fmt.Fprintf(stderr, "mqvpn-lab: want a command: demo, bench, flood or help, not %q\n", command)
		return exitUsage
	}
	if o.out == "" {
		o.out = "mqvpn-" + command
	}
	code, err := enterAndRun(ctx, o, stdout, f)
	if err != nil {
		code = report(ctx, stderr, err)
	}
	return code
}

// wrap makes indented lines of words.
func wrap(words []string, width int) string {
	var b strings.Builder
	line := " "
	for _, w := range words {
		if len(line)+1+len(w) > width {
			b.WriteString(line + "\n")
			line = " "
		}
		line += " " + w
	}
	return b.String() + line + "\n"
}

// builtVariable tells the copy of this program in a user namespace, which has no
// network, where the programs are that were built before.
const builtVariable = "MQVPN_LAB_BIN"

// enterAndRun builds the programs, obtains the rights that a lab needs, and runs f.
func enterAndRun(ctx context.Context, o options, stdout io.Writer, f func(context.Context, options, lab.Programs, io.Writer) (int, error)) (int, error) {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return 0, err
	}
	dir := o.bin
	if dir == "" {
		dir = os.Getenv(builtVariable)
	}
	var programs lab.Programs
	var err error
	if dir != "" {
		programs, err = lab.ProgramsIn(dir)
	} else {
		dir = filepath.Join(o.out, "bin")
		fmt.Fprintln(stdout, "Building mqvpn-server and mqvpn-client ...")
		programs, err = lab.BuildPrograms(ctx, dir)
	}
	if err != nil {
		return 0, fmt.Errorf("%w; run this in the source tree, or give --bin DIR with both programs", err)
	}
	os.Setenv(builtVariable, dir)
	again, code, err := lab.Enter()
	if again || err != nil {
		return code, err
	}
	return f(ctx, o, programs, stdout)
}

// report prints why a run could not be finished, and returns the exit code.
func report(ctx context.Context, stderr io.Writer, err error) int {
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "mqvpn-lab: interrupted")
		return exitSignal
	}
	fmt.Fprintf(stderr, "mqvpn-lab: %v\n", err)
	if _, refused := errors.AsType[*lab.RefusedError](err); refused {
		return exitRefused
	}
	return exitFailed
}
