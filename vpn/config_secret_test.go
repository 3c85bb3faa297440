// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"strings"
	"testing"
)

// TestConfigKeepsSecrets: a line that is not understood may hold a key, which must not
// end up in the log.
func TestConfigKeepsSecrets(t *testing.T) {
	const key = "g+Rwxqh2njp08cYzhcOTzekIuhpE4uF22QzQUQXBU04="
	for _, tt := range []struct{ line, says string }{
		{"Key " + key, "Key"}, {"Key: " + strings.TrimSuffix(key, "="), "want Key = Value"},
		{key, "want Key = Value"}, {strings.TrimSuffix(key, "="), "want Key = Value"}, {"= " + key, "want Key = Value"},
		{"[" + key, "want [Section]"}, {"[Auth] " + key, "[Auth]"},
		{"Kex = " + key, "nearest known one is [Auth] Key"},
	} {
		_, err := parseINI("c", "[Auth]\n"+tt.line+"\n")
		if err == nil || strings.Contains(err.Error(), "Rwxqh2") || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "c:2:") {
			t.Errorf("%q: %v", tt.line, err)
		}
	}
}
