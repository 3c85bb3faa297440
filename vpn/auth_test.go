// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"slices"
	"testing"
)

func TestAuthenticator(t *testing.T) {
	a := newAuthenticator([]User{{"alice", "k1"}, {"bob", "k2"}}, "shared")
	for _, tt := range []struct {
		key, name string
		number    int
		ok        bool
	}{
		{"k1", "alice", 0, true},
		{"k2", "bob", 1, true},
		{"shared", sharedUser, -1, true},
		{"k3", "", 0, false},
		{"k", "", 0, false},
		{"k11", "", 0, false},
		{"", "", 0, false},
	} {
		id, ok := a.find(tt.key)
		if ok != tt.ok || id != (identity{tt.name, tt.number}) {
			t.Errorf("find(%q) = %v, %v", tt.key, id, ok)
		}
	}
	if got := a.names; !slices.Equal(got, []string{"alice", "bob"}) {
		t.Errorf("names: %v", got)
	}
	if _, ok := newAuthenticator(nil, "").find(""); ok {
		t.Error("an empty key was accepted where none is configured")
	}
}
