// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// host is the Linux system. All that it changes is in its journal.
type host struct {
	tunName string
	log     *slog.Logger
	watcher *watcher // nil for a server
	noOffload

	mu      sync.Mutex // held by the methods of system and its kin
	journal *journal
	tables  map[string]int // routing table of each path's interface
	serving *servingLock
	warned  []string // warnings that were logged
}

func openClientSystem(cfg *Config, log *slog.Logger) (clientSystem, error) {
	h, err := openHost(cfg, log)
	if err != nil {
		return nil, err
	}
	if h.watcher, err = newWatcher(); err != nil {
		h.journal.close()
		return nil, err
	}
	return h, nil
}

func openServerSystem(cfg *Config, log *slog.Logger) (serverSystem, error) {
	return openHost(cfg, log)
}

func openHost(cfg *Config, log *slog.Logger) (*host, error) {
	without, err := parseNoOffload(os.Getenv(offloadVariable))
	if err != nil {
		return nil, err
	}
	dir, err := makeStateDir()
	if err != nil {
		return nil, err
	}
	h, err := newHost(dir, cfg.TunName, log)
	if err == nil {
		h.noOffload = without
	}
	return h, err
}

// newHost takes hold of the tunnel's name and undoes what an earlier run with that
// name left behind.
func newHost(dir, tunName string, log *slog.Logger) (*host, error) {
	path, err := journalPath(dir, tunName)
	if err != nil {
		return nil, err
	}
	j, err := openJournal(path)
	if err != nil {
		return nil, err
	}
	h := &host{tunName: tunName, log: log, journal: j, tables: map[string]int{}}
	if h.serving, err = newServingLock(dir); err != nil {
		j.close()
		return nil, err
	}
	if n := len(j.changes); n > 0 {
		log.Info("undoing what a killed run left behind", "changes", n)
		if err := h.undoAll(); err != nil {
			// Whatever keeps it from being undone would do so at the next start too.
			log.Warn("cannot undo all that a killed run left behind", "error", err)
			for _, c := range slices.Clone(j.changes) {
				if err := j.remove(c); err != nil {
					j.close()
					return nil, err
				}
			}
		}
	}
	return h, nil
}

func (h *host) close() error {
	if h.watcher != nil {
		h.watcher.close()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.serving.close()
	return errors.Join(h.undoAll(), h.journal.close())
}

func (h *host) undoAll() error {
	var errs []error
	for _, c := range slices.Backward(slices.Clone(h.journal.changes)) {
		errs = append(errs, h.undo(c))
	}
	return errors.Join(errs...)
}

// sync makes wanted the changes of a group: others of that group are undone, and
// those that are missing, or that the kernel dropped with a link, are made.
func (h *host) sync(group string, wanted []change) error {
	for i := range wanted {
		wanted[i].Group = group
	}
	var errs []error
	for _, c := range slices.Clone(h.journal.changes) {
		if c.Group == group && !slices.Contains(wanted, c) {
			errs = append(errs, h.undo(c))
		}
	}
	for _, c := range wanted {
		errs = append(errs, h.do(c))
	}
	return errors.Join(errs...)
}

// do makes a change. One that is there although we did not make it is somebody
// else's and stays theirs; into another device it would be of no use.
func (h *host) do(c change) error {
	ours := h.journal.has(c)
	if !ours {
		if err := h.journal.add(c); err != nil {
			return err
		}
	}
	err := c.do()
	if errors.Is(err, unix.EEXIST) && c.Kind == changeRoute && c.Link == h.tunName {
		if other := otherDevice(c); other != "" {
			err = failf(ExitFailure, "interface %s has it already, most likely for another VPN: stop that one, or use --no-manage-routes", other)
		}
	}
	if err == nil || errors.Is(err, unix.EEXIST) && ours {
		return nil
	}
	if errors.Is(err, unix.EEXIST) {
		h.log.Debug("was there before", "change", c)
		return h.journal.remove(c)
	}
	if !ours {
		err = errors.Join(err, h.journal.remove(c))
	}
	return fmt.Errorf("%s: %w", c, err)
}

func (h *host) undo(c change) error {
	if c.Kind == changeSysctl && h.serving.others() {
		h.log.Info("left as it is for another server on this host", "change", c)
		return h.journal.remove(c)
	}
	if err := c.undo(); err != nil {
		return fmt.Errorf("undo %s: %w", c, err)
	}
	return h.journal.remove(c)
}

func (c change) do() error {
	switch c.Kind {
	case changeRoute:
		return addRoute(c)
	case changeRule:
		return addRule(c)
	case changeNFT:
		return nil // the table is filled by enableNAT, in one transaction
	case changeSysctl:
		return writeSysctl(c.Name, c.New)
	}
	panic("BUG: change of kind " + c.Kind)
}

// undo takes a change back. What is gone already is no error.
func (c change) undo() error {
	switch c.Kind {
	case changeRoute:
		return removeRoute(c)
	case changeRule:
		return removeRule(c)
	case changeNFT:
		return removeTable(c.Name)
	case changeSysctl:
		now, err := readSysctl(c.Name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now != c.New {
			return nil // gone with its interface, or changed by someone since
		}
		return errors.Join(err, writeSysctl(c.Name, c.Old))
	}
	return nil // written by a newer version
}

func (c change) String() string {
	var b strings.Builder
	b.WriteString(string(c.Kind))
	add := func(name, value string, is bool) {
		if is {
			b.WriteString(" " + name + value)
		}
	}
	add("", c.Name, c.Name != "")
	add("", c.Dst.String(), c.Dst.IsValid())
	add("", "unreachable", c.Closed)
	add("from ", c.Source.String(), c.Source.IsValid())
	add("via ", c.Gateway.String(), c.Gateway.IsValid())
	add("dev ", c.Link, c.Link != "")
	add("table ", fmt.Sprint(c.Table), c.Table != 0)
	add("= ", c.New, c.New != "")
	return b.String()
}

const sysctlRoot = "/proc/sys"

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysctlRoot, name))
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(name, value string) error {
	return os.WriteFile(filepath.Join(sysctlRoot, name), []byte(value), 0o644)
}

// setSysctl sets a value and notes the old one, unless it is that already.
func (h *host) setSysctl(name, value string) error {
	old, err := readSysctl(name)
	if err != nil || old == value {
		return err
	}
	return h.do(change{Kind: changeSysctl, Group: "sysctl", Name: name, Old: old, New: value})
}
