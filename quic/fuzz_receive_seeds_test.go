// SPDX-License-Identifier: Apache-2.0

package quic

import "github.com/mqvpn/mqvpn/quic/internal/wire"

// fuzzReceiveSeeds are inputs of FuzzReceive with each frame, in each kind of packet, and
// with each state of a connection.
func fuzzReceiveSeeds() (seeds [][]byte) {
	cp := &wire.Draft21
	id := []byte("12345678")
	token := [wire.ResetTokenLen]byte{1, 2, 3}
	frames := [][]byte{
		wire.AppendPing(nil), wire.AppendPadding(nil, 3),
		wire.AppendAck(nil, 10, []wire.Range{{Lo: 0, Hi: 2}, {Lo: 5, Hi: 6}}, nil),
		wire.AppendAck(nil, 10, []wire.Range{{Lo: 0, Hi: 0}}, &wire.ECNCounts{ECT0: 3, CE: 1}),
		wire.AppendPathAck(nil, cp, 0, 10, []wire.Range{{Lo: 0, Hi: 2}}, nil),
		wire.AppendPathAck(nil, cp, 1, 10, []wire.Range{{Lo: 0, Hi: 0}}, &wire.ECNCounts{ECT0: 1}),
		wire.AppendResetStream(nil, 0, 7, 3), wire.AppendResetStream(nil, 3, 7, 10),
		wire.AppendStopSending(nil, 0, 7), wire.AppendStopSending(nil, 1, 7),
		wire.AppendCrypto(nil, 0, []byte{4, 0, 0, 5, 1, 2, 3, 4, 5}), wire.AppendCrypto(nil, 100, []byte("gap")),
		wire.AppendNewToken(nil, []byte("token")),
		wire.AppendStream(nil, 0, 0, []byte("hello"), false), wire.AppendStream(nil, 2, 0, []byte("hello"), true),
		wire.AppendStream(nil, 1, 5, []byte("later"), false), wire.AppendStream(nil, 3, 9000, []byte("far"), true),
		wire.AppendMaxData(nil, 1<<20), wire.AppendMaxStreamData(nil, 0, 1<<20), wire.AppendMaxStreamData(nil, 1, 1<<20),
		wire.AppendMaxStreams(nil, true, 50), wire.AppendMaxStreams(nil, false, 50),
		wire.AppendDataBlocked(nil, 10), wire.AppendStreamDataBlocked(nil, 0, 10), wire.AppendStreamsBlocked(nil, true, 3),
		wire.AppendNewConnectionID(nil, 1, 0, id, token), wire.AppendNewConnectionID(nil, 3, 3, id, token),
		wire.AppendPathNewConnectionID(nil, cp, 0, 2, 1, id, token), wire.AppendPathNewConnectionID(nil, cp, 1, 2, 2, id, token),
		wire.AppendRetireConnectionID(nil, 0), wire.AppendRetireConnectionID(nil, 1),
		wire.AppendPathRetireConnectionID(nil, cp, 0, 0), wire.AppendPathRetireConnectionID(nil, cp, 1, 0),
		wire.AppendPathChallenge(nil, [8]byte{1}), wire.AppendPathResponse(nil, [8]byte{1}),
		wire.AppendConnectionClose(nil, 10, 0, "bye"), wire.AppendApplicationClose(nil, 1, "bye"),
		wire.AppendHandshakeDone(nil),
		wire.AppendPathAbandon(nil, cp, 0, 0), wire.AppendPathAbandon(nil, cp, 1, 0x3e), wire.AppendPathAbandon(nil, cp, 2, 0),
		wire.AppendPathStatusBackup(nil, cp, 0, 1), wire.AppendPathStatusAvailable(nil, cp, 1, 1),
		wire.AppendMaxPathID(nil, cp, 2), wire.AppendMaxPathID(nil, cp, 9),
		wire.AppendPathsBlocked(nil, cp, 2), wire.AppendPathCIDsBlocked(nil, cp, 1, 2),
		append(wire.AppendDatagramHeader(nil, 5), "datag"...), append(wire.AppendDatagramHeader(nil, -1), "datagram"...),
	}
	const confirmed = 0x3f // far enough for the handshake, with the longest delay
	packet := func(op, arg byte, payload []byte) []byte {
		return append([]byte{op, arg, byte(len(payload))}, payload...)
	}
	application := []byte{fuzzApplication, 0x40, fuzzApplication, 0x41, fuzzApplication, 0x67, fuzzWait, 20}
	var all []byte
	for i, f := range frames {
		all = append(all, packet(fuzzOneRTT, 0, f)...)
		for _, flags := range []byte{0, fuzzVictimClient, fuzzSinglePath, fuzzSinglePath | fuzzVictimClient} {
			b := append([]byte{flags, byte(i), confirmed | 0x80}, application...)
			b = append(b, packet(fuzzOneRTT, 0, f)...)
			b = append(b, packet(fuzzOneRTT|fuzzSkip, 1, f)...)
			b = append(b, fuzzBehave, 0, fuzzWait, 50, fuzzApplication, 3)
			seeds = append(seeds, b)
		}
		// In the handshake.
		for stage := range byte(8) {
			flags := stage & 1 * fuzzVictimClient
			if stage&2 != 0 {
				flags |= fuzzEarly
			}
			b := []byte{flags, byte(i), stage * 4}
			for _, op := range []byte{fuzzInitial, fuzzHandshake, fuzzZeroRTT, fuzzOneRTT} {
				b = append(b, packet(op, 0, f)...)
			}
			seeds = append(seeds, append(b, fuzzWait, 40))
		}
	}
	seeds = append(seeds, append([]byte{0, 0, confirmed}, all...))
	for arg := range byte(16) { // what both sides can do besides
		for _, flags := range []byte{0, fuzzVictimClient} {
			b := append([]byte{flags, arg, confirmed | 0x80}, application...)
			b = append(b, fuzzApplication, arg, fuzzBehave, arg, fuzzBehave|fuzzMoved, arg, fuzzWait, 30)
			b = append(b, packet(fuzzOneRTT|fuzzMoved, 0, frames[0])...)
			b = append(b, packet(fuzzOneRTT|fuzzFull, 0, frames[0])...)
			b = append(b, packet(fuzzOneRTT|fuzzOld, 8, frames[0])...)
			b = append(b, fuzzBehave, 4, fuzzBehave, 0, fuzzBehave, 1, fuzzApplication, 0xff, fuzzWait, 200)
			seeds = append(seeds, b)
		}
	}
	return append(seeds, []byte{0, 0, 20, fuzzDatagram, 0xc3, 6, 0, 0, 0, 1, 2, 3, fuzzDatagram | fuzzFull, 0x43, 30, 1, 2, 3})
}
