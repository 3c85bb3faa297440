// SPDX-License-Identifier: Apache-2.0

package quic

import "strings"

// The rows of TestLimits.

var streamLimits = []limitRow{
	{tStream, "number of streams", // R9000-4.6-4
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(2), 0, "")} },
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(3), 0, "")} }, StreamLimitError, nil},
	{tStream, "number of unidirectional streams",
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerUni(2), 0, "")} },
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerUni(3), 0, "")} }, StreamLimitError, nil},
	{tStream, "data of a stream", // R9000-4.1-2
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(0), 999, "x")} },
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(0), 1000, "x")} }, FlowControlError, nil},
	{tStream, "data of a unidirectional stream",
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerUni(0), 999, "x")} },
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerUni(0), 1000, "x")} }, FlowControlError, nil},
	{tStream, "data of a stream of ours",
		func(tc *testConn) []testFrame {
			tc.open(false).Write([]byte("x"))
			tc.fill()
			return []testFrame{frStream(tc.ourBidi(0), 999, "x")}
		},
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.ourBidi(0), 1000, "x")} }, FlowControlError, nil},
	{tStream, "data of all streams", // R9000-4.1-3
		func(tc *testConn) []testFrame {
			return []testFrame{frStream(tc.peerBidi(0), 999, "x"), frStream(tc.peerUni(0), 499, "x")}
		},
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerUni(0), 500, "x")} }, FlowControlError, nil},
	{tStream, "data up to the final size", // R9000-4.5-4
		func(tc *testConn) []testFrame {
			return []testFrame{frStreamFin(tc.peerBidi(0), 0, "abc"), frStream(tc.peerBidi(0), 2, "c")}
		},
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(0), 3, "d")} }, FinalSizeError, nil},
	{tStream, "final size as received", // R9000-4.5-3
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(0), 0, "abcd")} },
		func(tc *testConn) []testFrame { return []testFrame{frStreamFin(tc.peerBidi(0), 0, "abc")} }, FinalSizeError, nil},
	{tStream, "final size repeated",
		func(tc *testConn) []testFrame {
			return []testFrame{frStreamFin(tc.peerBidi(0), 3, ""), frStreamFin(tc.peerBidi(0), 3, "")}
		},
		func(tc *testConn) []testFrame { return []testFrame{frStreamFin(tc.peerBidi(0), 4, "")} }, FinalSizeError, nil},
	{tStream, "offset", nil, // R9000-19.8-2
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(0), maxInt, "x")} }, FrameEncodingError, nil},
	{tStream, "gaps",
		func(tc *testConn) []testFrame { return gaps(tc.peerBidi(0), maxReceiveGaps) },
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerBidi(0), 2*maxReceiveGaps+1, "x")} }, InternalError,
		[]any{func(c *Config) { c.StreamReceiveWindow, c.ConnReceiveWindow = 1<<20, 1<<20 }}},

	{tResetStream, "number of streams",
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerUni(2), 7, 0)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerUni(3), 7, 0)} }, StreamLimitError, nil},
	{tResetStream, "final size, limit of the stream", // R9000-19.4-1 is about its kind
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerUni(0), 7, 1000)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerBidi(0), 7, 1001)} }, FlowControlError, nil},
	{tResetStream, "final size, limit of the connection", // R9000-4.5-1 R9000-19.9-1
		func(tc *testConn) []testFrame {
			return []testFrame{frStream(tc.peerBidi(0), 999, "x"), frInts(tResetStream, tc.peerUni(0), 7, 500)}
		},
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerUni(1), 7, 1)} }, FlowControlError, nil},
	{tResetStream, "final size as received",
		func(tc *testConn) []testFrame { return []testFrame{frStream(tc.peerUni(0), 0, "abcd")} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerUni(0), 7, 3)} }, FinalSizeError, nil},
	{tResetStream, "final size as announced",
		func(tc *testConn) []testFrame { return []testFrame{frStreamFin(tc.peerUni(0), 3, "")} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tResetStream, tc.peerUni(0), 7, 4)} }, FinalSizeError, nil},

	{tStopSending, "number of streams",
		func(tc *testConn) []testFrame { return []testFrame{frInts(tStopSending, tc.peerBidi(2), 7)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tStopSending, tc.peerBidi(3), 7)} }, StreamLimitError, nil},
	{tStopSending, "streams of ours", func(tc *testConn) []testFrame { // R9000-19.5-1
		tc.open(false).Write([]byte("x"))
		tc.fill()
		return []testFrame{frInts(tStopSending, tc.ourBidi(0), 7)}
	}, func(tc *testConn) []testFrame { return []testFrame{frInts(tStopSending, tc.ourBidi(1), 7)} }, StreamStateError, nil},
	{tMaxStreamData, "number of streams",
		func(tc *testConn) []testFrame { return []testFrame{frInts(tMaxStreamData, tc.peerBidi(2), maxInt)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tMaxStreamData, tc.peerBidi(3), maxInt)} }, StreamLimitError, nil},
	{tMaxStreamData, "streams of ours", func(tc *testConn) []testFrame { // R9000-19.10-1
		tc.open(false).Write([]byte("x"))
		tc.fill()
		return []testFrame{frInts(tMaxStreamData, tc.ourBidi(0), maxInt)}
	}, func(tc *testConn) []testFrame { return []testFrame{frInts(tMaxStreamData, tc.ourBidi(1), maxInt)} }, StreamStateError, nil},
	{tStreamDataBlocked, "number of streams",
		func(tc *testConn) []testFrame { return []testFrame{frInts(tStreamDataBlocked, tc.peerBidi(2), 1)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tStreamDataBlocked, tc.peerBidi(3), 1)} }, StreamLimitError, nil},
	{tStreamDataBlocked, "number of unidirectional streams",
		func(tc *testConn) []testFrame { return []testFrame{frInts(tStreamDataBlocked, tc.peerUni(2), 1)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tStreamDataBlocked, tc.peerUni(3), 1)} }, StreamLimitError, nil},

	// R9000-4.6-2 R9000-19.11-1 R9000-19.14-1
	{tMaxStreamsBidi, "2^60", fixed(frInts(tMaxStreamsBidi, 1<<60)), fixed(frInts(tMaxStreamsBidi, 1<<60+1)), FrameEncodingError, nil},
	{tMaxStreamsUni, "2^60", fixed(frInts(tMaxStreamsUni, 1<<60)), fixed(frInts(tMaxStreamsUni, 1<<60+1)), FrameEncodingError, nil},
	{tStreamsBlockedBidi, "2^60", fixed(frInts(tStreamsBlockedBidi, 1<<60)), fixed(frInts(tStreamsBlockedBidi, 1<<60+1)), FrameEncodingError, nil},
	{tStreamsBlockedUni, "2^60", fixed(frInts(tStreamsBlockedUni, 1<<60)), fixed(frInts(tStreamsBlockedUni, 1<<60+1)), FrameEncodingError, nil},
}

