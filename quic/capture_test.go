// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

// The recordings of other implementations in testdata/captures are opened with their
// logged secrets and parsed whole; what is found must agree with what the recorded peers
// said themselves in expected.json. The reassembled streams and the datagrams are kept
// as golden files, which tests of the layers above read.

var updateGolden = flag.Bool("update-golden", false, "write the golden files of testdata/captures anew")

const (
	capturesDir       = "../testdata/captures"
	captureServerPort = 4433
)

// captureDirection is the direction of a packet.
type captureDirection int

const (
	toServer captureDirection = iota
	toClient
)

func (d captureDirection) String() string {
	return [...]string{"client_to_server", "server_to_client"}[d]
}

// captureExpectation is expected.json.
type captureExpectation struct {
	Packets map[string]map[string]int `json:"packets"`
	Frames  map[string]map[string]int `json:"frames_1rtt"`

	Stream0ToClient  []string `json:"stream0_server_to_client_data_hex"`
	DatagramToClient string   `json:"first_datagram_to_client_hex"`
}

// capture is the state of decoding one recording, which holds one connection.
type capture struct {
	t       testing.TB
	scratch sealScratch
	secrets map[string][]byte // label of the key log -> secret
	flows   [2]*captureFlow
	cp      *wire.CodePoints // once both sides' transport parameters are known

	clientDst, originalDst []byte // the client's first connection ids, after and before Retry
	retrySrc               []byte // nil without Retry
}

// captureFlow is what is known about one direction.
type captureFlow struct {
	initial, handshake *keys
	app                [2]*keys // by key phase; no recording has more than one key update

	srcConnID []byte            // of the sender's long headers
	paths     map[string]uint64 // connection id that the receiver issued -> path
	idLen     int
	largest   map[string]int64 // packet number space -> largest packet number

	crypto    map[wire.PacketType]*captureStream
	streams   map[uint64]*captureStream
	datagrams [][]byte
	params    *transportParams

	packets, frames map[string]int // 1-RTT
	byPhase         [2]int
}

// captureStream is a stream being reassembled.
type captureStream struct {
	data, have []byte
}

func (s *captureStream) add(t testing.TB, offset uint64, data []byte) {
	if end := int(offset) + len(data); end > len(s.data) {
		s.data = append(s.data, make([]byte, end-len(s.data))...)
		s.have = append(s.have, make([]byte, end-len(s.have))...)
	}
	for i, b := range data {
		at := int(offset) + i
		if s.have[at] != 0 && s.data[at] != b {
			t.Fatalf("stream data at offset %d changed", at)
		}
		s.data[at], s.have[at] = b, 1
	}
}

// prefix returns the data up to the first gap.
func (s *captureStream) prefix() []byte {
	if gap := bytes.IndexByte(s.have, 0); gap >= 0 {
		return s.data[:gap]
	}
	return s.data
}

func newCapture(t testing.TB, dir string) *capture {
	c := &capture{t: t, secrets: readKeyLog(t, filepath.Join(dir, "keys.log"))}
	for d := range c.flows {
		c.flows[d] = &captureFlow{
			paths:   map[string]uint64{},
			largest: map[string]int64{},
			crypto:  map[wire.PacketType]*captureStream{},
			streams: map[uint64]*captureStream{},
			packets: map[string]int{},
			frames:  map[string]int{},
		}
	}
	return c
}

func readKeyLog(t testing.TB, file string) map[string][]byte {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 {
			secrets[f[0]] = unhex(t, f[2])
		}
	}
	return secrets
}

