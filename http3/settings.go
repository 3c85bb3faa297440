// SPDX-License-Identifier: Apache-2.0

package http3

import "errors"

// The settings of RFC 9114 section 7.2.4.1, RFC 9204 section 5, RFC 9220 and RFC 9297.
const (
	settingQPACKMaxTableCapacity = 0x01
	settingMaxFieldSectionSize   = 0x06
	settingQPACKBlockedStreams   = 0x07
	settingEnableConnectProtocol = 0x08
	settingH3Datagram            = 0x33
)

// maxFieldSectionSize is the largest field section that we take, and announce.
const maxFieldSectionSize = 16 << 10

// maxSettingsSize bounds the peer's SETTINGS frame: some hundred settings.
const maxSettingsSize = 4096

// Settings is what the peer's SETTINGS frame says about the features that we use.
type Settings struct {
	MaxFieldSectionSize   uint64 // MaxVarint when not limited
	EnableConnectProtocol bool
	Datagrams             bool
}

// appendSettings appends our SETTINGS frame. It never changes, and it announces
// datagrams and extended CONNECT from both roles, so that a probe learns nothing
// from it.
func appendSettings(b []byte) []byte {
	settings := [...]struct{ id, value uint64 }{ // R9114-7.2.4-3
		{settingMaxFieldSectionSize, maxFieldSectionSize},
		{settingQPACKMaxTableCapacity, 0},
		{settingQPACKBlockedStreams, 0},
		{settingEnableConnectProtocol, 1}, // R9220-3-1 R8441-3-1
		{settingH3Datagram, 1},
	}
	size := 0
	for _, s := range settings {
		size += SizeVarint(s.id) + SizeVarint(s.value)
	}
	b = appendFrameHeader(b, frameSettings, uint64(size))
	for _, s := range settings {
		b = AppendVarint(AppendVarint(b, s.id), s.value)
	}
	return b
}

var errSettingsTruncated = errors.New("truncated setting")

// parseSettings reads the payload of a SETTINGS frame; the error is a *ConnError.
func parseSettings(b []byte) (Settings, error) {
	s := Settings{MaxFieldSectionSize: MaxVarint}
	seen := make(map[uint64]bool)
	for len(b) > 0 {
		id, n := ConsumeVarint(b)
		if n < 0 {
			return s, &ConnError{ErrFrame, errSettingsTruncated.Error()} // R9114-7.1-1
		}
		value, m := ConsumeVarint(b[n:])
		if m < 0 {
			return s, &ConnError{ErrFrame, errSettingsTruncated.Error()}
		}
		b = b[n+m:]
		if seen[id] {
			return s, &ConnError{ErrSettings, "setting sent twice"}
		}
		seen[id] = true
		switch id {
		case 0x00, 0x02, 0x03, 0x04, 0x05: // R9114-7.2.4.1-1
			return s, &ConnError{ErrSettings, "reserved HTTP/2 setting"}
		case settingMaxFieldSectionSize:
			s.MaxFieldSectionSize = value
		case settingEnableConnectProtocol, settingH3Datagram:
			if value > 1 { // R8441-3-1 R9297-2.1.1-1
				return s, &ConnError{ErrSettings, "Boolean setting above 1"}
			}
			if id == settingH3Datagram {
				s.Datagrams = value == 1
			} else {
				s.EnableConnectProtocol = value == 1
			}
		}
		// Others are ignored. Those of QPACK limit a dynamic table that we never
		// use. // R9114-7.2.4-4
	}
	return s, nil
}
