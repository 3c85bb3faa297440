// SPDX-License-Identifier: Apache-2.0

package quic

import "testing"

func TestSentValLossAndAck(t *testing.T) {
	var v sentVal
	if v.isSet() || v.due() {
		t.Fatal("the zero value has content")
	}
	v.set()
	g1 := v.sent()
	if v.due() {
		t.Fatal("due while in flight")
	}
	v.handleFate(g1, fateLost)
	if !v.due() {
		t.Fatal("not due after a loss")
	}
	g2 := v.sent()
	v.handleFate(g1, fateLost)
	if v.due() {
		t.Fatal("the second loss of an old transmission makes it due again")
	}
	v.handleFate(g1, fateAcked)
	if !v.isReceived() {
		t.Fatal("the late acknowledgment of the first transmission does not count")
	}
	v.handleFate(g2, fateLost)
	if v.due() {
		t.Fatal("due although received")
	}
}

func TestSentValNewContent(t *testing.T) {
	var v sentVal
	v.set()
	g1 := v.sent()
	v.set()
	v.handleFate(g1, fateAcked)
	if v.isReceived() || !v.due() {
		t.Fatal("the acknowledgment of old content counts for new content")
	}
	g2 := v.sent()
	v.clear()
	v.handleFate(g2, fateLost)
	if v.isSet() {
		t.Fatal("a loss brings content back that was cleared")
	}
}

func TestSentValRepeat(t *testing.T) {
	var v sentVal
	v.repeat()
	if v.due() {
		t.Fatal("nothing to repeat")
	}
	v.set()
	v.handleFate(v.sent(), fateAcked)
	v.repeat()
	if !v.due() {
		t.Fatal("not due again")
	}
}
