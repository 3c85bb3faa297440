// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mqvpn/mqvpn/internal/processors"
)

// invocation is a command line that was understood.
type invocation struct {
	command string // "run" or one of commands
	flags   *pflag.FlagSet
	config  string
	profile string    // file for a CPU profile
	given   []setting // options of the configuration
	args    []string  // of the command path
	json    bool
	init    initOptions
}

// command is a word that may stand in front of the flags, or as a flag itself.
type command struct {
	name  string
	sides sides
	usage string
}

var commands = []command{
	{"status", bothSides, "show what the running program does; --json for scripts"},
	{"top", bothSides, "show every second what each path carries, and why one does not"},
	{"path", clientSide, "list; add IFACE; remove IFACE; priority IFACE primary|secondary|backup|never: of the running program"},
	{"genkey", bothSides, "print a new random key"},
	{"init", serverSide, "write certificate, key and configuration; --dir DIR, --address HOST:PORT, --name USER"},
	{"version", bothSides, "print the version"},
	{"help", bothSides, "print this"},
}

// Main runs one of the two programs until it is done or ctx ends, and returns the
// exit code. args is the command line without the program's name.
func Main(ctx context.Context, mode Mode, args []string, stdout, stderr io.Writer) int {
	err := runCommand(ctx, mode, args, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", mode.program(), err)
	}
	return int(exitCode(err))
}

func runCommand(ctx context.Context, mode Mode, args []string, stdout, stderr io.Writer) error {
	inv, err := parseArgs(mode, args)
	if err != nil {
		return err
	}
	switch inv.command {
	case "help":
		_, err = io.WriteString(stdout, usage(mode, inv.flags))
		return err
	case "version":
		_, err = fmt.Fprintln(stdout, mode.program(), Version())
		return err
	case "genkey":
		_, err = fmt.Fprintln(stdout, newKey())
		return err
	case "init":
		return initServer(inv.init, stdout)
	}
	var file []setting
	if inv.config != "" {
		if file, err = readConfigFile(inv.config); err != nil {
			return err
		}
	}
	if inv.command == "top" {
		return top(ctx, controlPath(mode, file, inv.given), stdout)
	}
	if inv.command == "path" {
		return editPaths(ctx, controlPath(mode, file, inv.given), inv.args, stdout)
	}
	if inv.command == "status" {
		return printStatus(ctx, controlPath(mode, file, inv.given), inv.json, stdout)
	}
	cfg, err := newConfig(mode, file, inv.given)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	adapting, stopAdapting := context.WithCancel(ctx)
	defer stopAdapting()
	go processors.Adapt(adapting)
	run := RunClient
	if mode == ModeServer {
		run = RunServer
	}
	if inv.profile == "" {
		return run(ctx, cfg, log)
	}
	stop, err := startProfile(inv.profile)
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, cfg, log), stop())
}

// flagValue records where an option was set on the command line.
type flagValue struct {
	opt *option
	inv *invocation
}

func (v flagValue) String() string { return "" }

// Type is what --help shows as the value; pflag shows nothing for bool.
func (v flagValue) Type() string {
	if v.opt.arg == "" {
		return "bool"
	}
	return v.opt.arg
}

func (v flagValue) Set(s string) error {
	if v.opt.negated {
		b, err := parseBool(s)
		if err != nil {
			return err
		}
		s = fmt.Sprint(!b)
	}
	v.inv.given = append(v.inv.given, setting{v.opt, s, "--" + v.opt.flag})
	return nil
}

