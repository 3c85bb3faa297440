// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
	"github.com/mqvpn/mqvpn/quic/qlog"
	"github.com/mqvpn/mqvpn/quic/quictest"
	"github.com/mqvpn/mqvpn/quic/sched"
)

// A qlogBuffer is a log in memory.
type qlogBuffer struct {
	bytes.Buffer
	vantage qlog.VantagePoint
	trace   *qlog.Trace
}

func (*qlogBuffer) Close() error { return nil }

// end ends the log. In a synctest bubble the end of the connection does, and it is complete
// when the bubble ends.
func (b *qlogBuffer) end(t *testing.T) {
	t.Helper()
	b.trace.Close()
	if err := b.trace.Wait(); err != nil {
		t.Fatal(err)
	}
}

// events is the log parsed and checked, after its end.
func (b *qlogBuffer) events(t *testing.T) qlogLog {
	t.Helper()
	events, err := parseQlog(b.Bytes(), string(b.vantage))
	if err != nil {
		t.Error(err)
	}
	return events
}

type qlogLog []qlogEvent

// of returns the events of that name that hold text, as JSON without spaces.
func (l qlogLog) of(name, text string) (found qlogLog) {
	for _, e := range l {
		data, _ := json.Marshal(e.Data)
		if e.Name == name && strings.Contains(string(data), text) {
			found = append(found, e)
		}
	}
	return found
}

// qlogBuffers collects the logs of the connections of a test.
type qlogBuffers struct{ client, server []*qlogBuffer }

func (l *qlogBuffers) open(id []byte, isClient bool) slog.Handler {
	b := &qlogBuffer{vantage: qlog.Server}
	if isClient {
		b.vantage = qlog.Client
		l.client = append(l.client, b)
	} else {
		l.server = append(l.server, b)
	}
	b.trace = qlog.NewTrace(b, b.vantage, fmt.Sprintf("%x", id))
	return b.trace
}

// logged is a change of configurations for simulate: both sides log.
func (l *qlogBuffers) logged(client, server *Config) { client.Qlog, server.Qlog = l.open, l.open }

// wallClock is what differs from run to run in a log.
var wallClock = regexp.MustCompile(`"wall_clock_time":"[^"]*"`)

