// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The parts of draft-ietf-quic-qlog-main-schema and draft-ietf-quic-qlog-quic-events that
// our logs use, and a check of a log against them.

// A qlogField is a field of an object: "!" in front of its name makes it mandatory. kind
// is "uint", "number", "bool", "text", "hex", "ranges", "versions", "frames" or "objects",
// the name of an object of qlogObjects, or the permitted texts, separated by "|".
type qlogFields map[string]string

const qlogTransportErrors = "no_error|internal_error|connection_refused|flow_control_error|stream_limit_error|" +
	"stream_state_error|final_size_error|frame_encoding_error|transport_parameter_error|connection_id_limit_error|" +
	"protocol_violation|invalid_token|application_error|crypto_buffer_exceeded|key_update_error|aead_limit_reached|" +
	"no_viable_path|unknown|crypto_error_0x1"

const qlogKeyTypes = "server_initial_secret|client_initial_secret|server_handshake_secret|client_handshake_secret|" +
	"server_0rtt_secret|client_0rtt_secret|server_1rtt_secret|client_1rtt_secret"

var qlogObjects = map[string]qlogFields{
	"RawInfo":           {"length": "uint", "payload_length": "uint", "data": "hex"},
	"TupleEndpointInfo": {"ip_v4": "text", "port_v4": "uint", "ip_v6": "text", "port_v6": "uint", "connection_ids": "ids"},
	"ALPNIdentifier":    {"byte_value": "hex", "string_value": "text"},
	"Token":             {"type": "retry|resumption", "raw": "RawInfo"},
	"UnknownParameter":  {"!id": "uint", "value": "hex"},
	"PreferredAddress": {"ip_v4": "text", "port_v4": "uint", "ip_v6": "text", "port_v6": "uint",
		"!connection_id": "hex", "!stateless_reset_token": "hex"},
	"PacketHeader": {"!packet_type": "initial|handshake|0RTT|1RTT|retry|version_negotiation|stateless_reset|unknown",
		"packet_type_bytes": "uint", "spin_bit": "bool", "key_phase": "uint", "key_phase_bit": "bool",
		"packet_number_length": "uint", "packet_number": "uint", "token": "Token", "length": "uint",
		"version": "hex", "scil": "uint", "dcil": "uint", "scid": "hex", "dcid": "hex"},
}