// gaps are n pieces of a stream, one byte each and a byte apart, 150 to a packet.
func gaps(id, n uint64) (packets []testFrame) {
	for i := range n {
		if i%150 == 0 {
			packets = append(packets, testFrame{})
		}
		f := &packets[len(packets)-1]
		f.raw = frStream(id, 2*i+1, "x").append(f.raw, nil)
	}
	return packets
}

var connIDLimits = []limitRow{
	{tNewConnectionID, "active_connection_id_limit", // R9000-5.1.1-5
		func(tc *testConn) (f []testFrame) {
			for seq := range uint64(activeCIDLimit - 1) {
				f = append(f, tc.peerCIDFrame(0, seq+1, 0))
			}
			return f
		},
		func(tc *testConn) []testFrame { return []testFrame{tc.peerCIDFrame(0, activeCIDLimit, 0)} }, ConnectionIDLimitError, nil},
	{tNewConnectionID, "retirements not acknowledged", // R9000-5.1.2-3
		func(tc *testConn) (f []testFrame) {
			for seq := range uint64(maxRetirements) {
				f = append(f, tc.peerCIDFrame(0, seq+1, seq+1))
			}
			return f
		},
		func(tc *testConn) []testFrame {
			return []testFrame{tc.peerCIDFrame(0, maxRetirements+1, maxRetirements+1)}
		}, ConnectionIDLimitError, nil},
	{tNewConnectionID, "Retire Prior To", // R9000-19.15-3
		fixed(frNewConnectionID(1, 1, peerCID(0, 1), peerToken(0, 1))),
		fixed(frNewConnectionID(2, 3, peerCID(0, 2), peerToken(0, 2))), FrameEncodingError, nil},
	{tNewConnectionID, "length", // R9000-19.15-1
		fixed(frNewConnectionID(1, 0, make([]byte, 20), peerToken(0, 1))),
		fixed(frNewConnectionID(2, 0, make([]byte, 21), peerToken(0, 2))), FrameEncodingError, nil},
	{tNewConnectionID, "smallest length",
		fixed(frNewConnectionID(1, 0, []byte{1}, peerToken(0, 1))),
		fixed(frNewConnectionID(2, 0, nil, peerToken(0, 2))), FrameEncodingError, nil},
	{tRetireConnectionID, "issued", // R9000-19.16-1
		fixed(frInts(tRetireConnectionID, cidsPerPath-1)),
		fixed(frInts(tRetireConnectionID, cidsPerPath+1)), ProtocolViolation, nil},

	{tPathNewConnectionID, "active_connection_id_limit", // RMP21-4.4-3
		func(tc *testConn) (f []testFrame) {
			for seq := range uint64(activeCIDLimit) {
				f = append(f, tc.peerCIDFrame(2, seq, 0))
			}
			return f
		},
		func(tc *testConn) []testFrame { return []testFrame{tc.peerCIDFrame(2, activeCIDLimit, 0)} }, ConnectionIDLimitError, nil},
	{tPathNewConnectionID, "retirements not acknowledged",
		func(tc *testConn) (f []testFrame) {
			for seq := range uint64(maxRetirements + 1) {
				f = append(f, tc.peerCIDFrame(1, seq, seq))
			}
			return f
		},
		func(tc *testConn) []testFrame {
			return []testFrame{tc.peerCIDFrame(1, maxRetirements+1, maxRetirements+1)}
		}, ConnectionIDLimitError, nil},
	{tPathNewConnectionID, "Retire Prior To",
		fixed(frPathNewConnectionID(1, 1, 1, peerCID(1, 1), peerToken(1, 1))),
		fixed(frPathNewConnectionID(1, 2, 3, peerCID(1, 2), peerToken(1, 2))), FrameEncodingError, nil},
	{tPathNewConnectionID, "length",
		fixed(frPathNewConnectionID(1, 1, 0, make([]byte, 20), peerToken(1, 1))),
		fixed(frPathNewConnectionID(1, 2, 0, make([]byte, 21), peerToken(1, 2))), FrameEncodingError, nil},
	{tPathNewConnectionID, "smallest length",
		fixed(frPathNewConnectionID(1, 1, 0, []byte{1}, peerToken(1, 1))),
		fixed(frPathNewConnectionID(1, 2, 0, nil, peerToken(1, 2))), FrameEncodingError, nil},
	{tPathNewConnectionID, "path id", // RMP21-4-3, here and below
		fixed(frPathNewConnectionID(2, 0, 0, peerCID(2, 0), peerToken(2, 0))),
		fixed(frPathNewConnectionID(3, 0, 0, peerCID(3, 0), peerToken(3, 0))), ProtocolViolation, nil},
	{tPathRetireConnectionID, "issued", // RMP21-4.5-2
		fixed(frInts(tPathRetireConnectionID, 1, cidsPerPath-1)),
		fixed(frInts(tPathRetireConnectionID, 1, cidsPerPath+1)), ProtocolViolation, nil},
	{tPathRetireConnectionID, "path id", fixed(frInts(tPathRetireConnectionID, 2, 0)), fixed(frInts(tPathRetireConnectionID, 3, 0)), ProtocolViolation, nil},
}

