// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"testing"
)

func newMailbox(t *testing.T) *mailbox {
	m := new(mailbox)
	m.init()
	t.Cleanup(m.close)
	return m
}

func TestMailboxReceived(t *testing.T) {
	m := newMailbox(t)
	data := []byte("first")
	m.putReceived(rxMsg{data: data, segSize: 5})
	copy(data, "other") // the reader uses its buffer again
	m.putReceived(rxMsg{data: []byte("second"), segSize: 6})
	var box inbox
	m.take(&box)
	if len(box.rx) != 2 || string(box.rx[0].data) != "first" || string(box.rx[1].data) != "second" || len(box.chunks) != 1 {
		t.Errorf("inbox %+v", box.rx)
	}
	box.release()
	m.take(&box)
	if len(box.rx)+len(box.chunks) != 0 {
		t.Errorf("taken twice: %+v", box.rx)
	}
}

func TestMailboxBounds(t *testing.T) {
	m := newMailbox(t)
	big := bytes.Repeat([]byte{1}, rxChunkSize)
	for range maxMailboxChunks + 3 {
		m.putReceived(rxMsg{data: big, segSize: len(big)})
	}
	for range maxMailboxDatagrams + 5 {
		m.putDatagrams([]*PacketBuf{datagram(1, 10)})
	}
	if m.rxDropped != 3 || m.sendDropped != 5 {
		t.Errorf("dropped %d datagrams received, %d to be sent", m.rxDropped, m.sendDropped)
	}
	var box inbox
	m.take(&box)
	if len(box.rx) != maxMailboxChunks || len(box.dgrams) != maxMailboxDatagrams {
		t.Errorf("%d received, %d to be sent", len(box.rx), len(box.dgrams))
	}
	for _, b := range box.dgrams {
		b.Release()
	}
	box.release()
	// There is room again.
	m.putDatagrams([]*PacketBuf{datagram(1, 10)})
	if m.sendDropped != 5 {
		t.Error("dropped although the mailbox was emptied")
	}
}

func TestMailboxClosed(t *testing.T) {
	m := newMailbox(t)
	m.putDatagrams([]*PacketBuf{datagram(1, 10)})
	m.putReceived(rxMsg{data: []byte("x"), segSize: 1})
	m.close() // what is queued is released: TestMain counts
	m.putDatagrams([]*PacketBuf{datagram(1, 10)})
	m.putReceived(rxMsg{data: []byte("x"), segSize: 1})
	if m.putCommand(func(instant) {}) {
		t.Error("a closed mailbox takes commands")
	}
}