var qlogEvents = map[string]qlogFields{
	"quic:connection_started": {"!local": "TupleEndpointInfo", "!remote": "TupleEndpointInfo"},
	"quic:connection_closed": {"initiator": "local|remote", "connection_error": qlogTransportErrors, "application_error": "unknown",
		"error_code": "uint", "internal_code": "uint", "reason": "text",
		"trigger": "idle_timeout|application|error|version_mismatch|stateless_reset|aborted|unspecified"},
	"quic:connection_id_updated": {"!initiator": "local|remote", "old": "hex", "new": "hex"},
	"quic:connection_state_updated": {"old": "text",
		"!new": "attempted|handshake_started|handshake_complete|closed|peer_validated|early_write|handshake_confirmed|closing|draining"},
	"quic:tuple_assigned":      {"!tuple_id": "text", "tuple_remote": "TupleEndpointInfo", "tuple_local": "TupleEndpointInfo"},
	"quic:mtu_updated":         {"old": "uint", "!new": "uint", "done": "bool"},
	"quic:version_information": {"server_versions": "versions", "client_versions": "versions", "chosen_version": "hex"},
	"quic:alpn_information":    {"server_alpns": "objects", "client_alpns": "objects", "chosen_alpn": "ALPNIdentifier"},
	"quic:parameters_set": {"initiator": "local|remote", "resumption_allowed": "bool", "early_data_enabled": "bool", "tls_cipher": "text",
		"original_destination_connection_id": "hex", "initial_source_connection_id": "hex", "retry_source_connection_id": "hex",
		"stateless_reset_token": "hex", "disable_active_migration": "bool", "max_idle_timeout": "uint", "max_udp_payload_size": "uint",
		"ack_delay_exponent": "uint", "max_ack_delay": "uint", "active_connection_id_limit": "uint", "initial_max_data": "uint",
		"initial_max_stream_data_bidi_local": "uint", "initial_max_stream_data_bidi_remote": "uint", "initial_max_stream_data_uni": "uint",
		"initial_max_streams_bidi": "uint", "initial_max_streams_uni": "uint", "preferred_address": "PreferredAddress",
		"unknown_parameters": "objects", "max_datagram_frame_size": "uint", "grease_quic_bit": "bool",
		"initial_max_path_id": "uint"}, // ours: multipath
	"quic:parameters_restored": {"disable_active_migration": "bool", "max_idle_timeout": "uint", "max_udp_payload_size": "uint",
		"active_connection_id_limit": "uint", "initial_max_data": "uint", "initial_max_stream_data_bidi_local": "uint",
		"initial_max_stream_data_bidi_remote": "uint", "initial_max_stream_data_uni": "uint", "initial_max_streams_bidi": "uint",
		"initial_max_streams_uni": "uint", "max_datagram_frame_size": "uint", "grease_quic_bit": "bool"},
	"quic:packet_sent": {"!header": "PacketHeader", "frames": "frames", "stateless_reset_token": "hex", "supported_versions": "versions",
		"raw": "RawInfo", "is_mtu_probe_packet": "bool",
		"trigger": "retransmit_reordered|retransmit_timeout|pto_probe|retransmit_crypto|cc_bandwidth_probe"},
	"quic:packet_received": {"!header": "PacketHeader", "frames": "frames", "stateless_reset_token": "hex", "supported_versions": "versions",
		"raw": "RawInfo", "trigger": "keys_available"},
	"quic:packet_dropped": {"header": "PacketHeader", "raw": "RawInfo",
		"trigger": "internal_error|rejected|unsupported|invalid|duplicate|connection_unknown|decryption_failure|key_unavailable|general"},
	"quic:packet_buffered": {"header": "PacketHeader", "raw": "RawInfo", "trigger": "backpressure|keys_unavailable"},
	"quic:key_updated":     {"!key_type": qlogKeyTypes, "key_phase": "uint", "trigger": "tls|remote_update|local_update"},
	"quic:key_discarded":   {"!key_type": qlogKeyTypes, "key_phase": "uint", "trigger": "tls|remote_update|local_update"},
	"quic:recovery_parameters_set": {"reordering_threshold": "uint", "time_threshold": "number", "!timer_granularity": "uint",
		"initial_rtt": "number", "max_datagram_size": "uint", "initial_congestion_window": "uint", "minimum_congestion_window": "uint",
		"loss_reduction_factor": "number", "persistent_congestion_threshold": "uint",
		"congestion_control": "text"}, // ours
	"quic:recovery_metrics_updated": {"min_rtt": "number", "smoothed_rtt": "number", "latest_rtt": "number", "rtt_variance": "number",
		"pto_count": "uint", "congestion_window": "uint", "bytes_in_flight": "uint", "ssthresh": "uint", "packets_in_flight": "uint", "pacing_rate": "uint"},
	"quic:congestion_state_updated": {"old": "text", "!new": "text", "trigger": "text"},
	"quic:ecn_state_updated":        {"old": "testing|unknown|failed|capable", "!new": "testing|unknown|failed|capable"},
	"quic:packet_lost": {"header": "PacketHeader", "frames": "frames", "is_mtu_probe_packet": "bool",
		"trigger": "reordering_threshold|time_threshold|pto_expired"},
	"loglevel:info":    {"!message": "text", "path_state": "text", "old_path_state": "text"}, // the two are ours
	"loglevel:warning": {"message": "text", "code": "uint", "dropped_events": "uint"},        // the last is ours
}

