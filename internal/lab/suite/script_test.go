// SPDX-License-Identifier: Apache-2.0

//go:build linux

package suite

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseScript(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"1s A silent for 500ms", "1s A silent; 1.5s A heard again"},
		{"1s B silent up", "1s B silent one way"},
		{"2s all silent down for 1s", "2s all silent one way; 3s all heard again"},
		{"0s A unplugged", "0s A unplugged"},
		{"1s A flap 2s for 4s", "1s A unplugged; 2s A plugged in; 3s A unplugged; 4s A plugged in"},
		{"3s A rate 20 for 1s; 1s B loss 30", "1s B loses 30 %; 3s A at 20 Mbit/s; 4s A at its rate"},
		{"1s A address", "1s A has another address"},
		{"1s server restart for 200ms", "1s server killed; 1.2s server started"},
	} {
		steps, err := parseScript(test.text, 2)
		var got []string
		for _, s := range steps {
			got = append(got, fmt.Sprintf("%v %s", s.at, s.what))
		}
		if s := strings.Join(got, "; "); err != nil || s != test.want {
			t.Errorf("%s: %s, %v", test.text, s, err)
		}
	}
	for _, wrong := range []string{
		"", "A silent", "1s", "1s A", "1s C silent", "1s A deaf", "-1s A silent", "1s A silent sideways", "1s A silent for", "1s A silent for 1",
		"1s A silent for 1s more", "1s A rate", "1s A rate x", "1s A loss 101", "1s A loss NaN", "1s A flap 1s", "1s A flap 0s for 1s",
		"1s A address for 1s", "1s A restart for 1s", "1s server silent", "1s server restart", "1s A silent;",
	} {
		if steps, err := parseScript(wrong, 2); err == nil {
			t.Errorf("%q was accepted: %v", wrong, steps)
		}
	}
}