// TestQlogGolden compares both logs of a small connection with golden files: two paths,
// a stream, datagrams, a key update, an abandoned path.
func TestQlogGolden(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	var logs qlogBuffers
	p := newPumpWith(t, 2, func(c *Config) {
		c.Qlog = logs.open
		c.NewScheduler = sched.NewMinRTT // wlb's choice depends on a seed of the process
	})
	client := p.client.c
	steps := func(n int) {
		for range n {
			p.step()
		}
	}
	s, err := client.OpenUniStream(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.Write(make([]byte, 3000))
	s.CloseWrite()
	p.client.load = newPumpLoad(2, 300)
	client.keyUpdateAfter = 1
	steps(1)
	p.client.load = nil
	steps(100)
	client.keyUpdateAfter = keyUpdateAfter
	client.mb.putCommand(func(now instant) {
		client.abandonPath(now, client.pathID(1), client.cp.ApplicationAbandonPath, "not wanted")
	})
	steps(300)
	p.client.closes, p.server.closes = true, true
	client.CloseWithError(0x17, "done")
	steps(5)
	p.end()
	for _, l := range []*qlogBuffer{logs.client[0], logs.server[0]} {
		l.end(t)
		l.events(t)
		text := wallClock.ReplaceAll(l.Bytes(), []byte(`"wall_clock_time":"2026-01-01T00:00:00Z"`))
		compareGolden(t, filepath.Join("..", "testdata", "qlog", string(l.vantage)+".sqlog"), text)
	}
}

// TestQlogOfTroubledPaths: a log tells what happens to paths, and conforms to the drafts
// whatever that is.
func TestQlogOfTroubledPaths(t *testing.T) {
	var logs qlogBuffers
	lossy := lan
	lossy.Loss = 0.02
	var losses uint64
	simulate(t, []quictest.LinkConfig{lossy, slowLink()}, logs.logged, func(n *testNet) {
		client, server := n.connect(t)
		n.addPaths(t, client, server)
		transfer(t, client, server, 800e3)
		go n.blackhole(1, time.Second)
		probe(client, server, 3*time.Second)
		a := n.sockets[0].LocalAddr()
		n.Rebind(a, netip.AddrPortFrom(a.Addr(), 60000))
		transfer(t, client, server, 100e3)
		client.SetPathBackup(1, true)
		time.Sleep(100 * ms)
		client.AbandonPath(1)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		losses = client.Stats().Paths[0].PacketsLost
		client.CloseWithError(7, "bye")
		time.Sleep(time.Second)
	})
	c, s := logs.client[0].events(t), logs.server[0].events(t)
	lost := slices.DeleteFunc(c.of("quic:packet_lost", `"trigger":`), func(e qlogEvent) bool {
		return e.Tuple != "0" || e.Data["is_mtu_probe_packet"] != nil
	})
	if uint64(len(lost)) != losses || losses == 0 {
		t.Errorf("%d packets lost on path 0 in the log, %d counted", len(lost), losses)
	}
	for _, want := range []struct {
		log              qlogLog
		name, data, path string
	}{
		{c, "loglevel:info", `"path_state":"suspect"`, "1"},
		{c, "loglevel:info", `"path_state":"dead"`, "1"},
		{c, "loglevel:info", `"message":"path active: answers again"`, "1"},
		{c, "loglevel:info", `"path_state":"gone"`, "1"},
		{s, "loglevel:info", `"path_state":"gone"`, "1"},
		{s, "quic:tuple_assigned", `"port_v4":60000`, "0"},
		{s, "quic:packet_received", `"frame_type":"path_status_backup","path_id":1`, ""},
		{s, "quic:packet_received", `"frame_type":"path_abandon","path_id":1`, ""},
		{c, "quic:packet_received", `"frame_type":"path_ack"`, "0"},
		{c, "quic:congestion_state_updated", `"new":"drain"`, "0"},
		{c, "quic:ecn_state_updated", `"new":"capable"`, "0"},
		{c, "quic:mtu_updated", `"new":1472`, "0"},
		{c, "quic:packet_sent", `"is_mtu_probe_packet":true`, "1"},
		{c, "quic:connection_closed", `"application_error":"unknown","error_code":7,"initiator":"local","reason":"bye","trigger":"application"`, ""},
		{s, "quic:connection_closed", `"initiator":"remote","reason":"bye"`, ""},
		{c, "quic:connection_state_updated", `"new":"closed"`, ""},
	} {
		found := want.log.of(want.name, want.data)
		if want.path != "" {
			found = slices.DeleteFunc(found, func(e qlogEvent) bool { return e.Tuple != want.path })
		}
		if len(found) == 0 {
			t.Errorf("no %s with %s on path %q", want.name, want.data, want.path)
		}
	}
}

// qlogOf returns a sink of a client that logs into the buffer.
func qlogOf(t *testing.T) (*qlogSink, *qlogBuffer) {
	t.Helper()
	b := &qlogBuffer{vantage: qlog.Client}
	b.trace = qlog.NewTrace(b, qlog.Client, "00")
	return &qlogSink{h: b.trace, c: &Conn{isClient: true, e: &Endpoint{}, cp: &wire.Draft21}}, b
}

// TestQlogLost: packets that do not count as lost have no trigger, and one that only
// acknowledges is not lost.
func TestQlogLost(t *testing.T) {
	q, log := qlogOf(t)
	lt := newLossTest(t)
	lt.log = &qlogPath{q: q, p: &pathState{}}
	lt.warm(100 * ms)
	lt.send(0)
	lt.resetForNewAddress()
	lt.send(0)
	lt.resumeCarefully(at(0))
	lt.sendAs(0, appSpace, inFlightPacket|sentMTUProbe)
	lt.sendAs(0, appSpace, 0)
	lt.send(0)
	lt.sendAs(0, appSpace, packetInFlight)
	lt.sendN(99*ms, 2)
	lt.ack(100*ms, r(7, 8))
	log.end(t)
	var got []string
	for _, e := range log.events(t).of("quic:packet_lost", "") {
		data, _ := json.Marshal(e.Data)
		got = append(got, string(data))
	}
	header := func(pn int) string {
		return fmt.Sprintf(`{"header":{"packet_number":%d,"packet_type":"1RTT"}`, pn)
	}
	want := []string{
		header(1) + `}`,
		header(2) + `}`,
		header(3) + `,"is_mtu_probe_packet":true,"trigger":"reordering_threshold"}`,
		header(5) + `,"trigger":"reordering_threshold"}`,
		header(6) + `,"trigger":"time_threshold"}`,
	}
	if !slices.Equal(got, want) || lt.packetsLost != 2 {
		t.Errorf("%d counted, logged:\n%s\nwant:\n%s", lt.packetsLost, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestQlogFrames: each frame type has the fields of the drafts, and those of multipath
// that of their own.
func TestQlogFrames(t *testing.T) {
	token := [16]byte{1, 2, 3}
	tests := []struct {
		frame []byte
		want  string
	}{
		{make([]byte, 5), `{"frame_type":"padding","raw":{"payload_length":5}}`},
		{wire.AppendPing(nil), `{"frame_type":"ping"}`},
		{wire.AppendAck(nil, 250, []wire.Range{{Lo: 1, Hi: 1}, {Lo: 4, Hi: 9}}, &wire.ECNCounts{ECT0: 7, ECT1: 0, CE: 1}),
			`{"ack_delay":2,"acked_ranges":[[1],[4,9]],"ce":1,"ect0":7,"ect1":0,"frame_type":"ack"}`},
		{wire.AppendPathAck(nil, &wire.Draft21, 3, 0, []wire.Range{{Lo: 2, Hi: 2}}, nil),
			`{"ack_delay":0,"acked_ranges":[[2]],"frame_type":"path_ack","path_id":3}`},
		{wire.AppendResetStream(nil, 4, 1<<60, 77), `{"error":"unknown","error_code":"1152921504606846976","final_size":77,"frame_type":"reset_stream","stream_id":4}`},
		{wire.AppendStopSending(nil, 4, 5), `{"error":"unknown","error_code":5,"frame_type":"stop_sending","stream_id":4}`},
		{append(wire.AppendCryptoHeader(nil, 10, 3), 1, 2, 3), `{"frame_type":"crypto","offset":10,"raw":{"length":3}}`},
		{wire.AppendNewToken(nil, []byte{1, 2}), `{"frame_type":"new_token","token":{"raw":{"length":2},"type":"resumption"}}`},
		{append(wire.AppendStreamHeader(nil, 8, 100, 2, true), 1, 2), `{"fin":true,"frame_type":"stream","offset":100,"raw":{"length":2},"stream_id":8}`},
		{wire.AppendMaxData(nil, 9), `{"frame_type":"max_data","maximum":9}`},
		{wire.AppendMaxStreamData(nil, 4, 9), `{"frame_type":"max_stream_data","maximum":9,"stream_id":4}`},
		{wire.AppendMaxStreams(nil, true, 9), `{"frame_type":"max_streams","maximum":9,"stream_type":"unidirectional"}`},
		{wire.AppendDataBlocked(nil, 9), `{"frame_type":"data_blocked","limit":9}`},
		{wire.AppendStreamDataBlocked(nil, 4, 9), `{"frame_type":"stream_data_blocked","limit":9,"stream_id":4}`},
		{wire.AppendStreamsBlocked(nil, false, 9), `{"frame_type":"streams_blocked","limit":9,"stream_type":"bidirectional"}`},
		{wire.AppendNewConnectionID(nil, 3, 1, []byte{0xab, 0xcd}, token),
			`{"connection_id":"abcd","connection_id_length":2,"frame_type":"new_connection_id","retire_prior_to":1,"sequence_number":3}`},
		{wire.AppendPathNewConnectionID(nil, &wire.Draft21, 5, 3, 1, []byte{0xab, 0xcd}, token),
			`{"connection_id":"abcd","connection_id_length":2,"frame_type":"path_new_connection_id","path_id":5,"retire_prior_to":1,"sequence_number":3}`},
		{wire.AppendRetireConnectionID(nil, 3), `{"frame_type":"retire_connection_id","sequence_number":3}`},
		{wire.AppendPathRetireConnectionID(nil, &wire.Draft21, 5, 3), `{"frame_type":"path_retire_connection_id","path_id":5,"sequence_number":3}`},
		{wire.AppendPathChallenge(nil, [8]byte{0xff}), `{"data":"ff00000000000000","frame_type":"path_challenge"}`},
		{wire.AppendPathResponse(nil, [8]byte{0xff}), `{"data":"ff00000000000000","frame_type":"path_response"}`},
		{wire.AppendConnectionClose(nil, uint64(FlowControlError), 8, "ö\n"),
			`{"error":"flow_control_error","error_space":"transport","frame_type":"connection_close","reason":"ö\n","trigger_frame_type":8}`},
		{wire.AppendConnectionClose(nil, uint64(CryptoErrorBase+40), 0, ""),
			`{"error":"crypto_error_0x128","error_space":"transport","frame_type":"connection_close"}`},
		{wire.AppendConnectionClose(nil, 0x1234, 0, ""),
			`{"error":"unknown","error_code":4660,"error_space":"transport","frame_type":"connection_close"}`},
		{wire.AppendApplicationClose(nil, 6, ""), `{"error":"unknown","error_code":6,"error_space":"application","frame_type":"connection_close"}`},
		{wire.AppendHandshakeDone(nil), `{"frame_type":"handshake_done"}`},
		{append(wire.AppendDatagramHeader(nil, 2), 1, 2), `{"frame_type":"datagram","raw":{"length":2}}`},
		{wire.AppendPathAbandon(nil, &wire.Draft21, 5, wire.Draft21.PathUnstableOrPoor),
			`{"error":"path_unstable_or_poor","error_code":15990,"frame_type":"path_abandon","path_id":5}`},
		{wire.AppendPathStatusBackup(nil, &wire.Draft21, 5, 2), `{"frame_type":"path_status_backup","path_id":5,"sequence_number":2}`},
		{wire.AppendPathStatusAvailable(nil, &wire.Draft21, 5, 2), `{"frame_type":"path_status_available","path_id":5,"sequence_number":2}`},
		{wire.AppendMaxPathID(nil, &wire.Draft21, 12), `{"frame_type":"max_path_id","maximum_path_id":12}`},
		{wire.AppendPathsBlocked(nil, &wire.Draft21, 12), `{"frame_type":"paths_blocked","maximum_path_id":12}`},
		{wire.AppendPathCIDsBlocked(nil, &wire.Draft21, 5, 2), `{"frame_type":"path_cids_blocked","next_sequence_number":2,"path_id":5}`},
	}
	q, log := qlogOf(t)
	q.c.localParams, q.c.peerParams = defaultTransportParams(), &transportParams{ackDelayExponent: 3}
	seen := make(map[string]bool)
	for _, tt := range tests {
		q.received(&pathState{id: 1}, packetInfo{typ: wire.OneRTT, size: len(tt.frame)}, tt.frame)
	}
	log.end(t)
	events := log.events(t)
	for i, tt := range tests {
		got, _ := json.Marshal(events[i].Data["frames"])
		if string(got) != "["+tt.want+"]" {
			t.Errorf("%s, want %s", got, tt.want)
		}
		seen[events[i].Data["frames"].([]any)[0].(map[string]any)["frame_type"].(string)] = true
	}
	for typ := range qlogFrames {
		if !seen[typ] {
			t.Errorf("no %s", typ)
		}
	}
}

// TestQlogClosed: the event says who ended the connection, and why.
func TestQlogClosed(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&TransportError{Code: ProtocolViolation, Reason: "why"}, `{"connection_error":"protocol_violation","initiator":"local","reason":"why","trigger":"error"}`},
		{&TransportError{Code: NoError, Remote: true}, `{"connection_error":"no_error","initiator":"remote","trigger":"application"}`},
		{&TransportError{Code: 0x4567}, `{"connection_error":"unknown","error_code":17767,"initiator":"local","trigger":"error"}`},
		{&TransportError{Code: CryptoErrorBase + 1}, `{"connection_error":"crypto_error_0x101","initiator":"local","trigger":"error"}`},
		{&ApplicationError{Code: 9, Remote: true}, `{"application_error":"unknown","error_code":9,"initiator":"remote","trigger":"application"}`},
		{&IdleTimeoutError{}, `{"initiator":"local","trigger":"idle_timeout"}`},
		{&HandshakeTimeoutError{}, `{"initiator":"local","reason":"quic: handshake did not complete in time","trigger":"aborted"}`},
		{&StatelessResetError{}, `{"initiator":"remote","trigger":"stateless_reset"}`},
		{&VersionNegotiationError{}, `{"initiator":"local","trigger":"version_mismatch"}`},
	}
	q, log := qlogOf(t)
	for _, tt := range tests {
		q.closed(tt.err)
	}
	log.end(t)
	for i, e := range log.events(t) {
		if got, _ := json.Marshal(e.Data); e.Name != "quic:connection_closed" || string(got) != tests[i].want {
			t.Errorf("%s %s, want %s", e.Name, got, tests[i].want)
		}
	}
}
