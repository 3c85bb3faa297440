// SPDX-License-Identifier: Apache-2.0

package qlog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Keys of attributes that are fields of an event and not of its data.
const (
	KeyTuple   = "tuple"
	KeyGroupID = "group_id"
)

// maxPending bounds what is encoded and not written yet, in bytes: a quarter of a second
// of 100 000 packets/s, whose events have about 300 bytes with what belongs to them.
const maxPending = 8 << 20

// Schemas of the events, and of the file. Those of quic are of the last draft that the
// events were checked against.
const (
	schemaFile     = "urn:ietf:params:qlog:file:sequential"
	schemaQUIC     = "urn:ietf:params:qlog:events:quic-13"
	schemaLoglevel = "urn:ietf:params:qlog:events:loglevel"
)

// ErrClosed is returned by Handle after Close.
var ErrClosed = errors.New("qlog: trace closed")

// VantagePoint is the side whose events a trace holds.
type VantagePoint string

const (
	Client VantagePoint = "client"
	Server VantagePoint = "server"
)

// A Trace is a slog.Handler that writes one trace. Its methods may be called by any
// goroutine; none but Wait waits for the writer.
type Trace struct {
	vantage VantagePoint
	groupID string
	done    chan struct{} // closed when all is written

	mu      sync.Mutex
	wake    sync.Cond
	pending []byte    // encoded, for the writer
	started time.Time // of the first event, from which times count
	last    time.Time // of the last event that was not dropped
	dropped uint64    // events since the last one that was not
	closed  bool
	err     error // of the writer
}

// NewTrace starts a trace of the connection whose original Destination Connection ID, as
// hexadecimal digits, is groupID. It writes to w, and closes it in the end, on a goroutine
// of its own, which ends after Close.
func NewTrace(w io.WriteCloser, v VantagePoint, groupID string) *Trace {
	t := &Trace{vantage: v, groupID: groupID, done: make(chan struct{})}
	t.wake.L = &t.mu
	go t.write(w)
	return t
}

// Enabled reports that all levels are written: qlog has importance levels of its own.
func (t *Trace) Enabled(context.Context, slog.Level) bool { return true }

// Handle takes an event. It keeps nothing of r.
func (t *Trace) Handle(_ context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	return t.add(r.Time, r.Message, attrs)
}

// WithAttrs returns a handler that adds attrs to the data of each event.
func (t *Trace) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &scoped{trace: t, groups: []group{{attrs: attrs}}}
}

// WithGroup returns a handler that puts all further attributes into an object.
func (t *Trace) WithGroup(name string) slog.Handler {
	return (&scoped{trace: t, groups: []group{{}}}).WithGroup(name)
}

// Close ends the trace. What has been handled is still written; Close does not wait.
func (t *Trace) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.wake.Signal()
	return nil
}

// Wait waits after Close until all is written, and returns what went wrong.
func (t *Trace) Wait() error {
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *Trace) add(at time.Time, name string, data []slog.Attr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case t.err != nil:
		return t.err
	case len(t.pending) >= maxPending:
		t.dropped++
		return nil
	}
	if t.started.IsZero() {
		t.started = at
		t.pending = t.appendHeader(t.pending)
	}
	t.last = at
	t.reportDropped()
	t.pending = t.appendEvent(t.pending, at, name, data)
	t.wake.Signal()
	return nil
}

// reportDropped says in the trace how many events it lacks.
func (t *Trace) reportDropped() {
	if t.dropped == 0 {
		return
	}
	t.pending = t.appendEvent(t.pending, t.last, "loglevel:warning", []slog.Attr{
		slog.String("message", "events dropped: the writer does not keep up"),
		slog.Uint64("dropped_events", t.dropped),
	})
	t.dropped = 0
}

// appendHeader appends the first record, QlogFileSeq. Times come from a monotonic clock
// and count from the first event.
func (t *Trace) appendHeader(b []byte) []byte {
	b = appendObject(append(b, recordSeparator), []slog.Attr{
		slog.String("file_schema", schemaFile),
		slog.String("serialization_format", "application/qlog+json-seq"),
		slog.Group("trace",
			slog.Any("event_schemas", []string{schemaQUIC, schemaLoglevel}),
			slog.Group("vantage_point", slog.String("type", string(t.vantage))),
			slog.Group("common_fields",
				slog.String(KeyGroupID, t.groupID),
				slog.String("time_format", "relative_to_epoch"),
				slog.Group("reference_time",
					slog.String("clock_type", "monotonic"),
					slog.String("epoch", "unknown"),
					slog.Time("wall_clock_time", t.started),
				),
			),
		),
	})
	return append(b, '\n')
}

// appendEvent appends one record.
func (t *Trace) appendEvent(b []byte, at time.Time, name string, data []slog.Attr) []byte {
	b = append(b, recordSeparator)
	b = append(b, `{"time":`...)
	b = appendMilliseconds(b, at.Sub(t.started))
	b = append(b, `,"name":`...)
	b = appendString(b, name)
	for _, a := range data {
		if isEventField(a) {
			b = append(appendString(append(b, ','), a.Key), ':')
			b = appendValue(b, a.Value)
		}
	}
	b = append(b, `,"data":`...)
	if slices.ContainsFunc(data, isEventField) {
		data = slices.DeleteFunc(data, isEventField)
	}
	b = appendObject(b, data)
	return append(b, "}\n"...)
}

func isEventField(a slog.Attr) bool { return a.Key == KeyTuple || a.Key == KeyGroupID }

// write is the goroutine of the trace.
func (t *Trace) write(w io.WriteCloser) {
	defer close(t.done)
	var spare []byte
	for {
		t.mu.Lock()
		for len(t.pending) == 0 && !t.closed {
			t.wake.Wait()
		}
		if t.closed && t.dropped > 0 && t.err == nil {
			t.reportDropped()
		}
		b := t.pending
		t.pending = spare[:0]
		t.mu.Unlock()
		if len(b) == 0 {
			break
		}
		if _, err := w.Write(b); err != nil {
			t.failed(err)
		}
		spare = b
	}
	if err := w.Close(); err != nil {
		t.failed(err)
	}
}

// failed notes an error of the writer: the trace ends there.
func (t *Trace) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// scoped is a Trace with attributes of its own.
type scoped struct {
	trace  *Trace
	groups []group // the outermost first; that one has no name
}

type group struct {
	name  string
	attrs []slog.Attr
}

func (s *scoped) Enabled(context.Context, slog.Level) bool { return true }

func (s *scoped) Handle(_ context.Context, r slog.Record) error {
	var attrs []slog.Attr
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	for _, g := range slices.Backward(s.groups) {
		attrs = append(slices.Clone(g.attrs), attrs...)
		if g.name != "" && len(attrs) > 0 {
			attrs = []slog.Attr{{Key: g.name, Value: slog.GroupValue(attrs...)}}
		}
	}
	return s.trace.add(r.Time, r.Message, attrs)
}

func (s *scoped) WithAttrs(attrs []slog.Attr) slog.Handler {
	groups := slices.Clone(s.groups)
	last := &groups[len(groups)-1]
	last.attrs = append(slices.Clip(last.attrs), attrs...)
	return &scoped{trace: s.trace, groups: groups}
}

func (s *scoped) WithGroup(name string) slog.Handler {
	if name == "" {
		return s
	}
	return &scoped{trace: s.trace, groups: append(slices.Clone(s.groups), group{name: name})}
}
