// SPDX-License-Identifier: Apache-2.0

package qlog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// Dir writes a file for each connection into a directory. Its methods may be called by
// any goroutine.
type Dir struct {
	path string

	mu     sync.Mutex
	traces []*Trace
	err    error // of the first trace that failed and is not among them any more
}

// NewDir returns a Dir for the directory at path, which must exist.
func NewDir(path string) *Dir { return &Dir{path: path} }

// FromEnvironment returns a Dir for the directory that the variable QLOGDIR names, nil if
// it is not set.
func FromEnvironment() *Dir {
	if path := os.Getenv("QLOGDIR"); path != "" {
		return NewDir(path)
	}
	return nil
}

// Path is what NewDir was given.
func (d *Dir) Path() string { return d.path }

// Open starts the trace of a connection. It is what quic.Config.Qlog wants; without a Dir
// there is no trace. The file is created later, by the writer of the trace. Its name is
// the original Destination Connection ID and the vantage point, as the drafts recommend,
// with a number behind it where that exists.
func (d *Dir) Open(originalDCID []byte, isClient bool) slog.Handler {
	if d == nil {
		return nil
	}
	v := Server
	if isClient {
		v = Client
	}
	id := hex.EncodeToString(originalDCID)
	t := NewTrace(&file{base: filepath.Join(d.path, id+"_"+string(v))}, v, id)
	d.mu.Lock()
	defer d.mu.Unlock()
	live := d.traces[:0]
	for _, other := range d.traces {
		select {
		case <-other.done:
			if d.err == nil {
				d.err = other.Wait()
			}
		default:
			live = append(live, other)
		}
	}
	clear(d.traces[len(live):])
	d.traces = append(live, t)
	return t
}

// Close ends all traces, and waits until they are written. Call it after the end of the
// connections.
func (d *Dir) Close() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	traces, err := d.traces, d.err
	d.traces, d.err = nil, nil
	d.mu.Unlock()
	for _, t := range traces {
		t.Close()
		err = errors.Join(err, t.Wait())
	}
	return err
}

// file is created when it is written first, so that this is done by the writer.
type file struct {
	base string
	f    *os.File
}

func (f *file) Write(b []byte) (int, error) {
	if f.f == nil {
		var err error
		if f.f, err = create(f.base); err != nil {
			return 0, err
		}
	}
	return f.f.Write(b)
}

func (f *file) Close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// maxSameName bounds how many files have the same connection id in their names. A client
// chooses it, and must not overwrite what another one has caused.
const maxSameName = 100

func create(base string) (f *os.File, err error) {
	name := base + ".sqlog"
	for i := range maxSameName {
		f, err = os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		name = fmt.Sprintf("%s_%d.sqlog", base, i+1)
	}
	return nil, err
}
