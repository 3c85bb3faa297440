// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// instant is a point in time: nanoseconds since the epoch of the Endpoint. The
// epoch is taken at the Endpoint's creation, so it works in a synctest bubble.
// The zero value means "unset"; an Endpoint's clock starts above it.
type instant int64

func (t instant) add(d time.Duration) instant { return t + instant(d) }
func (t instant) sub(u instant) time.Duration { return time.Duration(t - u) }
func (t instant) since() time.Duration        { return time.Duration(t) } // since the epoch
func (t instant) isZero() bool                { return t == 0 }
func (t instant) due(now instant) bool        { return t != 0 && t <= now }

// earliest returns the earlier of two instants; an unset one does not count.
func earliest(a, b instant) instant {
	switch {
	case a == 0:
		return b
	case b == 0 || a < b:
		return a
	}
	return b
}
