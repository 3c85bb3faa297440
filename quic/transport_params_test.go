// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

const paramToken = "101112131415161718191a1b1c1d1e1f"

// Each parameter in both directions, against bytes worked out by hand.
func TestTransportParams(t *testing.T) {
	token := [16]byte(unhex(t, paramToken))
	for _, test := range []struct {
		name  string
		bytes string
		set   func(p *transportParams)
	}{
		{"none", "", func(p *transportParams) {}},
		{"original_destination_connection_id", "00 08 8394c8f03e515708",
			func(p *transportParams) { p.originalDstConnID = unhex(t, exampleDstConnID) }},
		{"max_idle_timeout", "01 04 8001d4c0", func(p *transportParams) { p.maxIdleTimeoutMs = 120000 }},
		{"stateless_reset_token", "02 10 " + paramToken, func(p *transportParams) { p.statelessResetToken = &token }},
		{"max_udp_payload_size", "03 02 44b0", func(p *transportParams) { p.maxUDPPayloadSize = 1200 }},
		{"initial_max_data", "04 04 80200000", func(p *transportParams) { p.initialMaxData = 2 << 20 }},
		{"initial_max_stream_data_bidi_local", "05 04 80100000",
			func(p *transportParams) { p.initialMaxStreamDataBidiLocal = 1 << 20 }},
		{"initial_max_stream_data_bidi_remote", "06 02 4100",
			func(p *transportParams) { p.initialMaxStreamDataBidiRemote = 256 }},
		{"initial_max_stream_data_uni", "07 01 3f", func(p *transportParams) { p.initialMaxStreamDataUni = 63 }},
		{"initial_max_streams_bidi", "08 08 d000000000000000", func(p *transportParams) { p.initialMaxStreamsBidi = 1 << 60 }},
		{"initial_max_streams_uni", "09 01 03", func(p *transportParams) { p.initialMaxStreamsUni = 3 }},
		{"ack_delay_exponent", "0a 01 14", func(p *transportParams) { p.ackDelayExponent = 20 }},
		{"ack_delay_exponent of 0", "0a 01 00", func(p *transportParams) { p.ackDelayExponent = 0 }},
		{"max_ack_delay", "0b 02 7fff", func(p *transportParams) { p.maxAckDelayMs = 16383 }},
		{"disable_active_migration", "0c 00", func(p *transportParams) { p.disableActiveMigration = true }},
		{"preferred_address", "0d 2d c0000201 1151 20010db8000000000000000000000001 1152 04 0a0b0c0d " + paramToken,
			func(p *transportParams) {
				p.preferredAddress = &preferredAddress{
					ipv4:       netip.MustParseAddrPort("192.0.2.1:4433"),
					ipv6:       netip.MustParseAddrPort("[2001:db8::1]:4434"),
					connID:     []byte{0x0a, 0x0b, 0x0c, 0x0d},
					resetToken: token,
				}
			}},
		{"active_connection_id_limit", "0e 01 08", func(p *transportParams) { p.activeConnIDLimit = 8 }},
		{"initial_source_connection_id", "0f 00", func(p *transportParams) { p.initialSrcConnID = []byte{} }},
		{"retry_source_connection_id", "10 02 0102", func(p *transportParams) { p.retrySrcConnID = []byte{1, 2} }},
		{"max_datagram_frame_size", "20 04 8000ffff", func(p *transportParams) { p.maxDatagramFrameSize = 65535 }},
		{"grease_quic_bit", "6ab2 00", func(p *transportParams) { p.greaseQUICBit = true }},
		{"initial_max_path_id", "3e 01 08", func(p *transportParams) { p.initialMaxPathID = maxPathIDParam{true, 8} }},
		{"initial_max_path_id of 0", "3e 01 00", func(p *transportParams) { p.initialMaxPathID = maxPathIDParam{true, 0} }},
		{"largest initial_max_path_id", "3e 08 c0000000ffffffff",
			func(p *transportParams) { p.initialMaxPathID = maxPathIDParam{true, math.MaxUint32} }}, // RMP21-2.1-2
		{"initial_max_path_id of draft-15", "cf739bbc1b666d0d 01 08",
			func(p *transportParams) { p.initialMaxPathID15 = maxPathIDParam{true, 8} }},
	} {
		b := unhex(t, test.bytes)
		want := defaultTransportParams()
		test.set(&want)
		got, err := parseTransportParams(b, true)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: parsed as %+v, %v, want %+v", test.name, got, err, want)
		}
		if got := want.append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: encoded as %x, want %x", test.name, got, b)
		}
		for n := 1; n < len(b); n++ {
			if _, err := parseTransportParams(b[:n], true); err == nil {
				t.Errorf("%s cut to %d bytes is accepted", test.name, n)
			}
		}
	}
}

