// SPDX-License-Identifier: Apache-2.0

package quic

// A frameRecord is what has to be known of a sent frame when its packet is
// acknowledged or lost. It is a value without pointers: the records of all packets
// in flight live in one arena. Frames whose fate changes nothing (PADDING, PING,
// PATH_CHALLENGE, PATH_RESPONSE, DATAGRAM, CONNECTION_CLOSE) have no record.
type frameRecord struct {
	kind       recordKind
	fin        bool   // STREAM: the frame had the FIN bit
	generation uint32 // which transmission of a sentVal; STREAM: of the FIN bit
	id         uint64 // stream, or path ID
	a, b       uint64 // see the kinds
}

type recordKind uint8

const (
	recordAck                recordKind = iota + 1 // id: path ID acknowledged; a: largest acknowledged
	recordCrypto                                   // a, b: offset and length
	recordStream                                   // id; a, b: offset and length
	recordResetStream                              // id
	recordStopSending                              // id
	recordMaxData                                  //
	recordMaxStreamData                            // id
	recordMaxStreams                               // a: streamType
	recordDataBlocked                              //
	recordStreamDataBlocked                        // id
	recordStreamsBlocked                           // a: streamType
	recordNewToken                                 //
	recordNewConnectionID                          // id: path ID; a: sequence number
	recordRetireConnectionID                       // id: path ID; a: sequence number
	recordHandshakeDone                            //
	recordPathAbandon                              // id: path ID
	recordPathStatus                               // id: path ID; a: status sequence number
	recordMaxPathID                                // a: maximum path ID
	recordPathsBlocked                             // a: maximum path ID
	recordPathCIDsBlocked                          // id: path ID; a: next sequence number
	recordMTUProbe                                 // a: bytes of UDP payload; b: first packet to the same address
)

// fate is what became of a packet. A packet can be reported lost and later
// acknowledged, and lost several times; handlers are idempotent.
type fate uint8

const (
	fateAcked fate = iota
	fateLost
)
