// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"net/netip"
	"testing"
)

func TestParseScope(t *testing.T) {
	for rest, want := range map[string]scope{
		"*/*/":                     {protocol: -1},
		"%2A/%2a/":                 {protocol: -1},
		"*/17/":                    {protocol: 17},
		"*/0/":                     {protocol: 0},
		"*/255/":                   {protocol: 255},
		"192.0.2.1/*/":             {prefix: netip.MustParsePrefix("192.0.2.1/32"), protocol: -1},
		"192.0.2.0%2F24/*/":        {prefix: netip.MustParsePrefix("192.0.2.0/24"), protocol: -1},
		"0.0.0.0%2F0/*/":           {prefix: netip.MustParsePrefix("0.0.0.0/0"), protocol: -1},
		"2001%3Adb8%3A%3A42/6/":    {prefix: netip.MustParsePrefix("2001:db8::42/128"), protocol: 6},
		"2001%3Adb8%3A%3A%2F32/*/": {prefix: netip.MustParsePrefix("2001:db8::/32"), protocol: -1},
		"vpn.example/*/":           {host: "vpn.example", protocol: -1},
	} {
		got, err := parseScope(wellKnown + rest)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", rest, got, err, want)
		}
	}
	for _, rest := range []string{
		"", "*", "*/", "*/*", "*/*/x", "*/*//", "/*/", "*//", // R9484-4.1-1
		"192.0.2.0%2F33/*/",                             // R9484-4.6-2
		"2001%3Adb8%3A%3A%2F129/*/",                     // R9484-4.6-2
		"192.0.2.0%2F-1/*/",                             // R9484-4.6-2
		"192.0.2.0%2F/*/",                               // R9484-4.6-2
		"192.0.2.1%2F24/*/",                             // R9484-4.6-3
		"2001%3Adb8%3A%3A1%2F64/*/",                     // R9484-4.6-3
		"*/256/", "*/-1/", "*/udp/", "*/+1/", "*/0017/", // R9484-4.6-4
		"fe80%3A%3A1%25eth0/*/", "a%20b/*/", "%zz/*/", "*/%zz/", "a%00/*/",
	} {
		if got, err := parseScope(wellKnown + rest); err == nil {
			t.Errorf("%q is accepted: %+v", rest, got)
		}
	}
	if _, err := parseScope("/other/*/*/"); err == nil {
		t.Error("another path is accepted")
	}
}

func FuzzScope(f *testing.F) {
	f.Add("192.0.2.0%2F24/17/")
	f.Fuzz(func(t *testing.T, s string) {
		if sc, err := parseScope(wellKnown + s); err == nil && sc.prefix.IsValid() && sc.prefix != sc.prefix.Masked() {
			t.Fatalf("%q has host bits", s)
		}
	})
}