// readDatagrams calls f for each UDP payload of a pcapng file in the order of time, which
// is not that of the file: it was recorded on two interfaces at once.
func readDatagrams(t testing.TB, file string, f func(d captureDirection, payload []byte)) {
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	type datagram struct {
		at      time.Time
		d       captureDirection
		payload []byte
	}
	var all []datagram
	for {
		frame, info, err := r.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		udp, ok := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeUDP).(*layers.UDP)
		switch {
		case !ok:
		case udp.DstPort == captureServerPort:
			all = append(all, datagram{info.Timestamp, toServer, udp.Payload})
		case udp.SrcPort == captureServerPort:
			all = append(all, datagram{info.Timestamp, toClient, udp.Payload})
		}
	}
	slices.SortStableFunc(all, func(a, b datagram) int { return a.at.Compare(b.at) })
	for _, dg := range all {
		f(dg.d, dg.payload)
	}
}

func (c *capture) datagram(d captureDirection, b []byte) {
	for len(b) > 0 && b[0]&wire.HeaderForm != 0 {
		h, n, ok := wire.ParseLongHeader(b)
		if !ok {
			c.t.Fatalf("%s: long header %x does not parse", d, b[:min(len(b), 50)])
		}
		c.longPacket(d, &h, b[:n])
		b = b[n:]
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return // picoquic fills its first datagrams up with zeros behind the last packet
	}
	c.shortPacket(d, b)
}

func (c *capture) longPacket(d captureDirection, h *wire.LongHeader, pkt []byte) {
	flow, reverse := c.flows[d], c.flows[1-d]
	if h.Type == wire.Retry {
		if !wire.VerifyRetry(pkt, c.clientDst) {
			c.t.Fatal("the integrity tag of Retry is wrong")
		}
		c.retrySrc, c.originalDst, c.clientDst = h.SrcConnID, c.clientDst, nil
		// picoquic makes a new ClientHello.
		c.flows[toServer].params = nil
		delete(c.flows[toServer].crypto, wire.Initial)
		return
	}
	if d == toServer && c.clientDst == nil {
		c.clientDst = h.DstConnID
		c.flows[toServer].initial, c.flows[toClient].initial = initialKeys(h.DstConnID)
	}
	flow.srcConnID = h.SrcConnID
	reverse.paths[string(h.SrcConnID)], reverse.idLen = 0, len(h.SrcConnID)

	var k *keys
	switch h.Type {
	case wire.Initial:
		k = flow.initial
	case wire.Handshake:
		k = flow.handshake
	}
	if k == nil {
		c.t.Fatalf("%s: no keys for %s packet", d, h.Type)
	}
	first, payload := c.open(flow, k, k, pkt, h.PNOffset, h.Type.String(), 0)
	if first&wire.LongReservedBits != 0 {
		c.t.Errorf("%s: reserved bits in first byte %x", d, first)
	}
	c.frames(d, h.Type, payload)
	c.readHandshake()
}

func (c *capture) shortPacket(d captureDirection, pkt []byte) {
	flow := c.flows[d]
	id, _, ok := wire.DstConnID(pkt, flow.idLen)
	path, known := flow.paths[string(id)]
	if !ok || !known || flow.app[0] == nil {
		c.t.Fatalf("%s: packet for unknown connection id %x", d, id)
	}
	name := fmt.Sprintf("1RTT path %d", path)
	first, payload := c.open(flow, flow.app[0], flow.app[1], pkt, 1+flow.idLen, name, uint32(path))
	if first&wire.ShortReservedBits != 0 {
		c.t.Errorf("%s: reserved bits in first byte %x", d, first)
	}
	flow.packets[name]++
	flow.byPhase[first&wire.KeyPhase/wire.KeyPhase]++
	c.frames(d, wire.OneRTT, payload)
}

// open removes the protection of a packet with the keys of the key phase that it names.
func (c *capture) open(flow *captureFlow, phase0, phase1 *keys, pkt []byte, pnOff int, space string, pathID uint32) (first byte, payload []byte) {
	first, truncated, pnLen, ok := phase0.unprotectHeader(&c.scratch, pkt, pnOff)
	if !ok {
		c.t.Fatalf("%s: packet of %d bytes is too short", space, len(pkt))
	}
	largest, seen := flow.largest[space]
	if !seen {
		largest = -1
	}
	pn := wire.DecodePacketNumber(largest, truncated, pnLen)
	k := phase0
	if first&wire.HeaderForm == 0 && first&wire.KeyPhase != 0 {
		k = phase1
	}
	payload, ok = k.open(&c.scratch, pkt, pnOff+pnLen, pathID, pn)
	if !ok {
		c.t.Fatalf("%s: packet %d does not open", space, pn)
	}
	flow.largest[space] = max(largest, int64(pn))
	return first, payload
}

