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
	"github.com/mqvpn/mqvpn/internal/lab/suite"
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
  mqvpn-lab suite  NAME [--out DIR] [--bin DIR] [--rounds N] [--only PATTERNS] | --list

Commands:
  demo    two emulated internet links, mqvpn over them, real traffic, and a link that
          fails: a live view, a summary, a plot. Takes about a minute.
  bench   how fast the tunnel is on an ideal cable, and what it costs, beside what it is
          compared with: a table, bench.json, a plot
  flood   what the tunnel keeps of its speed while somebody floods the server, beside the
          same flood to a port that discards: a table, flood.json
  suite   what the tunnel makes of several emulated links, and what users notice when they
          fail, beside the figures that are asked for: tables, JSON, a plot of each case.
          Suites: %s; --list tells what is in them and how long they take

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
  mqvpn-lab suite latency
  mqvpn-lab suite failover --rounds 3 --only 'silent-A-*,flap'
`

// options are the flags of all commands.
type options struct {
	out string
	bin string

	rounds int // of bench, flood and suite

	// Of suite:
	suite string
	only  []string
	list  bool

	// Of bench:
	seconds    int
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
	fs.StringVar(&o.out, "out", "", "directory for the outputs (default ./mqvpn-demo, ./mqvpn-bench and so on)")
	fs.StringVar(&o.bin, "bin", "", "directory with mqvpn-server and mqvpn-client (default: built from the source tree)")
	fs.IntVar(&o.seconds, "seconds", 3, "bench, flood: length of each measurement")
	fs.IntVar(&o.rounds, "rounds", 0, "bench, flood, suite: how often everything is measured; the table has the medians (default: suite 5, others 1)")
	fs.StringSliceVar(&o.only, "only", nil, "suite: cases to measure, `PATTERNS` separated by commas; * stands for anything")
	fs.BoolVar(&o.list, "list", false, "suite: list the suites and their cases")
	fs.StringSliceVar(&o.rows, "rows", nil, "bench: rows to measure, `PATTERNS` separated by commas; * stands for anything")
	fs.BoolVar(&o.null, "null", false, "bench: compare with the null tunnel, which does only what every tunnel must")
	fs.StringVar(&o.vs, "vs", "", "bench: compare with the mqvpn-server and mqvpn-client in `DIR`")
	fs.StringArrayVar(&o.without, "without", nil, "bench: compare with mqvpn without some of gso, gro and tun, `OFFLOADS` separated by commas; may be repeated")
	fs.BoolVar(&o.cpuProfile, "cpuprofile", false, "bench: write CPU profiles and flame graphs of both ends, of all rows of a round")
	fs.StringSliceVar(&o.kinds, "kinds", nil, "flood: `KINDS` of datagrams, separated by commas: "+strings.Join(flood.Kinds(), ", ")+" (default all)")
	fs.IntSliceVar(&o.rates, "rates", []int{20000}, "flood: datagrams per second, several separated by commas")
	help := fs.BoolP("help", "h", false, "print this")
	if err := fs.Parse(args); err != nil {
		fmt.Fprintf(stderr, "mqvpn-lab: %v; \"mqvpn-lab --help\" lists all\n", err)
		return exitUsage
	}
	command := fs.Arg(0)
	if *help || command == "help" {
		fmt.Fprintf(stdout, usageText, strings.Join(suite.Names(), ", "), fs.FlagUsages(), wrap(bench.RowIDs(), 88))
		return exitPassed
	}
	if command == "suite" && o.list {
		suite.List(stdout)
		return exitPassed
	}
	if err := o.check(command, fs.Args(), fs.Changed("rounds")); err != nil {
		fmt.Fprintf(stderr, "mqvpn-lab: %v\n", err)
		return exitUsage
	}
	f := commands[command]
	if o.out == "" {
		o.out = "mqvpn-" + command
	}
	code, err := enterAndRun(ctx, o, stdout, f)
	if err != nil {
		code = report(ctx, stderr, err)
	}
	return code
}

// commands are all but help.
var commands = map[string]func(context.Context, options, lab.Programs, io.Writer) (int, error){
	"demo": runDemo, "bench": runBench, "flood": runFlood, "suite": runSuite,
}

// check completes the options of a command, and says what is wrong with them.
func (o *options) check(command string, args []string, roundsGiven bool) error {
	if !roundsGiven {
		o.rounds = map[string]int{"suite": 5}[command]
		o.rounds = max(o.rounds, 1)
	}
	most := 1
	if command == "suite" {
		most = 2
	}
	switch {
	case len(args) > most:
		return fmt.Errorf("%q: one command at a time; flags begin with --", args[most])
	case o.seconds < 1 || o.seconds > 600:
		return fmt.Errorf("--seconds %d: want 1 to 600", o.seconds)
	case o.rounds < 1 || o.rounds > 1000:
		return fmt.Errorf("--rounds %d: want 1 to 1000", o.rounds)
	case commands[command] == nil:
		return fmt.Errorf("want a command: demo, bench, flood, suite or help, not %q", command)
	case command == "suite":
		if len(args) == 2 {
			o.suite = args[1]
		}
		return suite.Check(o.suite, o.only)
	}
	return errors.Join(bench.CheckRows(o.rows), flood.Check(o.kinds, o.rates))
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

// commitVariable tells it the commit that they were built from: they do not know it.
const commitVariable = "MQVPN_LAB_COMMIT"

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
		if err == nil && o.suite != "" {
			if e := lab.BuildQUICFlow(ctx, dir); e != nil {
				fmt.Fprintf(stdout, "There will be no QUIC flows: %v\n", e)
			}
			programs, err = lab.ProgramsIn(dir)
			os.Setenv(commitVariable, lab.SourceCommit(ctx))
		}
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