func TestTransportParamDefaults(t *testing.T) {
	p, err := parseTransportParams(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if p.maxUDPPayloadSize != 65527 || p.ackDelayExponent != 3 || p.maxAckDelay() != 25*time.Millisecond ||
		p.activeConnIDLimit != 2 || p.maxIdleTimeout() != 0 || p.initialMaxData != 0 ||
		p.maxDatagramFrameSize != 0 || p.initialMaxPathID.has {
		t.Errorf("%+v", p)
	}
}

func TestTransportParamsUnknown(t *testing.T) { // R9000-7.4.2-1
	// Reserved parameters 31*N+27: 27 empty, 58 with a value.
	p, err := parseTransportParams(unhex(t, "1b 00 04 01 05 3a 03 aabbcc"), true)
	if err != nil || p.initialMaxData != 5 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestTransportParamsIdleTimeoutRange(t *testing.T) {
	p, err := parseTransportParams(unhex(t, "01 08 ffffffffffffffff"), true)
	if err != nil || p.maxIdleTimeout() < 290*365*24*time.Hour {
		t.Errorf("%v, %v", p.maxIdleTimeout(), err)
	}
}

// R9000-7.4-1: every one of these closes the connection with TRANSPORT_PARAMETER_ERROR.
func TestTransportParamErrors(t *testing.T) {
	for _, test := range []struct {
		name       string
		bytes      string
		fromServer bool
	}{
		{"id cut short", "40", true},
		{"no length", "04", true},
		{"value cut short", "04 02 41", true},
		{"largest length", "1b ffffffffffffffff 00", true},
		{"empty integer", "04 00", true},
		{"integer cut short", "04 01 41", true},
		{"more than an integer", "04 02 0505", true},
		// R9000-7.4-3
		{"twice", "04 01 05 04 01 05", true},
		{"unknown twice", "1b 00 04 01 05 1b 00", true},
		{"max_udp_payload_size of 1199", "03 02 44af", true},            // R9000-18.2-1
		{"ack_delay_exponent of 21", "0a 01 15", true},                  // R9000-18.2-2
		{"max_ack_delay of 2^14", "0b 04 80004000", true},               // R9000-18.2-3
		{"active_connection_id_limit of 1", "0e 01 01", true},           // R9000-18.2-4
		{"initial_max_streams_bidi", "08 08 d000000000000001", true},    // more than 2^60
		{"initial_max_streams_uni", "09 08 d000000000000001", true},     // more than 2^60
		{"original_destination_connection_id", "00 01 aa", false},       // R9000-18.2-5
		{"stateless_reset_token", "02 10 " + paramToken, false},         // R9000-18.2-5
		{"retry_source_connection_id", "10 01 aa", false},               // R9000-18.2-5
		{"stateless_reset_token of 15", "02 0f" + paramToken[2:], true}, // R9000-18.2-7
		{"stateless_reset_token of 17", "02 11 aa" + paramToken, true},  // R9000-18.2-7
		{"disable_active_migration with a value", "0c 01 00", true},     // R9000-18.2-7
		{"grease_quic_bit with a value", "6ab2 01 00", true},            // R9287-3-1
		{"initial_source_connection_id of 21", "0f 15" + strings.Repeat("aa", 21), true},
		{"original_destination_connection_id of 21", "00 15" + strings.Repeat("aa", 21), true},
		{"preferred_address", preferredAddressHex("04 0a0b0c0d"), false},                        // R9000-18.2-5
		{"preferred_address without connection id", preferredAddressHex("00"), true},            // R9000-18.2-6
		{"preferred_address, server without ids", "0f 00" + preferredAddressHex("01 aa"), true}, // R9000-18.2-6
		{"preferred_address with an id of 21", preferredAddressHex("15" + strings.Repeat("aa", 21)), true},
		{"preferred_address cut short", preferredAddressHex("04 0a0b0c"), true},
		{"preferred_address of 0 bytes", "0d 00", true},
		{"initial_max_path_id of 2^32", "3e 08 c000000100000000", true},                         // RMP21-2.1-2
		{"initial_max_path_id of draft-15, 2^32", "cf739bbc1b666d0d 08 c000000100000000", true}, // RMP21-2.1-2
		{"empty initial_max_path_id", "3e 00", true},
	} {
		_, err := parseTransportParams(unhex(t, test.bytes), test.fromServer)
		te, ok := errors.AsType[*TransportError](err)
		if !ok || te.Code != TransportParameterError || te.Reason == "" || te.Remote {
			t.Errorf("%s: %v, want TRANSPORT_PARAMETER_ERROR", test.name, err)
		}
	}
}

// preferredAddressHex is a preferred_address with this length and connection id.
func preferredAddressHex(connID string) string {
	value := "c00002011151" + "20010db80000000000000000000000011152" + strings.ReplaceAll(connID, " ", "") + paramToken
	const digits = "0123456789abcdef"
	n := len(value) / 2
	return "0d 40" + string([]byte{digits[n>>4&15], digits[n&15]}) + value
}

// A server that offers one address family writes zeros for the other.
func TestPreferredAddressOneFamily(t *testing.T) {
	p := defaultTransportParams()
	p.preferredAddress = &preferredAddress{ipv4: netip.MustParseAddrPort("192.0.2.1:4433"), connID: []byte{1}}
	want := "0d 2a c0000201 1151 00000000000000000000000000000000 0000 01 01 00000000000000000000000000000000"
	b := p.append(nil)
	if !bytes.Equal(b, unhex(t, want)) {
		t.Errorf("%x, want %s", b, want)
	}
	got, err := parseTransportParams(b, true)
	if err != nil || got.preferredAddress.ipv6.Port() != 0 || !got.preferredAddress.ipv6.Addr().IsUnspecified() {
		t.Errorf("%+v, %v", got.preferredAddress, err)
	}
}

func TestTransportParamsDoNotAlias(t *testing.T) {
	b := unhex(t, "0f 02 0102"+preferredAddressHex("01 aa"))
	p, err := parseTransportParams(b, true)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if !bytes.Equal(p.initialSrcConnID, []byte{1, 2}) || !bytes.Equal(p.preferredAddress.connID, []byte{0xaa}) {
		t.Errorf("%+v", p)
	}
}

func TestCheckConnIDs(t *testing.T) {
	src, dst, retry := []byte{1}, []byte{2}, []byte{3}
	params := func(initial, original, retry []byte) *transportParams {
		return &transportParams{initialSrcConnID: initial, originalDstConnID: original, retrySrcConnID: retry}
	}
	for _, test := range []struct {
		name       string
		p          *transportParams
		fromServer bool
		src, retry []byte
		ok         bool
	}{
		{"client", params(src, nil, nil), false, src, nil, true},
		{"client without ids", params([]byte{}, nil, nil), false, nil, nil, true},
		{"server", params(src, dst, nil), true, src, nil, true},
		{"server after Retry", params(src, dst, retry), true, src, retry, true},
		{"server after Retry with empty id", params(src, dst, []byte{}), true, src, []byte{}, true},
		{"no initial_source_connection_id", params(nil, nil, nil), false, nil, nil, false},           // R9000-7.3-1
		{"no original_destination_connection_id", params(src, nil, nil), true, src, nil, false},      // R9000-7.3-2
		{"no retry_source_connection_id", params(src, dst, nil), true, src, retry, false},            // R9000-7.3-3
		{"empty retry id expected, none", params(src, dst, nil), true, src, []byte{}, false},         // R9000-7.3-3
		{"retry_source_connection_id without Retry", params(src, dst, retry), true, src, nil, false}, // R9000-7.3-4
		{"empty retry_source_connection_id without Retry", params(src, dst, []byte{}), true, src, nil, false},
		{"wrong initial_source_connection_id", params(dst, nil, nil), false, src, nil, false},      // R9000-7.3-5
		{"wrong original_destination_connection_id", params(src, src, nil), true, src, nil, false}, // R9000-7.3-6
		{"wrong retry_source_connection_id", params(src, dst, []byte{9}), true, src, retry, false}, // R9000-7.3-6
	} {
		err := test.p.checkConnIDs(test.fromServer, test.src, dst, test.retry)
		te, isTransport := errors.AsType[*TransportError](err)
		if (err == nil) != test.ok || err != nil && (!isTransport || te.Code != TransportParameterError) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestNegotiateMultipath(t *testing.T) { // RMP21-2-1, RMP21-2.1-7
	both := &transportParams{initialMaxPathID: maxPathIDParam{true, 8}, initialMaxPathID15: maxPathIDParam{true, 7}}
	only21 := &transportParams{initialMaxPathID: maxPathIDParam{true, 0}}
	only15 := &transportParams{initialMaxPathID15: maxPathIDParam{true, 6}}
	none := &transportParams{}
	for _, test := range []struct {
		name        string
		local, peer *transportParams
		cp          *wire.CodePoints
		max         uint32
	}{
		{"both offer both", both, both, &wire.Draft21, 8},
		{"peer has draft-21", both, only21, &wire.Draft21, 0},
		{"peer has draft-15", both, only15, &wire.Draft15, 6},
		{"we have draft-15", only15, both, &wire.Draft15, 7},
		{"nothing in common", only21, only15, nil, 0},
		{"peer has none", both, none, nil, 0},
		{"we have none", none, both, nil, 0},
	} {
		if cp, largest := negotiateMultipath(test.local, test.peer); cp != test.cp || largest != test.max {
			t.Errorf("%s: %p, %d, want %p, %d", test.name, cp, largest, test.cp, test.max)
		}
	}
}

// What parses must come out the same after encoding it again.
func FuzzTransportParams(f *testing.F) {
	f.Add(unhex(f, "0f08"+exampleDstConnID+"0100"), false)
	f.Add(unhex(f, "0008"+exampleDstConnID+"0f0101 0210"+paramToken+"3e0108 6ab200 0c00 200480 00ffff 0a0103"), true)
	f.Add(unhex(f, preferredAddressHex("04 0a0b0c0d")+"cf739bbc1b666d0d0108 1b00"), true)
	f.Fuzz(func(t *testing.T, b []byte, fromServer bool) {
		p, err := parseTransportParams(b, fromServer)
		if err != nil {
			if te, ok := errors.AsType[*TransportError](err); !ok || te.Code != TransportParameterError {
				t.Fatal(err)
			}
			return
		}
		again, err := parseTransportParams(p.append(nil), fromServer)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}
