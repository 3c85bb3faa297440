// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// replayID identifies something that is to be used once: random bytes.
type replayID [8]byte

// maxReplayIDs bounds each generation of a replayFilter: about half a megabyte.
const maxReplayIDs = 1 << 14

// A replayFilter has tokens used once, in bounded memory. It remembers those that were
// used in two generations; when both are full the older one is forgotten, and with it
// every token, used or not, that was issued before its newest: what cannot be told any
// more counts as used.
type replayFilter struct {
	ids    [2]map[replayID]struct{} // the present generation, and the one before
	newest [2]time.Time             // latest issue of those in it
	floor  time.Time                // tokens issued until then are not accepted
}

// use reports whether id, issued at the given time, was not used before. From now on
// it was. // R9000-8.1.4-4
func (f *replayFilter) use(id replayID, issued time.Time) bool {
	if !issued.After(f.floor) {
		return false
	}
	for _, m := range f.ids {
		if _, used := m[id]; used {
			return false
		}
	}
	if len(f.ids[0]) >= maxReplayIDs {
		f.floor = later(f.floor, f.newest[1])
		f.ids[1], f.newest[1] = f.ids[0], f.newest[0]
		f.ids[0], f.newest[0] = nil, time.Time{}
		if !issued.After(f.floor) {
			return false
		}
	}
	if f.ids[0] == nil {
		f.ids[0] = make(map[replayID]struct{})
	}
	f.ids[0][id] = struct{}{}
	f.newest[0] = later(f.newest[0], issued)
	return true
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