func (c *capture) frames(d captureDirection, typ wire.PacketType, payload []byte) {
	if len(payload) == 0 {
		c.t.Errorf("%s: packet without frames", d)
	}
	flow, reverse := c.flows[d], c.flows[1-d]
	var f wire.Frame
	for len(payload) > 0 {
		n, err := f.Parse(payload, c.cp)
		name := captureFrameName(f.Type)
		switch {
		case err == wire.ErrUnknownType && typ == wire.OneRTT:
			if n, name = parseAckFrequencyFrame(payload, f.WireType); n == 0 {
				c.t.Fatalf("%s: unknown frame type 0x%x", d, f.WireType)
			}
		case err != wire.ParseOK:
			c.t.Fatalf("%s: frame type 0x%x in %s packet: %v", d, f.WireType, typ, err)
		case !f.Type.AllowedIn(typ):
			c.t.Errorf("%s: %s in %s packet", d, f.Type, typ)
		default:
			switch f.Type {
			case wire.FrameTypeCrypto:
				captureStreamOf(flow.crypto, typ).add(c.t, f.Offset, f.Data)
			case wire.FrameTypeStream:
				captureStreamOf(flow.streams, f.StreamID).add(c.t, f.Offset, f.Data)
			case wire.FrameTypeDatagram:
				flow.datagrams = append(flow.datagrams, bytes.Clone(f.Data))
			case wire.FrameTypeNewConnectionID:
				reverse.paths[string(f.ConnID)] = 0
			case wire.FrameTypePathNewConnectionID:
				reverse.paths[string(f.ConnID)] = f.PathID
			case wire.FrameTypeAck, wire.FrameTypePathAck:
				c.checkAck(d, typ, &f)
			}
		}
		if typ == wire.OneRTT && name != "padding" {
			flow.frames[name]++
		}
		payload = payload[n:]
	}
}

// checkAck verifies that only packets of the other direction are acknowledged.
func (c *capture) checkAck(d captureDirection, typ wire.PacketType, f *wire.Frame) {
	space := typ.String()
	if typ == wire.OneRTT {
		space = "1RTT path 0"
		if f.Type == wire.FrameTypePathAck {
			space = fmt.Sprintf("1RTT path %d", f.PathID)
		}
	}
	largest, seen := c.flows[1-d].largest[space]
	if !seen || int64(f.LargestAcked) > largest {
		c.t.Errorf("%s: %s of %s acknowledges %d, largest sent is %d", d, f.Type, space, f.LargestAcked, largest)
	}
	prev := f.LargestAcked + 2
	for lo, hi, ok := f.Ranges.Next(); ok; lo, hi, ok = f.Ranges.Next() {
		if lo > hi || hi+2 > prev {
			c.t.Errorf("%s: range %d to %d below %d", d, lo, hi, prev)
		}
		prev = lo
	}
}

func captureStreamOf[K comparable](m map[K]*captureStream, key K) *captureStream {
	if m[key] == nil {
		m[key] = &captureStream{}
	}
	return m[key]
}

// captureFrameName is the name of a frame type in expected.json.
func captureFrameName(t wire.FrameType) string {
	switch t {
	case wire.FrameTypePathStatusAvailable:
		return "path_available"
	case wire.FrameTypePathStatusBackup:
		return "path_backup"
	}
	return strings.ToLower(t.String())
}

