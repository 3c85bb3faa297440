// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// quicFlowProgram is the name of the program that makes QUIC flows. It is of the module
// in interop/, because it needs another implementation.
const quicFlowProgram = "quicflow"

// BuildQUICFlow builds the program that makes QUIC flows into a directory. It works
// anywhere in the source tree, if the modules that interop/ needs can be had.
func BuildQUICFlow(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", dir+"/", "./"+quicFlowProgram)
	cmd.Dir = filepath.Join(root, "interop")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", cmd.Dir, err, out)
	}
	return nil
}

// QUICFlow is one QUIC flow of quic-go without end, between two processes.
type QUICFlow struct {
	sender, receiver *Process
	received         atomic.Int64
}

// StartQUICFlow starts a flow between a host and a far end at an address of another one.
func (p Programs) StartQUICFlow(ctx context.Context, from, to *Host, addr netip.AddrPort, way Way) (*QUICFlow, error) {
	if p.QUICFlow == "" {
		return nil, errors.New("no " + quicFlowProgram + " program")
	}
	f := new(QUICFlow)
	outputs := [2]*flowCounter{{n: new(atomic.Int64)}, {n: new(atomic.Int64)}}
	outputs[Down].n = &f.received
	if way == Up {
		outputs[Up].n, outputs[Down].n = outputs[Down].n, outputs[Up].n
	}
	server, err := to.Start(Command{Path: p.QUICFlow, Args: []string{"serve", addr.String()}, Output: outputs[Up]})
	if err != nil {
		return nil, err
	}
	if err := server.WaitOutput(ctx, "ready"); err != nil {
		server.Kill()
		return nil, err
	}
	client, err := from.Start(Command{Path: p.QUICFlow, Args: []string{way.String(), addr.String()}, Output: outputs[Down]})
	if err != nil {
		server.Kill()
		return nil, err
	}
	f.sender, f.receiver = server, client
	if way == Up {
		f.sender, f.receiver = client, server
	}
	if err := f.receiver.WaitOutput(ctx, "received"); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Received is the number of bytes that have arrived, 50 ms ago at most.
func (f *QUICFlow) Received() int64 { return f.received.Load() }

// Err tells that the flow has ended, and why.
func (f *QUICFlow) Err() error {
	for _, p := range []*Process{f.receiver, f.sender} {
		select {
		case <-p.Done():
			return fmt.Errorf("the QUIC flow has ended: %s", p.Output())
		default:
		}
	}
	return nil
}

// Close ends the flow.
func (f *QUICFlow) Close() {
	f.sender.Kill()
	f.receiver.Kill()
}

// flowCounter reads the lines of a receiver. Only one goroutine writes to it.
type flowCounter struct {
	n    *atomic.Int64
	line []byte
}

func (c *flowCounter) Write(b []byte) (int, error) {
	for _, x := range b {
		if x != '\n' {
			c.line = append(c.line, x)
			continue
		}
		if text, ok := bytes.CutPrefix(c.line, []byte("received ")); ok {
			if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
				c.n.Store(n)
			}
		}
		c.line = c.line[:0]
	}
	return len(b), nil
}
