// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

// The table is RFC 9000 table 3 with RFC 9221 and the multipath draft added: packet types
// (Initial, Handshake, 0-RTT, 1-RTT), then N for not ack-eliciting and P for probing.
func TestFrameTypes(t *testing.T) {
	for _, test := range []struct {
		t     FrameType
		num   uint64
		name  string
		in    string
		flags string
	}{
		{FrameTypePadding, 0x00, "PADDING", "IH01", "NP"},
		{FrameTypePing, 0x01, "PING", "IH01", ""},
		{FrameTypeAck, 0x02, "ACK", "IH_1", "N"},
		{FrameTypeResetStream, 0x04, "RESET_STREAM", "__01", ""},
		{FrameTypeStopSending, 0x05, "STOP_SENDING", "__01", ""},
		{FrameTypeCrypto, 0x06, "CRYPTO", "IH_1", ""}, // R9001-8.3-2
		{FrameTypeNewToken, 0x07, "NEW_TOKEN", "___1", ""},
		{FrameTypeStream, 0x08, "STREAM", "__01", ""},
		{FrameTypeMaxData, 0x10, "MAX_DATA", "__01", ""},
		{FrameTypeMaxStreamData, 0x11, "MAX_STREAM_DATA", "__01", ""},
		{FrameTypeMaxStreams, 0x12, "MAX_STREAMS", "__01", ""},
		{FrameTypeDataBlocked, 0x14, "DATA_BLOCKED", "__01", ""},
		{FrameTypeStreamDataBlocked, 0x15, "STREAM_DATA_BLOCKED", "__01", ""},
		{FrameTypeStreamsBlocked, 0x16, "STREAMS_BLOCKED", "__01", ""},
		{FrameTypeNewConnectionID, 0x18, "NEW_CONNECTION_ID", "__01", "P"},
		{FrameTypeRetireConnectionID, 0x19, "RETIRE_CONNECTION_ID", "__01", ""},
		{FrameTypePathChallenge, 0x1a, "PATH_CHALLENGE", "__01", "P"},
		{FrameTypePathResponse, 0x1b, "PATH_RESPONSE", "___1", "P"},
		{FrameTypeConnectionClose, 0x1c, "CONNECTION_CLOSE", "IH01", "N"},
		{FrameTypeApplicationClose, 0x1d, "CONNECTION_CLOSE", "__01", "N"},
		{FrameTypeHandshakeDone, 0x1e, "HANDSHAKE_DONE", "___1", ""},
		{FrameTypeDatagram, 0x30, "DATAGRAM", "__01", ""}, // R9221-5-1, R9221-5.2-1
		// RMP21-4-2
		{FrameTypePathAck, 0x3e, "PATH_ACK", "___1", "N"},
		{FrameTypePathAbandon, 0x3e75, "PATH_ABANDON", "___1", ""},
		{FrameTypePathStatusBackup, 0x3e76, "PATH_STATUS_BACKUP", "___1", ""},
		{FrameTypePathStatusAvailable, 0x3e77, "PATH_STATUS_AVAILABLE", "___1", ""},
		{FrameTypePathNewConnectionID, 0x3e78, "PATH_NEW_CONNECTION_ID", "___1", ""},
		{FrameTypePathRetireConnectionID, 0x3e79, "PATH_RETIRE_CONNECTION_ID", "___1", ""},
		{FrameTypeMaxPathID, 0x3e7a, "MAX_PATH_ID", "___1", ""},
		{FrameTypePathsBlocked, 0x3e7b, "PATHS_BLOCKED", "___1", ""},
		{FrameTypePathCIDsBlocked, 0x3e7c, "PATH_CIDS_BLOCKED", "___1", ""},
		{0x1f, 0x1f, "frame type 0x1f", "____", ""},
		{0x3e7d, 0x3e7d, "frame type 0x3e7d", "____", ""},
		{MaxVarint, MaxVarint, "frame type 0x3fffffffffffffff", "____", ""},
	} {
		if uint64(test.t) != test.num {
			t.Errorf("%s is 0x%x, want 0x%x", test.name, uint64(test.t), test.num)
		}
		if got := test.t.String(); got != test.name {
			t.Errorf("0x%x is named %s, want %s", test.num, got, test.name)
		}
		in := []byte("____")
		for i, p := range []PacketType{Initial, Handshake, ZeroRTT, OneRTT} {
			if test.t.AllowedIn(p) {
				in[i] = "IH01"[i]
			}
		}
		if string(in) != test.in { // R9000-12.4-2, R9000-17.2.4-1
			t.Errorf("%s is allowed in %s, want %s", test.name, in, test.in)
		}
		flags := ""
		if !test.t.AckEliciting() {
			flags += "N"
		}
		if test.t.Probing() {
			flags += "P"
		}
		if flags != test.flags {
			t.Errorf("%s has flags %q, want %q", test.name, flags, test.flags)
		}
	}
}

// RMP21-4.2.1-1
func TestMultipathCodePoints(t *testing.T) {
	for _, test := range []struct {
		name      string
		got, want uint64
	}{
		{"initial_max_path_id", Draft21.TransportParameter, 0x3e},
		{"APPLICATION_ABANDON_PATH", Draft21.ApplicationAbandonPath, 0x3e},
		{"PATH_RESOURCE_LIMIT_REACHED", Draft21.PathResourceLimitReached, 0x3e75},
		{"PATH_UNSTABLE_OR_POOR", Draft21.PathUnstableOrPoor, 0x3e76},
		{"NO_CID_AVAILABLE_FOR_PATH", Draft21.NoCIDAvailableForPath, 0x3e77},
		{"initial_max_path_id of draft-15", Draft15.TransportParameter, 0x0f739bbc1b666d0d},
		{"APPLICATION_ABANDON_PATH of draft-15", Draft15.ApplicationAbandonPath, 0x004150504142414e},
		{"PATH_RESOURCE_LIMIT_REACHED of draft-15", Draft15.PathResourceLimitReached, 0x0052534c494d4954},
		{"PATH_UNSTABLE_INTERFACE of draft-15", Draft15.PathUnstableOrPoor, 0x00554e5f494e5446},
		{"NO_CID_AVAILABLE_FOR_PATH of draft-15", Draft15.NoCIDAvailableForPath, 0x004e4f5f4349445f},
	} {
		if test.got != test.want {
			t.Errorf("%s is 0x%x, want 0x%x", test.name, test.got, test.want)
		}
	}
}
