// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Limits of the control socket: whoever may open it is trusted, but must not be
// able to hang or fill the program by mistake.
const (
	maxControlRequest = 4096 // bytes
	maxControlConns   = 8
	controlTimeout    = 5 * time.Second // for one request and its answer
)

// controlServer answers JSON requests, one a line, on a unix socket.
type controlServer struct {
	listener net.Listener
	handle   func(controlRequest) (any, error)
	slots    chan struct{}
	wg       sync.WaitGroup
}

// controlRequest is one line from the socket.
type controlRequest struct {
	Cmd      string `json:"cmd"`
	Path     string `json:"path,omitempty"`     // of path_add, path_remove, path_priority: the interface
	Priority string `json:"priority,omitempty"` // of path_priority
}

// controlReply stands in front of each answer.
type controlReply struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// listenControl opens the socket at path, readable by its owner only. handle is
// called concurrently; its result is embedded in the answer.
func listenControl(path string, handle func(controlRequest) (any, error)) (*controlServer, error) {
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	s := &controlServer{listener: l, handle: handle, slots: make(chan struct{}, maxControlConns)}
	s.wg.Go(s.accept)
	return s, nil
}

// listenUnix binds path. A socket that a killed process left is replaced; one that
// somebody answers at is not.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := listenPrivate(path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, failf(ExitAddressUsed, "control socket %s: another program is listening there; choose another with --control", path)
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, failf(ExitAddressUsed, "control socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return listenPrivate(path)
}

func listenPrivate(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

func (s *controlServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed: a unix listener has no other lasting error
		}
		select {
		case s.slots <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-s.slots }()
				s.serve(c)
			})
		default:
			writeReply(c, nil, errors.New("too many connections"))
			c.Close()
		}
	}
}

func (s *controlServer) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(controlTimeout))
	lines := bufio.NewScanner(c)
	lines.Buffer(nil, maxControlRequest)
	for lines.Scan() {
		var req controlRequest
		var result any
		err := json.Unmarshal(lines.Bytes(), &req)
		if err == nil {
			result, err = s.handle(req)
		}
		if writeReply(c, result, err) != nil {
			return
		}
		c.SetDeadline(time.Now().Add(controlTimeout))
	}
	if lines.Err() != nil && errors.Is(lines.Err(), bufio.ErrTooLong) {
		writeReply(c, nil, errors.New("request too long"))
	}
}

// writeReply writes one line: result's fields behind "ok".
func writeReply(w io.Writer, result any, err error) error {
	reply := controlReply{OK: err == nil}
	if err != nil {
		reply.Error = err.Error()
		result = nil
	}
	line, _ := json.Marshal(reply)
	if result != nil {
		fields, err := json.Marshal(result)
		if err != nil {
			return err
		}
		line = append(append(line[:len(line)-1], ','), fields[1:]...)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Close removes the socket and waits for requests in progress. s may be nil.
func (s *controlServer) Close() error {
	if s == nil {
		return nil
	}
	err := s.listener.Close()
	s.wg.Wait()
	return err
}

// askControl sends one request to the program at path and returns its answer.
func askControl(ctx context.Context, path string, req controlRequest) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, failf(ExitNotRunning, "nothing is running at %s; is the right --control or --tun-name given?", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, failf(ExitPermission, "control socket %s: only the user who started the program may ask it", path)
	case err != nil:
		return nil, failf(exitCode(err), "control socket: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	request, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	c.Write(append(request, '\n')) // one that was turned away has its answer to read all the same
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	var reply controlReply
	if err := json.Unmarshal(line, &reply); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if !reply.OK {
		return nil, errors.New(reply.Error)
	}
	return line, nil
}

// controlPath is where the program with these settings listens.
func controlPath(mode Mode, file, flags []setting) string {
	cfg := defaultConfig(mode)
	for _, s := range append(file[:len(file):len(file)], flags...) {
		if s.opt.flag == "control" || s.opt.flag == "tun-name" {
			s.opt.set(cfg, s.value) // a value that is not valid shows as a path without a socket
		}
	}
	if cfg.Control != "" {
		return cfg.Control
	}
	paths := []string{}
	for _, dir := range stateDirs() {
		path := filepath.Join(dir, cfg.TunName+".sock")
		if _, err := os.Stat(path); err == nil {
			return path
		}
		paths = append(paths, path)
	}
	return paths[0]
}
