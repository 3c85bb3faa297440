// SPDX-License-Identifier: Apache-2.0

// Package qlog writes the events of QUIC connections as qlog: JSON text sequences as in
// draft-ietf-quic-qlog-main-schema, one file (".sqlog") per connection and side.
//
//	dir := qlog.NewDir("/tmp/qlogs")
//	defer dir.Close()
//	cfg := &quic.Config{Qlog: dir.Open, ...}
//
// A Trace is a slog.Handler: the message of a record is the name of an event, with its
// namespace ("quic:packet_sent"), and the attributes are the event's data. Two attributes
// are fields of the event itself: KeyTuple and KeyGroupID. A time.Duration becomes a number
// of milliseconds, a []byte a hexstring, a []slog.Value an array and a group an object.
//
// Whoever logs never waits for a disk: a goroutine per Trace writes what has been encoded.
// When it does not keep up, events are dropped, and an event of the loglevel namespace says
// how many.
package qlog
