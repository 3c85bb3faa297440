// SPDX-License-Identifier: Apache-2.0

package quic

// A sentVal follows one piece of control information (the content of a control
// frame) until the peer has it: RFC 9000 section 13.3. It is a value of the token
// holder.
//
// Every transmission has a generation, which travels in the packet's frameRecord.
// So the fate of a packet needs no packet number, which with several paths would
// not be unique, and information sent again while an older packet with it is still
// in flight is not sent a third time when that older packet turns out to be lost.
type sentVal struct {
	state sentState
	first uint32 // generation of the first transmission of the present content
	last  uint32 // generation of the latest transmission
}

type sentState uint8

const (
	sentUnset    sentState = iota // nothing to tell
	sentUnsent                    // to be sent: new, or lost
	sentInFlight                  // sent, fate unknown
	sentReceived                  // acknowledged
)

// set says that there is new content to be sent.
func (v *sentVal) set() {
	v.state = sentUnsent
	v.first = v.last + 1
}

// repeat has content that was sent already sent once more.
func (v *sentVal) repeat() {
	if v.state == sentInFlight || v.state == sentReceived {
		v.state = sentUnsent
	}
}

// clear says that there is nothing to tell any more.
func (v *sentVal) clear() { v.state = sentUnset }

// isSet reports whether there is content, sent or not.
func (v *sentVal) isSet() bool { return v.state != sentUnset }

// due reports whether the content has to be sent now.
func (v *sentVal) due() bool { return v.state == sentUnsent }

// isReceived reports whether the peer has acknowledged the present content.
func (v *sentVal) isReceived() bool { return v.state == sentReceived }

// sent notes a transmission and returns its generation.
func (v *sentVal) sent() uint32 {
	v.last++
	v.state = sentInFlight
	return v.last
}

// handleFate takes the fate of the transmission with the given generation. An
// acknowledgment of any transmission of the present content counts; a loss only
// counts for the latest one.
func (v *sentVal) handleFate(generation uint32, f fate) {
	switch {
	case v.state == sentUnset || v.state == sentReceived:
	case f == fateAcked:
		// Serial arithmetic, for a connection that lives longer than 2^32 updates.
		// When the content was never sent, first is after every generation.
		if int32(generation-v.first) >= 0 {
			v.state = sentReceived
		}
	case generation == v.last && v.state == sentInFlight:
		v.state = sentUnsent
	}
}
