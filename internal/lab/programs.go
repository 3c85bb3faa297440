// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// Programs are the paths of the programs.
type Programs struct {
	Server, Client string
	QUICFlow       string // "" where there is none
}

// BuildPrograms builds both programs from source into a directory.
func BuildPrograms(ctx context.Context, dir string) (Programs, error) {
	if err := Build(ctx, dir, "mqvpn-server", "mqvpn-client"); err != nil {
		return Programs{}, err
	}
	return ProgramsIn(dir)
}

// Build builds commands of this module into a directory. It works anywhere in the
// source tree.
func Build(ctx context.Context, dir string, commands ...string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The version is of no interest here, and finding it out fails in a tree that
	// belongs to another user.
	args := []string{"build", "-buildvcs=false", "-o", dir + "/"}
	for _, c := range commands {
		args = append(args, "github.com/mqvpn/mqvpn/cmd/"+c)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// ProgramsIn returns the programs that are in a directory.
func ProgramsIn(dir string) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	p := Programs{Server: filepath.Join(dir, "mqvpn-server"), Client: filepath.Join(dir, "mqvpn-client")}
	for _, path := range []string{p.Server, p.Client} {
		if _, err := os.Stat(path); err != nil {
			return Programs{}, err
		}
	}
	if path := filepath.Join(dir, quicFlowProgram); exists(path) {
		p.QUICFlow = path
	}
	return p, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ServerConfig is where InitServer writes the configuration, in the host's own
// /run.
const ServerConfig = "/run/lab/server.conf"

// InitServer runs mqvpn-server init on a host. It returns the arguments of the
// command line that init prints for the client, without the --path.
func (p Programs) InitServer(ctx context.Context, h *Host, address netip.AddrPort, user string) (clientArgs []string, err error) {
	out, code, err := h.Run(ctx, Command{Path: p.Server, Args: []string{
		"init", "--dir", filepath.Dir(ServerConfig), "--address", address.String(), "--name", user}})
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("mqvpn-server init: exit code %d: %s", code, out)
	}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "mqvpn-client" {
			continue
		}
		for i := 1; i < len(words); i++ {
			if words[i] == "--path" {
				i++
				continue
			}
			clientArgs = append(clientArgs, words[i])
		}
		return clientArgs, nil
	}
	return nil, fmt.Errorf("mqvpn-server init printed no line for the client:\n%s", out)
}

// UpLine is in the line that programs log when they are in service.
const UpLine = "msg=up "

// StartServer runs mqvpn-server on a host and waits until it says that it is up.
func (p Programs) StartServer(ctx context.Context, h *Host, args ...string) (*Process, error) {
	return h.StartUp(ctx, Command{Path: p.Server, Args: args})
}

// StartClient runs mqvpn-client on a host and waits until it says that it is up.
// env is added to its environment.
func (p Programs) StartClient(ctx context.Context, h *Host, args []string, env ...string) (*Process, error) {
	return h.StartUp(ctx, Command{Path: p.Client, Args: args, Env: env})
}

// StartUp starts a program on the host and waits until it says that it is up.
func (h *Host) StartUp(ctx context.Context, c Command) (*Process, error) {
	p, err := h.Start(c)
	if err != nil {
		return nil, err
	}
	if err := p.WaitOutput(ctx, UpLine); err != nil {
		p.Kill()
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return p, nil
}

// errNoRoute is returned by RouteTo.
var errNoRoute = errors.New("no route")

// RouteTo returns the name of the interface that the host uses for dst.
func (h *Host) RouteTo(dst netip.Addr) (iface string, err error) {
	err = h.Do(func() error {
		routes, err := netlink.RouteGet(dst.AsSlice())
		if err != nil {
			return err
		}
		if len(routes) == 0 {
			return errNoRoute
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return err
		}
		iface = link.Attrs().Name
		return nil
	})
	return iface, err
}
