// SPDX-License-Identifier: Apache-2.0

package qlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// buffer is a file in memory that may be slow, or fail.
type buffer struct {
	bytes.Buffer
	block  chan struct{} // a write waits until it is closed, unless it is nil
	err    error
	closed bool
}

func (b *buffer) Write(p []byte) (int, error) {
	if b.block != nil {
		<-b.block
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.Buffer.Write(p)
}

func (b *buffer) Close() error { b.closed = true; return nil }

// records splits a JSON text sequence.
func (b *buffer) records(t *testing.T) (list []string) {
	t.Helper()
	for r := range strings.SplitSeq(b.String(), "\x1e") {
		if r == "" && list == nil {
			continue
		}
		if !strings.HasSuffix(r, "\n") || !json.Valid([]byte(r)) {
			t.Errorf("record %q", r)
		}
		list = append(list, strings.TrimSpace(r))
	}
	return list
}

func finish(t *testing.T, trace *Trace) {
	t.Helper()
	trace.Close()
	if err := trace.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &buffer{}
		trace := NewTrace(b, Server, "0102")
		log := slog.New(trace)
		log.Info("quic:first")
		time.Sleep(1234567 * time.Nanosecond)
		log.Debug("quic:second", KeyTuple, "3", "text", "a\"b\x01ö", "n", -5, "u", uint64(math.MaxUint64), "safe", uint64(1<<53-1),
			"f", 0.25, "nan", math.NaN(), "yes", true, "d", 1500*time.Microsecond, "hex", []byte{0xab, 1}, "nothing", nil,
			slog.Group("g", slog.Int("x", 1), slog.Group("", slog.Int("inlined", 2))), slog.Attr{},
			"list", []slog.Value{slog.IntValue(1), slog.GroupValue(slog.Int("y", 2))}, "ranges", [][]uint64{{1}, {3, 5}},
			"words", []string{"p", "q"}, "err", errors.New("bad"), "at", time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC))
		log.With("a", 1).WithGroup("group").With("b", 2).Info("quic:third", "c", 3, "tuple", "inside")
		log.WithGroup("group").Info("quic:fourth")
		finish(t, trace)
		want := []string{
			`{"file_schema":"urn:ietf:params:qlog:file:sequential","serialization_format":"application/qlog+json-seq","trace":{` +
				`"event_schemas":["urn:ietf:params:qlog:events:quic-13","urn:ietf:params:qlog:events:loglevel"],"vantage_point":{"type":"server"},` +
				`"common_fields":{"group_id":"0102","time_format":"relative_to_epoch","reference_time":{"clock_type":"monotonic","epoch":"unknown","wall_clock_time":"2000-01-01T00:00:00Z"}}}}`,
			`{"time":0,"name":"quic:first","data":{}}`,
			`{"time":1.234567,"name":"quic:second","tuple":"3","data":{"text":"a\"b\u0001ö","n":-5,"u":"18446744073709551615","safe":9007199254740991,` +
				`"f":0.25,"nan":null,"yes":true,"d":1.5,"hex":"ab01","nothing":null,"g":{"x":1,"inlined":2},` +
				`"list":[1,{"y":2}],"ranges":[[1],[3,5]],"words":["p","q"],"err":"bad","at":"2026-01-02T03:04:05.6Z"}}`,
			`{"time":1.234567,"name":"quic:third","data":{"a":1,"group":{"b":2,"c":3,"tuple":"inside"}}}`,
			`{"time":1.234567,"name":"quic:fourth","data":{}}`,
		}
		if got := b.records(t); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if !b.closed {
			t.Error("the file is not closed")
		}
		if err := trace.Handle(t.Context(), slog.Record{}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestSlowWriter: who logs is not held up, memory is bounded, and the trace says how many
// events it lacks.
func TestSlowWriter(t *testing.T) {
	b := &buffer{block: make(chan struct{})}
	trace := NewTrace(b, Client, "00")
	log := slog.New(trace)
	text := strings.Repeat("x", 1000)
	const events = 3 * maxPending / 1000
	for range events {
		log.Info("quic:event", "text", text)
	}
	trace.mu.Lock()
	if n := len(trace.pending); n > maxPending+2000 {
		t.Errorf("%d bytes wait", n)
	}
	trace.mu.Unlock()
	close(b.block)
	finish(t, trace)
	written, dropped := 0, uint64(0)
	for _, r := range b.records(t)[1:] {
		var e struct {
			Name string
			Data struct {
				Dropped uint64 `json:"dropped_events"`
			}
		}
		if err := json.Unmarshal([]byte(r), &e); err != nil {
			t.Fatal(err)
		}
		if e.Name == "loglevel:warning" {
			dropped += e.Data.Dropped
		} else {
			written++
		}
	}
	if dropped == 0 || uint64(written)+dropped != events {
		t.Errorf("%d events written, %d said to be dropped, of %d", written, dropped, events)
	}
}

// TestFailingWriter: the trace ends, and Wait tells why.
func TestFailingWriter(t *testing.T) {
	b := &buffer{err: errors.New("disk full")}
	trace := NewTrace(b, Client, "00")
	slog.New(trace).Info("quic:event")
	trace.Close()
	if err := trace.Wait(); err != b.err || !b.closed {
		t.Errorf("error %v, closed %v", err, b.closed)
	}
}

func TestDir(t *testing.T) {
	path := t.TempDir()
	t.Setenv("QLOGDIR", path)
	dir := FromEnvironment()
	id := []byte{0xab, 0xcd}
	for _, isClient := range []bool{true, false, false} {
		slog.New(dir.Open(id, isClient)).Info("quic:event")
	}
	dir.Open([]byte{1}, true) // nothing happens there
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	// Of the two that a client gave the same name, none is lost.
	for name, vantage := range map[string]string{"abcd_client.sqlog": "client", "abcd_server.sqlog": "server", "abcd_server_1.sqlog": "server"} {
		b, err := os.ReadFile(filepath.Join(path, name))
		if err != nil || !strings.Contains(string(b), `"vantage_point":{"type":"`+vantage+`"}`) || !strings.Contains(string(b), `"group_id":"abcd"`) {
			t.Errorf("%s: %v %s", name, err, b)
		}
	}
	if files, _ := os.ReadDir(path); len(files) != 3 {
		t.Errorf("files %v", files)
	}
	t.Setenv("QLOGDIR", "")
	if none := FromEnvironment(); none != nil || none.Open(id, true) != nil || none.Close() != nil {
		t.Error("a log without QLOGDIR")
	}
}

// TestDirMissing: an error of an earlier trace is not forgotten.
func TestDirMissing(t *testing.T) {
	dir := NewDir(filepath.Join(t.TempDir(), "missing"))
	trace := dir.Open([]byte{1}, true).(*Trace)
	slog.New(trace).Info("quic:event")
	trace.Close()
	<-trace.done
	dir.Open([]byte{2}, true)
	if err := dir.Close(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