// parseAckFrequencyFrame reads the frames of two extensions that picoquic negotiates with
// itself and that we do not speak: ack frequency and time stamps. All their fields are
// integers. n is 0 for other types.
func parseAckFrequencyFrame(b []byte, wireType uint64) (n int, name string) {
	fields := 0
	switch wireType {
	case 0xaf:
		fields, name = 4, "ack_frequency"
	case 0x1f:
		fields, name = 0, "immediate_ack"
	case 0x2f5:
		fields, name = 1, "time_stamp"
	default:
		return 0, ""
	}
	for range 1 + fields {
		_, size := wire.ConsumeVarint(b[n:])
		if size < 0 {
			return 0, ""
		}
		n += size
	}
	return n, name
}

// readHandshake looks for what the TLS messages received so far tell: the cipher suite,
// from which all later keys follow, and both sides' transport parameters.
func (c *capture) readHandshake() {
	client, server := c.flows[toServer], c.flows[toClient]
	if client.params == nil {
		if hello, ok := handshakeMessage(client.crypto[wire.Initial], 1); ok {
			client.params = c.readParams(clientHelloExtensions(hello), false)
		}
	}
	if server.handshake == nil {
		if hello, ok := handshakeMessage(server.crypto[wire.Initial], 2); ok {
			suite := binary.BigEndian.Uint16(hello[2+32+1+int(hello[2+32]):])
			c.installKeys(client, suite, "CLIENT")
			c.installKeys(server, suite, "SERVER")
		}
	}
	if server.params == nil {
		if extensions, ok := handshakeMessage(server.crypto[wire.Handshake], 8); ok {
			server.params = c.readParams(extensions[2:], true)
			c.checkParams()
		}
	}
}

func (c *capture) installKeys(flow *captureFlow, suite uint16, side string) {
	derive := func(label string) *keys {
		k, err := newKeys(suite, c.secrets[side+label])
		if err != nil {
			c.t.Fatal(err)
		}
		return k
	}
	flow.handshake = derive("_HANDSHAKE_TRAFFIC_SECRET")
	flow.app[0] = derive("_TRAFFIC_SECRET_0")
	flow.app[1] = flow.app[0].next()
}

// checkParams verifies that the transport parameters of both sides fit the packets.
func (c *capture) checkParams() {
	client, server := c.flows[toServer], c.flows[toClient]
	originalDst := c.originalDst
	if originalDst == nil {
		originalDst = c.clientDst
	}
	if err := client.params.checkConnIDs(false, client.srcConnID, nil, nil); err != nil {
		c.t.Error(err)
	}
	if err := server.params.checkConnIDs(true, server.srcConnID, originalDst, c.retrySrc); err != nil {
		c.t.Error(err)
	}
	c.cp, _ = negotiateMultipath(client.params, server.params)
}

// handshakeMessage returns the body of the TLS handshake message at the start of a
// CRYPTO stream, if it has this type and has arrived whole.
func handshakeMessage(s *captureStream, typ byte) ([]byte, bool) {
	if s == nil {
		return nil, false
	}
	b := s.prefix()
	if len(b) < 4 || b[0] != typ {
		return nil, false
	}
	end := 4 + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if len(b) < end {
		return nil, false
	}
	return b[4:end], true
}

// clientHelloExtensions returns the extensions of a ClientHello: version, random, session
// id, cipher suites and compression methods come before them.
func clientHelloExtensions(hello []byte) []byte {
	b := hello[2+32:]
	b = b[1+int(b[0]):]
	b = b[2+int(binary.BigEndian.Uint16(b)):]
	b = b[1+int(b[0]):]
	return b[2:]
}

// readParams parses the quic_transport_parameters among TLS extensions.
func (c *capture) readParams(extensions []byte, fromServer bool) *transportParams {
	const quicTransportParameters = 57
	for b := extensions; len(b) >= 4; {
		typ, end := binary.BigEndian.Uint16(b), 4+int(binary.BigEndian.Uint16(b[2:]))
		if typ == quicTransportParameters {
			p, err := parseTransportParams(b[4:end], fromServer)
			if err != nil {
				c.t.Fatal(err)
			}
			return &p
		}
		b = b[end:]
	}
	c.t.Fatal("no transport parameters")
	return nil
}

