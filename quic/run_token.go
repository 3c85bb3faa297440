// SPDX-License-Identifier: Apache-2.0

package quic

import "sync/atomic"

// runToken says who may touch the state of a connection: the holder of the token. The zero
// value is held. Any goroutine may call its methods; what was put into the mailbox before
// acquire or mark is seen by the turn that they lead to.
type runToken struct{ state atomic.Int32 }

const (
	tokenHeld    int32 = iota
	tokenPending       // held, and there is input that the holder may not have seen
	tokenIdle
)

// acquire takes the token. If another goroutine holds it, that will run another turn.
func (t *runToken) acquire() bool {
	for {
		if t.state.CompareAndSwap(tokenIdle, tokenHeld) {
			return true
		}
		if t.held() {
			return false
		}
	}
}

// held makes the holder run another turn, and reports whether there is one.
func (t *runToken) held() bool {
	return t.state.Load() == tokenPending || t.state.CompareAndSwap(tokenHeld, tokenPending)
}

// release gives the token back. It reports whether a turn must follow.
func (t *runToken) release() (pending bool) {
	return t.state.Swap(tokenIdle) == tokenPending
}
