// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"crypto/sha256"
	"crypto/subtle"
)

// sharedUser is shown as the user of a session that used the key without a name.
const sharedUser = "(global)"

// authenticator finds the user who has a key. It is immutable.
type authenticator struct {
	names  []string
	hashes [][sha256.Size]byte // those of the names, then that of the shared key if there is one
}

func newAuthenticator(users []User, shared string) *authenticator {
	a := &authenticator{names: []string{}}
	for _, u := range users {
		a.names = append(a.names, u.Name)
		a.hashes = append(a.hashes, sha256.Sum256([]byte(u.Key)))
	}
	if shared != "" {
		a.hashes = append(a.hashes, sha256.Sum256([]byte(shared)))
	}
	return a
}

// identity is who a session belongs to.
type identity struct {
	name   string
	number int // position among the configured users; -1: the shared key
}

// find returns whose key it is. The time that it takes tells neither whether the
// key was found nor how much of it was right: hashes have one length, and all of
// them are compared.
func (a *authenticator) find(key string) (id identity, ok bool) {
	hash := sha256.Sum256([]byte(key))
	found := -1
	for i := range a.hashes {
		equal := subtle.ConstantTimeCompare(hash[:], a.hashes[i][:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	switch {
	case found < 0:
		return identity{}, false
	case found == len(a.names):
		return identity{name: sharedUser, number: -1}, true
	}
	return identity{name: a.names[found], number: found}, true
}