var qlogFrames = map[string]qlogFields{
	"padding":              {},
	"ping":                 {},
	"ack":                  {"ack_delay": "number", "acked_ranges": "ranges", "ect1": "uint", "ect0": "uint", "ce": "uint"},
	"reset_stream":         {"!stream_id": "uint", "!error": "unknown", "error_code": "uint", "!final_size": "uint"},
	"stop_sending":         {"!stream_id": "uint", "!error": "unknown", "error_code": "uint"},
	"crypto":               {"!offset": "uint", "!raw": "RawInfo"},
	"new_token":            {"!token": "Token"},
	"stream":               {"!stream_id": "uint", "offset": "uint", "fin": "bool", "!raw": "RawInfo"},
	"max_data":             {"!maximum": "uint"},
	"max_stream_data":      {"!stream_id": "uint", "!maximum": "uint"},
	"max_streams":          {"!stream_type": "unidirectional|bidirectional", "!maximum": "uint"},
	"data_blocked":         {"!limit": "uint"},
	"stream_data_blocked":  {"!stream_id": "uint", "!limit": "uint"},
	"streams_blocked":      {"!stream_type": "unidirectional|bidirectional", "!limit": "uint"},
	"new_connection_id":    {"!sequence_number": "uint", "!retire_prior_to": "uint", "connection_id_length": "uint", "!connection_id": "hex"},
	"retire_connection_id": {"!sequence_number": "uint"},
	"path_challenge":       {"data": "hex"},
	"path_response":        {"data": "hex"},
	"connection_close": {"error_space": "transport|application", "error": qlogTransportErrors, "error_code": "uint",
		"reason": "text", "trigger_frame_type": "uint"},
	"handshake_done": {},
	"datagram":       {"!raw": "RawInfo"},
	// Those of multipath are ours, with the fields of its draft.
	"path_ack":                  {"!path_id": "uint", "ack_delay": "number", "acked_ranges": "ranges", "ect1": "uint", "ect0": "uint", "ce": "uint"},
	"path_abandon":              {"!path_id": "uint", "error": "text", "!error_code": "uint"},
	"path_status_backup":        {"!path_id": "uint", "!sequence_number": "uint"},
	"path_status_available":     {"!path_id": "uint", "!sequence_number": "uint"},
	"path_new_connection_id":    {"!path_id": "uint", "!sequence_number": "uint", "!retire_prior_to": "uint", "connection_id_length": "uint", "!connection_id": "hex"},
	"path_retire_connection_id": {"!path_id": "uint", "!sequence_number": "uint"},
	"max_path_id":               {"!maximum_path_id": "uint"},
	"paths_blocked":             {"!maximum_path_id": "uint"},
	"path_cids_blocked":         {"!path_id": "uint", "!next_sequence_number": "uint"},
}

// A qlogEvent is one event as read back.
type qlogEvent struct {
	Time  float64
	Name  string
	Tuple string
	Data  map[string]any
}

// parseQlog checks a log of our own against the drafts, and returns its events.
func parseQlog(log []byte, vantage string) (events []qlogEvent, err error) {
	records := bytes.Split(log, []byte{0x1e})
	if len(records) < 2 || len(records[0]) > 0 {
		return nil, fmt.Errorf("no JSON text sequence: %.100q", log)
	}
	if err := checkQlogHeader(records[1], vantage); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	for i, r := range records[2:] {
		e, err := parseQlogEvent(r)
		if err == nil && len(events) > 0 && e.Time < events[len(events)-1].Time {
			err = fmt.Errorf("time goes back from %v", events[len(events)-1].Time)
		}
		if err != nil {
			return events, fmt.Errorf("event %d, %s: %w", i, bytes.TrimSpace(r), err)
		}
		events = append(events, e)
	}
	return events, nil
}

func checkQlogHeader(record []byte, vantage string) error {
	if i := bytes.Index(record, []byte("serialization_format")); i < 0 || i > 256-60 {
		return fmt.Errorf("serialization_format is not among the first 256 bytes")
	}
	var h struct {
		FileSchema          string `json:"file_schema"`
		SerializationFormat string `json:"serialization_format"`
		Trace               struct {
			EventSchemas []string          `json:"event_schemas"`
			VantagePoint map[string]string `json:"vantage_point"`
			CommonFields struct {
				GroupID       string `json:"group_id"`
				TimeFormat    string `json:"time_format"`
				ReferenceTime struct {
					ClockType     string `json:"clock_type"`
					Epoch         string
					WallClockTime string `json:"wall_clock_time"`
				} `json:"reference_time"`
			} `json:"common_fields"`
		}
	}
	d := json.NewDecoder(bytes.NewReader(record))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return err
	}
	ref := h.Trace.CommonFields.ReferenceTime
	if h.FileSchema != "urn:ietf:params:qlog:file:sequential" || h.SerializationFormat != "application/qlog+json-seq" ||
		!slices.Equal(h.Trace.EventSchemas, []string{"urn:ietf:params:qlog:events:quic-13", "urn:ietf:params:qlog:events:loglevel"}) ||
		h.Trace.VantagePoint["type"] != vantage || h.Trace.CommonFields.GroupID == "" || h.Trace.CommonFields.TimeFormat != "relative_to_epoch" ||
		ref.ClockType != "monotonic" || ref.Epoch != "unknown" || ref.WallClockTime == "" {
		return fmt.Errorf("%+v", h)
	}
	return nil
}

