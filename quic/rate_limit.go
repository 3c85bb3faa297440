// SPDX-License-Identifier: Apache-2.0

package quic

import "time"

// What an endpoint does for datagrams that belong to no connection is bounded in rate:
// anybody can send them, with any source address, and their answers go to whoever that is.
const (
	// resetsPerSecond bounds stateless resets (RFC 9000 section 10.3.3).
	resetsPerSecond = 100
	// refusalsPerSecond bounds Version Negotiation packets, and CONNECTION_CLOSE of
	// attempts that end without a connection. // R9000-5.2.2-2
	refusalsPerSecond = 1000
	// initialsPerSecond bounds Initial packets of clients that have not shown by a token
	// that they receive at their address: those that are decrypted to see whether they
	// start a connection, or under load are answered with Retry. It is several times the
	// handshakes that a core can do, and costs less than a tenth of one.
	initialsPerSecond = 10000
)

// A rateLimit lets perSecond events pass in a second, evenly, and up to burst at once.
type rateLimit struct {
	perSecond int
	burst     int
	used      time.Duration // of the time that burst events take
	last      instant
}

func (l *rateLimit) allow(now instant) bool {
	each := time.Second / time.Duration(l.perSecond)
	l.used = max(0, l.used-max(0, now.sub(l.last)))
	l.last = max(l.last, now)
	if l.used+each > time.Duration(l.burst)*each {
		return false
	}
	l.used += each
	return true
}

// rateLimits are those of an endpoint.
type rateLimits struct{ resets, refusals, initials rateLimit }

func newRateLimits() rateLimits {
	return rateLimits{
		resets:   rateLimit{perSecond: resetsPerSecond, burst: resetsPerSecond},
		refusals: rateLimit{perSecond: refusalsPerSecond, burst: refusalsPerSecond / 10},
		// A thousand clients that come back at once, as after a restart, are all heard.
		initials: rateLimit{perSecond: initialsPerSecond, burst: initialsPerSecond / 4},
	}
}