func TestCaptures(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(capturesDir, "*", "trace.pcapng"))
	if err != nil || len(dirs) != 9 {
		t.Fatalf("%d recordings, %v, want 9", len(dirs), err)
	}
	for _, trace := range dirs {
		dir := filepath.Dir(trace)
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			c := newCapture(t, dir)
			readDatagrams(t, trace, c.datagram)

			b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
			if err != nil {
				t.Fatal(err)
			}
			var want captureExpectation
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			for d, flow := range c.flows {
				d := captureDirection(d)
				if want.Frames != nil {
					compareCounts(t, d.String()+" frames", flow.frames, want.Frames[d.String()])
					packets := want.Packets[d.String()]
					delete(packets, "initial") // the peer's log leaves out what it dropped
					delete(packets, "handshake")
					compareCounts(t, d.String()+" packets", flow.packets, packets)
				}
				checkStreams(t, dir, d, flow)
			}
			if multipath := !strings.HasPrefix(name, "mqvpn-c-"); (c.cp == &wire.Draft21) != multipath {
				t.Errorf("multipath negotiated: %v", !multipath)
			}
			if phase1 := c.flows[toServer].byPhase[1]; (phase1 > 0) != (name == "picoquic-keyupdate") {
				t.Errorf("%d packets in key phase 1", phase1)
			}
			if (c.retrySrc != nil) != (name == "picoquic-retry") {
				t.Errorf("Retry with id %x", c.retrySrc)
			}
			if want.Stream0ToClient != nil {
				checkConnectIP(t, c.flows[toClient], &want)
			}
		})
	}
}

func compareCounts(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %d %s, want none", what, got[name], name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %d %s, want %d", what, got[name], name, want[name])
		}
	}
}

// checkStreams compares streams and datagrams with the golden files: <direction>-<id>.bin
// holds the bytes of a stream, <direction>-datagrams.hex one line for each DATAGRAM frame.
func checkStreams(t *testing.T, dir string, d captureDirection, flow *captureFlow) {
	for _, id := range slices.Sorted(maps.Keys(flow.streams)) {
		s := flow.streams[id]
		if len(s.prefix()) != len(s.data) {
			t.Errorf("%s: stream %d has a gap at %d of %d", d, id, len(s.prefix()), len(s.data))
		}
		compareGolden(t, filepath.Join(dir, "streams", fmt.Sprintf("%s-%d.bin", d, id)), s.data)
	}
	if len(flow.datagrams) > 0 {
		var lines strings.Builder
		for _, b := range flow.datagrams {
			fmt.Fprintf(&lines, "%x\n", b)
		}
		compareGolden(t, filepath.Join(dir, "streams", d.String()+"-datagrams.hex"), []byte(lines.String()))
	}
}

func compareGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s differs: %d bytes, want %d", file, len(got), len(want))
	}
}

// checkConnectIP compares the capsules and the first IP packet that the server sent.
func checkConnectIP(t *testing.T, flow *captureFlow, want *captureExpectation) {
	const h3Data = 0
	var data []string
	for b := flow.streams[0].data; len(b) > 0; {
		typ, n := wire.ConsumeVarint(b)
		length, m := wire.ConsumeVarint(b[n:])
		b = b[n+m:]
		if typ == h3Data {
			data = append(data, hex.EncodeToString(b[:length]))
		}
		b = b[length:]
	}
	if !slices.Equal(data, want.Stream0ToClient) {
		t.Errorf("DATA on stream 0: %q, want %q", data, want.Stream0ToClient)
	}
	const quarterStreamID = "00"
	if got := hex.EncodeToString(flow.datagrams[0]); got != quarterStreamID+want.DatagramToClient {
		t.Errorf("first datagram %s, want %s%s", got, quarterStreamID, want.DatagramToClient)
	}
}
