// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// changeKind says what was changed in the system.
type changeKind string

const (
	changeRoute  changeKind = "route"
	changeRule   changeKind = "rule"
	changeNFT    changeKind = "nft"    // an nftables table
	changeSysctl changeKind = "sysctl" // a file below /proc/sys
)

// change is one thing that this program did to the system, with all that is needed
// to do and to undo it. It is comparable.
type change struct {
	Kind     changeKind   `json:"kind"`
	Group    string       `json:"group"`             // what it belongs to; see host.sync
	Dst      netip.Prefix `json:"dst,omitzero"`      // route
	Gateway  netip.Addr   `json:"gateway,omitzero"`  // route; none: on the link
	Source   netip.Addr   `json:"source,omitzero"`   // route: preferred source; rule: from
	Link     string       `json:"link,omitempty"`    // route: device; rule: oif
	OnLink   bool         `json:"onlink,omitempty"`  // route: the gateway need not be in a known network
	IPv6     bool         `json:"ipv6,omitempty"`    // rule
	Closed   bool         `json:"closed,omitempty"`  // route: packets are refused
	Metric   int          `json:"metric,omitempty"`  // route
	Table    int          `json:"table,omitempty"`   // route, rule
	Priority int          `json:"priority,omitzero"` // rule
	Name     string       `json:"name,omitempty"`    // nft: table; sysctl: path below /proc/sys
	Old      string       `json:"old,omitempty"`     // sysctl
	New      string       `json:"new,omitempty"`     // sysctl
}

// journal is the list of changes in force, kept in a file so that the next run can
// undo them when this one is killed. A change is written before it is made. The
// file is locked while the program lives: it also tells that an interface name is
// in use. Not safe for concurrent use.
type journal struct {
	path    string
	file    *os.File
	changes []change
	lines   int // in the file
}

// journalEntry is one line of the file.
type journalEntry struct {
	Undone bool   `json:"undone,omitempty"`
	Change change `json:"change"`
}

// journalPath is the file for a tunnel interface. Network namespaces have their
// own routes but may share /run, so the namespace is part of the name.
func journalPath(dir, tunName string) (string, error) {
	ns, err := namespaceID()
	if err != nil {
		return "", fmt.Errorf("network namespace: %w", err)
	}
	return filepath.Join(dir, fmt.Sprintf("%s-%d.undo", tunName, ns)), nil
}

// namespaceID is the kernel's cookie of the network namespace, which is not used
// again for another one; before Linux 5.14 the inode number, which may be.
func namespaceID() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
		return cookie, nil
	}
	fi, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}

// openJournal opens or makes the file. The changes that it lists were left by a run
// that was killed.
func openJournal(path string) (*journal, error) {
	f, err := lockFile(path, unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, failf(ExitAddressUsed, "another mqvpn is running with this tunnel interface (it holds %s): stop it, or choose another name with --tun-name", path)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	j := &journal{path: path, file: f}
	for line := range bytes.Lines(data) {
		j.lines++
		var e journalEntry
		if json.Unmarshal(line, &e) != nil {
			continue // the last line may be cut
		}
		if i := slices.Index(j.changes, e.Change); i >= 0 {
			j.changes = slices.Delete(j.changes, i, i+1)
		}
		if !e.Undone {
			j.changes = append(j.changes, e.Change)
		}
	}
	return j, nil
}

// lockFile opens path for appending and locks it, shared or exclusively. It does not
// wait: the error is EWOULDBLOCK when somebody holds it.
func lockFile(path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		// The former holder removes the file before it lets go of the lock.
		mine, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, now) {
			return f, nil
		}
		f.Close()
		if err2 != nil && !errors.Is(err2, fs.ErrNotExist) {
			return nil, err2
		}
	}
}

func (j *journal) write(e journalEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err = j.file.Write(append(line, '\n')); err != nil {
		return err
	}
	j.lines++
	return nil
}

// spareLines is how many lines that no longer matter the file may have.
const spareLines = 200

// compact writes the file anew when most of it is history: interfaces that come and
// go for weeks would fill /run. The new file is locked before it has the name.
func (j *journal) compact() error {
	if j.lines < len(j.changes)+spareLines {
		return nil
	}
	os.Remove(j.path + ".new") // of a run that was killed right here
	f, err := lockFile(j.path+".new", unix.LOCK_EX)
	if err != nil {
		return err
	}
	n := &journal{file: f}
	for _, c := range j.changes {
		if err := n.write(journalEntry{Change: c}); err != nil {
			f.Close()
			return err
		}
	}
	if err := os.Rename(f.Name(), j.path); err != nil {
		f.Close()
		return err
	}
	j.file.Close()
	j.file, j.lines = f, n.lines
	return nil
}

func (j *journal) has(c change) bool { return slices.Contains(j.changes, c) }

// add notes a change that is about to be made.
func (j *journal) add(c change) error {
	if err := j.write(journalEntry{Change: c}); err != nil {
		return fmt.Errorf("cannot note what to undo: %w", err)
	}
	j.changes = append(j.changes, c)
	return nil
}

// remove notes that a change is no longer in force.
func (j *journal) remove(c change) error {
	j.changes = slices.DeleteFunc(j.changes, func(d change) bool { return c == d })
	if err := j.write(journalEntry{Undone: true, Change: c}); err != nil {
		return err
	}
	return j.compact()
}

// close removes the file if nothing is left to undo, and unlocks it.
func (j *journal) close() error {
	var err error
	if len(j.changes) == 0 {
		err = os.Remove(j.path)
	}
	return errors.Join(err, j.file.Close())
}
