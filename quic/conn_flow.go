// SPDX-License-Identifier: Apache-2.0

package quic

// connFlow is the flow control of all streams together: RFC 9000 section 4. It
// belongs to the token holder.
type connFlow struct {
	// What the peer lets us send.
	sendLimit uint64  // MAX_DATA of the peer
	sent      uint64  // sum of the largest offsets sent
	blocked   sentVal // DATA_BLOCKED

	// What we let the peer send.
	window    uint64
	recvLimit uint64 // as told to the peer
	received  uint64 // sum of the largest offsets received; after the end of a stream its final size
	max       sentVal
}

func (c *connFlow) init(window uint64) {
	c.window = window
	c.recvLimit = window // as transport parameter
}

// sendCredit is the number of bytes that may be sent for the first time.
func (c *connFlow) sendCredit() uint64 { return c.sendLimit - c.sent }

// recvCredit is the number of bytes that the peer may send for the first time.
func (c *connFlow) recvCredit() uint64 { return c.recvLimit - c.received }

// raiseSendLimit takes MAX_DATA. One that does not raise the limit is ignored.
func (c *connFlow) raiseSendLimit(limit uint64) {
	if limit > c.sendLimit { // R9000-4.1-4
		c.sendLimit = limit
		c.blocked.clear()
	}
}

// updateBlocked makes DATA_BLOCKED due, once until the limit is raised, while
// streams wait for connection credit.
func (c *connFlow) updateBlocked(waiting bool) {
	if !waiting || c.sendCredit() > 0 {
		c.blocked.clear()
		return
	}
	if !c.blocked.isSet() { // R9000-4.1-5
		c.blocked.set()
	}
}

// updateCredit makes MAX_DATA due when half of the window is consumed, whether the
// peer says it is blocked or not. R9000-4.2-1
func (c *connFlow) updateCredit(consumed uint64) {
	if creditDue(consumed, c.window, c.recvLimit) {
		c.max.set()
	}
}

// creditDue reports whether a receiver that has consumed so many bytes, and told
// the peer limit, should raise that limit.
func creditDue(consumed, window, limit uint64) bool {
	return consumed+window-limit >= (window+1)/2 && window > 0
}

// creditDueAt is the number of bytes consumed from which on creditDue holds.
func creditDueAt(window, limit uint64) uint64 { return limit - window + (window+1)/2 }

// append appends the frames that are due; false if one does not fit.
func (c *connFlow) append(w *packetWriter, consumed uint64) bool {
	if c.max.due() {
		limit := consumed + c.window
		if !w.appendMaxData(&c.max, limit) {
			return false
		}
		c.recvLimit = limit
	}
	return !c.blocked.due() || w.appendDataBlocked(&c.blocked, c.sendLimit)
}
