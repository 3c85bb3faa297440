// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// maxQueuedLines bounds the log lines that wait for the reader of the log.
	maxQueuedLines = 1024
	// logFlushTime is how long a program that ends waits for its last lines.
	logFlushTime = time.Second
)

// logQueue takes log lines from goroutines that must not wait: the loops of
// connections, and those who hold a lock. If the log stalls, say because stderr is
// a pipe that nobody reads, lines are dropped and counted, not packets.
type logQueue struct {
	lines   chan logLine
	dropped atomic.Uint64
	done    chan struct{}
}

type logLine struct {
	to     slog.Handler
	record slog.Record
}

// queueHandler is the slog.Handler in front of another one.
type queueHandler struct {
	q  *logQueue
	to slog.Handler
}

// queueLog returns a logger that never waits. close writes what is queued, for
// logFlushTime at most; what is logged afterwards is lost.
func queueLog(log *slog.Logger) (queued *slog.Logger, close func()) {
	q := &logQueue{lines: make(chan logLine, maxQueuedLines), done: make(chan struct{})}
	go q.run(log)
	return slog.New(queueHandler{q, log.Handler()}), q.close
}

func (q *logQueue) run(log *slog.Logger) {
	defer close(q.done)
	for l := range q.lines {
		if l.to == nil {
			return
		}
		l.to.Handle(context.Background(), l.record)
		if n := q.dropped.Swap(0); n > 0 {
			log.Warn("log lines were dropped: whoever reads the log is too slow", "lines", n)
		}
	}
}

func (q *logQueue) close() {
	limit := time.After(logFlushTime)
	select {
	case q.lines <- logLine{}: // the last one
	case <-limit:
		return
	}
	select {
	case <-q.done:
	case <-limit:
	}
}

func (h queueHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.to.Enabled(ctx, l) }

func (h queueHandler) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.q.lines <- logLine{h.to, r.Clone()}:
	default:
		h.q.dropped.Add(1)
	}
	return nil
}

func (h queueHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queueHandler{h.q, h.to.WithAttrs(attrs)}
}

func (h queueHandler) WithGroup(name string) slog.Handler {
	return queueHandler{h.q, h.to.WithGroup(name)}
}
