// SPDX-License-Identifier: Apache-2.0

package wire

import "fmt"

// FrameType is the canonical type of a frame: flags that the type carries on the wire
// are cleared (STREAM is always 0x08, ACK 0x02, DATAGRAM 0x30, MAX_STREAMS 0x12, …; they
// are fields of Frame), and multipath frames have their number of draft-21 whichever
// CodePoints are in use.
type FrameType uint64

const (
	FrameTypePadding            FrameType = 0x00
	FrameTypePing               FrameType = 0x01
	FrameTypeAck                FrameType = 0x02
	FrameTypeResetStream        FrameType = 0x04
	FrameTypeStopSending        FrameType = 0x05
	FrameTypeCrypto             FrameType = 0x06
	FrameTypeNewToken           FrameType = 0x07
	FrameTypeStream             FrameType = 0x08
	FrameTypeMaxData            FrameType = 0x10
	FrameTypeMaxStreamData      FrameType = 0x11
	FrameTypeMaxStreams         FrameType = 0x12
	FrameTypeDataBlocked        FrameType = 0x14
	FrameTypeStreamDataBlocked  FrameType = 0x15
	FrameTypeStreamsBlocked     FrameType = 0x16
	FrameTypeNewConnectionID    FrameType = 0x18
	FrameTypeRetireConnectionID FrameType = 0x19
	FrameTypePathChallenge      FrameType = 0x1a
	FrameTypePathResponse       FrameType = 0x1b
	FrameTypeConnectionClose    FrameType = 0x1c
	FrameTypeApplicationClose   FrameType = 0x1d // CONNECTION_CLOSE with an error of the application
	FrameTypeHandshakeDone      FrameType = 0x1e
	FrameTypeDatagram           FrameType = 0x30

	FrameTypePathAck                FrameType = 0x3e
	FrameTypePathAbandon            FrameType = 0x3e75
	FrameTypePathStatusBackup       FrameType = 0x3e76
	FrameTypePathStatusAvailable    FrameType = 0x3e77
	FrameTypePathNewConnectionID    FrameType = 0x3e78
	FrameTypePathRetireConnectionID FrameType = 0x3e79
	FrameTypeMaxPathID              FrameType = 0x3e7a
	FrameTypePathsBlocked           FrameType = 0x3e7b
	FrameTypePathCIDsBlocked        FrameType = 0x3e7c
)

// packetTypeSet is a set of packet types, one bit each.
type packetTypeSet uint8

const (
	inOneRTT        packetTypeSet = 1 << OneRTT
	inAppData                     = inOneRTT | 1<<ZeroRTT
	inAllButZeroRTT               = inOneRTT | 1<<Initial | 1<<Handshake
	inAll                         = inAllButZeroRTT | 1<<ZeroRTT
)

// frameProperties are the facts about a frame type that do not depend on its content.
type frameProperties struct {
	name         string
	in           packetTypeSet
	notEliciting bool
	probing      bool
}

// shortTypes holds the frame types below 0x40: RFC 9000 table 3, RFC 9221, PATH_ACK.
var shortTypes = [0x40]frameProperties{
	FrameTypePadding:            {name: "PADDING", in: inAll, notEliciting: true, probing: true},
	FrameTypePing:               {name: "PING", in: inAll},
	FrameTypeAck:                {name: "ACK", in: inAllButZeroRTT, notEliciting: true},
	FrameTypeResetStream:        {name: "RESET_STREAM", in: inAppData},
	FrameTypeStopSending:        {name: "STOP_SENDING", in: inAppData},
	FrameTypeCrypto:             {name: "CRYPTO", in: inAllButZeroRTT},
	FrameTypeNewToken:           {name: "NEW_TOKEN", in: inOneRTT},
	FrameTypeStream:             {name: "STREAM", in: inAppData},
	FrameTypeMaxData:            {name: "MAX_DATA", in: inAppData},
	FrameTypeMaxStreamData:      {name: "MAX_STREAM_DATA", in: inAppData},
	FrameTypeMaxStreams:         {name: "MAX_STREAMS", in: inAppData},
	FrameTypeDataBlocked:        {name: "DATA_BLOCKED", in: inAppData},
	FrameTypeStreamDataBlocked:  {name: "STREAM_DATA_BLOCKED", in: inAppData},
	FrameTypeStreamsBlocked:     {name: "STREAMS_BLOCKED", in: inAppData},
	FrameTypeNewConnectionID:    {name: "NEW_CONNECTION_ID", in: inAppData, probing: true},
	FrameTypeRetireConnectionID: {name: "RETIRE_CONNECTION_ID", in: inAppData},
	FrameTypePathChallenge:      {name: "PATH_CHALLENGE", in: inAppData, probing: true},
	FrameTypePathResponse:       {name: "PATH_RESPONSE", in: inOneRTT, probing: true},
	FrameTypeConnectionClose:    {name: "CONNECTION_CLOSE", in: inAll, notEliciting: true},
	FrameTypeApplicationClose:   {name: "CONNECTION_CLOSE", in: inAppData, notEliciting: true},
	FrameTypeHandshakeDone:      {name: "HANDSHAKE_DONE", in: inOneRTT},
	FrameTypeDatagram:           {name: "DATAGRAM", in: inAppData},
	FrameTypePathAck:            {name: "PATH_ACK", in: inOneRTT, notEliciting: true},
}

// pathTypes holds the consecutive frame types from PATH_ABANDON on.
var pathTypes = [...]frameProperties{
	{name: "PATH_ABANDON", in: inOneRTT},
	{name: "PATH_STATUS_BACKUP", in: inOneRTT},
	{name: "PATH_STATUS_AVAILABLE", in: inOneRTT},
	{name: "PATH_NEW_CONNECTION_ID", in: inOneRTT},
	{name: "PATH_RETIRE_CONNECTION_ID", in: inOneRTT},
	{name: "MAX_PATH_ID", in: inOneRTT},
	{name: "PATHS_BLOCKED", in: inOneRTT},
	{name: "PATH_CIDS_BLOCKED", in: inOneRTT},
}

var unknownType frameProperties

func (t FrameType) properties() *frameProperties {
	switch {
	case t < FrameType(len(shortTypes)):
		return &shortTypes[t]
	case t >= FrameTypePathAbandon && t-FrameTypePathAbandon < FrameType(len(pathTypes)):
		return &pathTypes[t-FrameTypePathAbandon]
	}
	return &unknownType
}

// AllowedIn reports whether a packet of type p may carry frames of type t.
// Otherwise the receiver closes with PROTOCOL_VIOLATION.
//
// R9000-12.4-2, R9000-17.2.4-1, R9001-8.3-2, R9221-5-1, RMP21-4-2
func (t FrameType) AllowedIn(p PacketType) bool {
	return t.properties().in&(1<<p) != 0
}

// AckEliciting reports whether a packet with a frame of type t is to be acknowledged.
func (t FrameType) AckEliciting() bool { return !t.properties().notEliciting }

// Probing reports whether t is a probing frame of RFC 9000 section 9.1: a packet with
// nothing else does not move a path to the address it comes from.
func (t FrameType) Probing() bool { return t.properties().probing }

// String returns the name of the frame type in its specification.
func (t FrameType) String() string {
	if p := t.properties(); p.name != "" {
		return p.name
	}
	return fmt.Sprintf("frame type 0x%x", uint64(t))
}
