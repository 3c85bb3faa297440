// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"
)

// retryExample is the packet of RFC 9001 appendix A.4, retryOriginal the Destination
// Connection ID that it answers.
const (
	retryExample  = "ff 00000001 00 08 f067a5502a4262b5 746f6b656e 04a265ba2eff4d829058fb3f0f2496ba"
	retryOriginal = "8394c8f03e515708"
)

func TestRetry(t *testing.T) { // R9001-5.8-1
	packet, original := unhex(t, retryExample), unhex(t, retryOriginal)
	h, n, ok := ParseLongHeader(packet)
	if !ok || n != len(packet) || h.Type != Retry || string(h.Token) != "token" || len(h.DstConnID) != 0 {
		t.Fatalf("%+v, %d, %v", h, n, ok)
	}
	if !VerifyRetry(packet, original) {
		t.Error("the tag of the example is not accepted")
	}

	ours := AppendRetry([]byte("prefix"), h.DstConnID, h.SrcConnID, h.Token, original)[len("prefix"):]
	if ours[0] != 0xf0 || !bytes.Equal(ours[1:len(ours)-retryTagLen], packet[1:len(packet)-retryTagLen]) {
		t.Errorf("%x, want the packet of the example with other unused bits", ours)
	}
	if !VerifyRetry(ours, original) {
		t.Error("our own tag is not accepted")
	}
}

func TestRetryForged(t *testing.T) { // R9000-17.2.5.2-3
	packet, original := unhex(t, retryExample), unhex(t, retryOriginal)
	for i := range packet {
		forged := bytes.Clone(packet)
		forged[i] ^= 1
		if VerifyRetry(forged, original) {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
	if VerifyRetry(packet, original[1:]) {
		t.Error("accepted for another connection id")
	}
	if VerifyRetry(packet[:retryTagLen-1], original) {
		t.Error("accepted without a whole tag")
	}
}