// lastSent is the packet number that a path has used last.
func lastSent(tc *testConn) uint64 { return uint64(tc.core().paths[0].space.next) - 1 }

// biggestDatagram has the connection announce that it takes DATAGRAM frames of 100 bytes.
func biggestDatagram(tc *testConn) { tc.core().localParams.maxDatagramFrameSize = 100 }

var packetLimits = []limitRow{
	{tAck, "packets sent", // R9000-13.1-2
		func(tc *testConn) []testFrame { return []testFrame{frAck(lastSent(tc))} },
		func(tc *testConn) []testFrame { return []testFrame{frAck(lastSent(tc) + 1)} }, ProtocolViolation, nil},
	{tAck, "First ACK Range", // R9000-19.3.1-1
		fixed(frInts(tAck, 0, 0, 0, 0)), fixed(frInts(tAck, 0, 0, 0, 1)), FrameEncodingError, nil},
	{tAck, "Gap",
		func(tc *testConn) []testFrame {
			tc.sendDatagrams(2)
			n := lastSent(tc)
			return []testFrame{frInts(tAck, n, 0, 1, 0, n-2, 0)}
		},
		func(tc *testConn) []testFrame {
			n := lastSent(tc)
			return []testFrame{frInts(tAck, n, 0, 1, 0, n-1, 0)}
		}, FrameEncodingError, nil},
	{tAck, "ACK Range",
		func(tc *testConn) []testFrame {
			tc.sendDatagrams(2)
			n := lastSent(tc)
			return []testFrame{frInts(tAck, n, 0, 1, 0, 0, n-2)}
		},
		func(tc *testConn) []testFrame {
			n := lastSent(tc)
			return []testFrame{frInts(tAck, n, 0, 1, 0, 0, n-1)}
		}, FrameEncodingError, nil},
	{tAckECN, "packets sent",
		func(tc *testConn) []testFrame { return []testFrame{frInts(tAckECN, lastSent(tc), 0, 0, 0, 0, 0, 0)} },
		func(tc *testConn) []testFrame { return []testFrame{frInts(tAckECN, lastSent(tc)+1, 0, 0, 0, 0, 0, 0)} }, ProtocolViolation, nil},
	{tPathAck, "packets sent",
		func(tc *testConn) []testFrame { return []testFrame{frPathAck(0, lastSent(tc))} },
		func(tc *testConn) []testFrame { return []testFrame{frPathAck(0, lastSent(tc)+1)} }, ProtocolViolation, nil},
	{tPathAck, "First ACK Range",
		fixed(frInts(tPathAck, 0, 0, 0, 0, 0)), fixed(frInts(tPathAck, 0, 0, 0, 0, 1)), FrameEncodingError, nil},
	{tPathAck, "paths in use", fixed(frPathAck(0, 0)), fixed(frPathAck(1, 0)), ProtocolViolation, nil},
	{tPathAck, "path id", nil, fixed(frPathAck(3, 0)), ProtocolViolation, nil},
	{tPathAckECN, "packets sent",
		func(tc *testConn) []testFrame {
			return []testFrame{frInts(tPathAckECN, 0, lastSent(tc), 0, 0, 0, 0, 0, 0)}
		},
		func(tc *testConn) []testFrame {
			return []testFrame{frInts(tPathAckECN, 0, lastSent(tc)+1, 0, 0, 0, 0, 0, 0)}
		}, ProtocolViolation, nil},

	{tCrypto, "buffer", // R9000-7.5-2
		fixed(frCrypto(cryptoReceiveWindow-1, []byte("x"))), fixed(frCrypto(cryptoReceiveWindow, []byte("x"))), CryptoBufferExceeded, nil},
	{tCrypto, "offset", nil, fixed(frCrypto(maxInt, []byte("x"))), FrameEncodingError, nil},                // R9000-19.6-1
	{tNewToken, "smallest length", fixed(frNewToken("x")), fixed(frNewToken("")), FrameEncodingError, nil}, // R9000-19.7-1
	{tDatagram, "max_datagram_frame_size", // R9221-3-4, here and below: type and length count
		func(tc *testConn) []testFrame {
			biggestDatagram(tc)
			return []testFrame{{typ: tDatagram, blobs: [][]byte{make([]byte, 99)}}}
		},
		fixed(testFrame{typ: tDatagram, blobs: [][]byte{make([]byte, 100)}}), ProtocolViolation, nil},
	{tDatagramLen, "max_datagram_frame_size",
		func(tc *testConn) []testFrame {
			biggestDatagram(tc)
			return []testFrame{frDatagram(strings.Repeat("x", 97))}
		},
		fixed(frDatagram(strings.Repeat("x", 98))), ProtocolViolation, nil},
}

