// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bytes"
	"errors"
	"testing"
)

func TestAppendSettings(t *testing.T) {
	// type 4, length 13: 0x06=16384, 0x01=0, 0x07=0, 0x08=1, 0x33=1
	want := unhex(t, "04 0d 0680004000 0100 0700 0801 3301") // R9114-7.2.4-3 R9220-3-1 R8441-3-1
	if got := appendSettings(nil); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestParseSettings(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      Settings
	}{
		{"none", "", Settings{MaxFieldSectionSize: MaxVarint}},
		{"ours", "0680004000 0100 0700 0801 3301", Settings{16384, true, true}},
		{"switched off", "0800 3300", Settings{MaxFieldSectionSize: MaxVarint}},
		// What the C implementation sends.
		{"large table", "0680008000 0180004000 074040 0801 3301", Settings{32768, true, true}},
		{"unknown", "2105 404105", Settings{MaxFieldSectionSize: MaxVarint}}, // R9114-7.2.4-4 R9114-9-1
	} {
		if got, err := parseSettings(unhex(t, c.hex)); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	for _, c := range []struct {
		name, hex string
		want      ErrorCode
	}{
		{"truncated identifier", "40", ErrFrame}, // R9114-7.1-1
		{"no value", "06", ErrFrame},             // R9114-7.1-1
		{"truncated value", "0680", ErrFrame},    // R9114-7.1-1
		{"twice", "0801 0801", ErrSettings},
		{"unknown twice", "2101 2101", ErrSettings},
		{"HTTP/2 0x00", "0000", ErrSettings},        // R9114-7.2.4.1-1
		{"HTTP/2 0x02", "0200", ErrSettings},        // R9114-7.2.4.1-1
		{"HTTP/2 0x03", "0300", ErrSettings},        // R9114-7.2.4.1-1
		{"HTTP/2 0x04", "0400", ErrSettings},        // R9114-7.2.4.1-1
		{"HTTP/2 0x05", "0500", ErrSettings},        // R9114-7.2.4.1-1
		{"extended CONNECT 2", "0802", ErrSettings}, // R8441-3-1
		{"datagrams 2", "3302", ErrSettings},        // R9297-2.1.1-1
	} {
		_, err := parseSettings(unhex(t, c.hex))
		if e, ok := errors.AsType[*ConnError](err); !ok || e.Code != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(appendSettings(nil)[2:])
	f.Fuzz(func(t *testing.T, b []byte) { parseSettings(b) })
}