func parseArgs(mode Mode, args []string) (*invocation, error) {
	inv := &invocation{command: "run", flags: pflag.NewFlagSet(mode.program(), pflag.ContinueOnError)}
	fs := inv.flags
	fs.SortFlags = false
	fs.Usage = func() {}
	fs.StringVarP(&inv.config, "config", "C", "", "read options from an INI or JSON `FILE`; the command line goes before it")
	fs.StringVar(&inv.profile, "cpuprofile", "", "write a CPU profile of the whole run to `FILE` when the program ends")
	for _, o := range options {
		if o.sides&mode.side() == 0 {
			continue
		}
		f := fs.VarPF(flagValue{o, inv}, o.flag, o.short, o.usage)
		if o.arg == "" {
			f.NoOptDefVal = "true"
		}
	}
	asFlag := map[string]*bool{}
	for _, c := range commands {
		if c.sides&mode.side() != 0 && fs.Lookup(c.name) == nil { // --path is an option
			short := ""
			if c.name == "help" {
				short = "h"
			}
			asFlag[c.name] = fs.BoolP(c.name, short, false, "same as the command "+c.name)
			fs.Lookup(c.name).Hidden = true
		}
	}
	fs.BoolVar(&inv.json, "json", false, "")
	fs.StringVar(&inv.init.dir, "dir", "/etc/mqvpn", "")
	fs.StringVar(&inv.init.address, "address", "", "")
	fs.StringVar(&inv.init.user, "name", "client1", "")
	ofCommand := map[string]string{"json": "status", "dir": "init", "address": "init", "name": "init"}
	for name := range ofCommand {
		fs.Lookup(name).Hidden = true
	}
	if err := fs.Parse(args); err != nil {
		return nil, flagError(mode, fs, err)
	}
	if words := fs.Args(); len(words) > 0 {
		inv.command = words[0]
		if inv.command == "path" && mode == ModeClient {
			inv.args = words[1:]
		} else if len(words) > 1 {
			return nil, failf(ExitUsage, "%q: one command at a time; flags begin with --", words[1])
		}
	}
	for _, c := range commands {
		if set := asFlag[c.name]; set != nil && *set {
			inv.command = c.name
		}
	}
	if names := commandNames(mode); !slices.Contains(names, inv.command) && inv.command != "run" {
		known, _ := nearest(inv.command, names)
		return nil, failf(ExitUsage, "unknown command %q; the nearest known one is %q; flags begin with --", inv.command, known)
	}
	for name, cmd := range ofCommand {
		if fs.Changed(name) && inv.command != cmd {
			return nil, failf(ExitUsage, "--%s: only with the command %s", name, cmd)
		}
	}
	return inv, nil
}

func commandNames(mode Mode) []string {
	var names []string
	for _, c := range commands {
		if c.sides&mode.side() != 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// flagError says what pflag found, with the nearest flag for one that does not exist.
func flagError(mode Mode, fs *pflag.FlagSet, err error) error {
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok && e.GetSpecifiedShortnames() == "" {
		var names []string
		fs.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		known, _ := nearest("--"+e.GetSpecifiedName(), names)
		return failf(ExitUsage, "--%s: unknown flag; the nearest known one is %s; \"%s help\" lists all",
			e.GetSpecifiedName(), known, mode.program())
	}
	return failf(ExitUsage, "%w; \"%s help\" lists all", err, mode.program())
}

// Version is that of the module, or of the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

const environmentText = `  MQVPN_NO_OFFLOAD  offloads not to use, separated by commas: gso, gro (of UDP), tun. For
                    measurements, and for a kernel or a device whose own are broken
`

const clientExamples = `Examples:
  mqvpn-client --server 203.0.113.1:443 --auth-key KEY --pin SHA256 --path eth0 --path wlan0
  mqvpn-client --config /etc/mqvpn/client.conf
  mqvpn-client --server vpn.example.com --auth-key KEY --path auto --path '!docker*' --path wwan0=backup
  mqvpn-client status
  mqvpn-client path priority wwan0 backup
`

const serverExamples = `Examples:
  mqvpn-server init --address vpn.example.com:443
  mqvpn-server --config /etc/mqvpn/server.conf
  mqvpn-server --listen 0.0.0.0:443 --subnet 10.0.0.0/24 --cert server.crt --key server.key --user alice:KEY
  mqvpn-server status --json
`

func usage(mode Mode, fs *pflag.FlagSet) string {
	b := new(strings.Builder)
	what, examples := "joins a tunnel over several links", clientExamples
	if mode == ModeServer {
		what, examples = "serves tunnels to clients", serverExamples
	}
	fmt.Fprintf(b, "%s %s.\n\nUsage:\n  %[1]s [flags]\n  %[1]s COMMAND [flags]\n\n%[3]s\nCommands:\n", mode.program(), what, examples)
	for _, c := range commands {
		if c.sides&mode.side() != 0 {
			fmt.Fprintf(b, "  %-9s %s\n", c.name, c.usage)
		}
	}
	fmt.Fprintf(b, "\nFlags:\n%s\nEnvironment:\n%s\nExit codes:\n", fs.FlagUsages(), environmentText)
	for _, m := range exitMeanings {
		fmt.Fprintf(b, "  %2d  %s\n", m.code, m.text)
	}
	return b.String()
}