var pathLimits = []limitRow{
	// Abandoning path id 2 makes room for 3.
	{tPathAbandon, "path id", fixed(frInts(tPathAbandon, 2, maxInt)), fixed(frInts(tPathAbandon, 4, 0)), ProtocolViolation, nil},
	{tPathStatusBackup, "path id", fixed(frInts(tPathStatusBackup, 2, maxInt)), fixed(frInts(tPathStatusBackup, 3, 1)), ProtocolViolation, nil},
	{tPathStatusAvailable, "path id", fixed(frInts(tPathStatusAvailable, 2, maxInt)), fixed(frInts(tPathStatusAvailable, 3, 1)), ProtocolViolation, nil},
	{tPathAbandon, "path id of 32 bits", nil, fixed(frInts(tPathAbandon, 1<<32, 0)), ProtocolViolation, nil},
	{tMaxPathID, "2^32-1", fixed(frInts(tMaxPathID, 1<<32-1)), fixed(frInts(tMaxPathID, 1<<32)), ProtocolViolation, nil},                                       // RMP21-4.6-3
	{tMaxPathID, "initial_max_path_id", fixed(frInts(tMaxPathID, 2)), fixed(frInts(tMaxPathID, 1)), ProtocolViolation, nil},                                    // RMP21-4.6-4
	{tPathsBlocked, "our limit", fixed(frInts(tPathsBlocked, 2)), fixed(frInts(tPathsBlocked, 3)), ProtocolViolation, nil},                                     // RMP21-4.7-2
	{tPathCIDsBlocked, "path id", fixed(frInts(tPathCIDsBlocked, 2, 0)), fixed(frInts(tPathCIDsBlocked, 3, 0)), ProtocolViolation, nil},                        // RMP21-4.7-3
	{tPathCIDsBlocked, "next one", fixed(frInts(tPathCIDsBlocked, 1, cidsPerPath)), fixed(frInts(tPathCIDsBlocked, 1, cidsPerPath+1)), ProtocolViolation, nil}, // RMP21-4.7-4
}