func parseQlogEvent(record []byte) (e qlogEvent, err error) {
	if !bytes.HasSuffix(record, []byte("\n")) {
		return e, fmt.Errorf("no line feed at the end")
	}
	var raw map[string]any
	if err := json.Unmarshal(record, &raw); err != nil {
		return e, err
	}
	var ok [3]bool
	e.Time, ok[0] = raw["time"].(float64)
	e.Name, ok[1] = raw["name"].(string)
	e.Data, ok[2] = raw["data"].(map[string]any)
	e.Tuple, _ = raw["tuple"].(string)
	if ok != [3]bool{true, true, true} {
		return e, fmt.Errorf("time, name or data is missing")
	}
	for key := range raw {
		if !slices.Contains([]string{"time", "name", "data", "tuple"}, key) {
			return e, fmt.Errorf("field %q", key)
		}
	}
	fields, known := qlogEvents[e.Name]
	if !known {
		return e, fmt.Errorf("event %q is not of the drafts", e.Name)
	}
	return e, checkQlogObject(e.Data, fields)
}

func checkQlogObject(o map[string]any, fields qlogFields) error {
	for name := range fields {
		if key, mandatory := strings.CutPrefix(name, "!"); mandatory && o[key] == nil {
			return fmt.Errorf("no %s", key)
		}
	}
	for key, v := range o {
		kind, known := fields[key]
		if !known {
			if kind, known = fields["!"+key]; !known {
				return fmt.Errorf("unknown field %s", key)
			}
		}
		if err := checkQlogValue(v, kind); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func checkQlogValue(v any, kind string) error {
	wrong := fmt.Errorf("%v is no %s", v, kind)
	ok := true
	switch kind {
	case "uint":
		var n float64
		n, ok = v.(float64)
		ok = ok && n >= 0 && n == float64(uint64(n))
		if s, isText := v.(string); isText { // above 2^53
			ok = len(s) >= 16 && strings.Trim(s, "0123456789") == ""
		}
	case "number":
		var n float64
		n, ok = v.(float64)
		ok = ok && n >= 0
	case "bool":
		_, ok = v.(bool)
	case "text":
		_, ok = v.(string)
	case "hex":
		var s string
		s, ok = v.(string)
		ok = ok && len(s)%2 == 0 && strings.Trim(s, "0123456789abcdef") == ""
	case "versions", "ids", "ranges", "objects", "frames":
		var list []any
		if list, ok = v.([]any); !ok {
			break
		}
		for _, e := range list {
			if err := checkQlogElement(e, kind); err != nil {
				return err
			}
		}
	default:
		if fields, isObject := qlogObjects[kind]; isObject {
			o, isMap := v.(map[string]any)
			if !isMap {
				return wrong
			}
			return checkQlogObject(o, fields)
		}
		s, _ := v.(string)
		ok = slices.ContainsFunc(strings.Split(kind, "|"), func(want string) bool {
			return s == want || strings.HasSuffix(want, "_0x1") && len(s) == len(want)+2 && strings.HasPrefix(s, want)
		})
	}
	if !ok {
		return wrong
	}
	return nil
}

func checkQlogElement(e any, kind string) error {
	switch kind {
	case "versions", "ids":
		return checkQlogValue(e, "hex")
	case "ranges":
		pair, ok := e.([]any)
		if !ok || len(pair) < 1 || len(pair) > 2 {
			return fmt.Errorf("range %v", e)
		}
		return nil
	}
	o, ok := e.(map[string]any)
	if !ok {
		return fmt.Errorf("%v is no object", e)
	}
	if kind == "objects" {
		return checkQlogObject(o, qlogObjects["UnknownParameter"])
	}
	fields := qlogFields{"!frame_type": "text", "raw": "RawInfo"}
	typ, _ := o["frame_type"].(string)
	own, known := qlogFrames[typ]
	if !known {
		return fmt.Errorf("frame type %q is not of the drafts", typ)
	}
	for k, v := range own {
		fields[k] = v
	}
	return checkQlogObject(o, fields)
}

// TestQlogSchemaTellsErrors: the check above finds what is wrong.
func TestQlogSchemaTellsErrors(t *testing.T) {
	good := `{"time":1.5,"name":"quic:packet_sent","tuple":"1","data":{"header":{"packet_type":"1RTT","packet_number":7},"frames":[{"frame_type":"ping"},{"frame_type":"max_data","maximum":"9007199254740993"}]}}` + "\n"
	if _, err := parseQlogEvent([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"time":1.5`, `"time":"1.5"`}, {"quic:", "transport:"}, {`"tuple":"1"`, `"path":1`}, {"1RTT", "1rtt"},
		{`"packet_type":"1RTT",`, ""}, {`"packet_number":7`, `"packet_number":-7`}, {`"ping"`, `"PING"`}, {`"maximum"`, `"max"`},
		{"\n", ""}, {`"packet_number"`, `"number"`},
	} {
		if _, err := parseQlogEvent([]byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("no error with %s instead of %s", change[1], change[0])
		}
	}
}
